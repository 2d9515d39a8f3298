//! What a node shows and believes: from the files of its directory, or made on the fly.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::file::{FileError, read_key, read_public, read_secret};
use macula_core::identity::{
    Authority, Certificate, IssueError, MalformedCertificate, NoEntropy, NodeId, Validity,
    crl_from_pem, self_signed,
};
use macula_infra::transport::tls::{
    Credentials, Enforcement, IncompleteCredentials, InvalidJoinToken, JoinToken, Realm, Showing,
    Trust,
};

pub use macula_core::identity::{Keypair, SpkiPin};

/// The file of a node's key.
pub const NODE_KEY: &str = "node.key";
/// The file of a node's certificate.
pub const NODE_CERTIFICATE: &str = "node.pem";
/// The file of the certificates of the realm's authorities.
pub const REALM_CERTIFICATES: &str = "realm.pem";
/// The file of the key of the realm's authority: only where certificates are issued.
pub const REALM_KEY: &str = "realm.key";
/// The file of the realm's revocation lists, if there is one.
pub const REVOKED: &str = "revoked.pem";

/// How long what is made on the fly holds.
const EPHEMERAL: Duration = Duration::from_secs(365 * 24 * 3600);

/// Which peers are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Those that the realm has issued a certificate for.
    #[default]
    Realm,
    /// Those whose key is pinned.
    Pin,
    /// Those whose node id is known.
    NodeId,
}

/// What a node shows and believes, as configuration says it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// Which peers are believed.
    pub trust: Mode,
    /// Whether a peer that is not believed is refused, or only reported.
    pub enforcement: Enforcement,
    /// Where the files are. Without one the node makes a key and a realm of its own, which nobody
    /// else trusts.
    pub directory: Option<PathBuf>,
    /// The pins of trust by pin.
    pub pins: BTreeSet<SpkiPin>,
    /// Whether pinned peers must be of the realm too.
    pub pin_and_realm: bool,
    /// Who may dial, in trust by node id.
    pub allow: BTreeSet<NodeId>,
    /// A file with the secret that lets unknown nodes in, and that this node shows.
    pub join_token_file: Option<PathBuf>,
}

/// Why there is nothing to show, or nobody to believe. What was in use before still is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file of certificates holds none.
    #[error("{}: {source}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: MalformedCertificate,
    },
    /// A file holds no join token.
    #[error("{}: {source}", path.display())]
    JoinToken {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: InvalidJoinToken,
    },
    /// Another process runs as the node.
    #[error(
        "{}: another process on this machine runs as this node, and the two would end each other's \
         connections: stop it, or use the identity of another node (macula init --join)", path.display()
    )]
    InUse {
        /// The key that it has locked.
        path: PathBuf,
    },
    /// The parts do not belong together.
    #[error(transparent)]
    Incomplete(#[from] IncompleteCredentials),
    /// A certificate cannot be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The system gives no randomness.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
}

/// Keeps other processes of this machine from running as the same node.
#[derive(Debug)]
pub struct Lock {
    _key: File,
}

/// A realm that lives as long as this process, and that nobody else knows.
#[derive(Debug)]
pub struct EphemeralRealm {
    authority: Authority,
    valid: Validity,
}

impl EphemeralRealm {
    /// A new realm.
    ///
    /// # Errors
    ///
    /// [`Error::Issue`] if the system gives no randomness.
    pub fn new() -> Result<Self, Error> {
        let valid = Validity::from_now(TokioClock.since_epoch(), EPHEMERAL);
        Ok(Self { authority: Authority::generate("ephemeral", valid)?, valid })
    }

    /// What a new node of the realm shows and believes.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn member(&self) -> Result<Credentials, Error> {
        self.member_as(&[])
    }

    /// Likewise, for a node that the realm gives these roles: each 1 to 64 letters, digits or `- _ .`.
    ///
    /// # Errors
    ///
    /// [`Error::Issue`] besides, if one is no role.
    pub fn member_as(&self, roles: &[&str]) -> Result<Credentials, Error> {
        let key = Keypair::generate()?;
        let certificate = self.authority.issue(key.node_id(), self.valid, roles)?;
        let authorities = vec![self.authority.certificate().clone()];
        let trust = Trust::Realm(Realm { authorities, revocation_lists: Vec::new() });
        let showing = Showing { key, chain: vec![certificate] };
        Ok(credentials(&showing, trust, Enforcement::Enforce)?)
    }
}

/// A key and a realm that nobody else knows: a node that has them is alone, and safe.
///
/// # Errors
///
/// [`Error::NoEntropy`] if the system gives no randomness.
pub fn ephemeral() -> Result<Credentials, Error> {
    EphemeralRealm::new()?.member()
}

/// The pin of a key: what [`pinned`] and `tls.pins` know a node by.
///
/// # Errors
///
/// [`Error::Issue`] if the system gives no randomness.
pub fn pin_of(key: &Keypair) -> Result<SpkiPin, Error> {
    let pin = vouched(key)?.spki_sha256();
    Ok(pin.map_err(IssueError::from)?)
}

/// What a node shows and believes that vouches for itself, and believes whoever has one of these
/// pins, and nobody else.
///
/// # Errors
///
/// [`Error::Incomplete`] without any pins; [`Error::Issue`] if the system gives no randomness.
pub fn pinned(key: Keypair, pins: impl IntoIterator<Item = SpkiPin>) -> Result<Credentials, Error> {
    let chain = vec![vouched(&key)?];
    let trust = Trust::Pin { pins: pins.into_iter().collect(), realm: None };
    Ok(credentials(&Showing { key, chain }, trust, Enforcement::Enforce)?)
}

fn vouched(key: &Keypair) -> Result<Certificate, Error> {
    Ok(self_signed(key, Validity::from_now(TokioClock.since_epoch(), EPHEMERAL))?)
}

fn credentials(
    showing: &Showing,
    trust: Trust,
    enforcement: Enforcement,
) -> Result<Credentials, IncompleteCredentials> {
    Credentials::new(showing, trust, enforcement, || TokioClock.since_epoch())
}

impl Tls {
    /// Reads the files, and makes of them what the node shows and believes.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn credentials(&self) -> Result<Credentials, Error> {
        if self.directory.is_none() && self.trust == Mode::Realm {
            return ephemeral();
        }
        let showing = match &self.directory {
            Some(folder) => shown_in(folder)?,
            None => {
                let key = Keypair::generate()?;
                Showing { chain: vec![vouched(&key)?], key }
            }
        };
        Ok(credentials(&showing, self.read_trust()?, self.enforcement)?)
    }

    /// Reads the files anew into what is in use.
    ///
    /// # Errors
    ///
    /// [`Error`]; what was in use still is.
    pub fn reload(&self, credentials: &Credentials) -> Result<(), Error> {
        if let Some(folder) = &self.directory {
            let showing = shown_in(folder)?;
            credentials.replace(&showing, self.read_trust()?, self.enforcement)?;
        } else if self.trust != Mode::Realm {
            credentials.believe(self.read_trust()?, self.enforcement)?;
        }
        Ok(())
    }

    /// Sees to it that no other process on this machine runs as the node of the directory, for as
    /// long as the lock is kept: two nodes of one id end each other's connections.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`].
    pub fn lock(&self) -> Result<Option<Lock>, Error> {
        let Some(folder) = &self.directory else { return Ok(None) };
        let path = folder.join(NODE_KEY);
        let unlocked = |what, source| FileError::Io { path: path.clone(), what, source };
        let key = File::open(&path).map_err(|error| unlocked("open it", error))?;
        match key.try_lock() {
            Ok(()) => Ok(Some(Lock { _key: key })),
            Err(TryLockError::WouldBlock) => Err(Error::InUse { path }),
            Err(TryLockError::Error(error)) => Err(unlocked("lock it", error).into()),
        }
    }

    /// The name that the realm's first certificate says, if there is a realm.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn realm_name(&self) -> Result<Option<String>, Error> {
        let Some(folder) = &self.directory else { return Ok(None) };
        let path = folder.join(REALM_CERTIFICATES);
        if path.symlink_metadata().is_err() {
            return Ok(None);
        }
        let first = certificates(&path)?.into_iter().next();
        let facts = first.map(|certificate| certificate.facts()).transpose();
        let facts = facts.map_err(|source| Error::Malformed { path, source })?;
        Ok(facts.map(|facts| facts.common_name))
    }

    fn read_trust(&self) -> Result<Trust, Error> {
        Ok(match self.trust {
            Mode::Realm => Trust::Realm(self.realm()?),
            Mode::Pin => {
                let realm = self.pin_and_realm.then(|| self.realm()).transpose()?;
                Trust::Pin { pins: self.pins.clone(), realm }
            }
            Mode::NodeId => Trust::NodeId { allow: self.allow.clone(), token: self.token()? },
        })
    }

    fn realm(&self) -> Result<Realm, Error> {
        let folder = self.directory.clone().unwrap_or_default();
        let authorities = certificates(&folder.join(REALM_CERTIFICATES))?;
        let path = folder.join(REVOKED);
        // A link that leads nowhere is no absence.
        let revocation_lists = if path.symlink_metadata().is_ok() {
            let text = read_public(&path)?;
            crl_from_pem(&text).map_err(|source| Error::Malformed { path, source })?
        } else {
            Vec::new()
        };
        Ok(Realm { authorities, revocation_lists })
    }

    fn token(&self) -> Result<Option<JoinToken>, Error> {
        let Some(path) = &self.join_token_file else { return Ok(None) };
        let text = read_secret(path)?;
        let token = JoinToken::new(text.trim());
        Ok(Some(token.map_err(|source| Error::JoinToken { path: path.clone(), source })?))
    }
}

/// What the node of a folder shows.
fn shown_in(folder: &Path) -> Result<Showing, Error> {
    let key = read_key(&folder.join(NODE_KEY))?;
    let chain = certificates(&folder.join(NODE_CERTIFICATE))?;
    Ok(Showing { key, chain })
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, Error> {
    let text = read_public(path)?;
    Certificate::read_pem_bundle(&text)
        .map_err(|source| Error::Malformed { path: path.to_owned(), source })
}
