//! What is counted, as a recorder sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use parking_lot::Mutex;

type All = Arc<Mutex<BTreeMap<String, f64>>>;

/// All that was counted, by name and labels; of a histogram, how often something was recorded.
#[derive(Default)]
pub(crate) struct Counted(All);

struct One(String, All);

impl One {
    fn change(&self, how: impl FnOnce(f64) -> f64) {
        let mut all = self.1.lock();
        let value = all.entry(self.0.clone()).or_default();
        *value = how(*value);
    }
}

impl CounterFn for One {
    fn increment(&self, by: u64) {
        self.change(|value| value + by as f64);
    }

    fn absolute(&self, to: u64) {
        self.change(|_| to as f64);
    }
}

impl GaugeFn for One {
    fn increment(&self, by: f64) {
        self.change(|value| value + by);
    }

    fn decrement(&self, by: f64) {
        self.change(|value| value - by);
    }

    fn set(&self, to: f64) {
        self.change(|_| to);
    }
}

impl HistogramFn for One {
    fn record(&self, _value: f64) {
        self.change(|value| value + 1.0);
    }
}

impl Counted {
    fn one(&self, key: &Key) -> Arc<One> {
        let labels: String = key.labels().map(|label| format!(" {}", label.value())).collect();
        Arc::new(One(format!("{}{labels}", key.name()), Arc::clone(&self.0)))
    }

    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.0.lock().get(name).copied()
    }
}

impl Recorder for Counted {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.one(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.one(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.one(key))
    }
}
