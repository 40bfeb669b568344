//! `trefoil run`: texts, clips or images through an artifact or a checkpoint, greedily.

mod answerer;
mod arguments;
mod error;
mod prompts;
mod questions;
mod subject;
mod token2json;

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use converters::checkpoint::Files;
use converters::tokenizer::{Languages, Tokenizer, TokenizerError};
use frontend::{Asked, FrontEnd, Input};
use serde_json::{Value, json};
use validate::runtime::reference::caching;
use validate::task::Text;
use validate::{Engine, Generated, Greedy};

use crate::build::error::PipelineError;
use crate::build::folder::settle_around;
use crate::build::source::text_of;
use crate::build::there;
use crate::command::arguments::{Common, Verdict};
use crate::show::progress::Display;
use crate::show::terminal::{is_read, print, printable};
use answerer::Answerer;
use prompts::Prompts;
use questions::{Question, Questions};
use subject::Subject;

pub use arguments::Run;
pub use error::RunError;

/// Prints what the model answers: of one input as it is, of several a line each.
pub fn run(arguments: &Run, common: &Common, display: &Display) -> Result<Verdict, RunError> {
    let dir = &arguments.artifact;
    there::folder(dir).map_err(RunError::io(dir))?;
    settle_around(dir);
    let (subject, of_recipe, images) = Subject::open(dir)?;
    let asked = Languages { source_lang: arguments.source_lang.clone(), target_lang: arguments.target_lang.clone() };
    let tokenizer = arguments.tokenizer.as_ref().unwrap_or(dir);
    let (text, of_languages) = text_of(tokenizer, &[&of_recipe, &asked]).map_err(PipelineError::from)?;
    let files = Files::open(dir).map_err(PipelineError::from)?;
    let front_end = subject.front_end().open(&files, &*text, None, images).map_err(PipelineError::from)?;
    // The same is asked of all: of the encoder, or of the decoder by its way to decode.
    let (asked_of_all, fed) = match front_end.reads_prompts() {
        true => (arguments.prompt.as_deref(), None),
        false => (None, arguments.prompt.as_deref()),
    };
    let decoding = arguments.decoding(subject.decoding().clone(), &of_languages, fed, &*text)?;
    let prompts = Prompts::of(decoding, arguments.max_new_tokens, &*text);
    let interpreter;
    let answerer = match &subject {
        Subject::Checkpoint(source) => {
            interpreter = caching(&source.exact.graph);
            Answerer::of_checkpoint(&interpreter, arguments, display)?
        }
        Subject::Artifact { format, .. } => Answerer::of_artifact(format, arguments, display)?,
    };
    let hint = match Tokenizer::open(tokenizer) {
        Err(TokenizerError::Missing { dir }) => format!(
            "\nhint: {} has no tokenizer, so that texts are token ids; --tokenizer names the folder of one",
            dir.display()
        ),
        _ => String::new(),
    };
    let (front_end, text, as_json) = (&*front_end, &*text, common.json);
    let mut conversation = Conversation { answerer, front_end, text, prompts, as_json, hint, asked: 0, broken: 0 };
    match arguments.only() {
        Some(said) => conversation.one(Asked { said, prompt: asked_of_all })?,
        None => conversation
            .all(Questions::of(arguments, asked_of_all.map(str::to_owned), display)?, arguments.batch.get())?,
    }
    let Conversation { answerer, hint, asked, broken, .. } = conversation;
    if asked > 0 && broken == asked {
        return Err(RunError::Nothing { asked, hint });
    }
    let is_missing = arguments.engines.strict && !answerer.missing.is_empty();
    if is_missing {
        answerer.missing.iter().for_each(|missing| complain(&missing.to_string()));
    }
    Ok(if broken > 0 || is_missing { Verdict::Failed } else { Verdict::Passed })
}

/// A line on stderr, which `--quiet` does not keep back. A closed one leaves no place to say so.
fn complain(sentence: &str) {
    let _ = writeln!(io::stderr(), "{}", printable(sentence));
}

/// A model and what it is asked.
struct Conversation<'o> {
    answerer: Answerer<'o>,
    front_end: &'o dyn FrontEnd,
    text: &'o dyn Text,
    prompts: Prompts<'o>,
    as_json: bool,
    /// Of inputs that cannot be read, a line of its own.
    hint: String,
    /// Inputs that were asked, of several.
    asked: usize,
    /// Those that could not be answered.
    broken: usize,
}

/// An input and what became of it.
struct Answered {
    number: usize,
    said: String,
    prompt: Option<String>,
    found: Found,
}

/// The place of an input among those that are asked, how it is decoded, and what is fed.
type Fed = (usize, Greedy, Input);

enum Found {
    /// The line is empty.
    Nothing,
    /// As [`Conversation::object`] has it.
    Answer(Value),
    /// Why there is no answer.
    Refused(String),
}

impl Conversation<'_> {
    /// Answers the only input; what is wrong with it is an error.
    fn one(&mut self, asked: Asked<'_>) -> Result<(), RunError> {
        let dir = Path::new("");
        let (asked, greedy) = self.asked(asked.said, asked.prompt).map_err(RunError::Input)?;
        let input = self.front_end.input(asked, dir);
        let about = self.front_end.about();
        let input = input.map_err(|message| RunError::Input(format!("{about}{message}{}", self.hint)))?;
        let found = self.answerer.say(&greedy, &[&input])?.pop().expect("one sequence in, one out");
        let answer = self.object(asked, dir, &input, found?).map_err(RunError::Input)?;
        let printed = match self.as_json {
            true => serde_json::to_string_pretty(&answer).expect("only JSON types"),
            false => output(&answer).into_owned(),
        };
        print(&(shown(&printed) + "\n")).map_err(RunError::io(Path::new("stdout")))
    }

    /// Answers all inputs in their order, `batch` at a time, until nobody reads the answers.
    fn all(&mut self, mut questions: Questions, batch: usize) -> Result<(), RunError> {
        let dir = questions.dir.clone();
        loop {
            let next = questions.by_ref().take(batch).collect::<Result<Vec<Question>, _>>()?;
            if next.is_empty() {
                return Ok(());
            }
            for answered in self.answered(next, &dir)? {
                if !self.tell(&answered).map_err(RunError::io(Path::new("stdout")))? {
                    return Ok(());
                }
            }
        }
    }

    /// Where a prompt goes: to the encoder where that reads one, else to the decoder, which is fed it first. Errors: in words.
    fn asked<'a>(&self, said: &'a str, prompt: Option<&'a str>) -> Result<(Asked<'a>, Greedy), String> {
        match self.front_end.reads_prompts() {
            true => Ok((Asked { said, prompt }, self.prompts.greedy(None)?)),
            false => Ok((said.into(), self.prompts.greedy(prompt)?)),
        }
    }

    /// Feeds those that can be fed, side by side as far as they fit.
    fn answered(&mut self, questions: Vec<Question>, dir: &Path) -> Result<Vec<Answered>, RunError> {
        let (mut fed, mut answers): (Vec<Fed>, _) = (Vec::new(), Vec::new());
        for Question { number, said, prompt } in questions {
            let input = said.as_ref().map_err(String::clone).and_then(|said| match said.is_empty() {
                true => Ok(None),
                false => {
                    let (asked, greedy) = self.asked(said, prompt.as_deref())?;
                    self.front_end.input(asked, dir).map(|input| Some((greedy, input)))
                }
            });
            let found = match input {
                Ok(input) => {
                    fed.extend(input.map(|(greedy, input)| (answers.len(), greedy, input)));
                    Found::Nothing
                }
                Err(message) => Found::Refused(message),
            };
            answers.push(Answered { number, said: said.unwrap_or_default(), prompt, found });
        }
        let is_beside = |(_, greedy, one): &Fed, (_, other, next): &Fed| greedy == other && one.fits_beside(next);
        for group in fed.chunk_by(is_beside) {
            let inputs: Vec<&Input> = group.iter().map(|(.., input)| input).collect();
            for ((at, _, input), found) in group.iter().zip(self.answerer.say(&group[0].1, &inputs)?) {
                let answer = &mut answers[*at];
                let asked = Asked { said: &answer.said, prompt: answer.prompt.as_deref() };
                let found = found.map_err(|error| error.to_string());
                answer.found = match found.and_then(|found| self.object(asked, dir, input, found)) {
                    Ok(found) => Found::Answer(found),
                    Err(why) => Found::Refused(why),
                };
            }
        }
        Ok(answers)
    }

    /// Prints a line; with `--json` none for an empty one. Returns whether anybody reads.
    fn tell(&mut self, answered: &Answered) -> io::Result<bool> {
        let Answered { number, said, found, .. } = answered;
        self.asked += usize::from(!matches!(found, Found::Nothing));
        self.broken += usize::from(matches!(found, Found::Refused(_)));
        let line = match (found, self.as_json) {
            (Found::Nothing, true) => return Ok(true),
            (Found::Nothing, false) => String::new(),
            (Found::Answer(answer), true) => {
                let mut object = json!({ "number": number });
                object.as_object_mut().expect("made above").extend(answer.as_object().cloned().unwrap_or_default());
                object.to_string()
            }
            // One answer is one line.
            (Found::Answer(answer), false) => output(answer).replace('\n', "\\n"),
            (Found::Refused(message), true) => {
                json!({ "number": number, "input": said, "error": { "message": message } }).to_string()
            }
            (Found::Refused(message), false) => {
                complain(&format!("input {number}: {message}"));
                String::new()
            }
        };
        is_read(&(shown(&line) + "\n"))
    }

    /// An answer as programs read it. Errors: it says what cannot be read, in words.
    fn object(
        &self,
        asked: Asked<'_>,
        dir: &Path,
        input: &Input,
        (engine, generated): (Engine, Generated),
    ) -> Result<Value, String> {
        let fields = self.prompts.fields(&generated);
        let Generated { prompt, tokens, ended } = generated;
        let output = self.text.decode(&tokens);
        let mut value = json!({
            "engine": engine, "input": asked.said,
            "output": output, "prompt": prompt, "tokens": tokens, "ended": ended,
        });
        if let Some(ids) = input.ids() {
            value["input_ids"] = json!(ids);
        }
        if let Some(told) = self.front_end.told(asked, dir, &tokens)? {
            value["told"] = told;
        }
        if let Some(fields) = fields {
            value["fields"] = fields;
        }
        Ok(value)
    }
}

/// What a person reads of an answer: its text, the places that it says, or its fields where it is a form.
fn output(answer: &Value) -> Cow<'_, str> {
    let mut told = answer["told"].as_object().into_iter().flat_map(|told| told.values());
    match told.next().or(answer.get("fields")) {
        Some(Value::String(text)) => text.into(),
        Some(parts) => parts.to_string().into(),
        None => answer["output"].as_str().unwrap_or_default().into(),
    }
}

/// Files and pipes get what the model says; a terminal nothing that it would obey.
fn shown(text: &str) -> String {
    if io::stdout().is_terminal() { printable(text).into_owned() } else { text.to_owned() }
}
