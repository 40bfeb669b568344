//! Intervals and tests of shares.

/// The 97.5 % point of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;
/// Halvings of an interval of length 2 until no f64 lies between its ends.
const HALVINGS: usize = 60;

/// Wilson's 95 % interval for a share (1927). `trials`: at least 1. Within 0 and 1.
pub fn wilson(successes: f64, trials: f64) -> [f64; 2] {
    let share = successes / trials;
    let centre = share + Z * Z / (2.0 * trials);
    let half = Z * (share * (1.0 - share) / trials + Z * Z / (4.0 * trials * trials)).sqrt();
    let scale = 1.0 + Z * Z / trials;
    // No and every success reach the end, from which rounding would keep them.
    let low = if successes == 0.0 { 0.0 } else { (centre - half) / scale };
    let high = if successes == trials { 1.0 } else { (centre + half) / scale };
    [low, high]
}

/// Pairs of yes and no.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pairs {
    /// Of which only the second says yes.
    pub worse: u64,
    /// Of which only the first does.
    pub better: u64,
    /// All; at least 1.
    pub all: u64,
}

impl Pairs {
    /// The 95 % score interval of the difference of shares, `(worse - better) / all`. Tango, 1998.
    ///
    /// It holds each difference that a score test at 5 % does not refuse, and keeps its level where few pairs differ.
    pub fn interval(self) -> [f64; 2] {
        [self.end(Z), self.end(-Z)]
    }

    /// The difference whose score is `score`, found by halving: the score falls as the difference rises.
    fn end(self, score: f64) -> f64 {
        let [mut low, mut high] = [-1.0, 1.0];
        for _ in 0..HALVINGS {
            let middle = (low + high) / 2.0;
            if self.score(middle) > score { low = middle } else { high = middle }
        }
        // A share of all pairs is reached and not only approached.
        if low == -1.0 || high == 1.0 { high.round() } else { (low + high) / 2.0 }
    }

    /// How many standard deviations the pairs are above a true difference of `difference`, the other unknown share at its likeliest.
    fn score(self, difference: f64) -> f64 {
        let (worse, better, all) = (self.worse as f64, self.better as f64, self.all as f64);
        let a = 2.0 * all;
        let b = (2.0 * all - worse + better) * difference - worse - better;
        let c = -better * difference * (1.0 - difference);
        let likeliest = ((b * b - 4.0 * a * c).max(0.0).sqrt() - b) / (2.0 * a);
        let variance = all * (2.0 * likeliest + difference * (1.0 - difference));
        let above = worse - better - all * difference;
        if variance > 0.0 { above / variance.sqrt() } else { above.signum() * f64::INFINITY }
    }

    /// The p-value of McNemar's exact test: of as many pairs that differ, how likely chance splits them as unevenly or more so.
    pub fn mcnemar(self) -> f64 {
        let (fewer, differing) = (self.worse.min(self.better), self.worse + self.better);
        let (k, n) = (fewer as f64, differing as f64);
        let ln_ways = libm::lgamma(n + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(n - k + 1.0);
        let mut term = (ln_ways - n * std::f64::consts::LN_2).exp();
        let mut tail = 0.0;
        for k in (0..=fewer).rev() {
            tail += term;
            term *= k as f64 / (n - k as f64 + 1.0);
        }
        (2.0 * tail).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The chance that the interval holds the true difference, over all outcomes of `all` pairs.
    fn coverage(all: u64, worse: f64, better: f64) -> f64 {
        let ln_factorial = |n: u64| libm::lgamma(n as f64 + 1.0);
        let mut held = 0.0;
        for b in 0..=all {
            for c in 0..=all - b {
                let [low, high] = Pairs { worse: b, better: c, all }.interval();
                let equal = all - b - c;
                let ways = ln_factorial(all) - ln_factorial(b) - ln_factorial(c) - ln_factorial(equal);
                let chance = [(b, worse), (c, better), (equal, 1.0 - worse - better)];
                let ln = ways + chance.iter().map(|(count, share)| *count as f64 * share.ln()).sum::<f64>();
                held += if (low..=high).contains(&(worse - better)) { ln.exp() } else { 0.0 };
            }
        }
        held
    }

    #[test]
    fn the_interval_of_pairs_keeps_its_level_where_few_differ() {
        // Outcomes are counts, so that the level swings around 0.95. That of ±1.96 standard errors falls to 0.83 over the same cases.
        let cases =
            [(20, 0.1, 0.05), (30, 0.2, 0.05), (40, 0.05, 0.05), (40, 0.3, 0.2), (60, 0.02, 0.01), (60, 0.1, 0.02)];
        let found = cases.map(|(all, worse, better)| coverage(all, worse, better));
        assert!(found.iter().all(|coverage| (0.93..=1.0).contains(coverage)), "{found:?}");
    }
}
