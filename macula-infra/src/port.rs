//! The ports by which the platform tier asks other nodes, in bytes that only it understands.
//!
//! A port has a name of its own, which the rules of access know as that of an actor. It is announced
//! nowhere: whoever asks knows which node to ask.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use macula_core::identity::NodeId;
use macula_core::path::{InvalidId, Path};
use macula_core::port::{Answer, Call, CallError as PortError, Serve};

use crate::mesh::Mesh;
use crate::remote::{
    Answerer, CallError, Calling, Headers, Query, Question, Refusal, Remote, ServeError, Serving,
    Unavailability, decode, encode, port, respond,
};

/// Asks whoever serves the port of this name on other nodes.
#[derive(Clone)]
pub struct Asking {
    calling: Calling,
    name: Arc<str>,
}

impl Debug for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asking").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Mesh {
    /// Asks whoever serves a port on other nodes.
    #[must_use]
    pub fn asking(&self, name: &str) -> Asking {
        Asking { calling: self.calling.clone(), name: port(name) }
    }

    /// Answers what other nodes ask of a port.
    ///
    /// # Errors
    ///
    /// [`ServeError`] if the name is none, or taken; nothing changed.
    pub fn answering(&self, name: &str, serve: Arc<dyn Serve>) -> Result<Serving, ServeError> {
        let invalid = |source| ServeError::InvalidName { name: name.to_owned(), source };
        if name.is_empty() {
            return Err(invalid(InvalidId::Empty));
        }
        Path::parse(name).map_err(invalid)?;
        self.calling.served.put(port(name), Arc::new(Answering(serve)), Bytes::new())
    }
}

impl Call for Asking {
    fn call<'a>(
        &'a self,
        node: NodeId,
        question: Bytes,
        within: Duration,
    ) -> Answer<'a, Result<Bytes, PortError>> {
        Box::pin(async move {
            let len_max = self.calling.body_len_max();
            let body = encode(&question, len_max).map_err(no_answer)?;
            let query = Query {
                remote: Remote { calling: self.calling.clone(), node },
                name: Arc::clone(&self.name),
                headers: Headers::default(),
                within,
                patient: true,
                waits: false,
            };
            let answer = query.ask(body).await.map_err(no_answer)?;
            decode(&answer, len_max).map_err(no_answer)
        })
    }
}

/// Why there is no answer, in the words of the port.
fn no_answer(error: CallError) -> PortError {
    match error {
        CallError::Failed(why) => PortError::Refused(why),
        CallError::Refused(Refusal::Forbidden(why)) => PortError::Forbidden(why),
        // The node is there, and asking it again does not help.
        CallError::Unsupported(_) | CallError::TooLarge { what: "question", .. } => {
            PortError::Refused(error.to_string())
        }
        CallError::Unavailable(Unavailability::NotServed(_)) => {
            PortError::NotServed(error.to_string())
        }
        CallError::Refused(_) | CallError::Unavailable(_) => {
            PortError::Unreachable(error.to_string())
        }
        error => PortError::NoAnswer(error.to_string()),
    }
}

/// Answers on a port. How much is answered at one time whoever serves it bounds.
struct Answering(Arc<dyn Serve>);

impl Answerer for Answering {
    fn ask(&self, question: Question) {
        let ticket = Arc::clone(&question.ticket);
        let asked: Bytes = match question.decode() {
            Ok(asked) => asked,
            Err(error) => return ticket.turn_down(&error),
        };
        let serve = Arc::clone(&self.0);
        // A runtime that ends does nothing more, and a task that ends early has said why.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        drop(runtime.spawn(async move {
            let from = ticket.context().caller();
            respond(&ticket, |_context| serve.serve(from, asked)).await;
        }));
    }
}
