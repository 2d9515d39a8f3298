//! The scenario: two nodes that nothing gets between directly call each other and stream to each
//! other all the time, over three others that relay.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use macula_core::entropy::Entropy;
use macula_core::topic::Topic;
use macula_infra::remote::{CallError, Context, ReplyTo};
use macula_infra::rpc::{CallOptions, Options, StreamReceiver, StreamSender};
use macula_infra::transport::overlay::is_overlay;
use macula_tests::world::{Life, Log, Look, Scenario, What};
use macula_workload::prelude::Worker;
use macula_workload::{Node, NodeId};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::invariants;

/// How many of the first nodes relay.
pub(crate) const RELAYS: usize = 3;

/// How many nodes are there besides.
pub(crate) const EDGES: usize = 2;

/// How long faults come.
pub(crate) const STORM: Duration = Duration::from_secs(20);

/// How long a call may take.
const WITHIN: Duration = Duration::from_secs(4);

/// How many items a stream has.
const ITEMS: u64 = 60;

const NAME: &str = "workload/edge";

/// What the log is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Seen {
    /// A question is asked of a node.
    Asked { call: u64, of: usize },
    /// It is answered.
    Answered { call: u64, answer: u64 },
    /// It is not.
    Failed { call: u64, may_have_run: bool, why: String },
    /// A node handles a question.
    Handled { call: u64 },
    /// A stream is opened to a node.
    Opened { stream: u64, of: usize },
    /// An item of it has arrived there.
    Arrived { stream: u64, item: u64 },
    /// It has come back.
    Echoed { stream: u64, item: u64 },
    /// All of it was handled, and both sides know.
    Finished { stream: u64 },
    /// It has broken.
    Broke { stream: u64, why: String },
    /// Which connection leads to the other node now, and whether it is carried by relays.
    Linked { number: u64, relayed: bool },
}

/// The answer to a question.
pub(crate) const fn answer_to(call: u64) -> u64 {
    !call
}

/// The scenario.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Storm {
    /// Whether the nodes reach each other in the end.
    pub(crate) meets: bool,
    /// Whether no stream may break, and no call may fail.
    pub(crate) is_gentle: bool,
}

impl Storm {
    /// The nodes never reach each other.
    pub(crate) const APART: Self = Self { meets: false, is_gentle: false };

    /// Nor do they break anything off.
    pub(crate) const GENTLE: Self = Self { is_gentle: true, ..Self::APART };

    /// They do in the end, and nothing breaks when they go over to a direct connection.
    pub(crate) const MEETING: Self = Self { meets: true, is_gentle: true };
}

struct Edge(Life<Seen>);

struct Ask(u64, ReplyTo<u64>);

impl Actor for Edge {
    type Msg = Ask;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Ask>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Ask>,
        Ask(call, reply): Ask,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        self.0.saw(Seen::Handled { call });
        // The caller may have gone.
        drop(reply.send(answer_to(call)));
        Ok(())
    }
}

/// Sends back what it gets. The first item is the number of the stream.
async fn echo(
    life: Life<Seen>,
    mut items: StreamReceiver<u64>,
    mut back: StreamSender<u64>,
) -> Result<(), CallError> {
    let stream = items.next().await?.unwrap_or_default();
    while let Some(item) = items.next().await? {
        life.saw(Seen::Arrived { stream, item });
        back.send(&item).await?;
    }
    Ok(())
}

fn topic(index: usize) -> Topic {
    format!("echo{index}").parse().unwrap()
}

impl Scenario for Storm {
    type Seen = Seen;

    async fn live(&self, mut life: Life<Seen>) {
        if life.index < RELAYS {
            return;
        }
        let serves = life.clone();
        let make = move || (Edge(serves.clone()), ());
        let edge = life.node.spawn(Worker::new("edge", make).unwrap()).await.unwrap();
        life.node.serve(NAME, &edge, Ask).unwrap().keep();
        let serves = life.clone();
        let handler = move |items: StreamReceiver<u64>, back: StreamSender<u64>, _: Context| {
            echo(serves.clone(), items, back)
        };
        let rpc = life.node.mesh().rpc();
        rpc.advertise_stream(&topic(life.index), &Options::default(), handler).unwrap().keep();
        for (of, id) in life.others().filter(|(of, _)| *of >= RELAYS) {
            let (one, other) = (life.entropy.fork(), life.entropy.fork());
            let client = |entropy| Client { life: life.clone(), of, id, entropy };
            life.spawn(client(one).ask_always());
            life.spawn(client(other).stream_always());
            life.spawn(watch(life.clone(), id));
        }
    }

    fn healed(&self, look: &Look<'_, Seen>) -> bool {
        let nodes: Option<Vec<_>> = look.nodes().iter().map(Option::as_ref).collect();
        let Some(nodes) = nodes else { return false };
        let [.., one, other] = nodes.as_slice() else { return false };
        is_linked(one, other, self.meets)
            && is_linked(other, one, self.meets)
            && everything_goes(look)
            && (self.meets || [one, other].iter().all(|node| has_places(node)))
    }

    fn check(&self, log: &Log<Seen>) -> Result<(), String> {
        log.read(|entries| invariants::check(entries, self.is_gentle))
    }
}

fn has_places(node: &Node) -> bool {
    node.mesh().relay().places().len() == RELAYS
}

/// Whether there is one connection, direct or over a relay.
fn is_linked(one: &Node, other: &Node, directly: bool) -> bool {
    let links = one.mesh().links();
    let links = links.iter().filter(|link| link.node() == other.id() && !link.is_leaving());
    let kinds: Vec<bool> = links.map(|link| is_overlay(link.peer().address)).collect();
    kinds == [!directly]
}

/// Whether calls and streams have gone both ways since faults ended.
fn everything_goes(look: &Look<'_, Seen>) -> bool {
    look.log().read(|entries| {
        let first = entries.partition_point(|entry| entry.at < look.since());
        let (mut begun, mut gone) = (BTreeMap::new(), BTreeSet::new());
        for entry in entries.iter().skip(first) {
            match entry.what {
                What::Seen(Seen::Asked { call, .. }) => drop(begun.insert(call, "call")),
                What::Seen(Seen::Opened { stream, .. }) => drop(begun.insert(stream, "stream")),
                What::Seen(
                    Seen::Answered { call: number, .. } | Seen::Finished { stream: number },
                ) => {
                    if let Some(kind) = begun.get(&number) {
                        gone.insert((entry.node, *kind));
                    }
                }
                _ => {}
            }
        }
        gone.len() == EDGES * 2
    })
}

/// Tells which connection leads to a node, whenever it is another.
async fn watch(life: Life<Seen>, id: NodeId) {
    let mut known = None;
    loop {
        let links = life.node.mesh().links();
        let link = links.iter().find(|link| link.node() == id && !link.is_leaving());
        let now = link.map(|link| (link.id.0, is_overlay(link.peer().address)));
        if let Some((number, relayed)) = now.filter(|_| now != known) {
            life.saw(Seen::Linked { number, relayed });
        }
        known = now;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One node at work with another.
struct Client {
    life: Life<Seen>,
    of: usize,
    id: NodeId,
    entropy: Entropy,
}

impl Client {
    /// A number that no other call and no other stream has.
    fn number(&self, n: u64) -> u64 {
        (u64::try_from(self.life.index).unwrap() << 56) | (self.life.number << 32) | n
    }

    async fn ask_always(mut self) {
        let edge = self.life.node.remote(self.id).handle::<u64, u64>(NAME);
        for n in 0.. {
            let call = self.number(2 * n);
            self.life.saw(Seen::Asked { call, of: self.of });
            let answer = edge.call_within(WITHIN, &call).await;
            self.life.saw(match answer {
                Ok(answer) => Seen::Answered { call, answer },
                Err(error) => {
                    let (may_have_run, why) = (error.may_have_run(), error.to_string());
                    Seen::Failed { call, may_have_run, why }
                }
            });
            self.pause(100).await;
        }
    }

    async fn stream_always(mut self) {
        for n in 0.. {
            let stream = self.number(2 * n + 1);
            if let Err(error) = self.stream(stream).await {
                self.life.saw(Seen::Broke { stream, why: error.to_string() });
            }
            self.pause(100).await;
        }
    }

    /// Sends items one after the other, each once the one before it has come back or a few are under
    /// way.
    async fn stream(&mut self, stream: u64) -> Result<(), CallError> {
        let options = CallOptions { within: Duration::from_secs(60), ..CallOptions::default() };
        let rpc = self.life.node.mesh().rpc().clone();
        let (mut items, mut back) = rpc.open::<u64, u64>(&topic(self.of), &options).await?;
        self.life.saw(Seen::Opened { stream, of: self.of });
        items.send(&stream).await?;
        for item in 0..ITEMS {
            items.send(&item).await?;
            if let Some(before) = item.checked_sub(4) {
                self.echoed(stream, before, &mut back).await?;
            }
            self.pause(40).await;
        }
        items.finish();
        for item in ITEMS - 4..ITEMS {
            self.echoed(stream, item, &mut back).await?;
        }
        if back.next().await?.is_none() {
            self.life.saw(Seen::Finished { stream });
        }
        Ok(())
    }

    async fn echoed(
        &self,
        stream: u64,
        expected: u64,
        back: &mut StreamReceiver<u64>,
    ) -> Result<(), CallError> {
        // A stream that ends too early is told as one with an item that there is none of.
        let item = back.next().await?.unwrap_or(u64::MAX - expected);
        self.life.saw(Seen::Echoed { stream, item });
        Ok(())
    }

    async fn pause(&mut self, max_ms: u64) {
        tokio::time::sleep(Duration::from_millis(self.entropy.below(max_ms) + 1)).await;
    }
}
