//! Horizontal bars, each with its name above its left end and its figure at the right.

use super::scale::Scale;
use super::svg::{Anchor, FONT, Svg};
use super::width::{em, shortened, squeezed};

const ROW: f64 = 24.0;

/// A picture of bars from 0.
pub struct Bars {
    /// What is shown, with its unit.
    pub title: String,
    /// From top to bottom.
    pub rows: Vec<Bar>,
}

/// A bar.
pub struct Bar {
    /// What it is of.
    pub name: String,
    /// How long; none for what is no number.
    pub value: f64,
    /// The figure as it is written.
    pub figure: String,
    /// What is told when one points at it.
    pub about: String,
}

impl Bars {
    /// So wide: names in a column at the left, figures in one at the right.
    pub fn draw(&self, width: f64) -> Svg {
        let height = 26.0 + ROW * self.rows.len() as f64 + 2.0;
        let mut svg = Svg::new(width, height, &self.title);
        svg.text("c-head", [0.0, 14.0], Anchor::Start, &shortened(&self.title, width / FONT / 1.15));
        let widest =
            |words: &dyn Fn(&Bar) -> &str| self.rows.iter().map(|row| em(words(row)) * FONT).fold(0.0, f64::max);
        let names = (widest(&|row| &row.name) + 10.0).min(width * 0.42);
        let figures = (widest(&|row| &row.figure) + 8.0).min(width * 0.42);
        let (left, right) = (names, width - figures);
        let scale = Scale::from_zero(self.rows.iter().map(|row| row.value), [left, right]);
        for (i, row) in self.rows.iter().enumerate() {
            let top = 26.0 + ROW * i as f64;
            let base = top + ROW / 2.0 + 4.0;
            svg.text("", [0.0, base], Anchor::Start, &squeezed(&row.name, (names - 8.0) / FONT));
            svg.rect("c-track", [left, top + 5.0], [right - left, ROW - 10.0], Some(&row.about));
            if let Some(end) = scale.at(row.value) {
                svg.rect("c-bar", [left, top + 5.0], [(end - left).max(1.0), ROW - 10.0], Some(&row.about));
            }
            svg.text("c-dim", [width, base], Anchor::End, &shortened(&row.figure, (figures - 4.0) / FONT));
        }
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_bar_fills_its_track_and_what_is_no_number_has_none() {
        let row = |name: &str, value: f64| Bar { name: name.into(), value, figure: "1".into(), about: String::new() };
        let rows = vec![row("a", 2.0), row("b", 1.0), row("c", f64::NAN), row("d", 0.0)];
        let text = Bars { title: "error".into(), rows }.draw(300.0).inline();
        let widths = |class: &str| {
            let class = format!("class=\"{class}\"");
            let of = text.split(&class).skip(1);
            of.map(|rest| {
                rest.split("width=\"").nth(1).and_then(|w| w.split('"').next()).expect("a width").parse::<f64>()
            })
            .collect::<Result<Vec<f64>, _>>()
            .expect("numbers")
        };
        let (tracks, bars) = (widths("c-track"), widths("c-bar"));
        assert_eq!(tracks.len(), 4);
        assert_eq!(bars.len(), 3);
        assert!(bars[0] == tracks[0] && (bars[1] - tracks[1] / 2.0).abs() < 0.2, "{bars:?} of {tracks:?}");
    }
}
