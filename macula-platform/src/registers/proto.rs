//! The table as a machine: requests come in, replies, changes and deltas come out.
//!
//! It has no deadlines and needs no randomness; calendar time comes with each input. One input has
//! at most `subscribers_max + 2` outputs: a reply, a delta for the replicator if the change was
//! local, and the change for each subscriber.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::hlc::Stamp;
use macula_core::machine::Machine;
use macula_core::replica::ReplicaId;

use super::config::Config;
use super::error::Refused;
use super::register::{Change, Origin, Register};
use super::table::{Page, Table};

/// What ties a reply to its input. The driver chooses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticket(pub u64);

/// A subscriber of one table, numbered by it and never again used for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriberId(u64);

/// One request and the calendar's time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// It comes back with the reply.
    pub ticket: Ticket,
    /// The time since the Unix epoch, as the own calendar has it.
    pub wall: Duration,
    /// What is asked.
    pub request: Request,
}

/// What can be asked of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Give a register a value. [`Reply::Written`]
    Write {
        /// The key.
        key: Arc<str>,
        /// The value.
        value: Arc<[u8]>,
    },
    /// Take a register's value away; its stamp stays. [`Reply::Written`]
    Remove {
        /// The key.
        key: Arc<str>,
    },
    /// Give a register's value. [`Reply::Register`]
    Read {
        /// The key.
        key: Arc<str>,
    },
    /// List keys in order. [`Reply::Keys`]
    Keys {
        /// What the keys begin with; empty for all.
        prefix: Arc<str>,
        /// The listing starts after this key.
        after: Option<Arc<str>>,
    },
    /// Take a register from another replica. [`Reply::Merged`]
    Merge {
        /// The key.
        key: Arc<str>,
        /// The register.
        register: Register,
    },
    /// Tell of changes from now on. [`Reply::Subscribed`]
    Subscribe {
        /// What the keys begin with; empty for all.
        prefix: Arc<str>,
    },
    /// Tell no more. [`Reply::Unsubscribed`]
    Unsubscribe(SubscriberId),
    /// Say how full the table is. [`Reply::Stats`]
    Stats,
}

/// What a request led to, unless it was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It was written under this stamp.
    Written(Stamp),
    /// The register; none if it was never written or was removed.
    Register(Option<Register>),
    /// Some keys.
    Keys(Page),
    /// Whether the register that came won over what was there.
    Merged(bool),
    /// The subscriber's number.
    Subscribed(SubscriberId),
    /// There is no such subscriber any more.
    Unsubscribed,
    /// How full the table is.
    Stats(Stats),
}

/// How full a table is, and what it did since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// As which replica it writes.
    pub replica: ReplicaId,
    /// How many keys it holds, those of removed registers among them.
    pub keys: usize,
    /// How many of them are of removed registers.
    pub removed: usize,
    /// How many subscribers there are.
    pub subscribers: usize,
    /// How many local writes and removals were taken.
    pub written: u64,
    /// How many registers from elsewhere won.
    pub merged: u64,
    /// How many registers from elsewhere were older than what was there, or the same.
    pub outdated: u64,
    /// How many requests were refused.
    pub refused: u64,
}

/// What the table wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Answer a request.
    Reply {
        /// Whose.
        ticket: Ticket,
        /// With what.
        result: Result<Reply, Refused>,
    },
    /// A register was written here: other replicas have to hear of it. Comes before the reply, so
    /// that a driver may let an acknowledgement wait for it.
    Delta(Change),
    /// Tell a subscriber.
    Tell {
        /// Whom.
        subscriber: SubscriberId,
        /// Of what.
        change: Change,
    },
}

/// A table of last-writer-wins registers.
///
/// A clone is a table of its own with the same contents.
#[derive(Debug, Clone)]
pub struct Store {
    table: Table,
    subscribers: BTreeMap<SubscriberId, Arc<str>>,
    subscribers_ever: u64,
    outputs: VecDeque<Output>,
    stats: Stats,
}

impl Store {
    /// An empty table that writes as `replica`.
    #[must_use]
    pub fn new(config: Config, replica: ReplicaId) -> Self {
        Self {
            table: Table::new(config, replica),
            subscribers: BTreeMap::new(),
            subscribers_ever: 0,
            outputs: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Goes on after its driver was lost: as the replica's next life, with all registers, the clock
    /// and the subscribers. Replies that nobody fetched are gone; other outputs are still there.
    pub fn begin_life(&mut self) {
        self.table.begin_life();
        self.outputs.retain(|output| !matches!(output, Output::Reply { .. }));
    }

    /// The limits.
    #[must_use]
    pub const fn config(&self) -> &Config {
        self.table.config()
    }

    /// As which replica it writes.
    #[must_use]
    pub const fn replica(&self) -> ReplicaId {
        self.table.replica()
    }

    /// All registers in the order of their keys, removed ones among them: what a peer may lack.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Register)> {
        self.table.iter()
    }

    /// A register, even if it was removed.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Register> {
        self.table.get(key)
    }

    /// How full the table is.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (keys, removed) = self.table.len();
        let (replica, subscribers) = (self.table.replica(), self.subscribers.len());
        Stats { replica, keys, removed, subscribers, ..self.stats }
    }

    fn answer(&mut self, wall: Duration, request: Request) -> Result<Reply, Refused> {
        match request {
            Request::Write { key, value } => self.write(wall, key, Some(value)),
            Request::Remove { key } => self.write(wall, key, None),
            Request::Read { key } => {
                self.table.check_key_len(&key)?;
                let register = self.table.get(&key).filter(|register| register.value.is_some());
                Ok(Reply::Register(register.cloned()))
            }
            Request::Keys { prefix, after } => {
                self.table.page(&prefix, after.as_deref()).map(Reply::Keys)
            }
            Request::Merge { key, register } => {
                let won = self.table.merge(wall, &key, register.clone())?;
                if won {
                    self.stats.merged += 1;
                    self.tell(&Change { key, register, origin: Origin::Remote });
                } else {
                    self.stats.outdated += 1;
                }
                Ok(Reply::Merged(won))
            }
            Request::Subscribe { prefix } => self.subscribe(prefix),
            Request::Unsubscribe(subscriber) => {
                self.subscribers.remove(&subscriber);
                Ok(Reply::Unsubscribed)
            }
            Request::Stats => Ok(Reply::Stats(self.stats())),
        }
    }

    fn write(
        &mut self,
        wall: Duration,
        key: Arc<str>,
        value: Option<Arc<[u8]>>,
    ) -> Result<Reply, Refused> {
        let register = self.table.write(wall, &key, value)?;
        self.stats.written += 1;
        let stamp = register.stamp;
        let change = Change { key, register, origin: Origin::Local };
        self.outputs.push_back(Output::Delta(change.clone()));
        self.tell(&change);
        Ok(Reply::Written(stamp))
    }

    fn subscribe(&mut self, prefix: Arc<str>) -> Result<Reply, Refused> {
        self.table.check_key_len(&prefix)?;
        let subscribers_max = self.config().subscribers_max;
        let subscribers = self.subscribers.len();
        if subscribers >= subscribers_max {
            return Err(Refused::SubscribersMax { subscribers, subscribers_max });
        }
        self.subscribers_ever += 1;
        let subscriber = SubscriberId(self.subscribers_ever);
        self.subscribers.insert(subscriber, prefix);
        Ok(Reply::Subscribed(subscriber))
    }

    fn tell(&mut self, change: &Change) {
        let concerned =
            self.subscribers.iter().filter(|(_, prefix)| change.key.starts_with(&***prefix));
        let outputs =
            concerned.map(|(&subscriber, _)| Output::Tell { subscriber, change: change.clone() });
        self.outputs.extend(outputs);
    }
}

impl Machine for Store {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, _now: Instant, input: Input) {
        let Input { ticket, wall, request } = input;
        let result = self.answer(wall, request);
        self.stats.refused += u64::from(result.is_err());
        self.outputs.push_back(Output::Reply { ticket, result });
    }

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        None
    }
}

#[cfg(test)]
mod tests;
