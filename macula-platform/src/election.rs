//! Elections: at most one leads at a time, and has a token that says so to all others.
//!
//! An election is a key of the [key-value store](crate::kv), `macula/election/NAME`. Whoever makes it, on
//! condition that it is not there and with a lease of its own, leads: the revision at which the key was
//! made is the *fencing token*, which the group has agreed upon and which grows for ever. When the key
//! goes, those who watch it claim it, each after a short wait that is drawn; the first one has it. There
//! is no queue. This is the way of etcd's elections, with a deadline of the holder's own.
//!
//! [`Elections`] is what a node has of all this: [`campaign`](Elections::campaign) gives a [`Candidacy`],
//! which hears of [`Event`]s; [`observe`](Elections::observe) tells who leads;
//! [`resign`](Elections::resign) has whoever leads step down. A [`Singleton`](crate::singleton::Singleton)
//! is a child that runs where its node leads.
//!
//! ```text
//! Elections -> seat <- driver (proto) -> Kv, a watch on the key
//!               |
//!               v
//!           Candidacy -> Elected(Leadership), Deposed, Elected, ...
//! ```
//!
//! # Why two never lead at one time
//!
//! 1. Only who has made the key leads, and it can be made again only after it is gone. It is a
//!    [claim](crate::kv::limits::CLAIMS), which nobody can delete: it goes with its lease, when the holder
//!    lets that go, or when it ends. (Whoever revokes a lease that is another one's breaks that.)
//! 2. A lease does not end before its TTL has passed since its holder *asked* for the keep-alive that was
//!    acknowledged last, by whatever voter's clock, if no two clocks differ by more than a
//!    [tenth](crate::raft::DRIFT) over that time. That is the [rule of leases](crate::kv::expiry). The
//!    holder leads for a tenth less than that, by its own clock, counted from that same moment and not
//!    from the answer; so what it begins in its last moment has a tenth of the TTL to get done.
//! 3. That deadline is not only acted upon, it is asked: [`Leadership::check`] compares it with the clock
//!    each time, so that a process that did not run for a while finds itself deposed, whichever of its
//!    parts runs first. Whoever sees it pass ends it for all: an answer that comes later revives nothing.
//! 4. The holder lets its lease go early, so that others need not wait, only when each clone of the
//!    [`Leadership`] has been dropped: nobody on the node acts under it any more, or is about to stop.
//!
//! What [`Candidacy::next`] tells is made when it is asked for, from how it stands at that moment: no
//! `Elected` waits in a queue to be taken late. Of a message that went to an actor the same is true of the
//! [`Leadership`] in it.
//!
//! # What this cannot do
//!
//! Between a check and what follows it there is always a moment, and it may be long: a process is stopped,
//! a disk is slow, a packet is on its way. And the clock of a machine that is suspended stands still with
//! it. No lease is proof against that, so what must never happen twice is fenced where it takes effect:
//! in the key-value store by [`Kv::guarded`](crate::kv::Kv::guarded), and anywhere else by a [`Fence`](fence::Fence),
//! which refuses each token that is lower than one that it has seen.

pub mod actor;
mod candidacy;
mod client;
mod config;
mod driver;
mod error;
pub mod fence;
mod leadership;
pub mod limits;
mod metrics;
mod name;
pub mod observation;
pub mod proto;
mod seat;

pub use candidacy::{Candidacy, Event, Nomination};
pub use client::{Elections, Parts};
pub use config::Options;
pub use error::Error;
pub use leadership::{Leadership, Over, Token, Why};

#[cfg(test)]
pub(crate) mod tests;
