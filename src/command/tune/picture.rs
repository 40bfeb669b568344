//! Plans as a picture: bytes against divergence.

use validate::report::chart::{Dot, Kind, Scatter, tick, tick_of_bytes};

use super::found::{Found, Whole};

const WIDTH: f64 = 860.0;
const PLAN: usize = 0;
const UNIFORM: usize = 1;
const CHOSEN: usize = 3;

/// A file of its own: a line for the predicted frontier, marks for measured plans, names beside the one that is chosen and the uniform
/// ones. The vertical axis is logarithmic; what does not diverge stands where the least does that diverges.
pub fn svg(found: &Found) -> String {
    let all = found.predicted.iter().map(|size| size.kl).chain(found.measured.iter().map(|whole| whole.kl));
    let least = all.filter(|kl| *kl > 0.0 && kl.is_finite()).fold(f64::INFINITY, f64::min);
    let least = if least.is_finite() { least } else { 1e-9 };
    let place = |bytes: u64, kl: f64| [bytes as f64, kl.max(least)];
    let dot = |(i, whole): (usize, &Whole)| {
        let is_plan = whole.label.starts_with("plan ");
        let (series, label) = match found.chosen == Some(i) {
            true => (CHOSEN, Some("chosen".to_owned())),
            false if is_plan => (PLAN, None),
            false => (UNIFORM, Some(whole.label.clone())),
        };
        let about = format!("{}: {} bytes, KL {:.2e}", whole.label, whole.bytes, whole.kl);
        Dot { at: place(whole.bytes, whole.kl), reach: None, label, about, series }
    };
    let names = [(PLAN, "plans, measured"), (UNIFORM, "uniform, measured"), (CHOSEN, "within the budget")];
    let scatter = Scatter {
        title: "Plans: size against divergence; dotted: predicted".to_owned(),
        across: ("bytes of the weights".to_owned(), Kind::Linear, &tick_of_bytes),
        up: ("KL to the float model, nats".to_owned(), Kind::Log, &tick),
        series: names.map(|(series, name)| (series, name.to_owned())).into(),
        dots: found.measured.iter().enumerate().map(dot).collect(),
        trace: found.predicted.iter().map(|size| place(size.bytes, size.kl)).collect(),
        level: None,
    };
    scatter.draw(WIDTH).alone()
}
