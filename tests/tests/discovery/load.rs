//! The scenario: every node puts, gets, provides and finds all the time, and looks at everything
//! once the storm is over.

use std::time::Duration;

use bytes::Bytes;
use macula_core::entropy::Entropy;
use macula_core::supervision::What;
use macula_core::supervision::proto::Change;
use macula_infra::dht::proto::node::{Quorum, Stored};
use macula_infra::dht::proto::records::Condition;
use macula_infra::dht::rules::space;
use macula_infra::dht::{Dht, Error};
use macula_infra::membership::update::Status;
use macula_tests::world::{Life, Log, Look, Scenario};
use macula_workload::{Node, NodeId};

use super::history::History;
use super::invariants;
use super::seen::{End, Op, Seen, Value, Wish};

/// How long faults come.
pub(crate) const STORM: Duration = Duration::from_secs(8);

/// Under how many names values are put.
pub(crate) const KEYS: u8 = 5;

/// Under how many names nodes provide.
pub(crate) const PROVIDED: u8 = 2;

/// How long a value lasts: longer than any run.
const VALUE_TTL: Duration = Duration::from_secs(3_600);

/// How long an announcement lasts.
const PROVIDER_TTL: Duration = Duration::from_secs(4);

/// How many providers are looked for: more than there are nodes.
const FIND_MAX: usize = 20;

/// The longest pause between two operations of one kind, in milliseconds.
const PAUSE_MAX_MS: u64 = 200;

/// The same once the storm is over.
const CALM_PAUSE_MAX_MS: u64 = 1_000;

/// The scenario.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load;

impl Scenario for Load {
    type Seen = Seen;

    async fn live(&self, mut life: Life<Seen>) {
        life.spawn(watch(life.clone()));
        for kind in 0..3 {
            let entropy = life.entropy.fork();
            let client =
                Client { life: life.clone(), kind, entropy, count: 0, known: None, blamed: 0 };
            life.spawn(client.work());
        }
    }

    fn healed(&self, look: &Look<'_, Seen>) -> bool {
        is_whole(look) && look.log().read(|entries| History::of(entries).is_settled(look.since()))
    }

    fn check(&self, log: &Log<Seen>) -> Result<(), String> {
        log.read(invariants::check)
    }
}

/// Whether each node has all others as members and in its table.
fn is_whole(look: &Look<'_, Seen>) -> bool {
    let nodes: Option<Vec<_>> = look.nodes().iter().map(Option::as_ref).collect();
    let Some(nodes) = nodes else { return false };
    let ids: Vec<NodeId> = nodes.iter().map(|node| node.id()).collect();
    nodes.iter().all(|node| has_all_others(node, &ids))
}

fn has_all_others(node: &Node, ids: &[NodeId]) -> bool {
    let mesh = node.mesh();
    let mut others: Vec<NodeId> = ids.iter().copied().filter(|id| *id != node.id()).collect();
    others.sort_unstable();
    let members = mesh.membership().members();
    let alive = members.iter().filter(|member| member.status == Status::Alive);
    let alive: Vec<NodeId> = alive.map(|member| member.contact.node).collect();
    let table = mesh.dht().stats().table;
    let mut entries: Vec<NodeId> =
        mesh.dht().saved().entries.iter().map(|entry| entry.contact.node).collect();
    entries.sort_unstable();
    alive == others && entries == others && (table.entries, table.questionable) == (others.len(), 0)
}

/// Tells of the restarts that supervision counts.
async fn watch(life: Life<Seen>) {
    let mut events = life.node.events();
    while let Ok(event) = events.recv().await {
        let part = event.path.to_string();
        let is_restart = event.what == What::Life(Change::Started);
        if is_restart && event.incarnation > 1 && part.contains("/services/") {
            life.saw(Seen::Restarted { part, incarnation: event.incarnation });
        }
    }
}

/// What one node does, one thing after the other.
struct Client {
    life: Life<Seen>,
    /// What it does: values, providers, nodes.
    kind: u64,
    entropy: Entropy,
    count: u64,
    /// What it has found last: a key, and its sequence number.
    known: Option<(u8, u64)>,
    /// How often its table has held something against a peer.
    blamed: u64,
}

impl Client {
    async fn work(mut self) {
        loop {
            if self.life.now() < STORM {
                let wish = self.wish();
                self.fulfil(wish).await;
                self.pause(PAUSE_MAX_MS).await;
            } else {
                for wish in self.all() {
                    self.fulfil(wish).await;
                }
                self.pause(CALM_PAUSE_MAX_MS).await;
            }
        }
    }

    async fn pause(&mut self, max_ms: u64) {
        tokio::time::sleep(Duration::from_millis(self.entropy.below(max_ms) + 1)).await;
    }

    fn key(&mut self, of: u8) -> u8 {
        u8::try_from(self.entropy.below(u64::from(of))).unwrap()
    }

    /// What is wanted next, in the storm.
    fn wish(&mut self) -> Wish {
        match self.kind {
            0 => match self.known.take() {
                Some((key, sequence)) if self.entropy.chance(0.7) => {
                    let condition = if sequence == 0 {
                        Condition::Absent
                    } else {
                        Condition::Sequence(sequence)
                    };
                    Wish::Put { key, condition }
                }
                _ if self.entropy.chance(0.3) => {
                    Wish::Put { key: self.key(KEYS), condition: Condition::Any }
                }
                _ => Wish::Get { key: self.key(KEYS) },
            },
            1 if self.entropy.chance(0.5) => Wish::Provide { key: self.key(PROVIDED) },
            1 => Wish::Withdraw { key: self.key(PROVIDED) },
            _ if self.entropy.chance(0.7) => Wish::Find { key: self.key(PROVIDED) },
            _ => Wish::Lookup,
        }
    }

    /// All that can be looked at.
    fn all(&self) -> Vec<Wish> {
        match self.kind {
            0 => (0..KEYS).map(|key| Wish::Get { key }).collect(),
            1 => (0..PROVIDED).map(|key| Wish::Find { key }).collect(),
            _ => vec![Wish::Lookup],
        }
    }

    async fn fulfil(&mut self, wish: Wish) {
        let op = self.number();
        self.life.saw(Seen::Asked { op, wish });
        let end = self.ended(op, wish).await;
        self.life.saw(Seen::Ended { op, end });
        let blamed = self.life.node.mesh().dht().stats().blamed;
        if std::mem::replace(&mut self.blamed, blamed) < blamed {
            self.life.saw(Seen::Blamed { times: blamed });
        }
    }

    /// A number that no other operation has.
    fn number(&mut self) -> Op {
        self.count += 1;
        let node = u64::try_from(self.life.index).unwrap();
        Op((node << 48) | (self.life.number << 32) | (self.kind << 28) | self.count)
    }

    async fn ended(&mut self, op: Op, wish: Wish) -> End {
        let dht = self.life.node.mesh().dht().clone();
        self.done(&dht, op, wish).await.unwrap_or_else(|error| {
            let unsure = matches!(error, Error::Restarting | Error::TimedOut { .. });
            End::Failed { why: error.to_string(), unsure }
        })
    }

    async fn done(&mut self, dht: &Dht, op: Op, wish: Wish) -> Result<End, Error> {
        let quorum = if self.entropy.chance(0.2) { Quorum::All } else { Quorum::Majority };
        Ok(match wish {
            Wish::Put { key, condition } => {
                let value = Bytes::from(op.0.to_string());
                let name = [key];
                let place = (space::ANY, &name[..]);
                let (sequence, stored) =
                    dht.put(place, value, VALUE_TTL, condition, quorum).await?;
                self.stored(sequence, &stored)
            }
            Wish::Get { key } => {
                let got = dht.get(space::ANY, &[key], true).await?;
                let value = got.record.as_ref().map(|record| {
                    let record = record.record();
                    let op = std::str::from_utf8(&record.value).unwrap().parse().unwrap();
                    Value { by: self.place(record.author), op: Op(op), sequence: record.sequence }
                });
                self.known = Some((key, value.map_or(0, |value| value.sequence)));
                End::Got { value, agreed: got.agreed, answered: got.answered }
            }
            Wish::Provide { key } => {
                let name = [b'p', key];
                let stored =
                    dht.provide((space::ANY, &name), Bytes::new(), PROVIDER_TTL, quorum).await?;
                self.stored(0, &stored)
            }
            Wish::Withdraw { key } => {
                let stored = dht.withdraw((space::ANY, &[b'p', key]), quorum).await?;
                self.stored(0, &stored)
            }
            Wish::Find { key } => {
                let found = dht.find(space::ANY, &[b'p', key], FIND_MAX).await?.providers;
                let nodes = found.iter().map(|found| found.provider().node());
                End::Found { nodes: self.places(nodes) }
            }
            Wish::Lookup => {
                let name = self.entropy.next_u64().to_be_bytes();
                let found = dht.lookup(dht.key(space::ANY, &name)).await?;
                End::Nodes { nodes: self.places(found.closest.iter().map(|peer| peer.node())) }
            }
        })
    }

    fn stored(&self, sequence: u64, stored: &Stored) -> End {
        let kept = stored.nodes.iter().filter(|(_, told)| told.is_kept()).map(|(node, _)| *node);
        let (of, wanted) = (stored.nodes.len(), stored.wanted);
        End::Stored { sequence, kept: self.places(kept), of, wanted }
    }

    fn places(&self, nodes: impl Iterator<Item = NodeId>) -> Vec<usize> {
        let mut places: Vec<usize> = nodes.map(|node| self.place(node)).collect();
        places.sort_unstable();
        places
    }

    fn place(&self, node: NodeId) -> usize {
        self.life.ids.iter().position(|id| *id == node).unwrap()
    }
}
