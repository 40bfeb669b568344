//! The first token at which answers part: sentences, and the two distributions there.

use serde::Serialize;

use super::markup::Html;
use crate::artifact::ArtifactReport;
use crate::escape::html::visible;
use crate::figures::{maybe, percent, three};
use crate::parting::{Parting, TensorParting, Token};

/// Tokens of a distribution that are shown.
const SHOWN: usize = 5;
/// Pixels of a bar that stands for certainty.
const BAR: f64 = 90.0;
/// Letters of a token that are shown.
const LETTERS: usize = 40;

/// A probability: pixels of its bar, and as it is written.
#[derive(Clone, Serialize, Debug)]
struct Share(u8, String);

/// A parting as it is shown, for the page and for its script.
#[derive(Clone, Serialize, Debug)]
pub struct View {
    /// What parts where.
    title: String,
    /// What there is to say.
    notes: Vec<String>,
    /// Tokens with their probabilities, expected and found.
    bars: Vec<(String, Share, Share)>,
}

impl View {
    /// Of a parting of one of the artifact's runs.
    pub fn of(artifact: &ArtifactReport, parting: &Parting) -> View {
        let run = artifact.runs.get(parting.run as usize).map_or("", |run| run.engine.name.as_str());
        let stage = match parting.stage {
            crate::check::Link::Runtime => format!("runtime, {run}"),
            other => other.to_string(),
        };
        let of = |token: &Option<Token>| {
            token.as_ref().map_or("the end".to_owned(), |token| format!("“{}”", written(token)))
        };
        let said = format!("expected {}, said {}", of(&parting.expected), of(&parting.found));
        let mut notes = Vec::new();
        if parting.kl.is_some() {
            notes.push(format!("KL there: {} nats", maybe(parting.kl)));
        }
        if parting.is_tie {
            notes.push("A tie: the two were nearer to each other than the stage's noise.".to_owned());
        }
        notes.extend(parting.tensor.as_ref().map(first_tensor));
        notes.extend(Some(visible(&parting.sentence)).filter(|sentence| !sentence.is_empty()));
        let bars = parting.candidates.iter().take(SHOWN);
        View {
            title: visible(&format!("{stage}: token {} — {said}", parting.position + 1)),
            notes,
            bars: bars.map(|c| (written(&c.token), share(c.expected), share(c.found))).collect(),
        }
    }

    /// As the script draws it too.
    pub fn html(&self) -> Html {
        let mut out = Html::default();
        out.raw("<div class=\"parting\">").within("<h4 dir=\"auto\">", &self.title, "</h4>");
        if !self.bars.is_empty() {
            out.raw("<table class=\"bars\"><thead><tr><th>token<th>expected<th>found</thead><tbody>");
            for (token, expected, found) in &self.bars {
                out.within("<tr><td><bdi>", token, "</bdi></td>");
                bar(&mut out, "<td><i class=\"was\" style=\"width:", expected);
                bar(&mut out, "<td><i class=\"is\" style=\"width:", found);
                out.raw("</tr>");
            }
            out.raw("</tbody></table>");
        }
        for note in &self.notes {
            out.within("<p>", note, "</p>");
        }
        out.raw("</div>");
        out
    }
}

fn bar(out: &mut Html, open: &'static str, Share(pixels, written): &Share) {
    out.raw(open).text(&format!("{pixels}px")).within("\"></i><span>", written, "</span></td>");
}

fn share(probability: f64) -> Share {
    // A cast of what is no number is 0.
    Share((probability.clamp(0.0, 1.0) * BAR).round() as u8, percent(probability))
}

fn written(token: &Token) -> String {
    let text: String = token.text.chars().take(LETTERS).collect();
    let text = visible(&text);
    if text.is_empty() { format!("token {}", token.id) } else { text }
}

fn first_tensor(tensor: &TensorParting) -> String {
    let weight = tensor.weight.as_ref().map_or(String::new(), |weight| format!(", made by {weight}"));
    visible(&format!(
        "First tensor off: {}{weight}; relative error {}, explained {}.",
        tensor.value,
        three(tensor.rel_l2),
        three(tensor.expected_rel_l2)
    ))
}
