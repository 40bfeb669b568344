//! How often numbers lie where.

use super::scale::tick;
use super::svg::{Anchor, FONT, Svg};
use super::width::shortened;

const TOP: f64 = 24.0;
const HEIGHT: f64 = 84.0;

/// Numbers of a weight before and after, in the same bins. Heights are logarithms of counts, since outliers matter and are few.
pub struct Weights<'a> {
    /// What is shown.
    pub title: String,
    /// The left edge of the first bin and the right edge of the last.
    pub range: [f64; 2],
    /// Counts before: an outline.
    pub exact: &'a [u64],
    /// Counts after: bars.
    pub stored: &'a [u64],
}

/// How often each code is used.
pub struct Codes<'a> {
    /// What is shown.
    pub title: String,
    /// Codes with their counts, from the smallest.
    pub counts: &'a [(i64, u64)],
}

impl Weights<'_> {
    /// So wide.
    pub fn draw(&self, width: f64) -> Svg {
        let mut svg = framed(&self.title, width);
        let log = |count: u64| (count as f64).ln_1p();
        let highest = self.exact.iter().chain(self.stored).map(|count| log(*count)).fold(0.0, f64::max).max(1e-9);
        let y = |count: u64| TOP + HEIGHT * (1.0 - log(count) / highest);
        let step = |counts: &[u64]| width / counts.len().max(1) as f64;
        for (i, count) in self.stored.iter().enumerate().filter(|(_, count)| **count > 0) {
            let (wide, top) = (step(self.stored), y(*count));
            svg.rect("c-bar", [i as f64 * wide, top], [(wide * 0.85).max(0.8), TOP + HEIGHT - top], None);
        }
        let wide = step(self.exact);
        let outline: Vec<[f64; 2]> = self
            .exact
            .iter()
            .enumerate()
            .flat_map(|(i, count)| {
                let (left, top) = (i as f64 * wide, y(*count));
                [[left, top], [left + wide, top]]
            })
            .collect();
        svg.path("c-outline", &outline);
        let [low, high] = self.range;
        ends(&mut svg, width, &tick(low), &tick(high));
        svg
    }
}

impl Codes<'_> {
    /// So wide.
    pub fn draw(&self, width: f64) -> Svg {
        let mut svg = framed(&self.title, width);
        let (Some((first, _)), Some((last, _))) = (self.counts.first(), self.counts.last()) else { return svg };
        let wide = width / (last.saturating_sub(*first).saturating_add(1).max(1) as f64);
        let most = self.counts.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1) as f64;
        for (code, count) in self.counts {
            let high = HEIGHT * *count as f64 / most;
            let left = wide * code.saturating_sub(*first) as f64;
            let about = (self.counts.len() <= 16).then(|| format!("code {code}: {count}"));
            svg.rect("c-bar", [left, TOP + HEIGHT - high], [(wide * 0.85).max(0.8), high], about.as_deref());
        }
        ends(&mut svg, width, &first.to_string(), &last.to_string());
        svg
    }
}

fn framed(title: &str, width: f64) -> Svg {
    let mut svg = Svg::new(width, TOP + HEIGHT + 20.0, title);
    svg.text("c-dim", [0.0, 14.0], Anchor::Start, &shortened(title, width / FONT));
    svg.line("c-zero", [0.0, TOP + HEIGHT], [width, TOP + HEIGHT]);
    svg
}

fn ends(svg: &mut Svg, width: f64, low: &str, high: &str) {
    let base = TOP + HEIGHT + 15.0;
    svg.text("c-dim", [0.0, base], Anchor::Start, low);
    svg.text("c-dim", [width, base], Anchor::End, high);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_for_each_bin_in_use_and_an_outline_over_all() {
        let (exact, stored) = ([1, 10, 100, 10, 1], [0, 60, 0, 62, 0]);
        let text =
            Weights { title: "w".into(), range: [-1.0, 1.0], exact: &exact, stored: &stored }.draw(200.0).inline();
        assert_eq!(text.matches("c-bar").count(), 2);
        assert_eq!(text.matches("c-outline").count(), 1);
    }

    #[test]
    fn nothing_and_the_farthest_codes_are_drawn_without_a_panic() {
        Weights { title: "w".into(), range: [f64::NAN, 1.0], exact: &[], stored: &[] }.draw(200.0);
        Codes { title: "codes".into(), counts: &[] }.draw(200.0);
        let text = Codes { title: "codes".into(), counts: &[(i64::MIN, 1), (i64::MAX, 2)] }.draw(200.0).inline();
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }
}
