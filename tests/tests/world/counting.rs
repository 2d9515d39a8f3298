//! The scenario: every node serves a counter, calls the counters of all others all the time, and
//! watches them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use macula_core::entropy::Entropy;
use macula_tests::world::{Life, Log, Look, Scenario, What};
use macula_workload::NodeId;
use macula_workload::prelude::Worker;
use macula_workload::remote::{CallError, ReplyTo};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::{Deserialize, Serialize};

use super::invariants;

/// How long faults come.
pub(crate) const STORM: Duration = Duration::from_secs(6);

/// How long a call may take.
pub(crate) const WITHIN: Duration = Duration::from_millis(800);

const NAME: &str = "workload/counter";

/// A bug that is put in on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A client asks the same question again when it was interrupted, which may have run.
    AsksAgain,
    /// The actor now and then gives the answer to another question.
    MixesUp,
    /// A watcher now and then forgets that it watches.
    MissesTheEnd,
}

/// What the log is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Seen {
    /// A question is asked of a node.
    Asked { call: u64, of: usize },
    /// It is answered.
    Answered { call: u64, answer: u64 },
    /// It is not, and perhaps it was not even handled.
    Failed { call: u64, may_have_run: bool, why: String },
    /// A life of the counter begins.
    Begun,
    /// The counter handles a question.
    Handled { call: u64 },
    /// A node watches the counter of another.
    Watched { watch: u64, of: usize },
    /// It is told of its end.
    Down { watch: u64, why: String },
    /// It is told once more.
    DownAgain { watch: u64 },
}

/// The answer to a question.
pub(crate) const fn answer_to(call: u64) -> u64 {
    !call
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Then {
    Answer,
    AnswerLate,
    Fail,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Question {
    call: u64,
    then: Then,
}

struct Counter {
    life: Life<Seen>,
    bug: Option<Bug>,
}

struct Ask(Question, ReplyTo<u64>);

impl Actor for Counter {
    type Msg = Ask;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Ask>, (): ()) -> Result<(), ActorProcessingErr> {
        self.life.saw(Seen::Begun);
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Ask>,
        Ask(Question { call, then }, reply): Ask,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        self.life.saw(Seen::Handled { call });
        let mixed_up = self.bug == Some(Bug::MixesUp) && call % 50 == 49;
        let answer = answer_to(if mixed_up { call - 1 } else { call });
        match then {
            Then::Fail => return Err("asked to".into()),
            // The caller may have gone, here and below.
            Then::Answer => drop(reply.send(answer)),
            Then::AnswerLate => {
                tokio::spawn(async move {
                    tokio::time::sleep(WITHIN / 4).await;
                    drop(reply.send(answer));
                });
            }
        }
        Ok(())
    }
}

/// The scenario.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counting {
    pub(crate) bug: Option<Bug>,
}

impl Scenario for Counting {
    type Seen = Seen;

    async fn live(&self, mut life: Life<Seen>) {
        let (serves, bug) = (life.clone(), self.bug);
        let make = move || (Counter { life: serves.clone(), bug }, ());
        let counter = life.node.spawn(Worker::new("counter", make).unwrap()).await.unwrap();
        life.node.serve(NAME, &counter, Ask).unwrap().keep();
        for (of, id) in life.others() {
            let (one, other) = (life.entropy.fork(), life.entropy.fork());
            let client = |entropy| Client { life: life.clone(), of, id, entropy, bug };
            life.spawn(client(one).ask_always());
            life.spawn(client(other).watch_always());
        }
    }

    fn healed(&self, look: &Look<'_, Seen>) -> bool {
        look.is_whole() && everybody_is_answered(look)
    }

    fn check(&self, log: &Log<Seen>) -> Result<(), String> {
        log.read(invariants::check)
    }
}

/// Whether each node has had an answer of each other since faults ended.
fn everybody_is_answered(look: &Look<'_, Seen>) -> bool {
    let nodes = look.nodes().len();
    look.log().read(|entries| {
        let first = entries.partition_point(|entry| entry.at < look.since());
        let (mut asked, mut pairs) = (BTreeMap::new(), BTreeSet::new());
        for entry in entries.iter().skip(first) {
            match &entry.what {
                What::Seen(Seen::Asked { call, of }) => {
                    asked.insert(*call, *of);
                }
                What::Seen(Seen::Answered { call, .. }) => {
                    if let Some(of) = asked.remove(call) {
                        pairs.insert((entry.node, of));
                    }
                }
                _ => {}
            }
        }
        pairs.len() == nodes * (nodes - 1)
    })
}

/// One node at work with another.
struct Client {
    life: Life<Seen>,
    of: usize,
    id: NodeId,
    entropy: Entropy,
    bug: Option<Bug>,
}

impl Client {
    /// A number that no other call and no other watch has.
    fn number(&self, n: u64) -> u64 {
        let wide = |of: usize| u64::try_from(of).unwrap();
        (wide(self.life.index) << 56) | (wide(self.of) << 48) | (self.life.number << 32) | n
    }

    async fn ask_always(mut self) {
        let counter = self.life.node.remote(self.id).handle::<Question, u64>(NAME);
        for n in 0.. {
            let (call, then) = (self.number(n), self.then());
            self.life.saw(Seen::Asked { call, of: self.of });
            let mut answer = counter.call_within(WITHIN, &Question { call, then }).await;
            if self.bug == Some(Bug::AsksAgain) && matches!(answer, Err(CallError::Interrupted(_)))
            {
                answer = counter.call_within(WITHIN, &Question { call, then }).await;
            }
            self.life.saw(match answer {
                Ok(answer) => Seen::Answered { call, answer },
                Err(error) => {
                    let (may_have_run, why) = (error.may_have_run(), error.to_string());
                    Seen::Failed { call, may_have_run, why }
                }
            });
            self.pause(150).await;
        }
    }

    fn then(&mut self) -> Then {
        if self.entropy.chance(0.1) {
            return Then::AnswerLate;
        }
        if self.life.now() < STORM && self.entropy.chance(0.01) {
            return Then::Fail;
        }
        Then::Answer
    }

    async fn watch_always(mut self) {
        let counter = self.life.node.remote(self.id).handle::<Question, u64>(NAME);
        for n in 0.. {
            let watch = self.number(n);
            let Ok(mut monitor) = counter.monitor().await else {
                self.pause(200).await;
                continue;
            };
            self.life.saw(Seen::Watched { watch, of: self.of });
            let down = monitor.down().await;
            if self.bug == Some(Bug::MissesTheEnd) && n % 3 == 2 {
                continue;
            }
            let why =
                down.map_or_else(|| "nothing".to_owned(), |down| format!("{:?}", down.reason));
            self.life.saw(Seen::Down { watch, why });
            if monitor.down().await.is_some() {
                self.life.saw(Seen::DownAgain { watch });
            }
        }
    }

    async fn pause(&mut self, max_ms: u64) {
        tokio::time::sleep(Duration::from_millis(self.entropy.below(max_ms) + 1)).await;
    }
}
