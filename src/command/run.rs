//! `trefoil run`: one text or clip through an artifact or a checkpoint, greedily.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use converters::checkpoint::{Files, Generation, Overrides};
use converters::import::family;
use converters::tokenizer::Languages;
use converters::{Artifact, Checkpoint, FORMATS};
use frontend::{Input, Kind};
use graph::Progress;
use serde_json::json;
use validate::runtime::reference::{Reference, caching};
use validate::{Engine, Fit, Generated, Greedy, RUNTIMES, Runtime, RuntimeError, Session};

use crate::build::error::PipelineError;
use crate::build::folder::settle_around;
use crate::build::manifest;
use crate::build::source::{Source, text_of};
use crate::command::arguments::{Common, Verdict};
use crate::command::engines::Engines;
use crate::command::inspect::{InspectError, kind, read_manifest};
use crate::recipe::load::Loaded;
use crate::recipe::yaml::nearest;
use crate::show::progress::Display;
use crate::show::terminal::{print, printable};

/// The engine of checkpoints.
const INTERPRETER: &str = "interpreter";

/// Arguments of `run`.
#[derive(clap::Args)]
pub struct Run {
    /// The folder of an artifact or of a checkpoint
    artifact: PathBuf,
    /// What to feed it: a text, or the path of a WAV for a model that recognizes speech
    text: String,
    /// One engine; `--list engines` shows all [default: the first that opens the artifact]
    #[arg(long, value_name = "NAME")]
    engine: Option<String>,
    /// Where to find the tokenizer if it is not in the artifact's folder
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,
    /// Language of the speech, as `french` or `fr` [default: the recipe's, else detected]
    #[arg(long, value_name = "NAME")]
    language: Option<String>,
    /// `transcribe`, or `translate` into English
    #[arg(long, value_name = "WORD")]
    task: Option<String>,
    /// Tokens after what the decoder is fed first [default: as the artifact or the checkpoint says]
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// The language of the text, as the model names it [default: the recipe's, or tokenizer_config.json's]
    #[arg(long, value_name = "LANG")]
    source_lang: Option<String>,
    /// The language of the answer [default: likewise]
    #[arg(long, value_name = "LANG")]
    target_lang: Option<String>,
    #[command(flatten)]
    engines: Engines,
}

impl Run {
    /// A model's own way to decode, changed by languages and then by the other arguments.
    fn decoding(&self, own: Generation, of_languages: &Overrides) -> Result<Generation, RunError> {
        let Run { language, task, max_new_tokens, .. } = self;
        let asked = Overrides {
            language: language.clone(),
            task: task.clone(),
            max_new_tokens: *max_new_tokens,
            ..Overrides::default()
        };
        own.with(of_languages).and_then(|decoding| decoding.with(&asked)).map_err(RunError::Decode)
    }
}

/// A text cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// What lies there cannot be told.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The folder has no `trefoil.json`, which says how the model decodes.
    #[error("{}: expected a {}, found none; only artifacts of trefoil have one", .0.display(), manifest::FILE)]
    NoManifest(PathBuf),
    /// No engine of this name runs such an artifact.
    #[error("no engine named {found} runs {kind}{}; expected one of {}", suggested(.found, .known), .known.join(", "))]
    NoEngine {
        /// What was asked for.
        found: String,
        /// Kind of artifact.
        kind: &'static str,
        /// Those that do.
        known: Vec<&'static str>,
    },
    /// No engine could be opened; every one says why.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Unavailable(Vec<RuntimeError>),
    /// The engine failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// Settings of decoding that do not fit the artifact.
    #[error("{}", .0.join("\n"))]
    Decode(Vec<String>),
    /// The text cannot be tokenized, or the clip not be heard.
    #[error("{0}")]
    Input(String),
    /// The system refused.
    #[error("{}: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn suggested(found: &str, known: &[&str]) -> String {
    nearest(found, known).map_or(String::new(), |word| format!("; did you mean {word}?"))
}

/// What lies in a folder, as far as it decides what is fed.
enum Subject {
    Checkpoint(Box<Source>),
    Artifact { format: &'static str, model_type: String, decoding: Box<Generation> },
}

impl Subject {
    /// With the languages of the recipe that it was made by.
    fn open(dir: &Path) -> Result<(Subject, Languages), RunError> {
        let kind = kind(dir)?;
        let manifest = read_manifest(dir)?;
        let recipe = manifest.as_ref().map(|manifest| Loaded::of_artifact(dir, &manifest.recipe.text));
        let recipe = recipe.transpose().map_err(PipelineError::from)?.map(|loaded| loaded.recipe);
        if kind == "checkpoint" {
            let mut source = Source::open(dir, &[])?;
            let Some((manifest, recipe)) = manifest.zip(recipe) else {
                return Ok((Subject::Checkpoint(Box::new(source)), Languages::default()));
            };
            // A float artifact is a checkpoint too, and decodes as its recipe says.
            source.decoding = manifest.decoding;
            return Ok((Subject::Checkpoint(Box::new(source)), recipe.languages));
        }
        if let Some((manifest, recipe)) = manifest.zip(recipe) {
            let format = FORMATS.iter().map(|f| f.name()).find(|name| *name == manifest.format).unwrap_or(kind);
            let (model_type, decoding) = (manifest.model.model_type, Box::new(manifest.decoding));
            return Ok((Subject::Artifact { format, model_type, decoding }, recipe.languages));
        }
        if kind != "gguf" {
            return Err(RunError::NoManifest(dir.to_owned()));
        }
        // The file says it all.
        let checkpoint = Checkpoint::open(dir).map_err(PipelineError::from)?;
        let model_type = checkpoint.config().model_type().unwrap_or_default().to_owned();
        let decoding = Box::new(checkpoint.generation().clone());
        Ok((Subject::Artifact { format: kind, model_type, decoding }, Languages::default()))
    }

    fn decoding(&self) -> &Generation {
        match self {
            Subject::Checkpoint(source) => &source.decoding,
            Subject::Artifact { decoding, .. } => decoding,
        }
    }

    fn front_end(&self) -> Kind {
        match self {
            Subject::Checkpoint(source) => source.exact.architecture.front_end(),
            Subject::Artifact { model_type, .. } => family(model_type).map_or(Kind::Text, |family| family.front_end()),
        }
    }
}

/// Prints what the model answers.
pub fn run(arguments: &Run, common: &Common, display: &Display) -> Result<Verdict, RunError> {
    let dir = &arguments.artifact;
    settle_around(dir);
    let (subject, of_recipe) = Subject::open(dir)?;
    let asked = Languages { source_lang: arguments.source_lang.clone(), target_lang: arguments.target_lang.clone() };
    let tokenizer = arguments.tokenizer.as_ref().unwrap_or(dir);
    let (text, of_languages) = text_of(tokenizer, &[&of_recipe, &asked]).map_err(PipelineError::from)?;
    let files = Files::open(dir).map_err(PipelineError::from)?;
    let front_end = subject.front_end().open(&files, &*text, None).map_err(PipelineError::from)?;
    let input = front_end.input(&arguments.text, Path::new(""));
    let input = input.map_err(|message| RunError::Input(format!("{}{message}", front_end.about())))?;
    let decoding = arguments.decoding(subject.decoding().clone(), &of_languages)?;
    let (engine, found) = match subject {
        Subject::Checkpoint(source) => in_interpreter(&source, arguments, &decoding, &input)?,
        Subject::Artifact { format, .. } => in_engine(format, arguments, &decoding, &input, display)?,
    };
    let output = text.decode(&found.tokens);
    let printed = match common.json {
        true => {
            let Generated { prompt, tokens, ended } = &found;
            let mut value = json!({
                "engine": engine, "input": arguments.text,
                "output": output, "prompt": prompt, "tokens": tokens, "ended": ended,
            });
            if let Some(ids) = input.ids() {
                value["input_ids"] = json!(ids);
            }
            serde_json::to_string_pretty(&value).expect("only JSON types")
        }
        false => output,
    };
    display.say(&format!("{} {}: {}", engine.name, engine.version, engine.settings));
    // Files and pipes get what the model says; a terminal nothing that it would obey.
    let printed = if io::stdout().is_terminal() { printable(&printed).into_owned() } else { printed };
    print(&(printed + "\n")).map_err(|source| RunError::Io { file: "stdout".into(), source })?;
    Ok(Verdict::Passed)
}

fn in_interpreter(
    source: &Source,
    arguments: &Run,
    decoding: &Generation,
    input: &Input,
) -> Result<(Engine, Generated), RunError> {
    if let Some(found) = arguments.engine.as_ref().filter(|name| *name != INTERPRETER) {
        return Err(RunError::NoEngine { found: found.clone(), kind: "checkpoints", known: vec![INTERPRETER] });
    }
    let interpreter = caching(&source.exact.graph);
    answered(&mut Reference::new(&interpreter), decoding, input)
}

fn in_engine(
    format: &'static str,
    arguments: &Run,
    decoding: &Generation,
    input: &Input,
    display: &Display,
) -> Result<(Engine, Generated), RunError> {
    let dir = &arguments.artifact;
    let artifact = Artifact::list(format, dir).map_err(|source| RunError::Io { file: dir.clone(), source })?;
    let fits: Vec<(&dyn Runtime, Fit)> = RUNTIMES.iter().map(|engine| (*engine, engine.fit(&artifact))).collect();
    let fitting = fits.iter().filter(|(_, fit)| *fit == Fit::Runs).map(|(engine, _)| *engine);
    let wanted: Vec<&dyn Runtime> = match &arguments.engine {
        None => fitting.collect(),
        Some(name) => match fits.iter().find(|(engine, _)| engine.name() == name) {
            Some((engine, Fit::Runs)) => vec![*engine],
            Some((engine, Fit::CannotRun(why))) => {
                return Err(RuntimeError::Failed { runtime: engine.name(), message: why.clone() }.into());
            }
            Some((_, Fit::Foreign)) | None => {
                let known = fitting.map(|engine| engine.name()).collect();
                return Err(RunError::NoEngine { found: name.clone(), kind: format, known });
            }
        },
    };
    let mut refused = Vec::new();
    for engine in wanted {
        display.say(&format!("open {} in {}", dir.display(), engine.name()));
        match engine.open(&artifact, &arguments.engines.options()) {
            Ok(mut session) => return answered(&mut *session, decoding, input),
            Err(error @ RuntimeError::Unavailable { .. }) => refused.push(error),
            Err(error) => return Err(error.into()),
        }
    }
    Err(RunError::Unavailable(refused))
}

fn answered(session: &mut dyn Session, decoding: &Generation, input: &Input) -> Result<(Engine, Generated), RunError> {
    let source = Input::batch(&[input], decoding.pad_token_id).expect("one source fits itself");
    let mut found = Greedy::from(decoding).run(session, &source)?;
    Ok((session.engine(), found.pop().expect("one sequence in, one out")))
}
