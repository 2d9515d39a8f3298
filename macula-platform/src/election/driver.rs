//! What looks after one candidacy: carries out what its machine wants.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use macula_core::entropy::Entropy;
use macula_core::machine::Machine as _;
use macula_core::port::Answer;
use tokio::sync::{oneshot, watch};

use super::leadership::{Leadership, Term, Token, Why};
use super::name::{self, Claim};
use super::observation::{Glimpse, Keyhole};
use super::proto::{Candidate, Config, Input, Kept, Outcome, Output};
use super::seat::{Seat, Wish};
use crate::kv::command::{Condition, Holds, LeaseId, Op, Refusal, Txn};
use crate::kv::{Error, Kv};
use crate::raft::timer::Timer;

/// What all candidacies of a node have in common.
#[derive(Debug, Clone)]
pub(super) struct Ground {
    pub(super) kv: Kv,
    pub(super) timer: Arc<dyn Timer>,
    pub(super) claim: Claim,
}

/// Looks after a candidacy until it has left. Whoever drops this future has deposed it.
pub(super) async fn drive(seat: Arc<Seat>, ground: Ground, config: Config, entropy: Entropy) {
    let keyhole = Keyhole::new(ground.kv.clone(), name::key(&seat.name));
    let mut life = Life {
        wish: seat.wish.subscribe(),
        seat,
        ground,
        candidate: Candidate::new(config, entropy),
        term: None,
        left: None,
        requests: Requests::default(),
        pause: config.ttl / 8,
    };
    life.wish.mark_changed();
    life.requests.look(keyhole, life.pause);
    life.candidate.handle(life.ground.timer.now(), Input::Campaign);
    life.run().await;
    life.seat.close();
}

/// What comes of a request.
enum Done {
    Input(Input),
    Seen(Box<(Keyhole, Glimpse)>),
    /// Nobody waits for that.
    Nothing,
}

/// Requests that are under way. They are few: one look, one grant or claim, some keep-alives, and those
/// leases that are being let go.
#[derive(Default)]
struct Requests(Vec<Answer<'static, Done>>);

impl Requests {
    fn add(&mut self, request: impl Future<Output = Done> + Send + 'static) {
        self.0.push(Box::pin(request));
    }

    fn look(&mut self, keyhole: Keyhole, pause: std::time::Duration) {
        self.add(async move { Done::Seen(Box::new(keyhole.insist(pause).await)) });
    }

    /// What comes next. If the future is dropped nothing is lost.
    async fn next(&mut self) -> Done {
        poll_fn(|context| {
            for index in 0..self.0.len() {
                if let Some(request) = self.0.get_mut(index)
                    && let Poll::Ready(done) = request.as_mut().poll(context)
                {
                    drop(self.0.swap_remove(index));
                    return Poll::Ready(done);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// One life of what looks after a candidacy.
struct Life {
    seat: Arc<Seat>,
    ground: Ground,
    candidate: Candidate,
    /// The last time of leadership.
    term: Option<Arc<Term>>,
    /// Hears when nobody acts any more under that token.
    left: Option<(Token, oneshot::Receiver<()>)>,
    wish: watch::Receiver<Wish>,
    requests: Requests,
    pause: std::time::Duration,
}

impl Life {
    async fn run(&mut self) {
        loop {
            self.carry_out();
            // One look is always under way.
            if self.wish.borrow().leaves && self.candidate.is_idle() && self.requests.0.len() <= 1 {
                return;
            }
            let input = self.input().await;
            let now = self.ground.timer.now();
            match input {
                Some(input) => self.candidate.handle(now, input),
                None => self.candidate.handle_timeout(now),
            }
        }
    }

    /// What happens next; none if only time has passed.
    async fn input(&mut self) -> Option<Input> {
        let timer = Arc::clone(&self.ground.timer);
        let deadline = self.candidate.poll_timeout().map(|(at, _reason)| at);
        let wait = async {
            match deadline {
                Some(at) => timer.until(at).await,
                None => std::future::pending().await,
            }
        };
        let done = tokio::select! {
            biased;
            () = wait => return None,
            // The seat has the other end.
            _ = self.wish.changed() => return self.wished(),
            token = gone(&mut self.left) => return Some(Input::Vacated(token)),
            done = self.requests.next() => done,
        };
        match done {
            Done::Input(input) => Some(input),
            Done::Seen(seen) => {
                let (keyhole, Glimpse { revision, item, .. }) = *seen;
                self.requests.look(keyhole, self.pause);
                Some(Input::Seen(revision, item.as_ref().map(name::holder)))
            }
            Done::Nothing => None,
        }
    }

    fn wished(&mut self) -> Option<Input> {
        let Wish { leaves, steps_down } = *self.wish.borrow_and_update();
        if leaves { Some(Input::Resign) } else { steps_down.map(Input::StepDown) }
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.candidate.poll_output() {
            match output {
                Output::Grant { serial } => self.grant(serial),
                Output::Claim { serial, lease } => self.claim(serial, lease),
                Output::KeepAlive { lease, asked } => self.keep_alive(lease, asked),
                Output::Release(lease) => {
                    let kv = self.ground.kv.clone();
                    self.requests.add(async move {
                        // One that is not let go ends by itself.
                        drop(kv.revoke(lease).await);
                        Done::Nothing
                    });
                }
                Output::Elected { token, until } => self.elected(token, until),
                Output::Extended { token, until } => {
                    if let Some(term) = self.term.as_ref().filter(|term| term.token == token)
                        && !term.extend(until)
                    {
                        let now = self.ground.timer.now();
                        self.candidate.handle(now, Input::Lapsed(token));
                    }
                }
                Output::Deposed { why, .. } => self.seat.depose(why),
            }
        }
    }

    fn elected(&mut self, token: Token, until: Instant) {
        let (name, timer) = (Arc::clone(&self.seat.name), Arc::clone(&self.ground.timer));
        let term = Arc::new(Term::new(name, token, until, timer));
        let (leadership, gone) = Leadership::new(Arc::clone(&term));
        (self.term, self.left) = (Some(term), Some((token, gone)));
        self.seat.elect(leadership);
    }

    fn grant(&mut self, serial: u64) {
        let (kv, ttl) = (self.ground.kv.clone(), self.seat.options.ttl());
        self.requests.add(async move {
            let lease = kv.grant(ttl).await.ok().map(|held| held.lease);
            Done::Input(Input::Granted { serial, lease })
        });
    }

    fn claim(&mut self, serial: u64, lease: LeaseId) {
        let (kv, key) = (self.ground.kv.clone(), name::key(&self.seat.name));
        let value = self.ground.claim.write();
        self.requests.add(async move {
            let put = Op::Put { key: key.clone(), value, lease: Some(lease) };
            let conditions = vec![Condition { key: key.clone(), holds: Holds::Absent }];
            let txn = Txn { conditions, then: vec![put], otherwise: vec![Op::Get(key)] };
            let outcome = match kv.txn(txn).await {
                Ok(done) if done.held => Outcome::Won(Token(done.revision)),
                Ok(done) => match done.found.into_iter().next().flatten() {
                    // An earlier try has done it.
                    Some(item) if item.lease == Some(lease) => Outcome::Won(Token(item.created)),
                    Some(item) => Outcome::Lost(done.revision, name::holder(&item)),
                    None => Outcome::Unknown,
                },
                Err(Error::Refused(_)) => Outcome::Refused,
                Err(_) => Outcome::Unknown,
            };
            Done::Input(Input::Claimed { serial, lease, outcome })
        });
    }

    fn keep_alive(&mut self, lease: LeaseId, asked: Instant) {
        let (kv, timer) = (self.ground.kv.clone(), Arc::clone(&self.ground.timer));
        let ttl = self.seat.options.ttl();
        self.requests.add(async move {
            let kept = tokio::select! {
                kept = kv.keep_alive(lease) => match kept {
                    Ok(_) => Kept::Yes,
                    Err(Error::Refused(Refusal::NoLease(_))) => Kept::Gone,
                    Err(_) => Kept::Unknown,
                },
                // An answer that is older than half of it is of little use.
                () = timer.until(asked + ttl / 2) => Kept::Unknown,
            };
            Done::Input(Input::Kept { lease, asked, kept })
        });
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.seat.depose(Why::Interrupted);
    }
}

/// Waits until the last one has let go, and says of what.
async fn gone(left: &mut Option<(Token, oneshot::Receiver<()>)>) -> Token {
    match left {
        Some((token, receiver)) => {
            let token = *token;
            // Nothing is ever sent.
            drop(receiver.await);
            *left = None;
            token
        }
        None => std::future::pending().await,
    }
}
