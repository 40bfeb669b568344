//! What the decoder is fed before an answer, and what an answer to it says.

use std::collections::BTreeSet;

use converters::checkpoint::{Generation, Overrides};
use serde_json::Value;
use validate::task::Text;
use validate::{Generated, Greedy};

use super::token2json::token2json;
use crate::build::source::{asking, prompted};

/// What a mark that begins a part of a form looks like; a task is one, too.
const PART: &str = "<s_";

/// The ways in which one model is asked.
pub struct Prompts<'o> {
    decoding: Generation,
    /// Tokens of an answer, if somebody says how many.
    limit: Option<usize>,
    text: &'o dyn Text,
    /// Added tokens of the model.
    marks: BTreeSet<String>,
}

impl<'o> Prompts<'o> {
    /// Of a model that decodes so where an input says nothing else.
    pub fn of(decoding: Generation, limit: Option<usize>, text: &'o dyn Text) -> Prompts<'o> {
        let marks = text.marks().into_iter().collect();
        Prompts { decoding, limit, text, marks }
    }

    /// Whether answers are the fields of a form between marks, as Donut's are.
    pub fn makes_forms(&self) -> bool {
        self.decoding.prompt_stands_alone && self.marks.iter().any(|mark| mark.starts_with(PART))
    }

    /// How an input is decoded. `prompt`: its own. Errors: it has marks that the model does not know; it says none, and the model
    /// begins with nothing that is a task.
    pub fn greedy(&self, prompt: Option<&str>) -> Result<Greedy, String> {
        let Some(prompt) = prompt else { return self.begun().map(|()| Greedy::from(&self.decoding)) };
        let asked = Overrides { max_new_tokens: self.limit, ..prompted(&asking(prompt), self.text)? };
        let decoding = self.decoding.with(&asked).map_err(|problems| problems.join("; "))?;
        Ok(Greedy::from(&decoding))
    }

    /// Errors: no task is given.
    fn begun(&self) -> Result<(), String> {
        let start = self.text.decode_whole(&[self.decoding.decoder_start_token_id]);
        let has_task = !self.decoding.decoder_input_ids.is_empty() || start.trim().starts_with(PART);
        if has_task || !self.makes_forms() {
            return Ok(());
        }
        let tasks = self.marks.iter().filter(|mark| mark.starts_with(PART)).take(5).cloned().collect::<Vec<_>>();
        let tasks = tasks.join(", ");
        Err(format!(
            "expected a prompt that names a task, found none; `--prompt` takes tokens of the model: {tasks}, …"
        ))
    }

    /// An answer as fields: without the task, which is the first mark.
    pub fn fields(&self, answer: &Generated) -> Option<Value> {
        if !self.makes_forms() {
            return None;
        }
        let is_filling = |id: &i64| *id == self.decoding.pad_token_id || self.decoding.eos_token_ids.contains(id);
        let ids: Vec<i64> = answer.prompt.iter().chain(&answer.tokens).copied().filter(|id| !is_filling(id)).collect();
        let text = self.text.decode_whole(&ids);
        Some(token2json(without_task(&text).trim(), &self.marks))
    }
}

/// Without the first `<…>`.
fn without_task(text: &str) -> String {
    let mark = text.find('<').and_then(|at| text[at..].find('>').map(|len| at..=at + len));
    match mark {
        Some(mark) => [&text[..*mark.start()], &text[mark.end() + 1..]].concat(),
        None => text.to_owned(),
    }
}
