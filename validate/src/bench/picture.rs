//! Figures over lengths as a picture.

use metrics::Spread;

const WIDTH: f64 = 900.0;
const PANEL_HEIGHT: f64 = 260.0;
/// Left, top, right, bottom of a panel.
const MARGIN: [f64; 4] = [70.0, 34.0, 300.0, 40.0];
const COLOURS: [&str; 8] = ["#26a", "#e80", "#2a5", "#c22", "#84c", "#a63", "#0aa", "#777"];

/// One figure of several engines.
pub struct Panel {
    /// What is shown, with its unit.
    pub title: String,
    /// What the horizontal axis is.
    pub across: String,
    /// One for each engine and artifact; colours are by place, so that panels agree.
    pub lines: Vec<Line>,
}

/// A figure at several lengths.
pub struct Line {
    /// For the legend.
    pub name: String,
    /// By length.
    pub points: Vec<(f64, Spread)>,
}

/// SVG 1.1 without scripts or fonts of its own, a panel below the other: medians as dots on a line, quartiles as bars. Both axes
/// are logarithmic.
pub fn svg(panels: &[Panel]) -> String {
    let height = PANEL_HEIGHT * panels.len().max(1) as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (at, panel) in panels.iter().enumerate() {
        draw(&mut out, panel, PANEL_HEIGHT * at as f64);
    }
    out.push_str("</svg>\n");
    out
}

fn draw(out: &mut String, panel: &Panel, top: f64) {
    let [ml, mt, mr, mb] = MARGIN;
    let points = || panel.lines.iter().flat_map(|line| line.points.iter().filter(|(_, spread)| spread.low > 0.0));
    let (left, right) = range(points().map(|(x, _)| x.log2()));
    let (low, high) = range(points().flat_map(|(_, spread)| [spread.low.log2(), spread.high.log2()]));
    let x = |value: f64| ml + (value.log2() - left) / (right - left) * (WIDTH - ml - mr);
    let y = |value: f64| top + mt + (high - value.log2()) / (high - low) * (PANEL_HEIGHT - mt - mb);
    let (bottom, edge) = (top + PANEL_HEIGHT - mb, WIDTH - mr);
    out.push_str(&format!(
        "<text x=\"{ml}\" y=\"{:.1}\" font-size=\"13\">{}</text>\n",
        top + 20.0,
        escaped(&panel.title)
    ));
    for tick in ticks(low, high) {
        let at = y(tick);
        out.push_str(&format!(
            "<line x1=\"{ml}\" x2=\"{edge:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>\n",
            ml - 6.0,
            at + 4.0
        ));
    }
    let mut lengths: Vec<f64> = points().map(|(x, _)| *x).collect();
    lengths.sort_by(f64::total_cmp);
    lengths.dedup();
    for length in lengths {
        out.push_str(&format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{length}</text>\n",
            x(length),
            bottom + 14.0
        ));
    }
    out.push_str(&format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
        (ml + edge) / 2.0,
        bottom + 30.0,
        escaped(&panel.across)
    ));
    for (place, line) in panel.lines.iter().enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        let points: Vec<&(f64, Spread)> = line.points.iter().filter(|(_, spread)| spread.low > 0.0).collect();
        let path: Vec<String> = points.iter().map(|(at, s)| format!("{:.1},{:.1}", x(*at), y(s.median))).collect();
        out.push_str(&format!("<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\"/>\n", path.join(" ")));
        for (at, spread) in points {
            out.push_str(&format!(
                "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{1:.1}\" y2=\"{2:.1}\" stroke=\"{colour}\" stroke-width=\"2\"/>\
                 <circle cx=\"{0:.1}\" cy=\"{3:.1}\" r=\"3.5\" fill=\"{colour}\"><title>{4}: {5:.4}</title></circle>\n",
                x(*at),
                y(spread.low),
                y(spread.high),
                y(spread.median),
                escaped(&line.name),
                spread.median
            ));
        }
        let at = top + mt + 15.0 * place as f64;
        out.push_str(&format!(
            "<circle cx=\"{:.1}\" cy=\"{at:.1}\" r=\"4\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
            edge + 16.0,
            edge + 26.0,
            at + 4.0,
            escaped(&line.name)
        ));
    }
}

/// The range of some logarithms with a little room; of none, that of 1.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if low > high {
        return (-1.0, 1.0);
    }
    let room = ((high - low) * 0.06).max(0.1);
    (low - room, high + room)
}

/// 1, 2 and 5 times powers of ten between two binary logarithms.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = (low.exp2().log10().floor() as i32)..=(high.exp2().log10().ceil() as i32);
    let all = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(decade)));
    all.filter(|tick| (low..=high).contains(&tick.log2())).collect()
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
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
    fn a_picture_is_well_formed_whatever_an_artifact_is_called_and_however_little_there_is() {
        for (name, values) in [
            ("a<b>&\"c\"", &[(32.0, 10.0), (512.0, 200.0)][..]),
            ("one", &[(1.0, 1.0)]),
            ("none", &[]),
            ("zero", &[(1.0, 0.0)]),
        ] {
            let text = svg(&[panel(name, values)]);
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
            assert!(!text.contains("<b>"), "{text}");
            assert_eq!(text.matches("<svg").count(), text.matches("</svg>").count());
        }
        assert_eq!(svg(&[panel("x", &[(32.0, 10.0), (512.0, 200.0)])]).matches("<circle").count(), 3);
    }

    #[test]
    fn more_is_higher_and_longer_is_further_right() {
        let text = svg(&[panel("x", &[(32.0, 10.0), (512.0, 200.0)])]);
        let at = text.split("points=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a line");
        let numbers: Vec<f64> = at.split([' ', ',']).map(|n| n.parse().expect("a number")).collect();
        assert!(numbers[0] < numbers[2] && numbers[1] > numbers[3], "{numbers:?}");
    }
}
