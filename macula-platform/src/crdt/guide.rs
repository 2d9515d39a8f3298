//! When to use a CRDT, and when the key-value store.
//!
//! Both keep state that outlives a node. They differ in what happens when nodes do not hear each
//! other: the store stops where there is no majority, and never says two things at once; a CRDT goes
//! on everywhere, says what it knows, and comes together later. So ask of each piece of state:
//!
//! | question | CRDT | [store](crate::kv) |
//! |---|---|---|
//! | May it be written where no majority is in reach? | yes | no |
//! | How long does a write take? | as long as it takes here | a round trip to a majority, and its disks |
//! | Can a write be refused because of what others wrote? | no | yes |
//! | Is what is read the latest? | the latest that came here | yes |
//! | Can there be a rule over all of it, such as "never below zero" or "only one"? | no | yes |
//! | How many writers? | any number | all go through one leader |
//!
//! If a rule would be broken by two who each keep it, it belongs into the store: a balance, a unique
//! name, a seat, who leads. If everything that anybody says is true, and the sum of it is what counts,
//! it belongs into a CRDT: who is here, what was seen, what was clicked, what somebody wants.
//!
//! # Presence in a lobby
//!
//! Who is in a lobby is said by each node of those who are connected to it. Nobody has to agree. A
//! partition must not keep players out; and that two lists are apart for as long as two halves cannot
//! talk is what they are. It is an [`OrSet`](super::types::OrSet):
//!
//! ```
//! # use macula_core::replica::ReplicaId;
//! # use macula_platform::crdt::bucket::Bucket;
//! use macula_platform::crdt::types::OrSet;
//! # let now = std::time::Duration::from_secs(1_700_000_000);
//! # let bucket = |node| Bucket::new(ReplicaId { node, incarnation: 1 }, Default::default());
//! # let (mut east, mut west) = (bucket(1)?, bucket(2)?);
//!
//! // Ada is here, and both nodes know it. Then they do not hear each other.
//! let ada = east.update("lobby", now, |lobby: &OrSet, write| lobby.add(*b"ada", write))?;
//! west.join(&ada, now)?;
//! // In the west Ben comes, and Ada seems to have gone. In the east she comes in once more.
//! let ben = west.update("lobby", now, |lobby: &OrSet, write| lobby.add(*b"ben", write))?;
//! let gone = west.update("lobby", now, |lobby: &OrSet, _| Ok(lobby.remove(b"ada")))?;
//! let again = east.update("lobby", now, |lobby: &OrSet, write| lobby.add(*b"ada", write))?;
//! // They hear each other again, and nobody has lost anything: what the west has not seen it has
//! // not removed.
//! for told in [&ben, &gone] {
//!     east.join(told, now)?;
//! }
//! west.join(&again, now)?;
//! for node in [&east, &west] {
//!     let lobby = node.read::<OrSet>("lobby")?.ok_or("empty")?;
//!     assert!(lobby.contains(b"ada") && lobby.contains(b"ben"));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With the store the west, if it is the smaller half, could not have let Ben in.
//!
//! # A balance
//!
//! A balance must not go below zero. It looks like a counter, and with a
//! [`PnCounter`](super::types::PnCounter) each node can check before it takes away. It is of no use:
//! both are right by what they know.
//!
//! ```
//! # use macula_core::replica::ReplicaId;
//! # use macula_platform::crdt::bucket::{Bucket, KeyDelta};
//! # use macula_platform::crdt::limits::Refused;
//! use macula_platform::crdt::types::PnCounter;
//! # const NOW: std::time::Duration = std::time::Duration::from_secs(1_700_000_000);
//! # let bucket = |node| Bucket::new(ReplicaId { node, incarnation: 1 }, Default::default());
//! # let (mut east, mut west) = (bucket(1)?, bucket(2)?);
//!
//! fn withdraw(node: &mut Bucket, amount: u64) -> Result<KeyDelta, Box<dyn std::error::Error>> {
//!     let there = node.read::<PnCounter>("balance")?.map_or(0, PnCounter::value);
//!     if there < i128::from(amount) {
//!         return Err("there is not enough".into());
//!     }
//!     Ok(node.update("balance", NOW, |balance: &PnCounter, write| balance.decrement(amount, write))?)
//! }
//!
//! let paid = east.update("balance", NOW, |balance: &PnCounter, write| balance.increment(100, write))?;
//! west.join(&paid, NOW)?;
//! // Both see 100, and both take 80.
//! let (one, other) = (withdraw(&mut east, 80)?, withdraw(&mut west, 80)?);
//! east.join(&other, NOW)?;
//! west.join(&one, NOW)?;
//! assert_eq!(east.read::<PnCounter>("balance")?.map(PnCounter::value), Some(-60));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! In the store the second one is told that the balance is no longer what it was, looks again, and
//! refuses. On the side of a partition that has no majority nobody can withdraw at all, and that is
//! what a balance wants.
//!
//! ```
//! use macula_platform::kv::{Error, Kv};
//!
//! async fn withdraw(kv: &Kv, amount: u64) -> Result<bool, Error> {
//!     let balances = kv.typed::<u64>();
//!     loop {
//!         let Some((there, revision)) = balances.get("balance").await? else { return Ok(false) };
//!         let Some(left) = there.checked_sub(amount) else { return Ok(false) };
//!         if balances.compare_and_set("balance", Some(revision), &left).await?.is_some() {
//!             return Ok(true);
//!         }
//!     }
//! }
//! ```
//!
//! # Which type
//!
//! | what it is | type |
//! |---|---|
//! | the last word counts | [`LwwRegister`](super::types::LwwRegister) |
//! | no word may be lost, a reader decides | [`MvRegister`](super::types::MvRegister) |
//! | how often something happened | [`GCounter`](super::types::GCounter) |
//! | a score, or how much there is of something | [`PnCounter`](super::types::PnCounter) |
//! | things that were seen | [`GSet`](super::types::GSet) |
//! | things that come and go | [`OrSet`](super::types::OrSet) |
//! | the same, where the later of an addition and a removal counts by the clock | [`LwwElementSet`](super::types::LwwElementSet) |
//! | yes or no, in doubt yes | [`EwFlag`](super::types::EwFlag) |
//! | yes or no, in doubt no | [`DwFlag`](super::types::DwFlag) |
//! | any of these under names | [`OrMap`](super::types::OrMap) |
//! | a record | [`Pair`](super::types::Pair), and [`crdt_type!`](crate::crdt_type) |
//!
//! # What surprises
//!
//! - A counter that is removed while another node counts: what that node had counted stays in full,
//!   and what others had counted goes. Counters that begin anew have a new key.
//! - An element that is added again is protected against removals that have not seen it, so adding what
//!   is there is no waste, and is told to all.
//! - Clocks decide only between writes that did not see each other. A node whose clock is an hour ahead
//!   wins these, and nothing else: whoever has seen its write can replace it.
//! - A key that two nodes use for different types before they hear of each other is both from then on:
//!   each reads its own. A third type is refused.
//! - Limits are those of the node where something is written. What was taken there is taken everywhere,
//!   so a set can pass its limit when several nodes fill it at once.
