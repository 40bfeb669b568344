//! Runs of `n` elements that two sequences share.

use std::hash::Hash;

use rustc_hash::FxHashMap;

/// How many runs of `n` a sequence has.
pub fn count(elements: usize, n: usize) -> usize {
    (elements + 1).saturating_sub(n)
}

/// How many runs of `n` stand in both, each as often as in the side where it is rarer. Memory is that of the shorter side's runs.
pub fn common<T: Eq + Hash>(a: &[T], b: &[T], n: usize) -> usize {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut left: FxHashMap<&[T], usize> = FxHashMap::default();
    short.windows(n).for_each(|run| *left.entry(run).or_default() += 1);
    let mut common = 0;
    for run in long.windows(n) {
        if let Some(times) = left.get_mut(run).filter(|times| **times > 0) {
            *times -= 1;
            common += 1;
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_counts_as_often_as_where_it_is_rarer() {
        assert_eq!(common(b"aaab", b"aaaab", 2), 3);
        assert_eq!(common(b"abab", b"ba", 1), 2);
        assert_eq!(common(b"a", b"a", 2), 0);
        assert_eq!([count(0, 1), count(1, 2), count(5, 2)], [0, 0, 4]);
    }
}
