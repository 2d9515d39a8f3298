//! Runs cases in both directions, enforced and reported.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use macula_core::identity::{NodeId, Validity};
use macula_infra::transport::tls::{Credentials, Enforcement, Refusal, Showing, Trust};
use macula_infra::transport::{Arrival, Config, DialError, Endpoint, Me, Sockets};
use tokio::sync::mpsc;

use crate::peer::{self, Acceptor, Bad, Outcome};
use crate::pki::{self, BAD, NOW};

/// The longest that anything may take: far more than it does.
const WITHIN: Duration = Duration::from_secs(30);

/// In place of a kind of refusal: the peer itself ends the handshake, and there is nothing to count.
pub(crate) const BY_PEER: &str = "(by the peer)";

/// A bad peer in one role.
#[derive(Debug, Clone)]
pub(crate) struct Role {
    pub(crate) bad: Bad,
    /// As what it is refused; none if it is a control, which has to be let in.
    pub(crate) kind: Option<&'static str>,
}

/// One case.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// What the good node believes.
    pub(crate) trust: Trust,
    pub(crate) dialler: Option<Role>,
    pub(crate) acceptor: Option<Role>,
    /// Whom the good dialler expects.
    pub(crate) expected: Option<NodeId>,
    /// Why it is refused even where refusals are only reported.
    pub(crate) cannot: Option<&'static str>,
}

impl Case {
    /// The same peer in both roles, refused in the same way.
    pub(crate) fn both(name: &'static str, kind: &'static str, bad: Bad) -> Self {
        let role = Some(Role { bad, kind: Some(kind) });
        let expected = Some(pki::node(BAD));
        let trust = pki::trust();
        Self { name, trust, dialler: role.clone(), acceptor: role, expected, cannot: None }
    }

    /// A peer that has to be let in.
    pub(crate) fn control(name: &'static str, bad: Bad) -> Self {
        let role = Some(Role { bad, kind: None });
        let expected = Some(pki::node(BAD));
        let trust = pki::trust();
        Self { name, trust, dialler: role.clone(), acceptor: role, expected, cannot: None }
    }

    pub(crate) fn trust(self, trust: Trust) -> Self {
        Self { trust, ..self }
    }

    pub(crate) fn cannot(self, reason: &'static str) -> Self {
        Self { cannot: Some(reason), ..self }
    }

    pub(crate) fn only_accepts(self) -> Self {
        Self { dialler: None, ..self }
    }

    pub(crate) fn expecting(self, expected: Option<NodeId>) -> Self {
        Self { expected, ..self }
    }
}

/// A good node.
pub(crate) struct Good {
    pub(crate) endpoint: Endpoint,
    pub(crate) arrivals: mpsc::Receiver<Arrival>,
    pub(crate) credentials: Credentials,
}

impl Good {
    pub(crate) async fn start(trust: Trust, enforcement: Enforcement) -> Self {
        Self::with(Config::default(), 1, trust, enforcement).await
    }

    pub(crate) async fn with(
        config: Config,
        seed: u8,
        trust: Trust,
        enforcement: Enforcement,
    ) -> Self {
        let key = pki::key(seed);
        let valid = Validity::from_now(NOW, Duration::from_secs(3_600));
        let chain = vec![pki::authority().issue(key.node_id(), valid, &[]).unwrap()];
        let showing = Showing { key, chain };
        let credentials = Credentials::new(&showing, trust, enforcement, || NOW).unwrap();
        let sockets = Arc::new(Sockets::bind(&config).unwrap());
        let me = Me {
            credentials: credentials.clone(),
            incarnation: 1,
            listen: sockets.listening(),
            realm: [0; 32],
            seed: None,
        };
        let (endpoint, arrivals) = Endpoint::start(config, sockets, me).await.unwrap();
        Self { endpoint, arrivals, credentials }
    }

    /// Waits until a refusal of a kind is counted; a caller has a bound for the whole.
    pub(crate) async fn until_refused(&self, kind: &str) {
        while self.refused(kind) == 0 {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn refused(&self, kind: &str) -> u64 {
        self.credentials.refusals().get(kind).copied().unwrap_or_default()
    }
}

/// What is wrong with how a case came out.
type Wrong = Result<(), String>;

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Wrong {
    if holds { Ok(()) } else { Err(what()) }
}

/// The counters that are not zero.
fn counted(good: &Good) -> BTreeMap<&'static str, u64> {
    good.credentials.refusals().into_iter().filter(|(_kind, count)| *count > 0).collect()
}

/// Whether nothing is counted but one refusal of this kind, or nothing at all.
fn once(counts: &BTreeMap<&'static str, u64>, kind: Option<&'static str>, cannot: bool) -> bool {
    // A dialler whose first packet is refused sends it again, and each is an attempt.
    let again = |kind: &str| ["wrong_protocol", "wrong_version"].contains(&kind);
    let counted = counts.iter().map(|(kind, count)| (*kind, *count));
    // What is only reported fails at the proof of its key, if it is refused after all.
    let counted = counted.filter(|(of, _count)| !(cannot && *of == "no_proof" && kind != Some(of)));
    counted.map(|(kind, count)| (kind, count == 1 || again(kind))).eq(kind.map(|kind| (kind, true)))
}

/// The bad peer dials.
async fn dialled(case: &Case, role: &Role, enforcement: Enforcement) -> Wrong {
    let mut good = Good::start(case.trust.clone(), enforcement).await;
    let address = good.endpoint.listening().first().copied().unwrap();
    let (_client, outcome) = peer::dial(&role.bad, address).await;
    if let Some(kind) = role.kind {
        good.until_refused(kind).await;
    }
    let counts = counted(&good);
    ensure(once(&counts, role.kind, case.cannot.is_some()), || format!("counted: {counts:?}"))?;
    let refused =
        role.kind.is_some() && (enforcement == Enforcement::Enforce || case.cannot.is_some());
    match outcome {
        Outcome::Refused(_why) if refused => {
            let arrived = good.arrivals.try_recv();
            ensure(arrived.is_err(), || format!("it has arrived: {arrived:?}"))
        }
        Outcome::Welcomed(_) if refused => Err(format!("it was welcomed: {counts:?}")),
        Outcome::Welcomed(_handle) => {
            let arrived = good.arrivals.recv().await;
            ensure(arrived.is_some(), || "nobody arrived".to_owned())
        }
        Outcome::Refused(why) => Err(format!("it was refused: {why}; {counts:?}")),
    }
}

/// The bad peer is dialled.
async fn accepted(case: &Case, role: &Role, enforcement: Enforcement) -> Wrong {
    let mut config = Config::default();
    let by_peer = role.kind == Some(BY_PEER);
    if by_peer {
        // Such a peer says nothing at all.
        config.handshake_timeout = Duration::from_millis(500);
    }
    let good = Good::with(config, 1, case.trust.clone(), enforcement).await;
    let acceptor = Acceptor::start(&role.bad);
    let made = good.endpoint.dial(acceptor.address, case.expected).await;
    if let Some(kind) = role.kind.filter(|_kind| !by_peer) {
        good.until_refused(kind).await;
    }
    let counts = counted(&good);
    let kind = role.kind.filter(|_kind| !by_peer);
    ensure(once(&counts, kind, case.cannot.is_some()), || format!("counted: {counts:?}"))?;
    let refused =
        role.kind.is_some() && (enforcement == Enforcement::Enforce || case.cannot.is_some());
    match (made, role.kind) {
        (Err(DialError::Refused { refusal, .. }), Some(kind)) if refused => {
            let late = enforcement == Enforcement::Report && refusal == Refusal::NoProof;
            ensure(refusal.kind() == kind || late, || format!("refused as {refusal:?}"))?;
            // A false claim comes in the answer to the hello; nothing but the hello was sent.
            let late = role.bad.claims != pki::node(BAD);
            ensure(late || acceptor.heard() == 0, || "the bad peer heard something".to_owned())
        }
        (Err(DialError::TimedOut { .. } | DialError::RefusedByPeer { .. }), _) if by_peer => {
            ensure(acceptor.heard() == 0, || "the bad peer heard something".to_owned())
        }
        (Ok(_connection), _) if !refused => Ok(()),
        (made, _) => Err(format!("{made:?}; {counts:?}")),
    }
}

/// Runs all cases, and tells what is wrong with each.
pub(crate) async fn run(cases: &[Case], enforcement: Enforcement) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in cases {
        for (role, dials) in [(&case.dialler, true), (&case.acceptor, false)] {
            let Some(role) = role else { continue };
            let direction = if dials { "the bad peer dials" } else { "the bad peer is dialled" };
            let play = async {
                if dials {
                    dialled(case, role, enforcement).await
                } else {
                    accepted(case, role, enforcement).await
                }
            };
            let played = tokio::time::timeout(WITHIN, play).await;
            let played = played.unwrap_or_else(|_late| Err("it hangs".to_owned()));
            let kind = role.kind.unwrap_or("let in");
            println!("{:<44} {direction:<24} {kind:<18} {enforcement:?}", case.name);
            if let Err(what) = played {
                println!("    {what}");
                wrong.push(format!("{} ({direction}, {enforcement:?}): {what}", case.name));
            }
        }
    }
    wrong
}
