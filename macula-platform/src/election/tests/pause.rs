//! Nodes that do not run for a while.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::Mutex;

/// Stops all futures that are a part of one node, wherever they are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<Stopped>>);

#[derive(Debug, Default)]
struct Stopped {
    is_stopped: bool,
    wakers: Vec<Waker>,
}

impl Gate {
    pub(crate) fn stop(&self) {
        self.0.lock().is_stopped = true;
    }

    pub(crate) fn go_on(&self) {
        let wakers = {
            let mut stopped = self.0.lock();
            stopped.is_stopped = false;
            std::mem::take(&mut stopped.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.0.lock().is_stopped
    }

    pub(crate) fn part<F: Future + Send>(
        &self,
        part: F,
    ) -> impl Future<Output = F::Output> + Send + use<F> {
        let gate = self.clone();
        async move {
            let mut part = pin!(part);
            std::future::poll_fn(move |context| {
                let part: Pin<&mut F> = part.as_mut();
                {
                    let mut stopped = gate.0.lock();
                    if stopped.is_stopped {
                        stopped.wakers.push(context.waker().clone());
                        return Poll::Pending;
                    }
                }
                part.poll(context)
            })
            .await
        }
    }
}
