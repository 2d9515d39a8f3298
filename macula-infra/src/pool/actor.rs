//! The supervised actor of the policy: its machine in a shell, and what carries out its outputs.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::Instant;

use macula_core::clock::TokioClock;
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use macula_core::path::InvalidId;
use macula_core::shell::{Driver, Effects, Inbox, Shell};
use macula_core::supervision::{Start, Worker};
use tokio_util::sync::CancellationToken;

use super::Pool;
use super::config::Config;
use super::proto::{AttemptId, ConnId, Fault, Input, Output, Policy, Why};
use crate::transport::{CloseCode, DialError};

/// How many wishes of callers wait for the policy. More are refused.
const INBOX_LEN_MAX: usize = 65_536;

/// How many peers' last faults are remembered in words.
const FAULTS_MAX: usize = 4_096;

/// The policy in its shell.
pub(crate) type PoolActor = Shell<Policy, Deeds, TokioClock>;

/// The worker of the policy. `entropy` makes the dice of each of its lives.
///
/// # Errors
///
/// Never: its id is one.
pub(crate) fn worker(
    pool: Pool,
    config: Config,
    entropy: impl Fn() -> Entropy + Send + Sync + 'static,
) -> Result<Worker<PoolActor>, InvalidId> {
    Worker::with("policy", move |_: &_| {
        let inbox = Inbox::new(INBOX_LEN_MAX);
        pool.0.roster.begin(&inbox);
        let policy = Policy::new(pool.node(), config.clone(), entropy());
        let deeds = Deeds { pool: pool.clone(), dials: BTreeMap::new() };
        Ok(Start::Run(Shell::default(), Driver::new(policy, deeds, TokioClock, inbox)))
    })
}

/// What the policy wants done.
pub(crate) struct Deeds {
    pool: Pool,
    dials: BTreeMap<AttemptId, CancellationToken>,
}

impl Debug for Deeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deeds").field("dials", &self.dials.len()).finish_non_exhaustive()
    }
}

impl Drop for Deeds {
    fn drop(&mut self) {
        self.pool.0.roster.end();
        self.dials.values().for_each(CancellationToken::cancel);
    }
}

impl Effects<Policy> for Deeds {
    fn apply(&mut self, _now: Instant, output: Output, inbox: &Inbox<Input>) {
        let shared = &self.pool.0;
        match output {
            Output::Dial { attempt, peer, address } => self.dial(attempt, peer, address, inbox),
            Output::Seek { peer } => {
                inbox.push(Input::Found { peer, addresses: shared.book.addresses(peer) });
            }
            Output::Abort { attempt } => {
                if let Some(dial) = self.dials.remove(&attempt) {
                    dial.cancel();
                }
            }
            Output::Grant { ticket, conn } => {
                let waiter = shared.roster.answer(ticket);
                if let (Some(waiter), Some(link)) = (waiter, shared.roster.get(conn)) {
                    // A caller that has given up needs no connection; one whose connection has
                    // ended meanwhile is not answered and asks again.
                    drop(waiter.send(Ok(link)));
                }
            }
            Output::Deny { ticket, why } => {
                let waiter = shared.roster.answer(ticket);
                if let Some(waiter) = waiter {
                    drop(waiter.send(Err(why)));
                }
            }
            Output::Use { peer, conn } => {
                if let Some(link) = shared.roster.get(conn) {
                    shared.table.insert(peer, link);
                }
            }
            Output::Unuse { peer, conn } => {
                shared.table.remove_if(&peer, |_, link| link.id == conn);
            }
            Output::Retire { conn, unused_since } => {
                if let Some(link) = shared.roster.get(conn) {
                    inbox.push(if link.try_retire(unused_since) {
                        Input::Retired { conn }
                    } else {
                        Input::Busy { conn, last_used: link.last_used() }
                    });
                }
            }
            Output::Drain { conn, why } => {
                if let Some(link) = shared.roster.get(conn) {
                    link.leave(word(why));
                }
            }
            Output::Close { conn, why } => self.close(conn, why),
        }
    }

    fn observe(&mut self, policy: &Policy) {
        *self.pool.0.stats.lock() = policy.stats();
    }
}

impl Deeds {
    fn dial(
        &mut self,
        attempt: AttemptId,
        peer: NodeId,
        address: SocketAddr,
        inbox: &Inbox<Input>,
    ) {
        let (pool, inbox) = (self.pool.clone(), inbox.clone());
        let given_up = CancellationToken::new();
        self.dials.retain(|_, dial| !dial.is_cancelled());
        self.dials.insert(attempt, given_up.clone());
        drop(tokio::spawn(async move {
            // When the attempt is over it is no more to be given up.
            let over = given_up.clone().drop_guard();
            let Some((endpoint, gone)) = pool.0.current.get() else {
                return failed(&pool, peer, attempt, &DialError::Down, &inbox);
            };
            let dialled = endpoint.dial_until(&given_up, address, Some(peer)).await;
            drop(over);
            match dialled {
                Ok(connection) => {
                    let answered = connection.opener.node;
                    if answered == peer {
                        pool.0.faults.remove(&peer);
                    } else {
                        note(
                            &pool,
                            peer,
                            format!("node {} answers at {address}", answered.short()),
                        );
                    }
                    pool.took(connection, gone, |conn, peer, incarnation, relayed| Input::Dialed {
                        attempt,
                        conn,
                        peer,
                        incarnation,
                        relayed,
                    });
                }
                Err(error) => failed(&pool, peer, attempt, &error, &inbox),
            }
        }));
    }

    fn close(&self, conn: ConnId, why: Why) {
        if let Some(link) = self.pool.0.roster.get(conn) {
            self.pool.0.table.remove_if(&link.node(), |_, used| used.id == conn);
            link.close(match why {
                Why::Duplicate | Why::Stale => CloseCode::Duplicate,
                Why::Overloaded => CloseCode::Overloaded,
                Why::Stopping => CloseCode::Stopping,
                Why::Idle | Why::Evicted | Why::Lifetime | Why::Slow => CloseCode::Done,
            });
        }
    }
}

fn failed(pool: &Pool, peer: NodeId, attempt: AttemptId, error: &DialError, inbox: &Inbox<Input>) {
    tracing::debug!(peer = peer.short(), "a dial failed: {error}");
    note(pool, peer, error.to_string());
    let fault = match error {
        DialError::Refused { .. } | DialError::RefusedByPeer { .. } => Fault::Refused,
        DialError::Busy { .. } => Fault::Busy,
        DialError::TimedOut { .. } => Fault::TimedOut,
        DialError::Unreachable { .. }
        | DialError::Protocol { .. }
        | DialError::NoSocket { .. }
        | DialError::GivenUp
        | DialError::Down => Fault::Unreachable,
    };
    inbox.push(Input::DialFailed { attempt, fault });
}

/// Remembers in words why the last dial of a peer failed.
fn note(pool: &Pool, peer: NodeId, why: String) {
    let faults = &pool.0.faults;
    if faults.len() < FAULTS_MAX || faults.contains_key(&peer) {
        faults.insert(peer, why);
    }
}

const fn word(why: Why) -> &'static str {
    match why {
        Why::Idle => "idle",
        Why::Evicted => "evicted",
        Why::Lifetime => "lifetime",
        Why::Duplicate => "duplicate",
        Why::Overloaded => "overloaded",
        Why::Stale => "stale",
        Why::Slow => "slow",
        Why::Stopping => "stopping",
    }
}
