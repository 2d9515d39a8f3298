//! The node's place in the mesh, as the tiers above see it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;

use macula_core::identity::NodeId;
use macula_core::supervision::Handle;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::access::Access;
use crate::dht::Dht;
use crate::link::Link;
use crate::membership::Membership;
use crate::names::{LocateError, NamedHandle, Names};
use crate::pool::{Class, LinkError, Stats};
use crate::pubsub::PubSub;
use crate::relay::Relay;
use crate::remote::{Calling, Remote, ReplyTo, ServeError, Serving};
use crate::rpc::Rpc;
use crate::transport::Sockets;
use crate::transport::overlay::is_overlay;
use crate::transport::tls::Credentials;

/// The mesh, from one node. Clones are the same.
#[derive(Clone)]
pub struct Mesh {
    pub(crate) calling: Calling,
    pub(crate) credentials: Credentials,
    pub(crate) sockets: Arc<Sockets>,
    pub(crate) membership: Membership,
    pub(crate) dht: Dht,
    pub(crate) names: Names,
    pub(crate) relay: Relay,
    pub(crate) rpc: Rpc,
    pub(crate) pubsub: PubSub,
}

impl Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mesh").field("node", &self.node()).finish_non_exhaustive()
    }
}

/// Lets go of what would keep a node's parts alive for ever, since they know of each other. It is for when the
/// node has ended, however that came.
#[derive(Debug)]
pub struct Ending(Mesh);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.calling.served.clear();
        self.0.relay.disconnect();
    }
}

impl Mesh {
    /// What is to be dropped when the node has ended.
    #[must_use]
    pub fn ending(&self) -> Ending {
        Ending(self.clone())
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.calling.pool.node()
    }

    /// Where this node accepts connections.
    #[must_use]
    pub fn listening(&self) -> Vec<SocketAddr> {
        self.sockets.listening()
    }

    /// Another node, to find actors on. It need not be connected, or even run.
    #[must_use]
    pub fn remote(&self, node: NodeId) -> Remote {
        Remote { calling: self.calling.clone(), node }
    }

    /// Serves an actor of this node under a name: others may ask it `Q` and get `R`. `message`
    /// makes the actor's own message of a question. The name is announced in the directory, so that
    /// any node can [find](Self::locate) it; if the directory is not there now, later.
    ///
    /// # Errors
    ///
    /// [`ServeError`]; nothing changed.
    pub fn serve<M, Q, R>(
        &self,
        name: &str,
        handle: &Handle<M>,
        message: impl Fn(Q, ReplyTo<R>) -> M + Send + Sync + 'static,
    ) -> Result<Serving, ServeError>
    where
        M: Send + 'static,
        Q: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
    {
        self.calling.served.serve(name, handle, message)
    }

    /// The node that serves an actor under a name: this one if it does.
    ///
    /// # Errors
    ///
    /// [`LocateError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing happens.
    pub async fn locate(&self, name: &str) -> Result<Remote, LocateError> {
        self.names.locate(name).await
    }

    /// Waits until the directory knows of all names that this node serves now. It may never do, as
    /// when nobody is there to keep them.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing happens.
    pub async fn announced(&self) {
        self.names.announced().await;
    }

    /// A typed handle to whoever serves an actor under a name, on any node. It is good before there
    /// is one.
    #[must_use]
    pub fn named<Q, R>(&self, name: &str) -> NamedHandle<Q, R> {
        self.names.handle(name)
    }

    /// Who may do what, and what was refused.
    #[must_use]
    pub fn access(&self) -> &Access {
        self.calling.served.access()
    }

    /// Procedures, whoever provides them.
    #[must_use]
    pub const fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    /// Tells where a node can be dialled.
    pub fn introduce(&self, node: NodeId, addresses: impl IntoIterator<Item = SocketAddr>) {
        self.calling.pool.introduce(node, addresses);
    }

    /// The nodes of whom an address is known, with what is known.
    #[must_use]
    pub fn known(&self) -> BTreeMap<NodeId, Vec<SocketAddr>> {
        let book = self.calling.pool.book();
        book.peers().into_iter().map(|peer| (peer, book.addresses(peer))).collect()
    }

    /// Connects to a node, unless there is a connection.
    ///
    /// # Errors
    ///
    /// [`LinkError`]: there is no connection now.
    pub async fn connect(&self, node: NodeId) -> Result<(), LinkError> {
        self.calling.pool.link(node).await.map(drop)
    }

    /// Keeps a connection to a node: it is dialled, dialled anew when it is lost, and not evicted.
    pub fn protect(&self, node: NodeId, class: Class) {
        self.calling.pool.protect(node, class);
    }

    /// Keeps it no longer for this reason.
    pub fn release(&self, node: NodeId, class: Class) {
        self.calling.pool.release(node, class);
    }

    /// Who is in the mesh.
    #[must_use]
    pub const fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The distributed hash table.
    #[must_use]
    pub const fn dht(&self) -> &Dht {
        &self.dht
    }

    /// Reaching nodes over others.
    #[must_use]
    pub const fn relay(&self) -> &Relay {
        &self.relay
    }

    /// The relay that carries the connection to a node. None if it is direct, or there is none.
    #[must_use]
    pub fn via(&self, node: NodeId) -> Option<NodeId> {
        let mut links = self.links();
        links.retain(|link| link.node() == node && !link.is_leaving());
        let relayed = links.iter().all(|link| is_overlay(link.peer().address));
        if relayed && !links.is_empty() { self.relay.via(node) } else { None }
    }

    /// Publish and subscribe.
    #[must_use]
    pub const fn pubsub(&self) -> &PubSub {
        &self.pubsub
    }

    /// The live connections.
    #[must_use]
    pub fn links(&self) -> Vec<Arc<Link>> {
        self.calling.pool.links()
    }

    /// What the connection pool has counted.
    #[must_use]
    pub fn pool_stats(&self) -> Stats {
        self.calling.pool.stats()
    }

    /// Lets go of the sockets of a node that has stopped, and waits until their ports are free. Its
    /// subscriptions end.
    pub async fn close_sockets(&self) {
        self.pubsub.end();
        self.sockets.release().await;
    }

    /// What this node shows and believes, which can be replaced while it runs.
    #[must_use]
    pub const fn credentials(&self) -> &Credentials {
        &self.credentials
    }
}
