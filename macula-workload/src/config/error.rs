//! What is wrong with a configuration, where it says so, and what would be right.

use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use macula_core::identity::InvalidNodeId;
use macula_core::path::{InvalidId, Path};
use macula_core::supervision::policy::IllegalPolicy;
use macula_core::topic::InvalidTopic;
use macula_infra::bootstrap::InvalidSeed;
use macula_infra::bounds::Invalid;
use macula_platform::{consensus, crdt};

/// How many faults one error lists; it counts the others.
pub const FAULTS_MAX: usize = 64;

/// How many legal words one message lists.
const LEGAL_SHOWN_MAX: usize = 24;

/// How many characters of a wrong word one message repeats.
const SHOWN_LEN_MAX: usize = 64;

/// All that is wrong with a configuration. Nothing of it was taken.
///
/// It prints as a line for each fault, in the order of the layers and of the text.
#[derive(Debug)]
pub struct Error {
    faults: Vec<Fault>,
    omitted: usize,
}

impl Error {
    /// What is wrong, at most [`FAULTS_MAX`] of it.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    pub(super) const fn none() -> Self {
        Self { faults: Vec::new(), omitted: 0 }
    }

    pub(super) fn push(&mut self, fault: Fault) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        } else {
            self.omitted += 1;
        }
    }

    /// Takes over what went wrong elsewhere, and gives back what went right.
    pub(super) fn absorb<T>(&mut self, result: Result<T, Self>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.omitted += error.omitted;
                error.faults.into_iter().for_each(|fault| self.push(fault));
                None
            }
        }
    }

    /// Puts the faults of one text into its order, whatever order they were found in.
    pub(super) fn sort(&mut self) {
        self.faults.sort_by_key(|fault| match fault.place {
            Place::File { line, column, .. } => (line, column),
            Place::WholeFile(_) | Place::Environment(_) | Place::Set(_) | Place::Flag(_) => (0, 0),
        });
    }

    pub(super) fn or<T>(self, value: T) -> Result<T, Self> {
        if self.faults.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self { faults: vec![fault], omitted: 0 }
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{fault}")?;
        }
        if self.omitted > 0 {
            write!(f, "\nand {} more like these", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// One thing that is wrong, and where.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct Fault {
    /// Where it says so.
    pub place: Place,
    /// What is wrong with it, and what would be right.
    pub problem: Problem,
}

/// Where something was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A character of a file.
    File {
        /// The file, as it was named to us.
        name: Arc<str>,
        /// The line, from 1.
        line: usize,
        /// The character in the line, from 1.
        column: usize,
    },
    /// A file as a whole.
    WholeFile(Arc<str>),
    /// A variable of the environment.
    Environment(Arc<str>),
    /// One assignment in the variable `MACULA_SET`, by its key.
    Set(Arc<str>),
    /// One `--set` on the command line, by its key.
    Flag(Arc<str>),
}

impl Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Self::WholeFile(name) => f.write_str(name),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Set(key) => write!(f, "environment MACULA_SET {}", shown(key)),
            Self::Flag(key) => write!(f, "--set {}", shown(key)),
        }
    }
}

/// What is wrong with something that was said.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The operating system gives us no file.
    #[error("cannot read the file: {error}")]
    Unreadable {
        /// What it says.
        error: io::Error,
    },
    /// Nobody writes so much by hand.
    #[error("the file is larger than {max} bytes, the most that is read")]
    TooLarge {
        /// The bound.
        max: u64,
    },
    /// TOML is UTF-8.
    #[error("this is not UTF-8 text; save the file as UTF-8")]
    NotUtf8,
    /// The text is not TOML.
    #[error("not TOML: {0}")]
    Syntax(String),
    /// A word where TOML wants a value.
    #[error("not TOML: `{}` is no value; text stands in quotes: \"{}\"", shown(.0), shown(.0))]
    Unquoted(String),
    /// A key that has been there before.
    #[error("`{}` stands here for a second time; say it once", shown(.0))]
    Duplicate(String),
    /// `--set` or `MACULA_SET` with something that is no assignment.
    #[error("write it as key=value, such as node.shutdown=10s")]
    NotAssignment,
    /// A key that means nothing here.
    #[error(
        "unknown key `{}`; legal here: {}{}",
        shown(.key), list(.legal), hint(.near.as_deref())
    )]
    UnknownKey {
        /// The key.
        key: String,
        /// All keys that mean something here.
        legal: Vec<String>,
        /// The one that was meant, perhaps.
        near: Option<String>,
    },
    /// A path written as TOML tables in tables.
    #[error(
        "unknown key `{}`; if a path is meant, it is one key in quotes: supervision.\"{}\"",
        shown(.key), shown(.path)
    )]
    PathInParts {
        /// The key.
        key: String,
        /// The path that was meant.
        path: String,
    },
    /// A variable of ours that means nothing.
    #[error("unknown variable; legal are {}{}", list(.legal), hint(.near.as_deref()))]
    UnknownVariable {
        /// All variables that mean something.
        legal: Vec<String>,
        /// The one that was meant, perhaps.
        near: Option<String>,
    },
    /// A value of another type.
    #[error("`{key}` must be {expected}, and here is {found}")]
    WrongType {
        /// Whose value it is.
        key: String,
        /// What would be right.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A text that is no span of time.
    #[error("`{key}` must be {expected}, and \"{}\" is none", shown(.found))]
    NotDuration {
        /// Whose value it is.
        key: String,
        /// What would be right.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A span of time that no timer is made for.
    #[error(
        "`{key}` must be at most {}, and here is {}",
        humantime::format_duration(*.max), humantime::format_duration(*.found)
    )]
    TooLong {
        /// Whose value it is.
        key: String,
        /// The bound.
        max: Duration,
        /// What is there.
        found: Duration,
    },
    /// A number outside its range.
    #[error("`{key}` must be from {min} to {max}, and here is {}", shown(.found))]
    OutOfRange {
        /// Whose value it is.
        key: String,
        /// The least that is legal.
        min: u64,
        /// The most that is legal.
        max: u64,
        /// What is there.
        found: String,
    },
    /// A span of time outside its range.
    #[error(
        "`{key}` must be from {} to {}, and here is {}",
        humantime::format_duration(*.min), humantime::format_duration(*.max),
        humantime::format_duration(*.found)
    )]
    SpanOutOfRange {
        /// Whose value it is.
        key: String,
        /// The shortest that is legal.
        min: Duration,
        /// The longest that is legal.
        max: Duration,
        /// What is there.
        found: Duration,
    },
    /// A fraction outside its range.
    #[error("`{key}` must be from {min:?} to {max:?}, and here is {found:?}")]
    NumberOutOfRange {
        /// Whose value it is.
        key: String,
        /// The least that is legal.
        min: f64,
        /// The most that is legal.
        max: f64,
        /// What is there.
        found: f64,
    },
    /// A text that is no address.
    #[error(
        "`{}` must hold addresses such as \"127.0.0.1:7000\" or \"[::1]:7000\", and \"{}\" is none",
        shown(.key), shown(.found)
    )]
    NotAddress {
        /// Whose value it is.
        key: String,
        /// The text.
        found: String,
    },
    /// An address at which nobody can be dialled.
    #[error(
        "`{}`: nobody can be dialled at \"{}\": it has to be the address of a host and a port that \
         is not 0",
        shown(.key), shown(.found)
    )]
    NotDiallable {
        /// Whose value it is.
        key: String,
        /// The text.
        found: String,
    },
    /// A path that is too long for a socket.
    #[error(
        "`{}` is a path of {found} bytes, and at most {max} are possible for a socket", shown(.key)
    )]
    LongPath {
        /// Whose value it is.
        key: String,
        /// How many bytes it has.
        found: usize,
        /// How many it may have.
        max: usize,
    },
    /// A text that is no node id.
    #[error("\"{}\" is not a node: {source}", shown(.found))]
    NotNodeId {
        /// The text.
        found: String,
        /// Why it is none.
        source: InvalidNodeId,
    },
    /// A text that is no pin.
    #[error(
        "\"{}\" is no pin: write sha256/ and 32 bytes in base64, as `macula identity show` does",
        shown(.found)
    )]
    NotPin {
        /// The text.
        found: String,
    },
    /// A text is no seed.
    #[error(transparent)]
    NotSeed {
        /// Why not.
        source: InvalidSeed,
    },
    /// A text is no name of a realm.
    #[error("\"{}\" is no name of a realm: 1 to 64 letters, digits or `- _ .`", shown(.found))]
    NotRealm {
        /// The text.
        found: String,
    },
    /// Values of the transport that are each legal, and not together.
    #[error("transport: {0}")]
    Transport(Invalid),
    /// Values of the pool that are each legal, and not together.
    #[error("pool: {0}")]
    Pool(Invalid),
    /// Values of the mesh that are each legal, and not together.
    #[error("mesh: {0}")]
    Mesh(Invalid),
    /// Values of the membership that are each legal, and not together.
    #[error("membership: {0}")]
    Membership(Invalid),
    /// Values of the table that are each legal, and not together.
    #[error("dht: {0}")]
    Dht(Invalid),
    /// Rules of access that are each legal, and not together.
    #[error("access: {0}")]
    Access(Invalid),
    /// A key has to be there.
    #[error("`{key}` is missing")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// An array holds more than is taken.
    #[error("`{}` has {found} entries, and at most {max} are taken", shown(.key))]
    TooMany {
        /// Whose value it is.
        key: String,
        /// The bound.
        max: usize,
        /// How many there are.
        found: usize,
    },
    /// A text is no role.
    #[error("\"{}\" is no role: 1 to 64 letters, digits or `- _ .`", shown(.found))]
    NotRole {
        /// The text.
        found: String,
    },
    /// A text is no pattern of names.
    #[error("\"{}\" is no pattern of names: {source}", shown(.found))]
    NotPattern {
        /// The text.
        found: String,
        /// Why it is none.
        source: InvalidTopic,
    },
    /// Values of relaying that are each legal, and not together.
    #[error("relay: {0}")]
    Relay(Invalid),
    /// Values of pub/sub that are each legal, and not together.
    #[error("pub/sub: {0}")]
    Pubsub(Invalid),
    /// What the node does for agreement makes no sense.
    #[error("consensus: {0}")]
    Consensus(consensus::InvalidConfig),
    /// What the node does for replicated types makes no sense.
    #[error("crdt: {0}")]
    Crdt(crdt::settings::Invalid),
    /// A word that is none of the few.
    #[error(
        "`{key}` must be one of {}, and here is \"{}\"{}",
        list(.legal), shown(.found), hint(.near.as_deref())
    )]
    NotOneOf {
        /// Whose value it is.
        key: String,
        /// The words.
        legal: Vec<String>,
        /// What is there.
        found: String,
        /// The one that was meant, perhaps.
        near: Option<String>,
    },
    /// A name that no node can have.
    #[error("{}", name(.0))]
    Name(InvalidId),
    /// A text that is no path.
    #[error(
        "\"{}\" is not a path: {source}{}", shown(.path),
        if .path.is_empty() { "; the root is called \"root\"" } else { "" }
    )]
    NotPath {
        /// The text.
        path: String,
        /// Why it is none.
        source: InvalidId,
    },
    /// A path at which nothing stands.
    #[error(
        "nothing in the tree is called `{path}`; legal below `{above}`: {}{}",
        list(.legal), hint(.near.as_deref())
    )]
    NoSuchPath {
        /// The path.
        path: Path,
        /// The part of it that does name something.
        above: Path,
        /// What stands below that.
        legal: Vec<String>,
        /// The path that was meant, perhaps.
        near: Option<String>,
    },
    /// A path below something that declares no children.
    #[error(
        "nothing in the tree is called `{path}`: {}{}", childless(.above, *.why),
        hint(.near.as_deref())
    )]
    NoChildren {
        /// The path.
        path: Path,
        /// The part of it that does name something.
        above: Path,
        /// Why it declares no children.
        why: Childless,
        /// The path that was meant, perhaps.
        near: Option<String>,
    },
    /// A key that only supervisors have.
    #[error("`{key}` is for supervisors, and `{path}` is a worker; legal here: {}", list(.legal))]
    WorkerFlag {
        /// The key.
        key: &'static str,
        /// The worker.
        path: Path,
        /// The keys that workers have.
        legal: Vec<String>,
    },
    /// A key that only children have.
    #[error(
        "`{key}` is for children, and the root is nobody's; legal here: {}{}", list(.legal),
        if *.key == "shutdown" { " (the bound of the whole shutdown is node.shutdown)" } else { "" }
    )]
    RootPolicy {
        /// The key.
        key: &'static str,
        /// The keys that the root has.
        legal: Vec<String>,
    },
    /// Parts that cannot stand together, those from the code among them.
    #[error("`{path}`: {source}")]
    Illegal {
        /// Whose they are.
        path: Path,
        /// Why they cannot.
        source: IllegalPolicy,
    },
}

/// Why nothing is declared below a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Childless {
    /// It is a worker.
    Worker,
    /// It is a supervisor with an empty list.
    Empty,
    /// It is a dynamic supervisor, whose children come at run time.
    Dynamic,
}

/// The beginning of what somebody wrote, without what would break the line.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_LEN_MAX).flat_map(escaped).collect();
    if text.chars().nth(SHOWN_LEN_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

fn escaped(c: char) -> impl Iterator<Item = char> {
    let (plain, escape) =
        if c.is_control() { (None, Some(c.escape_default())) } else { (Some(c), None) };
    plain.into_iter().chain(escape.into_iter().flatten())
}

fn list(words: &[String]) -> String {
    let shown: Vec<&str> = words.iter().take(LEGAL_SHOWN_MAX).map(String::as_str).collect();
    let rest = words.len().saturating_sub(LEGAL_SHOWN_MAX);
    let more = if rest > 0 { format!(", and {rest} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

fn hint(near: Option<&str>) -> String {
    near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default()
}

fn name(invalid: &InvalidId) -> String {
    match invalid {
        InvalidId::Empty => "a node's name must not be empty".to_owned(),
        InvalidId::TooLong(len) => format!(
            "a node's name has at most {} bytes, and this one has {len}",
            macula_core::path::ID_LEN_MAX
        ),
        InvalidId::Character(text, c) => format!(
            "a node's name has only letters, digits and `_ - . : # @`, and \"{}\" holds {c:?}",
            shown(text)
        ),
    }
}

fn childless(above: &Path, why: Childless) -> String {
    match why {
        Childless::Worker => format!("`{above}` is a worker, and nothing stands below it"),
        Childless::Empty => format!("the list of `{above}` is empty"),
        Childless::Dynamic => format!(
            "the children of `{above}` come at run time and are declared nowhere, so their policy \
             is what the code says"
        ),
    }
}
