//! Answers side by side: the first ones in the page, all of them as data for its script.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::diff::{END, LEFT_OUT, PUT_IN, REMARK, marked, shown};
use super::markup::Html;
use super::partings::View;
use super::split::{Did, steps, summary};
use crate::artifact::{ArtifactReport, Generation};
use crate::escape::html::visible;
use crate::figures::{counted, grouped};
use crate::report::Report;

/// Answers that are there without the script.
const FIRST: usize = 50;
/// The same of those without an end.
const FIRST_ENDLESS: usize = 10;

/// An answer as it is shown.
struct Card {
    artifact: usize,
    sample: u64,
    differs: bool,
    endless: bool,
    /// Names of lines with their marked texts.
    lines: Vec<(String, String)>,
    steps: Vec<(String, Did)>,
    partings: Vec<View>,
}

/// The section.
pub fn samples(report: &Report) -> Html {
    let mut out = Html::default();
    out.raw("<section id=\"answers\"><h2>Where wrong answers come from</h2>");
    let cards = cards(report);
    if cards.is_empty() {
        out.raw(
            "<p class=\"nothing\">No answers were kept: there were no samples, or nothing decoded them.</p></section>",
        );
        return out;
    }
    let differing: Vec<&Card> = cards.iter().filter(|card| card.differs && !card.endless).collect();
    let endless: Vec<&Card> = cards.iter().filter(|card| card.endless).collect();
    out.raw("<p class=\"lead\">Conversion, quantization and engine are told apart: the quantized graph is compared with the float \
             model, each engine with the quantized graph. <ins>Put in</ins> and <del>left out</del> are against the stage before.</p>");
    out.add(&summary(report));
    out.within("<h3>Answers</h3><p id=\"count\" class=\"lead\">", &told(&cards, &differing, &endless), "</p>");
    out.raw(
        "<form id=\"find\" hidden><label>Show <select id=\"kind\"><option value=\"differing\">differing</option>\
             <option value=\"endless\">without an end</option><option value=\"all\">all</option></select></label>\
             <label>Artifact <select id=\"artifact\"><option value=\"\">all</option></select></label>\
             <label>Search <input id=\"words\" type=\"search\" autocomplete=\"off\"></label></form>",
    );
    out.raw("<div id=\"cards\">");
    for (i, card) in differing.iter().take(FIRST).enumerate() {
        out.add(&card.html(report, i == 0));
    }
    if differing.is_empty() {
        out.raw("<p class=\"nothing\">Every answer that has an end is the float model's.</p>");
    }
    out.raw("</div><nav id=\"pages\" aria-label=\"Pages of answers\" hidden><button type=\"button\" id=\"back\">Back</button>\
             <span id=\"page\" aria-live=\"polite\"></span><button type=\"button\" id=\"next\">Next</button></nav>");
    // The script shows them on demand, so that they are here for those without it alone.
    if !endless.is_empty() {
        out.raw("<div id=\"loops\"><h3>Answers without an end</h3>");
        for card in endless.iter().take(FIRST_ENDLESS) {
            out.add(&card.html(report, false));
        }
        out.raw("</div>");
    }
    out.raw("<script type=\"application/json\" id=\"data\">").json(&island(report, &cards)).raw("</script></section>");
    out
}

fn told(cards: &[Card], differing: &[&Card], endless: &[&Card]) -> String {
    format!(
        "{}: {} differ from the float model's; {} without an end are shown apart.",
        counted(cards.len() as u64, "answer"),
        grouped(differing.len() as u64),
        grouped(endless.len() as u64)
    )
}

/// Of all artifacts in turn, in the order in which each has them: those first that differ the most.
fn cards(report: &Report) -> Vec<Card> {
    let most = report.artifacts.iter().map(|artifact| artifact.generations.len()).max().unwrap_or(0);
    let at = |rank: usize| {
        let of = move |(i, artifact): (usize, &ArtifactReport)| {
            Some(card(report, i, artifact, artifact.generations.get(rank)?))
        };
        report.artifacts.iter().enumerate().filter_map(of)
    };
    (0..most).flat_map(at).collect()
}

fn card(report: &Report, place: usize, artifact: &ArtifactReport, generation: &Generation) -> Card {
    let mut lines = vec![("input".to_owned(), shown(&generation.input))];
    lines.extend(generation.target.as_ref().map(|target| ("right answer".to_owned(), shown(target))));
    lines.push(("float model".to_owned(), shown(&generation.float)));
    let quantized = generation.outputs.first().and_then(Option::as_deref);
    for (i, run) in artifact.runs.iter().enumerate() {
        let name = if i == 0 { "quantized graph".to_owned() } else { visible(&run.engine.name) };
        let (before, whose) =
            if i == 0 { (Some(generation.float.as_str()), "float model") } else { (quantized, "quantized graph") };
        let text = match (before, generation.outputs.get(i).and_then(Option::as_deref)) {
            (_, None) => format!("{REMARK}not run"),
            (Some(before), Some(found)) if before == found => format!("{REMARK}= {whose}"),
            (Some(before), Some(found)) => marked(before, found),
            (None, Some(found)) => shown(found),
        };
        lines.push((name, text));
    }
    Card {
        artifact: place,
        sample: generation.sample,
        differs: generation.differs(),
        endless: generation.endless.contains(&true),
        lines,
        steps: steps(report, artifact, generation),
        partings: generation.partings.iter().map(|parting| View::of(artifact, parting)).collect(),
    }
}

impl Card {
    /// As the script draws it too; the first has its partings open, so that one sees what there is.
    fn html(&self, report: &Report, is_open: bool) -> Html {
        let mut out = Html::default();
        out.within("<article class=\"card\"><header><b>sample ", &self.sample.to_string(), "</b>");
        out.within("<span dir=\"auto\">", report.artifacts[self.artifact].lies_in(), "</span>");
        if self.endless {
            out.raw("<span class=\"badge odd\"><i aria-hidden=\"true\">∞</i>without an end</span>");
        }
        out.raw("</header><ol class=\"steps\">");
        for (name, did) in &self.steps {
            let [class, sign, word] = did.told();
            out.raw("<li class=\"").raw(class).raw("\"><i aria-hidden=\"true\">").raw(sign).raw("</i>");
            out.within("<b>", name, "</b> ").raw(word).raw("</li>");
        }
        out.raw("</ol><dl>");
        for (name, text) in &self.lines {
            out.within("<div><dt>", name, "</dt><dd dir=\"auto\">").add(&marks(text)).raw("</dd></div>");
        }
        out.raw("</dl>");
        if !self.partings.is_empty() {
            out.raw(if is_open { "<details open=\"\">" } else { "<details>" });
            out.raw("<summary>The first token that parts</summary>");
            for parting in &self.partings {
                out.add(&parting.html());
            }
            out.raw("</details>");
        }
        out.raw("</article>");
        out
    }
}

/// Marked text as HTML.
fn marks(text: &str) -> Html {
    let mut out = Html::default();
    let mut close = "";
    let mut from = 0;
    for (at, c) in text.char_indices().filter(|(_, c)| matches!(*c, PUT_IN | LEFT_OUT | END | REMARK)) {
        out.text(&text[from..at]).raw(close);
        from = at + c.len_utf8();
        let open;
        (open, close) = match c {
            PUT_IN => ("<ins>", "</ins>"),
            LEFT_OUT => ("<del>", "</del>"),
            REMARK => ("<small>", "</small>"),
            _ => ("", ""),
        };
        out.raw(open);
    }
    out.text(&text[from..]).raw(close);
    out
}

/// Every text once.
#[derive(Default)]
struct Texts {
    places: HashMap<String, usize>,
    all: Vec<String>,
}

impl Texts {
    fn place(&mut self, text: &str) -> usize {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        self.places.insert(text.to_owned(), self.all.len());
        self.all.push(text.to_owned());
        self.all.len() - 1
    }
}

/// A card for the script: its artifact, its sample, 1 when it differs and 2 when it has no end, lines and steps as places of texts and
/// of states, partings.
#[derive(Serialize)]
struct Row(usize, u64, u8, Vec<(usize, usize)>, Vec<(usize, usize)>, Vec<View>);

fn island(report: &Report, cards: &[Card]) -> Value {
    let mut texts = Texts::default();
    let states = [Did::Same, Did::Parts, Did::Tie, Did::Unknown];
    let mut rows = Vec::with_capacity(cards.len());
    for card in cards {
        let lines = card.lines.iter().map(|(name, text)| (texts.place(name), texts.place(text))).collect();
        let place = |did: &Did| states.iter().position(|state| state == did).expect("all are listed");
        let steps = card.steps.iter().map(|(name, did)| (texts.place(&visible(name)), place(did))).collect();
        let flags = u8::from(card.differs) + 2 * u8::from(card.endless);
        rows.push(Row(card.artifact, card.sample, flags, lines, steps, card.partings.clone()));
    }
    let names: Vec<String> = report.artifacts.iter().map(|artifact| visible(artifact.lies_in())).collect();
    json!({
        "artifacts": names,
        "states": states.map(Did::told),
        "texts": texts.all,
        "cards": rows,
    })
}
