//! What happens inside: errors by layer and role, ranges of activations, and what layers cost.

use super::figure::small;
use super::markup::Html;
use crate::artifact::ArtifactReport;
use crate::chart::{Bar, Bars, Range, Ranges};
use crate::figures::{bytes, three};
use crate::report::Report;
use crate::values::{LayerCost, ValueError};

/// Values and layers that are shown in a picture.
const SHOWN: usize = 16;

/// The section.
pub fn layers(report: &Report) -> Html {
    let mut out = Html::default();
    out.raw("<section id=\"layers\"><h2>Inside the model</h2>");
    let looked: Vec<&ArtifactReport> = report.artifacts.iter().filter(|artifact| !artifact.values.is_empty()).collect();
    if looked.is_empty() {
        out.raw("<p class=\"nothing\">Nobody looked at values between input and logits.</p>");
    } else {
        out.raw("<p class=\"lead\">Relative errors of values in the quantized graph, against the float model. A bar is the worst value of \
                 its layer or role.</p>");
    }
    for (i, artifact) in looked.into_iter().enumerate() {
        out.raw(if i == 0 { "<details open>" } else { "<details>" });
        out.within("<summary><span dir=\"auto\">", artifact.lies_in(), "</span></summary><div class=\"trio\">");
        out.add(&errors("Error by layer", &worst_by(&artifact.values, layer_of)));
        out.add(&errors("Error by role", &sorted(worst_by(&artifact.values, |value| value.role.clone()))));
        out.add(&activations(&artifact.values)).raw("</div></details>");
    }
    out.add(&costs(&report.costs)).raw("</section>");
    out
}

fn layer_of(value: &ValueError) -> String {
    match value.layer {
        Some(layer) => format!("{} {layer}", value.stack),
        None if value.stack.is_empty() => "outside".to_owned(),
        None => format!("{}, outside", value.stack),
    }
}

/// Shorter than its weight's name, and as telling.
fn named(value: &ValueError) -> String {
    if value.role.is_empty() { value.value.clone() } else { format!("{} {}", layer_of(value), value.role) }
}

/// The worst value of each group, in the order in which groups come first.
fn worst_by(values: &[ValueError], group: impl Fn(&ValueError) -> String) -> Vec<(String, &ValueError)> {
    let mut groups: Vec<(String, &ValueError)> = Vec::new();
    for value in values {
        let name = group(value);
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, worst)) if value.rel_l2 > worst.rel_l2 || worst.rel_l2.is_nan() => *worst = value,
            Some(_) => {}
            None => groups.push((name, value)),
        }
    }
    groups
}

fn sorted(mut groups: Vec<(String, &ValueError)>) -> Vec<(String, &ValueError)> {
    groups.sort_by(|(_, a), (_, b)| b.rel_l2.total_cmp(&a.rel_l2));
    groups
}

fn errors(title: &str, groups: &[(String, &ValueError)]) -> Html {
    let row = |(name, worst): &(String, &ValueError)| Bar {
        name: name.clone(),
        value: worst.rel_l2,
        figure: three(worst.rel_l2),
        about: format!("{}, {}", worst.value, worst.weight),
    };
    let bars = Bars { title: title.to_owned(), rows: groups.iter().map(row).collect() };
    small(|width| bars.draw(width))
}

/// The largest in magnitude, in the order of the computation.
fn activations(values: &[ValueError]) -> Html {
    let magnitude = |value: &ValueError| value.range[0].abs().max(value.range[1].abs());
    let mut places: Vec<usize> = (0..values.len()).collect();
    places.sort_by(|a, b| magnitude(&values[*b]).total_cmp(&magnitude(&values[*a])));
    places.truncate(SHOWN);
    places.sort_unstable();
    let row = |place: usize| {
        let value = &values[place];
        let [low, high] = value.range.map(f64::from);
        let about = format!("{}: {} to {}", value.value, three(low), three(high));
        Range { name: named(value), ends: [low, high], about }
    };
    let title = if values.len() > SHOWN { "The widest activations" } else { "Activations" };
    let ranges = Ranges { title: title.to_owned(), rows: places.into_iter().map(row).collect() };
    small(|width| ranges.draw(width))
}

fn costs(costs: &[LayerCost]) -> Html {
    let mut out = Html::default();
    out.raw("<h3>What layers cost</h3>");
    if costs.is_empty() {
        out.raw("<p class=\"nothing\">Nobody measured layers alone; <code>trefoil tune</code> does.</p>");
        return out;
    }
    out.raw(
        "<p class=\"lead\">Each weight of a layer alone in a scheme, the others exact: divergence added, in nats.</p>",
    );
    out.raw("<ul class=\"sentences\">");
    for sentence in exchanges(costs) {
        out.within("<li dir=\"auto\">", &sentence, "</li>");
    }
    out.raw("</ul><div class=\"trio\">");
    let mut schemes: Vec<&str> = Vec::new();
    costs.iter().for_each(|cost| {
        if !schemes.contains(&cost.scheme.as_str()) {
            schemes.push(&cost.scheme)
        }
    });
    for scheme in schemes {
        let mut of: Vec<&LayerCost> = costs.iter().filter(|cost| cost.scheme == scheme).collect();
        of.sort_by(|a, b| b.kl.total_cmp(&a.kl));
        let more = of.len().saturating_sub(SHOWN);
        let row = |cost: &&LayerCost| Bar {
            name: cost.layer.clone(),
            value: cost.kl,
            figure: format!("{} · {}", three(cost.kl), bytes(cost.bytes as f64)),
            about: format!("{} in {scheme}", cost.layer),
        };
        let title = if more > 0 { format!("{scheme}; {more} cheaper ones left out") } else { scheme.to_owned() };
        let bars = Bars { title, rows: of.iter().take(SHOWN).map(row).collect() };
        out.add(&small(|width| bars.draw(width)));
    }
    out.raw("</div>");
    out
}

/// For the dearest layers: what they cost where they are smallest, and what it takes to have them better.
fn exchanges(costs: &[LayerCost]) -> Vec<String> {
    let smallest = |cost: &&LayerCost| !costs.iter().any(|other| other.layer == cost.layer && other.bytes < cost.bytes);
    let mut dear: Vec<&LayerCost> = costs.iter().filter(smallest).filter(|cost| cost.kl.is_finite()).collect();
    dear.sort_by(|a, b| b.kl.total_cmp(&a.kl));
    let sentence = |cost: &&LayerCost| {
        let better = costs.iter().filter(|other| other.layer == cost.layer && other.kl < cost.kl);
        let better = better.min_by_key(|other| other.bytes)?;
        Some(format!(
            "{} costs {} nats in {}; in {} it costs {} and takes {} more.",
            cost.layer,
            three(cost.kl),
            cost.scheme,
            better.scheme,
            three(better.kl),
            bytes(better.bytes.saturating_sub(cost.bytes) as f64)
        ))
    };
    dear.iter().filter_map(sentence).take(3).collect()
}
