//! Runs an actor's code so that a panic becomes a typed reason with its place.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Once;
use std::task::Poll;

use crate::supervision::exit::ExitReason;

thread_local! {
    static WATCHING: Cell<bool> = const { Cell::new(false) };
    static LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Makes panics under watch tell where they were, once for the process.
///
/// The hook that was there before is called for all other panics, and also for those under watch
/// as long as no `tracing` subscriber is there to show the crash report.
fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if WATCHING.get() {
                let location = info.location().map(ToString::to_string);
                LOCATION.with_borrow_mut(|place| *place = location);
                if tracing::dispatcher::has_been_set() {
                    return;
                }
            }
            previous(info);
        }));
    });
}

/// Runs a future to its end, or to its panic.
pub(super) async fn watched<F: Future>(future: F) -> Result<F::Output, ExitReason> {
    install_hook();
    let mut future = pin!(future);
    poll_fn(move |context| {
        let outer = WATCHING.replace(true);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        WATCHING.set(outer);
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(payload) => {
                let location = LOCATION.with_borrow_mut(Option::take);
                Poll::Ready(Err(ExitReason::panic(message(payload.as_ref()), location)))
            }
        }
    })
    .await
}

fn message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{ExitReason, watched};

    #[tokio::test]
    async fn a_panic_tells_its_message_and_its_place() {
        let reason = watched(async { panic!("out of {}", "cheese") }).await.unwrap_err();
        let ExitReason::Panic { message, location } = reason else { panic!("{reason}") };
        assert_eq!(message, "out of cheese");
        assert!(location.unwrap().contains("watch.rs:"));
    }

    #[tokio::test]
    async fn a_panic_of_any_type_is_survived() {
        let reason = watched(async { std::panic::panic_any(7_u8) }).await.unwrap_err();
        assert_eq!(reason.kind(), "panic");
    }
}
