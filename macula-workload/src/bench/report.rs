//! The shape of every suite's result.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde::Serialize;

/// What a suite measured.
#[derive(Debug, Serialize)]
pub(crate) struct Suite {
    /// Its name.
    pub(crate) suite: &'static str,
    /// What replays all that is left to chance, if it can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<u64>,
    /// The file system and the device on which files were, if there were any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disk: Option<String>,
    /// What was measured, in the order in which it was.
    pub(crate) results: Vec<Measure>,
}

/// One figure, with the one it is to be compared with.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Measure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) baseline: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) baseline_value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<f64>,
    /// What the figure alone does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<&'static str>,
}

impl Measure {
    pub(crate) fn new(name: &'static str, unit: &'static str, value: f64) -> Self {
        Self { name, unit, value, ..Self::default() }
    }

    pub(crate) fn p99(self, p99: f64) -> Self {
        Self { p99: Some(p99), ..self }
    }

    pub(crate) fn note(self, note: &'static str) -> Self {
        Self { note: Some(note), ..self }
    }

    /// Sets the figure beside another of the same run.
    pub(crate) fn against(self, baseline: &'static str, value: f64) -> Self {
        let ratio = if value == 0.0 { None } else { Some(self.value / value) };
        Self { baseline: Some(baseline), baseline_value: Some(value), ratio, ..self }
    }
}

/// The value below which `part` of the samples lie. Sorts them; 0 if there are none.
pub(super) fn quantile(samples: &mut [f64], part: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index from a part of a length"
    )]
    let at = ((samples.len().saturating_sub(1)) as f64 * part.clamp(0.0, 1.0)) as usize;
    samples.get(at).copied().unwrap_or(0.0)
}

/// The resident memory of this process.
pub(super) fn resident_bytes() -> anyhow::Result<u64> {
    const PAGE_LEN: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").context("no /proc on this system")?;
    let pages = statm.split_whitespace().nth(1).context("an odd /proc/self/statm")?;
    Ok(pages.parse::<u64>()? * PAGE_LEN)
}

impl Suite {
    /// The figures without a seed.
    pub(crate) const fn new(suite: &'static str, results: Vec<Measure>) -> Self {
        Self { suite, seed: None, disk: None, results }
    }

    /// The figures as a table for people.
    pub(crate) fn table(&self) -> String {
        let seed = self.seed.map_or_else(String::new, |seed| format!(", seed {seed}"));
        let disk = self.disk.as_ref().map_or_else(String::new, |disk| format!(", files in {disk}"));
        let mut text = format!("suite {}{seed}{disk}\n", self.suite);
        for measure in &self.results {
            let Measure { name, unit, value, p99, baseline, baseline_value, ratio, note } = measure;
            // Writing to a string cannot fail.
            let mut line = format!("  {name:<22} {value:>14.2} {unit:<12}");
            if let Some(p99) = p99 {
                write!(line, " p99 {p99:.2}").ok();
            }
            if let (Some(baseline), Some(value), Some(ratio)) = (baseline, baseline_value, ratio) {
                write!(line, " ratio {ratio:.2} to {baseline} ({value:.2})").ok();
            }
            text.push_str(line.trim_end());
            text.push('\n');
            if let Some(note) = note {
                writeln!(text, "    {note}").ok();
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{Measure, Suite, quantile};

    #[test]
    fn a_ratio_is_the_value_over_its_baseline() {
        let measure = Measure::new("cast", "1/s", 90.0).against("raw", 100.0);
        assert_eq!(measure.ratio, Some(0.9));
        assert_eq!(Measure::new("cast", "1/s", 90.0).against("raw", 0.0).ratio, None);
    }

    #[test]
    fn quantiles_are_taken_of_the_sorted_samples() {
        let mut samples = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(quantile(&mut samples, 0.5), 3.0);
        assert_eq!(quantile(&mut samples, 1.0), 5.0);
        assert_eq!(quantile(&mut [], 0.5), 0.0);
    }

    #[test]
    fn absent_fields_are_left_out_of_json() {
        let suite = Suite::new("s", vec![Measure::new("a", "s", 1.0)]);
        let json = serde_json::to_string(&suite).unwrap();
        assert_eq!(json, r#"{"suite":"s","results":[{"name":"a","unit":"s","value":1.0}]}"#);
    }
}
