//! What may not become worse.

use super::found::{ArtifactDiff, Change, FigureDiff, Quantity, Regression};
use crate::check::Outcome;
use crate::figures::{size, three};

/// KL divergences below are the noise of f32 sums, which no growth is told of.
const KL_NOISE: f64 = 1e-6;

/// How much a figure may grow before the new report is refused. A check that fails now, and a task metric that is worse beyond both
/// intervals, are refused at any setting.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rules {
    /// Percent of the old KL divergence.
    pub max_kl_growth: f64,
    /// Percent of the old size of an artifact.
    pub max_size_growth: f64,
}

impl Default for Rules {
    /// Room for another processor's last bits in KL, and for a longer header in files.
    fn default() -> Rules {
        Rules { max_kl_growth: 10.0, max_size_growth: 1.0 }
    }
}

impl Rules {
    /// What of an artifact breaks a rule.
    pub(super) fn broken(&self, artifact: &ArtifactDiff) -> Vec<Regression> {
        let mut sentences: Vec<String> = artifact.checks.iter().filter_map(failing).collect();
        let [old, new] = artifact.bytes.map(|bytes| bytes as f64);
        if new > old * (1.0 + self.max_size_growth / 100.0) {
            let [from, to] = artifact.bytes.map(size);
            let growth = grown(old, new);
            sentences.push(format!("{to}, {growth} more than {from}; at most {} % more", self.max_size_growth));
        }
        for run in &artifact.runs {
            let broken = run.figures.iter().filter_map(|figure| self.worse(figure));
            sentences.extend(broken.map(|sentence| format!("in {}: {sentence}", run.engine)));
        }
        let of = |sentence| Regression { artifact: Some(artifact.name.clone()), sentence };
        sentences.into_iter().map(of).collect()
    }

    fn worse(&self, figure: &FigureDiff) -> Option<String> {
        let (old, new) = (figure.old?, figure.new?);
        let label = figure.quantity.label();
        match figure.quantity {
            Quantity::Task(_) if figure.change == Change::Worse => {
                let [was, is] = [old, new].map(|one| {
                    let [low, high] = one.range();
                    format!("{:.1} ({low:.1} to {high:.1})", one.value)
                });
                Some(format!("{label} {is}, worse than {was} beyond both intervals"))
            }
            Quantity::Kl if new.value > (old.value * (1.0 + self.max_kl_growth / 100.0)).max(KL_NOISE) => {
                let growth = grown(old.value, new.value);
                let (was, is) = (three(old.value), three(new.value));
                Some(format!("{label} {is}, {growth} more than {was}; at most {} % more", self.max_kl_growth))
            }
            _ => None,
        }
    }
}

/// The sentence of a check that fails now and did not fail then.
pub(super) fn failing(change: &super::found::CheckChange) -> Option<String> {
    let now_fails = change.new == Some(Outcome::Failed) && change.old != Some(Outcome::Failed);
    let colon = if change.sentence.is_empty() { "" } else { ": " };
    now_fails.then(|| format!("fails at {}: {}{colon}{}", change.link, change.what, change.sentence))
}

/// `12 %`.
fn grown(old: f64, new: f64) -> String {
    match old {
        0.0 => "any".to_owned(),
        old => format!("{} %", three(100.0 * (new / old - 1.0))),
    }
}
