//! Word and character error rates as jiwer 4 computes them: edits over what the targets hold, all texts together.

use crate::edits::edit_distance;
use crate::spaces::{is_space, words};

/// Edits, and words of the target. Runs of spaces are taken as one and then only `' '` parts words, as in jiwer's default transform, so
/// that a single tab between two letters parts none.
pub fn of_words(found: &str, target: &str) -> [f64; 2] {
    let (found, target) = (spaced(found), spaced(target));
    edits(&parted(&found), &parted(&target))
}

/// Edits, and characters (code points) of the target, spaces within the text included.
pub fn of_characters(found: &str, target: &str) -> [f64; 2] {
    let characters = |text: &str| text.trim_matches(is_space).chars().collect::<Vec<char>>();
    edits(&characters(found), &characters(target))
}

/// The figure of added sums, in hundredths; may pass 100. Where no target holds anything, each edit is a hundred, as in jiwer.
pub fn points(edits: f64, of_targets: f64) -> f64 {
    100.0 * edits / of_targets.max(1.0)
}

/// Whether the same words stand in both, spaces aside.
pub fn are_equal(found: &str, target: &str) -> bool {
    words(found).eq(words(target))
}

fn edits<T: Eq + std::hash::Hash>(found: &[T], target: &[T]) -> [f64; 2] {
    [edit_distance(found, target) as f64, target.len() as f64]
}

/// Two or more spaces in a row as one `' '`; a single one stays what it is.
fn spaced(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.trim_matches(is_space).chars().peekable();
    while let Some(c) = rest.next() {
        let mut runs_on = false;
        while is_space(c) && rest.next_if(|next| is_space(*next)).is_some() {
            runs_on = true;
        }
        out.push(if runs_on { ' ' } else { c });
    }
    out
}

fn parted(text: &str) -> Vec<&str> {
    text.split(' ').filter(|word| !word.is_empty()).collect()
}
