//! From where to where numbers lie, on an axis that is logarithmic on both sides of 0.

use super::scale::{Kind, Scale, tick};
use super::svg::{Anchor, FONT, Svg};
use super::width::{em, shortened, squeezed};

const ROW: f64 = 22.0;

/// A picture of ranges.
pub struct Ranges {
    /// What is shown.
    pub title: String,
    /// From top to bottom.
    pub rows: Vec<Range>,
}

/// A range.
pub struct Range {
    /// What it is of.
    pub name: String,
    /// The smallest and the largest.
    pub ends: [f64; 2],
    /// What is told when one points at it.
    pub about: String,
}

impl Ranges {
    /// So wide: names at the left, the axis below.
    pub fn draw(&self, width: f64) -> Svg {
        let bottom = 26.0 + ROW * self.rows.len() as f64;
        let mut svg = Svg::new(width, bottom + 24.0, &self.title);
        svg.text("c-head", [0.0, 14.0], Anchor::Start, &shortened(&self.title, width / FONT / 1.15));
        let widest = self.rows.iter().map(|row| em(&row.name) * FONT).fold(0.0, f64::max);
        let left = (widest + 12.0).min(width * 0.5);
        let ends = self.rows.iter().flat_map(|row| row.ends).chain([0.0]);
        let scale = Scale::over(Kind::Signed, ends, [left, width - 4.0]);
        let mut free = 0.0;
        for (at, value) in scale.ticks(5).into_iter().filter_map(|value| Some((scale.at(value)?, value))) {
            svg.line(if value == 0.0 { "c-zero" } else { "c-grid" }, [at, 24.0], [at, bottom + 4.0]);
            let (words, half) = (tick(value), em(&tick(value)) * FONT / 2.0);
            let middle = at.min(width - half);
            if middle - half >= free {
                svg.text("c-dim", [middle, bottom + 18.0], Anchor::Middle, &words);
                free = middle + half + 4.0;
            }
        }
        for (i, row) in self.rows.iter().enumerate() {
            let top = 26.0 + ROW * i as f64;
            svg.text("", [0.0, top + ROW / 2.0 + 4.0], Anchor::Start, &squeezed(&row.name, (left - 10.0) / FONT));
            if let [Some(from), Some(to)] = row.ends.map(|end| scale.at(end)) {
                svg.rect("c-bar", [from, top + 6.0], [(to - from).max(1.0), ROW - 12.0], Some(&row.about));
            }
        }
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_beside_each_other_as_their_ends_are() {
        let row = |ends: [f64; 2]| Range { name: "q".into(), ends, about: String::new() };
        let rows = vec![row([-1.0, 1.0]), row([-100.0, 2000.0]), row([f64::NAN, 1.0])];
        let text = Ranges { title: "activations".into(), rows }.draw(300.0).inline();
        assert_eq!(text.matches("class=\"c-bar\"").count(), 2);
        assert!(text.contains(">0</text>") && !text.contains("NaN"), "{text}");
    }
}
