//! The queue in front of a shell, with a bell that is rung once for any number of inputs.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use parking_lot::Mutex;
use ractor::ActorRef;
use tokio::sync::Notify;

use super::Bell;

/// The input that a full inbox gives back.
#[derive(thiserror::Error)]
#[error("inbox is full ({len_max} inputs wait); the input was not taken")]
pub struct Full<I> {
    /// What was not taken.
    pub input: I,
    /// The bound that was met.
    pub len_max: usize,
}

impl<I> Debug for Full<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Full").field("len_max", &self.len_max).finish_non_exhaustive()
    }
}

/// A shared queue of inputs for one shell. Clones are the same queue.
pub struct Inbox<I>(Arc<Shared<I>>);

struct Shared<I> {
    queue: Mutex<VecDeque<I>>,
    len_max: usize,
    /// True from the moment the bell is rung until the shell answers.
    rung: AtomicBool,
    actor: OnceLock<ActorRef<Bell>>,
    /// Wakes a shell that drives its machine from `post_stop`, where ractor delivers no messages.
    last_bell: Notify,
}

impl<I> Clone for Inbox<I> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<I> Debug for Inbox<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<I> Inbox<I> {
    /// An inbox whose outside lanes are refused once `len_max` inputs wait.
    #[must_use]
    pub fn new(len_max: usize) -> Self {
        Self(Arc::new(Shared {
            queue: Mutex::new(VecDeque::new()),
            len_max,
            rung: AtomicBool::new(false),
            actor: OnceLock::new(),
            last_bell: Notify::new(),
        }))
    }

    /// Takes an input from outside.
    ///
    /// # Errors
    ///
    /// [`Full`], with the input, if as many as the bound already wait.
    pub fn try_push(&self, input: I) -> Result<(), Full<I>> {
        let mut queue = self.0.queue.lock();
        if queue.len() >= self.0.len_max {
            return Err(Full { input, len_max: self.0.len_max });
        }
        queue.push_back(input);
        drop(queue);
        self.ring();
        Ok(())
    }

    /// Takes an input whose number is bounded by something else: an answer to an output, or the
    /// end of a child.
    pub fn push(&self, input: I) {
        self.0.queue.lock().push_back(input);
        self.ring();
    }

    /// Wakes the shell, unless a bell is still unanswered.
    pub fn ring(&self) {
        if !self.0.rung.swap(true, Ordering::AcqRel) {
            fence(Ordering::SeqCst);
            if let Some(actor) = self.0.actor.get() {
                // A shell that has ended needs no bell; one in `post_stop` hears the other one.
                drop(actor.send_message(Bell));
            }
            self.0.last_bell.notify_one();
        }
    }

    /// How many inputs wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.queue.lock().len()
    }

    /// Whether no input waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn connect(&self, actor: ActorRef<Bell>) {
        // Set first, then look: a bell rung in between is sent twice rather than never.
        let is_first = self.0.actor.set(actor.clone()).is_ok();
        fence(Ordering::SeqCst);
        if is_first && self.0.rung.load(Ordering::Acquire) {
            drop(actor.send_message(Bell));
        }
    }

    pub(super) fn pop(&self) -> Option<I> {
        self.0.queue.lock().pop_front()
    }

    pub(super) fn answer_bell(&self) {
        self.0.rung.store(false, Ordering::Release);
    }

    pub(super) async fn rung(&self) {
        self.0.last_bell.notified().await;
    }
}
