//! Intervals of any figure, from texts drawn again. Efron, 1979; paired, as of Koehn, 2004.

use rayon::prelude::*;

use crate::sums::Sums;

/// Samples drawn. The ends of an interval of 95 % are then the 50th value from either end.
pub const RESAMPLES: u64 = 2000;
/// Share of values outside on each side.
const TAIL: f64 = 0.025;

/// The 95 % percentile interval of `figure` over as many texts as there are, drawn with replacement. `figure`: of added sums, a number.
///
/// Each of the samples has a generator of its own, so the interval is the same at any number of threads. `None` for fewer than two texts:
/// one says nothing of how far others would be from it.
pub fn interval(sums: &Sums, figure: impl Fn(&[f64]) -> f64 + Sync) -> Option<[f64; 2]> {
    let texts = sums.len();
    if texts < 2 {
        return None;
    }
    let drawn = |sample: u64| {
        let mut generator = SplitMix64::of(sample);
        figure(&sums.total((0..texts).map(|_| generator.below(texts))))
    };
    let mut values: Vec<f64> = (0..RESAMPLES).into_par_iter().map(drawn).collect();
    values.sort_by(f64::total_cmp);
    Some([quantile(&values, TAIL), quantile(&values, 1.0 - TAIL)])
}

/// Between two values it is interpolated, as numpy does it.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

/// Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014. Written out, since what is drawn must not move with a
/// version of a crate.
struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

    /// A stream of its own for each number: its start is itself drawn, as the paper splits streams.
    fn of(number: u64) -> SplitMix64 {
        let mut numbers = SplitMix64 { state: number.wrapping_mul(SplitMix64::STEP) };
        SplitMix64 { state: numbers.next() }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(SplitMix64::STEP);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `end`; none is likelier than another by more than `end / 2^64`.
    fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(values: impl IntoIterator<Item = [f64; 2]>) -> Sums {
        let mut sums = Sums::new(2);
        values.into_iter().for_each(|row| sums.push(&row));
        sums
    }

    fn ratio(sums: &[f64]) -> f64 {
        sums[0] / sums[1]
    }

    #[test]
    fn the_generator_is_the_published_one() {
        // The first outputs of the reference implementation with the seed 1234567.
        let mut generator = SplitMix64 { state: 1_234_567 };
        assert_eq!(
            [generator.next(), generator.next(), generator.next()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn an_interval_is_the_same_at_any_number_of_threads() {
        let sums = sums((0..57).map(|text| [f64::from(text * text % 11), f64::from(20 + text % 3)]));
        let at = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| interval(&sums, ratio)).expect("two texts")
        };
        assert_eq!(at(1), at(3));
    }

    #[test]
    fn one_text_has_no_interval_and_equal_ones_have_none_to_speak_of() {
        assert_eq!(interval(&sums([[1.0, 4.0]]), ratio), None);
        assert_eq!(interval(&sums([[1.0, 4.0]; 9]), ratio), Some([0.25; 2]));
    }

    #[test]
    fn about_95_of_100_intervals_hold_the_figure_of_the_source() {
        // Texts of 10 or 30 words; a word is wrong with 0.1 in the short and 0.2 in the long: 0.175 of all words.
        let mut generator = SplitMix64::of(99);
        let mut text = || {
            let (words, wrong) = if generator.below(2) == 0 { (10, 10) } else { (30, 20) };
            let edits = (0..words).filter(|_| generator.below(100) < wrong).count();
            [edits as f64, f64::from(words)]
        };
        let held = (0..400).filter(|_| {
            let [low, high] = interval(&sums((0..120).map(|_| text())), ratio).expect("two texts");
            (low..=high).contains(&0.175)
        });
        // 380 expected; the standard deviation of such a count is 4.4, and this is three of them.
        let held = held.count();
        assert!((367..=393).contains(&held), "{held} of 400");
    }
}
