//! What models said, beside each other.

use report::{Generation, Parting};

use super::baseline::Baseline;
use super::partings::Parted;
use crate::generate::Generated;

/// All outputs beside each other: samples on which runs differ first, then the others, each in the data's order.
pub(super) fn side_by_side(baseline: &Baseline, runs: &[Vec<Generated>], parted: Vec<Parted>) -> Vec<Generation> {
    let float = &baseline.outputs.generated;
    let differs = |i: &usize| runs.iter().filter_map(|run| run.get(*i)).any(|found| *found != float[*i]);
    let mut order: Vec<usize> = (0..float.len()).collect();
    order.sort_by_key(|i| !differs(i));
    let mut partings: Vec<Vec<Parting>> = vec![Vec::new(); float.len()];
    for Parted { sample, parting } in parted {
        partings[sample].push(parting);
    }
    order.into_iter().map(|sample| beside(baseline, runs, sample, std::mem::take(&mut partings[sample]))).collect()
}

fn beside(baseline: &Baseline, runs: &[Vec<Generated>], at: usize, partings: Vec<Parting>) -> Generation {
    let (float, sample) = (&baseline.outputs.generated[at], &baseline.subject.data.samples[at]);
    let found = || runs.iter().map(|run| run.get(at));
    let endless: Vec<bool> =
        std::iter::once(Some(float)).chain(found()).map(|said| said.is_some_and(|g| !g.ended)).collect();
    Generation {
        sample: at as u64,
        input: sample.input.clone(),
        target: sample.target.clone(),
        float: baseline.text_of(float),
        outputs: found().map(|said| said.map(|said| baseline.text_of(said))).collect(),
        endless: if endless.contains(&true) { endless } else { Vec::new() },
        partings,
    }
}
