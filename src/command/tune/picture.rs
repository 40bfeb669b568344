//! Plans as a picture: bytes against divergence.

use super::found::Found;
use crate::show::table::size;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 460.0;
/// Left, top, right, bottom.
const MARGIN: [f64; 4] = [80.0, 20.0, 220.0, 50.0];

/// SVG 1.1 without scripts or fonts of its own: a line for the predicted frontier, dots for measured plans, names beside the
/// others. The vertical axis is logarithmic.
pub fn svg(found: &Found) -> String {
    let dots = || found.measured.iter().map(|w| (w.bytes as f64, w.kl));
    let all: Vec<(f64, f64)> = found.predicted.iter().map(|p| (p.bytes as f64, p.kl)).chain(dots()).collect();
    let floor = all.iter().map(|p| p.1).filter(|kl| *kl > 0.0 && kl.is_finite()).fold(f64::INFINITY, f64::min);
    let floor = if floor.is_finite() { floor } else { 1e-9 };
    let log = |kl: f64| kl.clamp(floor, 1e9).log10();
    let range = |values: Vec<f64>| {
        let (low, high) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        let room = ((high - low) * 0.05).max(1e-6);
        (low - room, high + room)
    };
    let (left, right) = range(all.iter().map(|p| p.0).collect());
    let (low, high) = range(all.iter().map(|p| log(p.1)).collect());
    let [ml, mt, mr, mb] = MARGIN;
    let x = |bytes: f64| ml + (bytes - left) / (right - left) * (WIDTH - ml - mr);
    let y = |kl: f64| mt + (high - log(kl)) / (high - low) * (HEIGHT - mt - mb);

    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    for decade in low.ceil() as i32..=high.floor() as i32 {
        let at = y(10f64.powi(decade));
        out.push_str(&format!(
            "<line x1=\"{ml}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">1e{decade}</text>\n",
            WIDTH - mr,
            ml - 6.0,
            at + 4.0
        ));
    }
    for tick in 0..=4 {
        let bytes = left + (right - left) * f64::from(tick) / 4.0;
        out.push_str(&format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
            x(bytes),
            HEIGHT - mb + 18.0,
            size(bytes.max(0.0) as u64)
        ));
    }
    out.push_str(&format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">bytes of the weights</text>\n\
         <text transform=\"translate(16 {:.1}) rotate(-90)\" text-anchor=\"middle\">KL to the float model, nats</text>\n",
        (ml + WIDTH - mr) / 2.0,
        HEIGHT - 8.0,
        (mt + HEIGHT - mb) / 2.0
    ));
    let line: Vec<String> =
        found.predicted.iter().map(|p| format!("{:.1},{:.1}", x(p.bytes as f64), y(p.kl))).collect();
    out.push_str(&format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#888\" stroke-dasharray=\"4 3\"/>\n",
        line.join(" ")
    ));
    for (i, whole) in found.measured.iter().enumerate() {
        let is_plan = whole.label.starts_with("plan ");
        let is_chosen = found.chosen == Some(i);
        let colour = if is_chosen {
            "#c22"
        } else if is_plan {
            "#26a"
        } else {
            "#e80"
        };
        let (at_x, at_y) = (x(whole.bytes as f64), y(whole.kl));
        let radius = if is_chosen { 6 } else { 4 };
        out.push_str(&format!(
            "<circle cx=\"{at_x:.1}\" cy=\"{at_y:.1}\" r=\"{radius}\" fill=\"{colour}\"><title>{}: {} bytes, KL {:.2e}</title>\
             </circle>\n",
            whole.label, whole.bytes, whole.kl
        ));
        if !is_plan || is_chosen {
            let words = if is_chosen { "chosen" } else { &whole.label };
            out.push_str(&format!("<text x=\"{:.1}\" y=\"{:.1}\">{words}</text>\n", at_x + 8.0, at_y + 4.0));
        }
    }
    let legend = [("#26a", "plans, measured"), ("#e80", "uniform, measured"), ("#c22", "within the budget")];
    for (i, (colour, words)) in legend.iter().enumerate() {
        let at = mt + 14.0 * (i as f64 + 1.0);
        let left = WIDTH - mr + 60.0;
        out.push_str(&format!(
            "<circle cx=\"{left:.1}\" cy=\"{at:.1}\" r=\"4\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.1}\">{words}</text>\n",
            left + 8.0,
            at + 4.0
        ));
    }
    out.push_str("</svg>\n");
    out
}
