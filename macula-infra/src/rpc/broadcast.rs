//! One question to all providers.

use std::fmt::Debug;
use std::marker::PhantomData;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use macula_core::identity::NodeId;
use serde::de::DeserializeOwned;

use super::Rpc;
use super::client::Ground;
use crate::names::Asked;
use crate::remote::{CallError, decode};

/// The answers of all providers of a procedure, as they come. When it is dropped, those that have
/// not answered are told that nobody waits.
pub struct Broadcast<R> {
    answers: FuturesUnordered<BoxFuture<'static, (NodeId, Result<Bytes, CallError>)>>,
    len_max: usize,
    _answer: PhantomData<fn() -> R>,
}

impl<R> Debug for Broadcast<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broadcast").field("outstanding", &self.outstanding()).finish()
    }
}

impl<R> Broadcast<R> {
    pub(super) fn new(rpc: &Rpc, ground: Ground, body: &Bytes) -> Self {
        let Ground { name, headers, deadline, candidates, .. } = ground;
        let one = |candidate: super::proto::chooser::Candidate| {
            let (names, body) = (rpc.0.names.clone(), body.clone());
            let (name, headers, node) = (name.clone(), headers.clone(), candidate.node);
            let answer: BoxFuture<'static, _> = Box::pin(async move {
                let asked = Asked { name: &name, headers: &headers, body: &body, deadline };
                (node, names.ask(node, 1, &asked).await)
            });
            answer
        };
        let answers = candidates.into_iter().map(one).collect();
        Self { answers, len_max: rpc.body_len_max(), _answer: PhantomData }
    }

    /// How many have not answered yet.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.answers.len()
    }
}

impl<R: DeserializeOwned> Broadcast<R> {
    /// The next answer, or why there is none, and whose it is; none once all have had theirs.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing is lost.
    pub async fn next(&mut self) -> Option<(NodeId, Result<R, CallError>)> {
        let (node, answer) = self.answers.next().await?;
        Some((node, answer.and_then(|answer| decode(&answer, self.len_max))))
    }
}
