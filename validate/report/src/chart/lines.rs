//! Figures over lengths: medians as marks on a line, quartiles as bars.

use metrics::Spread;

use super::legend::Legend;
use super::scale::{Kind, Scale, tick};
use super::svg::{Anchor, FONT, SERIES, Svg};
use super::width::{em, shortened};

const HEIGHT: f64 = 200.0;
/// Left, right and bottom of the frame.
const MARGIN: [f64; 3] = [56.0, 14.0, 44.0];

/// One figure of several engines.
pub struct Panel {
    /// What is shown, with its unit.
    pub title: String,
    /// What the horizontal axis is.
    pub across: String,
    /// One for each engine and artifact; colours and marks are by place, so that panels agree.
    pub lines: Vec<Line>,
}

/// A figure at several lengths.
pub struct Line {
    /// For the legend.
    pub name: String,
    /// By length; what is not above 0 has no place on a logarithmic axis.
    pub points: Vec<(f64, Spread)>,
}

/// Panels below each other, so wide. Both axes of each are logarithmic.
pub fn panels(panels: &[Panel], width: f64) -> Svg {
    let about = panels.iter().map(|panel| panel.title.as_str()).collect::<Vec<_>>().join("; ");
    panels.iter().fold(Svg::new(width, 0.0, &about), |above, panel| above.below(&panel.draw(width)))
}

impl Panel {
    fn draw(&self, width: f64) -> Svg {
        let [left, right, bottom] = MARGIN;
        let legend = Legend::of(self.lines.iter().map(|line| line.name.as_str()).enumerate(), width);
        let top = 30.0 + legend.height + 6.0;
        let (low, height) = (top + HEIGHT, top + HEIGHT + bottom);
        let mut svg = Svg::new(width, height, &self.title);
        svg.text("c-head", [0.0, 18.0], Anchor::Start, &shortened(&self.title, width / FONT / 1.15));
        legend.draw(&mut svg, [0.0, 28.0]);
        svg.text("c-dim", [(left + width - right) / 2.0, height - 8.0], Anchor::Middle, &self.across);
        let points = || self.lines.iter().flat_map(Line::placed);
        let x = Scale::over(Kind::Log, points().map(|(at, _)| *at), [left + 10.0, width - right - 10.0]);
        let y = Scale::over(Kind::Log, points().flat_map(|(_, s)| [s.low, s.high]), [low - 8.0, top + 8.0]);
        for (at, value) in y.ticks(7).into_iter().filter_map(|value| Some((y.at(value)?, value))) {
            svg.line("c-grid", [left, at], [width - right, at]);
            svg.text("c-dim", [left - 8.0, at + 4.0], Anchor::End, &tick(value));
        }
        svg.line("c-zero", [left, low], [width - right, low]);
        self.lengths(&mut svg, &x, low);
        for (series, line) in self.lines.iter().enumerate() {
            line.draw(&mut svg, series, &x, &y);
        }
        svg
    }

    /// Each length that was measured, as far as there is room for it.
    fn lengths(&self, svg: &mut Svg, x: &Scale, low: f64) {
        let mut lengths: Vec<f64> = self.lines.iter().flat_map(Line::placed).map(|(at, _)| *at).collect();
        lengths.sort_by(f64::total_cmp);
        lengths.dedup();
        let mut free = 0.0;
        for (at, length) in lengths.into_iter().filter_map(|length| Some((x.at(length)?, length))) {
            let words = tick(length);
            let half = em(&words) * FONT / 2.0;
            svg.line("c-grid", [at, low], [at, low + 4.0]);
            if at - half >= free {
                svg.text("c-dim", [at, low + 18.0], Anchor::Middle, &words);
                free = at + half + 6.0;
            }
        }
    }
}

impl Line {
    /// Points with a place on logarithmic axes.
    fn placed(&self) -> impl Iterator<Item = &(f64, Spread)> {
        let is_placed = |(at, s): &&(f64, Spread)| {
            [*at, s.low, s.median, s.high].iter().all(|value| *value > 0.0 && value.is_finite())
        };
        self.points.iter().filter(is_placed)
    }

    fn draw(&self, svg: &mut Svg, series: usize, x: &Scale, y: &Scale) {
        let colour = format!("c-k{}", series % SERIES);
        let at = |length: f64, value: f64| Some([x.at(length)?, y.at(value)?]);
        let path: Vec<[f64; 2]> = self.placed().filter_map(|(length, s)| at(*length, s.median)).collect();
        svg.path(&format!("c-line {colour}"), &path);
        for (length, spread) in self.placed() {
            if let (Some(low), Some(high)) = (at(*length, spread.low), at(*length, spread.high)) {
                svg.line(&format!("c-reach {colour}"), low, high);
            }
            if let Some(middle) = at(*length, spread.median) {
                let about = format!("{}, {length}: {:.4}", self.name, spread.median);
                svg.mark(series, middle, 4.0, Some(&about));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(name: &str, values: &[(f64, f64)]) -> Panel {
        let points = values.iter().map(|(x, y)| (*x, Spread { median: *y, low: *y, high: *y })).collect();
        let lines = vec![Line { name: name.to_owned(), points }];
        Panel { title: "first token, ms".into(), across: "source, tokens".into(), lines }
    }

    #[test]
    fn a_picture_is_well_formed_however_little_there_is() {
        for values in [&[(32.0, 10.0), (512.0, 200.0)][..], &[(1.0, 1.0)], &[], &[(1.0, 0.0)], &[(1.0, f64::NAN)]] {
            let text = panels(&[panel("one", values)], 800.0).alone();
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        }
        let text = panels(&[panel("x", &[(32.0, 10.0), (512.0, 200.0)])], 800.0).alone();
        // And one in the legend.
        assert_eq!(text.matches("class=\"c-dot").count(), 3);
    }

    #[test]
    fn more_is_higher_and_longer_is_further_right() {
        let text = panels(&[panel("x", &[(32.0, 10.0), (512.0, 200.0)])], 800.0).alone();
        let at = text.split("c-line c-k0\" points=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a line");
        let numbers: Vec<f64> = at.split([' ', ',']).map(|n| n.parse().expect("a number")).collect();
        assert!(numbers[0] < numbers[2] && numbers[1] > numbers[3], "{numbers:?}");
    }
}
