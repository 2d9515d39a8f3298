//! A large audience is found through the directory: nodes of the real DHT on a simulated network, each
//! of which announces itself where it should, and one that looks for all of them.
//!
//! `MACULA_PUBSUB_FULL=1 cargo test --release -p macula-infra pubsub::proto::tests::found -- --nocapture`
//! runs it with more than two thousand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use macula_core::sim::{Address, Faults};

use super::super::TopicId;
use super::super::crowd::{CROWD, Crowds, Next, name};
use super::super::topics::Topics;
use crate::dht::proto::node::tests::mesh::{Mesh, SERVERS_MAX, contact, key, keypair, realm};
use crate::dht::proto::node::{Answer, Command, CommandId, Quorum};
use crate::dht::provider::Provider;
use crate::dht::rules::space;

const PREFIX: &str = "feed";

/// How long an announcement lasts, as pub/sub has it.
const TTL: Duration = Duration::from_secs(300);

/// Why a command was given.
enum Why {
    /// A subscriber looks how many there are.
    Look(Address, Arc<str>),
    /// The publisher looks for subscribers.
    Find(Arc<str>),
    /// A subscriber is announced.
    Said,
}

struct Town {
    mesh: Mesh,
    crowds: BTreeMap<Address, (Crowds, u8)>,
    topics: Topics,
    commands: BTreeMap<CommandId, Why>,
    found: BTreeSet<NodeId>,
    /// How many searches the publisher has made since it began to look.
    searches: usize,
}

impl Town {
    fn new(seed: u64, subscribers: u32) -> Self {
        let nodes = SERVERS_MAX + subscribers;
        let mesh = Mesh::new(seed, nodes, Faults::NONE);
        let mut dice = Entropy::from_seed(seed);
        let subscribers = (SERVERS_MAX..nodes).map(Address);
        let crowds = subscribers.map(|address| {
            let node = keypair(address).node_id();
            (address, (Crowds::new(node, dice.fork()), 0))
        });
        let mut topics = Topics::default();
        assert!(topics.open(TopicId(1), PREFIX.parse().unwrap()));
        let (crowds, commands, found) = (crowds.collect(), BTreeMap::new(), BTreeSet::new());
        Self { mesh, crowds, topics, commands, found, searches: 0 }
    }

    fn now(&self) -> Instant {
        self.mesh.now()
    }

    fn provide(&mut self, at: Address, depth: u8) {
        let provider = Provider {
            realm: realm(),
            space: space::ANY.to_owned(),
            name: name(PREFIX, keypair(at).node_id(), depth).as_bytes().to_vec(),
            contact: contact(at),
            metadata: Bytes::new(),
            issued_at: Duration::ZERO,
            expires_at: Duration::ZERO,
        };
        let command = Command::Provide { provider, ttl: TTL, quorum: Quorum::Majority };
        let id = self.mesh.command(at, command);
        self.commands.insert(id, Why::Said);
    }

    /// All come within a second.
    fn subscribe(&mut self) {
        let now = self.now();
        for address in self.crowds.keys().copied().collect::<Vec<_>>() {
            self.provide(address, 0);
            let (crowds, _) = self.crowds.get_mut(&address).unwrap();
            crowds.announced(now, PREFIX.into(), Some(0));
        }
    }

    fn find(&mut self, at: Address, key_of: &Arc<str>, max: usize, why: Why) {
        let id = self.mesh.command(at, Command::Find { key: key(key_of), max });
        self.commands.insert(id, why);
    }

    /// The publisher looks, as it does twice in a minute.
    fn seek(&mut self) {
        let now = self.now();
        for at in self.topics.seek(TopicId(1), now) {
            self.searches += 1;
            self.find(Address(0), &at, 1_024, Why::Find(Arc::clone(&at)));
        }
    }

    fn run(&mut self, lasts: Duration) {
        let end = self.now() + lasts;
        while self.now() < end {
            self.mesh.run(Duration::from_millis(50));
            let now = self.now();
            let mut due = Vec::new();
            for (address, (crowds, _)) in &mut self.crowds {
                while let Some(at) = crowds.due(now) {
                    due.push((*address, at));
                }
            }
            for (address, at) in due {
                self.find(address, &at, CROWD, Why::Look(address, Arc::clone(&at)));
            }
            let done = std::mem::take(&mut self.mesh.done);
            for (id, answers) in done {
                let Some(why) = self.commands.remove(&id) else { continue };
                let nodes =
                    answers.into_iter().next().and_then(Result::ok).map(|answer| match answer {
                        Answer::Providers(found) => {
                            found.providers.iter().map(|found| found.provider().node()).collect()
                        }
                        _ => Vec::new(),
                    });
                self.done(now, why, nodes);
            }
        }
    }

    fn done(&mut self, now: Instant, why: Why, nodes: Option<Vec<NodeId>>) {
        let count = nodes.as_ref().map(Vec::len);
        match why {
            Why::Said => {}
            Why::Look(address, at) => {
                let (crowds, depth) = self.crowds.get_mut(&address).unwrap();
                match crowds.found(now, &at, count) {
                    Next::Nothing => {}
                    Next::Look(at) => {
                        self.find(address, &at, CROWD, Why::Look(address, Arc::clone(&at)));
                    }
                    Next::Depth(_, to) => {
                        let before = std::mem::replace(depth, to);
                        for deeper in before + 1..=to {
                            self.provide(address, deeper);
                        }
                    }
                }
            }
            Why::Find(at) => {
                self.found.extend(nodes.unwrap_or_default());
                for at in self.topics.sought(now, &at, count) {
                    self.searches += 1;
                    self.find(Address(0), &at, 1_024, Why::Find(Arc::clone(&at)));
                }
            }
        }
    }
}

#[test]
fn all_of_a_large_audience_are_found() {
    let subscribers = if std::env::var_os("MACULA_PUBSUB_FULL").is_some() { 2_400 } else { 100 };
    let mut town = Town::new(1, subscribers);
    town.subscribe();
    let all = usize::try_from(subscribers).unwrap();
    let mut rounds = 0;
    while town.found.len() < all && rounds < 20 {
        town.seek();
        town.run(Duration::from_secs(30));
        rounds += 1;
        println!("{}: {} of {all} found in {} searches", rounds, town.found.len(), town.searches);
    }
    assert_eq!(town.found.len(), all, "after {rounds} rounds");
    // Once all know that they are many, one look finds nearly all.
    town.run(Duration::from_secs(60));
    (town.found, town.searches) = (BTreeSet::new(), 0);
    town.seek();
    town.run(Duration::from_secs(30));
    let (found, searches) = (town.found.len(), town.searches);
    println!("one look finds {found} of {all} in {searches} searches");
    assert!(found * 100 >= all * 99, "{found} of {all}");
    assert!(searches <= all / 8 + 8, "{searches}");
}
