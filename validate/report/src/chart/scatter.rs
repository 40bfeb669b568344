//! Dots with names: how large against how good.

use super::labels::{Area, Place, Wanted, place};
use super::legend::Legend;
use super::scale::{Kind, Scale};
use super::svg::{Anchor, FONT, Svg};
use super::width::{em, shortened};

const RADIUS: f64 = 5.0;
/// Left, right and bottom of the frame.
const MARGIN: [f64; 3] = [64.0, 14.0, 44.0];
const LABEL_EM: f64 = 16.0;
const LABEL_HEIGHT: f64 = 16.0;

/// A picture of dots.
pub struct Scatter<'a> {
    /// What is shown.
    pub title: String,
    /// What the horizontal axis is, its kind and how its figures are written.
    pub across: (String, Kind, &'a dyn Fn(f64) -> String),
    /// The same of the vertical one.
    pub up: (String, Kind, &'a dyn Fn(f64) -> String),
    /// What series are called: those that have dots are told when they are several. A number stands for a colour and a shape.
    pub series: Vec<(usize, String)>,
    /// What is shown; what has no place on an axis is left out.
    pub dots: Vec<Dot>,
    /// A dotted line behind the dots.
    pub trace: Vec<[f64; 2]>,
    /// A level to compare with: its height and its name.
    pub level: Option<(f64, String)>,
}

/// A dot.
pub struct Dot {
    /// Where.
    pub at: [f64; 2],
    /// A bar through it, from and to.
    pub reach: Option<[f64; 2]>,
    /// Beside it, when it is named.
    pub label: Option<String>,
    /// What is told when one points at it.
    pub about: String,
    /// One of [`Scatter::series`].
    pub series: usize,
}

impl Scatter<'_> {
    /// So wide, and as high as is pleasant.
    pub fn draw(&self, width: f64) -> Svg {
        let [left, right, bottom] = MARGIN;
        let is_used = |(at, _): &(usize, &str)| self.dots.iter().any(|dot| dot.series == *at);
        let names = self.series.iter().map(|(series, name)| (*series, name.as_str()));
        let legend = Legend::of(names.filter(is_used), width);
        let top = 26.0 + legend.height + 20.0;
        let frame = Area { left, top, right: width - right, bottom: top + (width * 0.46).clamp(210.0, 320.0) };
        let height = frame.bottom + bottom;
        let mut svg = Svg::new(width, height, &self.title);
        svg.text("c-head", [0.0, 14.0], Anchor::Start, &shortened(&self.title, width / FONT / 1.15));
        legend.draw(&mut svg, [0.0, 24.0]);
        svg.text("c-dim", [0.0, top - 8.0], Anchor::Start, &shortened(&self.up.0, width / FONT));
        svg.text("c-dim", [(frame.left + frame.right) / 2.0, height - 6.0], Anchor::Middle, &self.across.0);
        let x = Scale::over(self.across.1, self.places(0), [frame.left + 8.0, frame.right - 8.0]);
        let y = Scale::over(self.up.1, self.places(1), [frame.bottom - 8.0, frame.top + 8.0]);
        self.axes(&mut svg, &frame, &x, &y);
        self.draw_dots(&mut svg, &frame, &x, &y);
        svg
    }

    fn places(&self, axis: usize) -> Vec<f64> {
        let reaches = self.dots.iter().filter_map(|dot| dot.reach).flatten().filter(|_| axis == 1);
        let level = self.level.iter().map(|(level, _)| *level).filter(|_| axis == 1);
        let points = self.dots.iter().map(|dot| dot.at).chain(self.trace.iter().copied());
        points.map(|at| at[axis]).chain(reaches).chain(level).collect()
    }

    fn axes(&self, svg: &mut Svg, frame: &Area, x: &Scale, y: &Scale) {
        for tick in y.ticks(5) {
            if let Some(at) = y.at(tick) {
                svg.line("c-grid", [frame.left, at], [frame.right, at]);
                svg.text("c-dim", [frame.left - 8.0, at + 4.0], Anchor::End, &(self.up.2)(tick));
            }
        }
        let ticks: Vec<(f64, String)> =
            x.ticks(5).into_iter().filter_map(|tick| Some((x.at(tick)?, (self.across.2)(tick)))).collect();
        let mut free = 0.0;
        for (at, words) in ticks {
            svg.line("c-grid", [at, frame.bottom], [at, frame.bottom + 4.0]);
            let half = em(&words) * FONT / 2.0;
            let middle = at.min(frame.right + MARGIN[1] - half);
            if middle - half >= free {
                svg.text("c-dim", [middle, frame.bottom + 18.0], Anchor::Middle, &words);
                free = middle + half + 6.0;
            }
        }
        svg.line("c-zero", [frame.left, frame.bottom], [frame.right, frame.bottom]);
    }

    fn draw_dots(&self, svg: &mut Svg, frame: &Area, x: &Scale, y: &Scale) {
        let place_of = |at: [f64; 2]| Some([x.at(at[0])?, y.at(at[1])?]);
        let trace: Vec<[f64; 2]> = self.trace.iter().filter_map(|at| place_of(*at)).collect();
        svg.path("c-trace", &trace);
        let dots: Vec<(&Dot, [f64; 2])> = self.dots.iter().filter_map(|dot| Some((dot, place_of(dot.at)?))).collect();
        let mut taken: Vec<Area> = dots.iter().map(|(_, at)| Area::around(*at, RADIUS + 2.0)).collect();
        for (dot, at) in &dots {
            if let Some([low, high]) = dot.reach.map(|reach| reach.map(|value| y.at(value))) {
                let ends = [low.unwrap_or(frame.bottom), high.unwrap_or(frame.top)];
                let class = format!("c-reach c-k{}", dot.series % super::svg::SERIES);
                svg.line(&class, [at[0], ends[0]], [at[0], ends[1]]);
                let (top, bottom) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
                taken.push(Area { left: at[0] - 3.0, right: at[0] + 3.0, top, bottom });
            }
        }
        if let Some((level, name)) = &self.level {
            let level = y.at(*level).map(|at| draw_level(svg, frame, at, name, &taken));
            taken.extend(level.into_iter().flatten());
        }
        let named: Vec<(String, [f64; 2])> =
            dots.iter().filter_map(|(dot, at)| Some((shortened(dot.label.as_ref()?, LABEL_EM), *at))).collect();
        let wanted: Vec<Wanted> =
            named.iter().map(|(name, at)| Wanted { at: *at, width: em(name) * FONT, height: LABEL_HEIGHT }).collect();
        let places = place(frame, &taken, &wanted);
        let nameless = places.iter().filter(|place| place.is_none()).count();
        if nameless > 0 {
            let words = format!("no room for {nameless} of {} names", places.len());
            svg.text("c-dim", [frame.right, frame.top - 8.0], Anchor::End, &words);
        }
        for leader in places.iter().flatten().filter_map(|place| place.leader) {
            svg.line("c-leader", leader[0], leader[1]);
        }
        for (dot, at) in &dots {
            svg.mark(dot.series, *at, RADIUS, Some(&dot.about));
        }
        for ((name, at), place) in named.iter().zip(&places) {
            if let Some(Place { area, .. }) = place {
                draw_label(svg, name, *at, area);
            }
        }
    }
}

/// The side that is nearer to the dot is where the text begins, since the area is wider than most fonts need.
fn draw_label(svg: &mut Svg, name: &str, at: [f64; 2], area: &Area) {
    let base = area.bottom - 4.0;
    if area.left >= at[0] {
        svg.text("c-name", [area.left, base], Anchor::Start, name);
    } else if area.right <= at[0] {
        svg.text("c-name", [area.right, base], Anchor::End, name);
    } else {
        svg.text("c-name", [(area.left + area.right) / 2.0, base], Anchor::Middle, name);
    }
}

/// The name is above or below its line, as far right as nothing else is there; returns what it takes.
fn draw_level(svg: &mut Svg, frame: &Area, at: f64, name: &str, taken: &[Area]) -> Vec<Area> {
    svg.line("c-level", [frame.left, at], [frame.right, at]);
    let name = shortened(name, LABEL_EM);
    let width = em(&name) * FONT;
    let place = |right: f64, top: f64| Area { left: right - width, right, top, bottom: top + LABEL_HEIGHT };
    let steps = (0..).map(|i| frame.right - 12.0 * f64::from(i)).take_while(|right| right - width >= frame.left);
    let mut places = steps.flat_map(|right| [at - LABEL_HEIGHT - 2.0, at + 2.0].map(|top| place(right, top)));
    let found = places.find(|place| place.is_within(frame) && !taken.iter().any(|area| place.meets(area)));
    if let Some(place) = found {
        svg.text("c-dim", [place.right, place.bottom - 4.0], Anchor::End, &name);
    }
    let line = Area { left: frame.left, right: frame.right, top: at - 1.0, bottom: at + 1.0 };
    found.into_iter().chain([line]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::scale::tick;

    fn dot(at: [f64; 2], label: &str) -> Dot {
        Dot { at, reach: None, label: Some(label.to_owned()), about: label.to_owned(), series: 0 }
    }

    fn drawn(dots: Vec<Dot>) -> String {
        let scatter = Scatter {
            title: "size against quality".to_owned(),
            across: ("bytes".to_owned(), Kind::Linear, &tick),
            up: ("KL".to_owned(), Kind::Log, &tick),
            series: vec![(0, "passed".to_owned())],
            dots,
            trace: Vec::new(),
            level: None,
        };
        scatter.draw(480.0).alone()
    }

    #[test]
    fn every_dot_that_has_a_place_is_drawn_and_named() {
        let text = drawn(vec![dot([1e6, 0.1], "small"), dot([4e6, 1e-3], "large"), dot([2e6, f64::NAN], "placeless")]);
        // And one in the legend.
        assert_eq!(text.matches("class=\"c-dot").count(), 3);
        assert_eq!(text.matches("class=\"c-name\"").count(), 2);
        assert!(!text.contains("placeless") && !text.contains("NaN"), "{text}");
    }

    #[test]
    fn a_picture_of_nothing_has_axes_all_the_same() {
        let text = drawn(Vec::new());
        assert!(text.contains("c-zero") && !text.contains("NaN") && !text.contains("inf"), "{text}");
    }

    #[test]
    fn the_same_figures_are_the_same_bytes() {
        let dots = || vec![dot([1e6, 0.1], "small"), dot([4e6, 1e-3], "large")];
        assert_eq!(drawn(dots()), drawn(dots()));
    }
}
