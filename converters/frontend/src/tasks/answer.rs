//! Places in an image, out of the text of an answer: `<loc_0>` to `<loc_999>` are thousandths of its width and of its height in turn.

use serde_json::{Value, json};

/// What answers hold, by the words of `tasks_answer_post_processing_type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// Text.
    Text,
    /// Texts, each before the corners of a quadrangle.
    Quads,
    /// Words, each before boxes.
    Described,
    /// The same, or polygons.
    DescribedOrPolygons,
    /// The same, of a caption.
    Grounded,
    /// Boxes.
    Boxes,
    /// Outlines.
    Polygons,
}

const WORDS: [(&str, Answer); 8] = [
    ("pure_text", Answer::Text),
    ("ocr", Answer::Quads),
    ("description_with_bboxes", Answer::Described),
    ("description_with_bboxes_or_polygons", Answer::DescribedOrPolygons),
    ("phrase_grounding", Answer::Grounded),
    ("bboxes", Answer::Boxes),
    ("polygons", Answer::Polygons),
    ("description_with_polygons", Answer::Polygons),
];

/// Thousandths.
const BINS: f64 = 1000.0;
/// Tokens of a box, and of a quadrangle.
const BOX: usize = 4;
const QUAD: usize = 8;

impl Answer {
    pub(crate) fn called(word: &str) -> Option<Answer> {
        WORDS.iter().find(|(known, _)| *known == word).map(|(_, answer)| *answer)
    }

    /// The words of all.
    pub(crate) fn known() -> String {
        WORDS.map(|(word, _)| word).join(", ")
    }

    /// What a text says. `size`: width and height; `banned`: phrases without a place. Errors: it has polygons.
    pub(crate) fn read(self, text: &str, size: [usize; 2], banned: &[String]) -> Result<Value, String> {
        let plain = ["<s>", "</s>", "<pad>"].iter().fold(text.to_owned(), |text, token| text.replace(token, ""));
        let labelled = |found: Vec<(String, Vec<i64>)>, places: &str| {
            let (labels, boxes): (Vec<String>, Vec<Vec<i64>>) = found.into_iter().unzip();
            json!({ places: boxes, "labels": labels })
        };
        Ok(match self {
            Answer::Text => json!(text.replace("<s>", "").replace("</s>", "").trim()),
            Answer::Quads => labelled(quads(&plain, size), "quad_boxes"),
            Answer::Described => labelled(described(&plain, size), "bboxes"),
            Answer::Grounded => {
                let found = described(&plain, size).into_iter();
                labelled(found.filter(|(phrase, _)| !banned.contains(phrase)).collect(), "bboxes")
            }
            Answer::Boxes => labelled(boxes(&plain, size), "bboxes"),
            Answer::DescribedOrPolygons if !text.contains("<poly>") => {
                let (labels, boxes): (Vec<String>, Vec<Vec<i64>>) = described(&plain, size).into_iter().unzip();
                json!({ "bboxes": boxes, "bboxes_labels": labels, "polygons": [], "polygons_labels": [] })
            }
            Answer::DescribedOrPolygons | Answer::Polygons => {
                return Err("the answer has polygons, which are not read".to_owned());
            }
        })
    }
}

/// The numbers of tokens of places at the beginning of a text, and how long these are.
fn places(text: &str) -> (Vec<u64>, usize) {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some((number, after)) = rest.strip_prefix("<loc_").and_then(|rest| rest.split_once('>')) {
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let Some(number) = number.parse().ok().filter(|_| is_number) else { break };
        found.push(number);
        rest = after;
    }
    (found, text.len() - rest.len())
}

/// The middle of each place, x and y in turn, cut to whole pixels; in f32, as torch computes it.
fn pixels(places: &[u64], size: [usize; 2]) -> Vec<i64> {
    let step = size.map(|n| (n as f64 / BINS) as f32);
    places.iter().enumerate().map(|(i, place)| ((*place as f32 + 0.5) * step[i % 2]) as i64).collect()
}

/// Runs of text without `<`, each right before at least four places, and these.
fn phrases(text: &str) -> Vec<(&str, Vec<u64>)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let run = text[at..].find('<').unwrap_or(text.len() - at);
        let (numbers, length) = places(&text[at + run..]);
        if run > 0 && numbers.len() >= BOX {
            found.push((&text[at..at + run], numbers));
            at += run + length;
        } else {
            // What stands behind a bracket may be a phrase too.
            at += run.max(1);
        }
    }
    found
}

/// A phrase for each of its boxes.
fn described(text: &str, size: [usize; 2]) -> Vec<(String, Vec<i64>)> {
    let mut found = Vec::new();
    for (phrase, places) in phrases(text) {
        // No phrase goes over lines.
        if phrase.trim_start().contains('\n') {
            continue;
        }
        let words: String = phrase.trim().chars().filter(char::is_ascii).collect();
        found.extend(places.chunks_exact(BOX).map(|places| (words.clone(), pixels(places, size))));
    }
    found
}

/// Boxes of which nothing is said.
fn boxes(text: &str, size: [usize; 2]) -> Vec<(String, Vec<i64>)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(next) = text[at..].find("<loc_") {
        let (numbers, length) = places(&text[at + next..]);
        if numbers.len() >= BOX {
            found.extend(numbers.chunks_exact(BOX).map(|places| (String::new(), pixels(places, size))));
        }
        at += next + length.max(1);
    }
    found
}

/// Texts, each before eight places.
fn quads(text: &str, size: [usize; 2]) -> Vec<(String, Vec<i64>)> {
    let (mut found, mut begin, mut at) = (Vec::new(), 0, 0);
    while let Some(next) = text.get(at..).and_then(|rest| rest.find("<loc_")) {
        let place = at + next;
        let (numbers, _) = places(&text[place..]);
        // No text goes over lines.
        begin = text[begin..place].rfind('\n').map_or(begin, |line| begin + line + 1);
        if numbers.len() >= QUAD && begin < place {
            found.push((text[begin..place].trim().to_owned(), pixels(&numbers[..QUAD], size)));
            begin = place + length_of(&text[place..], QUAD);
            at = begin + 1;
        } else {
            at = place + 1;
        }
        while at < text.len() && !text.is_char_boundary(at) {
            at += 1;
        }
    }
    found
}

/// How long so many places at the beginning of a text are.
fn length_of(text: &str, count: usize) -> usize {
    text.match_indices('>').nth(count - 1).map_or(text.len(), |(at, _)| at + 1)
}
