//! Elements of a picture, and the picture in a page or alone.

use std::fmt::Write;

use super::theme::standing_alone;
use crate::escape::html::escaped;

/// Size of the letters that `style.css` sets.
pub const FONT: f64 = 12.0;
/// Colours; after the last comes the first again.
pub const SERIES: usize = 8;

/// A picture that is being drawn. Every text that it is given is escaped, every number that is none is left out.
#[derive(Clone, Debug)]
pub struct Svg {
    size: [f64; 2],
    /// What it shows, for those who do not see it.
    about: String,
    elements: String,
}

/// Which end of a text is at its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    pub(super) fn new(width: f64, height: f64, about: &str) -> Svg {
        Svg { size: [width, height], about: about.to_owned(), elements: String::new() }
    }

    pub(super) fn line(&mut self, class: &str, from: [f64; 2], to: [f64; 2]) {
        if [from, to].iter().flatten().all(|x| x.is_finite()) {
            let [[x1, y1], [x2, y2]] = [from, to].map(|point| point.map(short));
            self.element(&format!("line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\""), None);
        }
    }

    /// Straight lines through points; none when some point is no number.
    pub(super) fn path(&mut self, class: &str, points: &[[f64; 2]]) {
        if points.len() < 2 || points.iter().flatten().any(|x| !x.is_finite()) {
            return;
        }
        let points: Vec<String> = points.iter().map(|[x, y]| format!("{},{}", short(*x), short(*y))).collect();
        self.element(&format!("polyline class=\"{class}\" points=\"{}\"", points.join(" ")), None);
    }

    pub(super) fn rect(&mut self, class: &str, [x, y]: [f64; 2], [width, height]: [f64; 2], title: Option<&str>) {
        if [x, y, width, height].iter().all(|x| x.is_finite()) {
            let [x, y, width, height] = [x, y, width.max(0.0), height.max(0.0)].map(short);
            let tag = format!("rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"");
            self.element(&tag, title);
        }
    }

    pub(super) fn text(&mut self, class: &str, [x, y]: [f64; 2], anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        let (x, y) = (short(x), short(y));
        let _ = writeln!(self.elements, "<text{class} x=\"{x}\" y=\"{y}\"{anchor}>{}</text>", escaped(text));
    }

    /// A mark whose shape and colour are those of a series; half as wide as `radius` says in each direction.
    pub(super) fn mark(&mut self, series: usize, [x, y]: [f64; 2], radius: f64, title: Option<&str>) {
        if !x.is_finite() || !y.is_finite() {
            return;
        }
        let class = format!("c-dot c-f{}", series % SERIES);
        let shape = |corners: &[[f64; 2]]| {
            let mut d = String::new();
            for (i, [dx, dy]) in corners.iter().enumerate() {
                let (x, y) = (short(x + dx * radius), short(y + dy * radius));
                let _ = write!(d, "{}{x} {y}", if i == 0 { 'M' } else { 'L' });
            }
            format!("path class=\"{class}\" d=\"{d}Z\"")
        };
        let tag = match series % 5 {
            0 => {
                let [x, y, r] = [x, y, radius].map(short);
                format!("circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"{r}\"")
            }
            1 => shape(&[[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]]),
            2 => shape(&[[0.0, -1.2], [1.2, 0.0], [0.0, 1.2], [-1.2, 0.0]]),
            3 => shape(&[[0.0, -1.15], [1.1, 0.85], [-1.1, 0.85]]),
            _ => shape(&[[0.0, 1.15], [1.1, -0.85], [-1.1, -0.85]]),
        };
        self.element(&tag, title);
    }

    fn element(&mut self, tag: &str, title: Option<&str>) {
        let name = tag.split(' ').next().unwrap_or_default();
        let _ = match title {
            Some(title) => writeln!(self.elements, "<{tag}><title>{}</title></{name}>", escaped(title)),
            None => writeln!(self.elements, "<{tag}/>"),
        };
    }

    /// For a page that has [`super::STYLE`]; as wide as it was drawn, or as its place where that is narrower.
    pub fn inline(&self) -> String {
        let [width, height] = self.size.map(short);
        format!(
            "<svg class=\"chart\" role=\"img\" aria-label=\"{}\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
             {}</svg>\n",
            escaped(&self.about),
            self.elements
        )
    }

    /// A file of its own.
    pub fn alone(&self) -> String {
        let [width, height] = self.size.map(short);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" role=\"img\" aria-label=\"{}\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\">\n<style>\n{}</style>\n<rect class=\"c-sheet\" width=\"{width}\" height=\"{height}\"/>\n\
             {}</svg>\n",
            escaped(&self.about),
            standing_alone(),
            self.elements
        )
    }

    /// This picture below another.
    pub(super) fn below(mut self, other: &Svg) -> Svg {
        let ([width, height], [other_width, other_height]) = (self.size, other.size);
        let _ = writeln!(self.elements, "<g transform=\"translate(0 {})\">\n{}</g>", short(height), other.elements);
        self.size = [width.max(other_width), height + other_height];
        self
    }
}

/// A tenth of a pixel is enough.
fn short(x: f64) -> String {
    let text = format!("{x:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_wherever_they_stand_and_no_number_is_drawn_that_is_none() {
        let mut svg = Svg::new(100.0, 50.0, "<about>");
        svg.text("", [1.0, 2.0], Anchor::Middle, "a<b>&\u{202e}");
        svg.mark(1, [1.0, 2.0], 3.0, Some("</svg><script>"));
        svg.line("c-grid", [f64::NAN, 0.0], [1.0, 1.0]);
        svg.rect("c-bar", [0.0, 0.0], [f64::INFINITY, 1.0], None);
        let text = svg.alone();
        assert!(
            text.contains(">a&lt;b&gt;&amp;\\u{202e}</text>") && text.contains("&lt;/svg&gt;&lt;script&gt;"),
            "{text}"
        );
        assert!(!text.contains("NaN") && !text.contains("inf") && !text.contains("<script"), "{text}");
    }
}
