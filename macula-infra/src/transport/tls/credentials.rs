//! What a node shows and believes at the moment: replaced as a whole, without a restart.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use macula_core::identity::{Certificate, Keypair, NodeId};
use parking_lot::Mutex;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::watch;

use super::judge::{Judged, judge, judge_own};
use super::lists::{self, UnusableList};
use super::refusal::Refusal;
use super::trust::{Enforcement, Trust};
use crate::access::{Audit, Audited};
use crate::transport::connection::Side;
use crate::transport::metrics;

/// How many refusals of dials are kept until their dialler asks.
const NOTES_MAX: usize = 4_096;

/// Why credentials cannot be used. What was in use before still is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IncompleteCredentials {
    /// There is no certificate to show.
    #[error("there is no certificate to show")]
    NoCertificate,
    /// The certificate is for another key.
    #[error("the certificate is for node {certified}, and the key is that of node {node}")]
    OtherKey {
        /// Whose certificate it is.
        certified: NodeId,
        /// Whose key it is.
        node: NodeId,
    },
    /// The certificate cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Malformed(String),
    /// The key cannot sign handshakes.
    #[error("the key cannot be used: {0}")]
    Key(String),
    /// The trust accepts nobody at all.
    #[error("{0}, so nobody would be accepted")]
    NobodyTrusted(&'static str),
    /// A revocation list cannot be used.
    #[error(transparent)]
    List(#[from] UnusableList),
    /// A node keeps its key for as long as it runs.
    #[error(
        "the key belongs to node {found}, and this is node {node}: restart it to change its key"
    )]
    OtherNode {
        /// Who this node is.
        node: NodeId,
        /// Whose key was given.
        found: NodeId,
    },
}

/// What a node shows: its key and the chain of its certificate.
#[derive(Debug, Clone)]
pub struct Showing {
    /// The node's key.
    pub key: Keypair,
    /// Its certificate, and those above it if peers need them.
    pub chain: Vec<Certificate>,
}

#[derive(Clone)]
struct State {
    shown: Arc<CertifiedKey>,
    /// The roles in the node's own certificate, if a realm has issued it.
    roles: Arc<[String]>,
    trust: Trust,
    enforcement: Enforcement,
}

/// Tells the time since the Unix epoch.
type Calendar = Arc<dyn Fn() -> Duration + Send + Sync>;

/// What a node shows and believes. Shared by all of its connections; clones are the same.
#[derive(Clone)]
pub struct Credentials(Arc<Shared>);

struct Shared {
    node: NodeId,
    secret: Keypair,
    state: ArcSwap<State>,
    calendar: Calendar,
    changes: watch::Sender<u64>,
    dials: AtomicU64,
    /// Why dials were refused, by their number.
    notes: Mutex<BTreeMap<u64, Refusal>>,
    counts: metrics::Refusals,
    audit: Audit,
}

impl Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("node", &self.0.node)
            .field("trust", &self.0.state.load().trust.mode())
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Checks what is shown and believed. `calendar` tells the time since the Unix epoch.
    ///
    /// # Errors
    ///
    /// [`IncompleteCredentials`] if the parts do not belong together, or nobody would be accepted.
    pub fn new(
        showing: &Showing,
        trust: Trust,
        enforcement: Enforcement,
        calendar: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Result<Self, IncompleteCredentials> {
        trust.check()?;
        let (shown, roles) = (Arc::new(shown(showing)?), roles(showing, &trust));
        let state = State { shown, roles, trust, enforcement };
        let credentials = Self(Arc::new(Shared {
            node: showing.key.node_id(),
            secret: showing.key.clone(),
            state: ArcSwap::from_pointee(state),
            calendar: Arc::new(calendar),
            changes: watch::Sender::new(0),
            dials: AtomicU64::new(1),
            notes: Mutex::new(BTreeMap::new()),
            counts: metrics::Refusals::default(),
            audit: Audit::default(),
        }));
        credentials.tell_own();
        Ok(credentials)
    }

    /// Replaces certificate and trust. New handshakes use them at once; live connections stay, but
    /// for those whose peer is not believed any more.
    ///
    /// # Errors
    ///
    /// [`IncompleteCredentials`]; what was in use before still is. Among them is a revocation list
    /// that is older than the one in use, or gone.
    pub fn replace(
        &self,
        showing: &Showing,
        trust: Trust,
        enforcement: Enforcement,
    ) -> Result<(), IncompleteCredentials> {
        let found = showing.key.node_id();
        if found != self.0.node {
            return Err(IncompleteCredentials::OtherNode { node: self.0.node, found });
        }
        let (shown, roles) = (Arc::new(shown(showing)?), roles(showing, &trust));
        self.put(trust, |trust| State { shown, roles, trust, enforcement })
    }

    /// Replaces what is believed, and goes on to show what is shown.
    ///
    /// # Errors
    ///
    /// As [`replace`](Self::replace).
    pub fn believe(
        &self,
        trust: Trust,
        enforcement: Enforcement,
    ) -> Result<(), IncompleteCredentials> {
        let (shown, roles) = (self.shown(), self.own_roles());
        self.put(trust, |trust| State { shown, roles, trust, enforcement })
    }

    fn put(
        &self,
        trust: Trust,
        state: impl FnOnce(Trust) -> State,
    ) -> Result<(), IncompleteCredentials> {
        trust.check()?;
        if let (Some(old), Some(new)) = (self.0.state.load().trust.realm(), trust.realm()) {
            lists::forgets_nothing(old, new)?;
        }
        self.0.state.store(Arc::new(state(trust)));
        self.tell_own();
        self.0.changes.send_modify(|generation| *generation += 1);
        Ok(())
    }

    /// Why the realm's members will refuse this node's own certificate, if they will.
    #[must_use]
    pub fn own_fault(&self) -> Option<Refusal> {
        let state = self.0.state.load();
        judge_own(&state.trust, &state.shown.cert, self.now()).err()
    }

    fn tell_own(&self) {
        if let Some(refusal) = self.own_fault() {
            let here = self.0.node.short();
            tracing::warn!(%here, "the realm's nodes will refuse this node: {refusal}");
        }
    }

    /// Who this node is.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.0.node
    }

    /// The time since the Unix epoch, as this node believes it.
    #[must_use]
    pub fn now(&self) -> Duration {
        (self.0.calendar)()
    }

    /// Counts the replacements, and wakes whoever waits for one.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// How often they were replaced. Whoever judges after it has asked, judges by no older trust.
    pub(in crate::transport) fn generation(&self) -> u64 {
        *self.0.changes.borrow()
    }

    /// The roles that the realm has given to this node.
    pub(crate) fn own_roles(&self) -> Arc<[String]> {
        Arc::clone(&self.0.state.load().roles)
    }

    /// What was refused, here and by the rules of access.
    pub(crate) fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// How many peers were refused, or would have been, by kind of refusal.
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<&'static str, u64> {
        self.0.counts.all()
    }

    /// Judges a chain now, by what is believed now.
    ///
    /// # Errors
    ///
    /// The [`Refusal`], which is not counted.
    pub fn judge(
        &self,
        judging: Side,
        expected: Option<NodeId>,
        chain: &[impl AsRef<[u8]>],
    ) -> Result<Judged, Refusal> {
        judge(&self.0.state.load().trust, judging, expected, chain, self.now())
    }

    /// The node's key, for what it signs.
    pub(crate) fn keypair(&self) -> &Keypair {
        &self.0.secret
    }

    /// A secret that follows from the node's key, one for each purpose.
    pub(in crate::transport) fn derive(&self, purpose: &str) -> [u8; 32] {
        self.0.secret.derive(purpose)
    }

    /// Whether a refusal ends a connection.
    pub(crate) fn enforces(&self) -> bool {
        self.0.state.load().enforcement == Enforcement::Enforce
    }

    /// What the hello of a dial shows, and what that of a newcomer has to.
    pub(crate) fn join_token(&self) -> Option<super::JoinToken> {
        match &self.0.state.load().trust {
            Trust::NodeId { token, .. } => token.clone(),
            Trust::Realm(_) | Trust::Pin { .. } => None,
        }
    }

    /// Counts and tells a refusal of a peer. Gives it back if it is to end the connection.
    pub(crate) fn refuse(&self, refusal: Refusal, peer: impl Display) -> Result<(), Refusal> {
        let enforced = self.enforces();
        self.0.counts.add(&refusal, enforced);
        let (kind, here) = (refusal.kind(), self.0.node.short());
        if enforced {
            self.audited(&refusal, &peer);
            return Err(refusal);
        }
        tracing::warn!(%here, %peer, kind, "a peer would be refused: {refusal}");
        Ok(())
    }

    /// Counts and tells a refusal that has happened, whatever is enforced.
    pub(in crate::transport) fn refuse_always(&self, refusal: &Refusal, peer: impl Display) {
        self.0.counts.add(refusal, true);
        self.audited(refusal, &peer);
    }

    fn audited(&self, refusal: &Refusal, peer: &impl Display) {
        let why = format!("{}: {refusal}", refusal.kind());
        self.put_into_audit(None, "connect", &peer.to_string(), &why);
    }

    /// Says in the audit what was refused, to whom, and why.
    pub(crate) fn put_into_audit(
        &self,
        node: Option<NodeId>,
        action: &'static str,
        name: &str,
        why: &str,
    ) {
        let (name, why) = (name.to_owned(), why.to_owned());
        self.0.audit.refused(Audited { at: self.now(), node, action, name, why });
    }

    pub(in crate::transport) fn next_dial(&self) -> u64 {
        self.0.dials.fetch_add(1, Ordering::Relaxed)
    }

    pub(in crate::transport) fn note(&self, dial: u64, refusal: Refusal) {
        let mut notes = self.0.notes.lock();
        notes.insert(dial, refusal);
        if notes.len() > NOTES_MAX {
            notes.pop_first();
        }
    }

    pub(in crate::transport) fn take_note(&self, dial: u64) -> Option<Refusal> {
        self.0.notes.lock().remove(&dial)
    }

    pub(super) fn shown(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.state.load().shown)
    }
}

/// The roles in what is shown, if a realm has issued it.
fn roles(showing: &Showing, trust: &Trust) -> Arc<[String]> {
    let facts = showing.chain.first().filter(|_| trust.realm().is_some()).map(Certificate::facts);
    facts.and_then(Result::ok).map(|facts| facts.roles.into()).unwrap_or_default()
}

/// What is shown, as the TLS library has it.
fn shown(showing: &Showing) -> Result<CertifiedKey, IncompleteCredentials> {
    let leaf = showing.chain.first().ok_or(IncompleteCredentials::NoCertificate)?;
    let facts =
        leaf.facts().map_err(|error| IncompleteCredentials::Malformed(error.to_string()))?;
    let node = showing.key.node_id();
    if facts.node_id != node {
        return Err(IncompleteCredentials::OtherKey { certified: facts.node_id, node });
    }
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(showing.key.to_pkcs8_der().to_vec()));
    let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der)
        .map_err(|error| IncompleteCredentials::Key(error.to_string()))?;
    let chain = showing.chain.iter().map(|held| CertificateDer::from(held.der().to_vec()));
    Ok(CertifiedKey::new(chain.collect(), signer))
}

impl Trust {
    /// Whether it can be used: it accepts somebody, and what it takes back is sound.
    fn check(&self) -> Result<(), IncompleteCredentials> {
        if let Self::Pin { pins, .. } = self
            && pins.is_empty()
        {
            return Err(IncompleteCredentials::NobodyTrusted("there is no pin"));
        }
        let Some(realm) = self.realm() else { return Ok(()) };
        if realm.authorities.is_empty() {
            return Err(IncompleteCredentials::NobodyTrusted("the realm has no authority"));
        }
        Ok(lists::check(realm)?)
    }
}
