//! Which sentences an engine has wrong that the float model has right.

use crate::artifact::{ArtifactReport, Generation};

/// An output that is not the right answer, where the float model's is.
#[derive(Clone, Copy, Debug)]
pub struct NewlyWrong<'r> {
    /// The place of the run in [`ArtifactReport::runs`].
    pub run: usize,
    /// What was asked.
    pub generation: &'r Generation,
    /// What the run said.
    pub output: &'r str,
}

/// Whether two texts have the same words, as `exact_match` compares them.
pub fn is_same(a: &str, b: &str) -> bool {
    a.split_whitespace().eq(b.split_whitespace())
}

/// Whether an output is the right answer; `None` where the data has none.
pub fn is_right(generation: &Generation, output: &str) -> Option<bool> {
    generation.target.as_deref().map(|target| is_same(target, output))
}

/// Those of an artifact, in the order of its generations and runs.
pub fn newly_wrong(artifact: &ArtifactReport) -> impl Iterator<Item = NewlyWrong<'_>> {
    let was_right = |generation: &&Generation| is_right(generation, &generation.float) == Some(true);
    artifact.generations.iter().filter(was_right).flat_map(|generation| {
        let outputs = generation.outputs.iter().enumerate();
        let said = outputs.filter_map(|(run, output)| Some((run, output.as_deref()?)));
        let wrong = said.filter(|(_, output)| is_right(generation, output) == Some(false));
        wrong.map(move |(run, output)| NewlyWrong { run, generation, output })
    })
}
