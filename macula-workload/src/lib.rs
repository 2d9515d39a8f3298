//! What users of Macula import: a node, and what runs on it.
//!
//! A [`Node`] is a tree of supervised actors in three tiers. A program spawns its own actors, which
//! are ordinary ractor actors, into the workload tier; it talks to the platform's actors through
//! typed clients; and it says, in code or in [configuration](config), how each actor is restarted.
//!
//! ```
//! use macula_workload::prelude::*;
//! use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
//!
//! struct Greeter;
//!
//! enum Ask {
//!     Greet(String, RpcReplyPort<String>),
//!     Fail,
//! }
//!
//! impl Actor for Greeter {
//!     type Msg = Ask;
//!     type State = u32;
//!     type Arguments = ();
//!
//!     async fn pre_start(&self, _: ActorRef<Ask>, (): ()) -> Result<u32, ActorProcessingErr> {
//!         Ok(0)
//!     }
//!
//!     async fn handle(
//!         &self, _: ActorRef<Ask>, ask: Ask, greeted: &mut u32,
//!     ) -> Result<(), ActorProcessingErr> {
//!         match ask {
//!             Ask::Greet(who, reply) => {
//!                 *greeted += 1;
//!                 reply.send(format!("hello {who}, you are number {greeted}"))?;
//!             }
//!             Ask::Fail => return Err("asked to fail".into()),
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = Node::start().await?;
//! let greeter = node.spawn(Worker::new("greeter", || (Greeter, ()))?).await?;
//! let greet = |reply| Ask::Greet("ada".into(), reply);
//! assert_eq!(greeter.call(greet).await?, "hello ada, you are number 1");
//!
//! greeter.cast(Ask::Fail)?; // It fails, and its supervisor starts it again.
//! assert_eq!(greeter.next_life(1).await, Some(2));
//! let greet = |reply| Ask::Greet("bob".into(), reply);
//! assert_eq!(greeter.call(greet).await?, "hello bob, you are number 1");
//!
//! node.registers().put("greeted", &2_u32).await?;
//! node.stop().await?;
//! # Ok(())
//! # }
//! ```

pub mod admin;
pub mod config;
pub mod identity;
pub mod node;
pub mod prelude;

pub use config::Config;
pub use macula_core::identity::NodeId;
pub use macula_core::{path, supervision, topic};
pub use macula_infra::{
    access, bootstrap, contact, dht, membership, mesh, names, pool, pubsub, relay, remote, rpc,
    transport,
};
pub use macula_platform::{consensus, crdt, election, kv, raft, registers, singleton};
pub use node::Node;

/// The README's example, compiled and run.
#[doc = include_str!("../../README.md")]
#[cfg(doctest)]
#[derive(Debug)]
pub struct Readme;
