//! Callers at one client, and what they measure.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use macula_core::clock::{Clock as _, TokioClock};
use macula_workload::kv::{Kv, Level};
use tokio::task::JoinSet;

use super::rate;

/// How many keys there are of those that callers put and get.
const KEYS: u64 = 1_024;

/// What callers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Put,
    Get(Level),
}

/// What came of it.
pub(super) struct Times {
    /// How long each operation took.
    pub(super) each: Vec<Duration>,
    took: Duration,
}

impl Times {
    /// So many a second.
    pub(super) fn rate(&self) -> f64 {
        rate(self.each.len(), self.took)
    }
}

/// What loads a client.
#[derive(Clone)]
pub(super) struct Load {
    kv: Kv,
    value: Bytes,
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("bench/{:06}", number % KEYS))
}

impl Load {
    pub(super) fn new(kv: Kv, value_len: usize) -> Self {
        Self { kv, value: Bytes::from(vec![7; value_len]) }
    }

    /// So many callers, each of which does it so often, one after the other.
    pub(super) async fn run(&self, what: What, callers: u64, each: usize) -> anyhow::Result<Times> {
        let mut calling = JoinSet::new();
        let began = TokioClock.now();
        for caller in 0..callers {
            let load = self.clone();
            calling.spawn(async move {
                let mut took = Vec::with_capacity(each);
                for number in (caller..).step_by(37).take(each) {
                    let began = TokioClock.now();
                    load.once(what, key(number)).await?;
                    took.push(TokioClock.now() - began);
                }
                anyhow::Ok(took)
            });
        }
        let mut all = Vec::new();
        while let Some(called) = calling.join_next().await {
            all.extend(called??);
        }
        Ok(Times { each: all, took: TokioClock.now() - began })
    }

    async fn once(&self, what: What, key: Bytes) -> anyhow::Result<()> {
        match what {
            What::Put => drop(self.kv.put(key, self.value.clone()).await?),
            What::Get(level) => {
                let found = self.kv.get_at(key, level).await?;
                // A key that nobody has put yet is asked for like any other.
                let is_ours = found.is_none_or(|item| item.value == self.value);
                ensure!(is_ours, "another value than was put");
            }
        }
        Ok(())
    }

    /// How many events a second are told to so many watches together, if that many values are put.
    pub(super) async fn watched(&self, watches: usize, puts: usize) -> anyhow::Result<f64> {
        let mut watching = JoinSet::new();
        let began = TokioClock.now();
        for _ in 0..watches {
            let mut watch = self.kv.watch("bench/", None).await?;
            watching.spawn(async move {
                for _ in 0..puts {
                    watch.next().await?;
                }
                anyhow::Ok(())
            });
        }
        let (load, callers) = (self.clone(), 64);
        let each = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let mut putting = JoinSet::new();
        for caller in 0..callers {
            let (load, each) = (load.clone(), Arc::clone(&each));
            putting.spawn(async move {
                while each.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < puts {
                    load.once(What::Put, key(caller)).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(put) = putting.join_next().await {
            put??;
        }
        while let Some(watched) = watching.join_next().await {
            watched?.context("a watch")?;
        }
        Ok(rate(watches * puts, TokioClock.now() - began))
    }
}
