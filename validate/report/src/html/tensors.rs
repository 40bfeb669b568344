//! The worst tensors, with their numbers before and after.

use super::figure::small;
use super::markup::Html;
use crate::artifact::{TensorRow, worst};
use crate::chart::{Codes, Weights};
use crate::figures::{ABSENT, bytes, counted, fixed, grouped, three};
use crate::report::Report;

/// Tensors shown of each artifact.
const SHOWN: usize = 8;

/// The section.
pub fn tensors(report: &Report) -> Html {
    let mut out = Html::default();
    out.raw("<section id=\"tensors\"><h2>Worst tensors</h2>");
    let held: Vec<_> = report.artifacts.iter().filter(|artifact| !artifact.tensors.is_empty()).collect();
    if held.is_empty() {
        out.raw("<p class=\"nothing\">No tensor was looked at.</p></section>");
        return out;
    }
    out.raw("<p class=\"lead\">By relative error against the checkpoint. Bars: what is stored; line: the checkpoint; heights are \
             logarithms of counts.</p>");
    for (i, artifact) in held.into_iter().enumerate() {
        let (shown, all) = (worst(&artifact.tensors, SHOWN), artifact.tensors.len());
        out.raw(if i == 0 { "<details open>" } else { "<details>" });
        out.within("<summary><span dir=\"auto\">", artifact.lies_in(), "</span>");
        out.within("<small>", &counted(all as u64, "tensor"), "</small></summary>");
        if shown.is_empty() {
            out.raw("<p class=\"nothing\">All of them are exact.</p></details>");
            continue;
        }
        out.raw("<div class=\"trio\">");
        for tensor in shown {
            out.add(&card(tensor));
        }
        out.raw("</div></details>");
    }
    out.raw("</section>");
    out
}

fn card(tensor: &TensorRow) -> Html {
    let mut out = Html::default();
    let shape: Vec<String> = tensor.shape.iter().map(|n| grouped(*n as u64)).collect();
    out.within("<article class=\"tensor\"><h4><code>", &tensor.name, "</code></h4><dl class=\"pairs\">");
    let decibels = |db: Option<f64>| db.map_or(ABSENT.to_owned(), |db| format!("{} dB", fixed(db, 1)));
    let mut pair = |name: &'static str, value: &str| {
        if !value.is_empty() {
            out.raw("<div><dt>").raw(name).within("</dt><dd>", value, "</dd></div>");
        }
    };
    pair("relative error", &three(tensor.rel_l2));
    pair("SQNR", &decibels(tensor.sqnr_db));
    pair("largest error", &three(tensor.max_abs_error));
    pair("stored as", &tensor.type_name);
    pair("shape", &shape.join(" × "));
    pair("size", &format!("{}, {} bits a weight", bytes(tensor.bytes as f64), fixed(tensor.bits_per_weight, 2)));
    pair("role", &tensor.role);
    pair("method", &tensor.method);
    if tensor.output_sqnr_db.is_some() {
        let nearest = decibels(tensor.nearest_output_sqnr_db);
        pair("outputs", &format!("{}; nearest codes {nearest}", decibels(tensor.output_sqnr_db)));
    }
    out.raw("</dl>");
    if let Some(histogram) = &tensor.histogram {
        let weights = Weights {
            title: "weights, exact and stored".to_owned(),
            range: histogram.range,
            exact: &histogram.exact,
            stored: &histogram.stored,
        };
        out.add(&small(|width| weights.draw(width)));
        if !histogram.codes.is_empty() {
            let codes = Codes { title: "codes in use".to_owned(), counts: &histogram.codes };
            out.add(&small(|width| codes.draw(width)));
        }
    }
    for note in &tensor.notes {
        out.within("<p class=\"note\">", note, "</p>");
    }
    out.raw("</article>");
    out
}
