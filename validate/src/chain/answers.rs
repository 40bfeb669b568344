//! What models said, beside each other.

use report::{Generation, Parting};

use super::baseline::Baseline;
use super::partings::Parted;
use crate::answers::{Said, beside};

/// All outputs beside each other: samples on which runs differ first, then the others, each in the data's order.
pub(super) fn side_by_side(baseline: &Baseline, runs: &[Vec<Said>], parted: Vec<Parted>) -> Vec<Generation> {
    let float = &baseline.outputs.generated;
    let differs = |i: &usize| runs.iter().filter_map(|run| run.get(*i)).any(|found| found.generated != float[*i]);
    let mut order: Vec<usize> = (0..float.len()).collect();
    order.sort_by_key(|i| !differs(i));
    let mut partings: Vec<Vec<Parting>> = vec![Vec::new(); float.len()];
    for Parted { sample, parting } in parted {
        partings[sample].push(parting);
    }
    let subject = &baseline.subject;
    let of = |at: usize| {
        let partings = std::mem::take(&mut partings[at]);
        beside(subject.text, (at, &subject.data.samples[at]), &float[at], runs, partings)
    };
    order.into_iter().map(of).collect()
}
