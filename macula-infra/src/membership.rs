//! Who is in the mesh, and who has gone.
//!
//! SWIM (Das, Gupta and Motivala, DSN 2002) with Lifeguard's local health awareness (Dadgar,
//! Phillips and Currey, DSN-W 2018), as a pure machine ([`proto`]).
//!
//! Every half second a node pings one member, in an order that is shuffled anew for each round. A
//! member that does not answer is asked through three others. If that fails too it is *suspected*,
//! and everybody is told, itself above all. It has a second or more to *refute*: it signs its
//! presence anew with a higher version. If it does not, it is *down*. The more members suspect it
//! independently, the sooner. Whoever misses answers that others get counts that against itself,
//! and becomes more patient.
//!
//! News is pushed to a few members at once, and rides on all other messages until each node has
//! sent it a logarithmic number of times. What is missed in this way is found by anti-entropy: two
//! nodes compare sums over their whole views, and exchange what differs.
//!
//! # What one believes
//!
//! A member is known by its [`Presence`](update::Presence), which it has signed itself: its node
//! id, the number of its *life* (a restart is a new life), the *version* within that life, its
//! addresses and its role. Others can only claim of one such presence that it is suspect or down;
//! that it has left only the node itself can say. Beliefs about a node are in a total order (life,
//! version, alive < suspect < down < left) and the greatest wins, so all nodes come to believe the
//! same in whatever order they hear.
//!
//! # Partitions
//!
//! Members that are down are remembered, up to a bound, and one of them or of the seeds is pinged
//! every ten seconds for ever. So two halves find each other again after any time, and not only if
//! the configuration names a node of the other half. Each side then holds the other to be down; a
//! node that hears so of itself refutes it, and a node that hears so of a member which it holds to
//! be alive suspects and asks, but does not believe.
//!
//! # Liars
//!
//! A liar can suspect anybody, and cause a refutation for each of its lies, ten in a second at
//! most. It cannot make a node look gone that can still speak to any honest member, cannot claim
//! anything about a version that its node has not signed, and so cannot use versions or lives up.
//! A node that signs a life in the far future harms nobody but itself: its own next life is told so
//! ([`Output::Superseded`](proto::Output::Superseded)). It can make up nodes, whose keys it has, and
//! have them believed until they are probed; that a node is of the realm shows only when it is
//! dialled. All tables, lists and rates have bounds.
//!
//! # Why not the crate foca
//!
//! It has no local health awareness, so a slow node makes others look dead. The exchange of whole
//! views is left to its user, and without one what gossip misses stays missed. Unless it is told
//! otherwise it forgets the departed after a day, and asks none of them whether it is back.
//!
//! # Rooms
//!
//! [`config`] has the limits, [`update`] what is believed and how beliefs merge, [`wire`] the bytes
//! and the signatures, `limits` how much a peer may say, [`proto`] the machine, and [`event`] what it tells its node.

mod actor;
pub mod config;
mod departures;
pub mod event;
mod limits;
mod metrics;
pub mod proto;
pub mod update;
pub mod wire;

pub use actor::{Member, Membership};
pub(crate) use actor::{MembershipService, Parts, worker};

pub use config::Config;
pub use event::{Event, Parting};
pub use limits::Refused;
