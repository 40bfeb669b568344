//! The checkpoint of a command: imported, with its passes run, and what it is measured on.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;

use converters::Model;
use converters::checkpoint::{Generation, Overrides};
use converters::tokenizer::{Languages, Tokenizer, TokenizerError};
use frontend::image::ImageSettings;
use graph::Graph;
use hub::HubId;
use validate::Greedy;
use validate::chain::{Baseline, ChainError, Subject};
use validate::metrics::normalize::Rules;
use validate::metrics::{Normalizer, Scoring};
use validate::report::{ArtifactReport, ModelReport, Note, Report};
use validate::task::{Data, Ids, Text};

use crate::build::error::PipelineError;
use crate::build::made::made;
use crate::build::manifest::Origin;
use crate::build::observed::Observed;
use crate::recipe::samples::Validation;
use crate::recipe::schema::Recipe;
use crate::recipe::target::Target;
use crate::show::progress::Display;

/// As errors call it.
const EVALUATION: &str = "the evaluation data";

/// American spellings of British words, in checkpoints of Whisper.
const SPELLINGS: &str = "normalizer.json";

/// Inputs drawn when a recipe names no data.
const DRAWN_SAMPLES: usize = 64;

/// A checkpoint as the importer wrote it and after the passes.
pub struct Source {
    imported: Graph,
    /// Of the folder or file, or on the hub.
    name: String,
    /// Exact, with all entries.
    pub exact: Model,
    /// How it decodes.
    pub decoding: Generation,
    /// What is done to images before they are fed.
    pub images: ImageSettings,
}

impl Source {
    /// Imports a checkpoint, a folder or a lone GGUF file, and runs the passes. `decode`: what takes the place of its own
    /// settings of decoding, the last of them counting.
    pub fn open(dir: &Path, decode: &[&Overrides]) -> Result<Source, PipelineError> {
        let mut exact = if dir.is_file() { converters::import_gguf(dir)? } else { converters::import(dir)? };
        let own = exact.checkpoint.generation().clone();
        let decoding = decode.iter().try_fold(own, |decoding, overrides| decoding.with(overrides));
        let decoding = decoding.map_err(|problems| PipelineError::Decode { dir: dir.to_owned(), problems })?;
        let imported = exact.graph.clone();
        graph::passes::run(&mut exact.graph)?;
        Ok(Source { imported, name: name(dir), exact, decoding, images: ImageSettings::default() })
    }

    /// With what a recipe does to images.
    pub fn seeing(self, images: ImageSettings) -> Source {
        Source { images, ..self }
    }

    /// The first samples of a file, all without a number.
    pub(crate) fn load(
        &self,
        file: &Path,
        samples: Option<NonZeroUsize>,
        text: &dyn Text,
    ) -> Result<Data, PipelineError> {
        let eos = self.decoding.eos_token_ids.first().copied();
        let front_end =
            self.exact.architecture.front_end().open(self.exact.checkpoint.files(), text, eos, self.images)?;
        let fed: Vec<i64> = Greedy::from(&self.decoding).prompt();
        let is_fed = |prompt: &str| match prompted(&asking(prompt), text).map(|asked| self.decoding.with(&asked)) {
            Ok(Ok(asked)) if Greedy::from(&asked).prompt() == fed => Ok(()),
            Ok(Ok(_)) => {
                Err("expected the prompt of `decode` in the recipe, with which all samples are decoded".to_owned())
            }
            Ok(Err(problems)) => Err(problems.join("; ")),
            Err(problem) => Err(problem),
        };
        Ok(Data::load_prompted(file, samples.map_or(usize::MAX, NonZeroUsize::get), &*front_end, &is_fed)?)
    }

    /// Watches the model decode, when one of the targets asks for it.
    pub fn observed(
        &self,
        recipe: &Recipe,
        targets: &[&Target],
        origin: &Origin,
        text: &dyn Text,
        scratch_dir: &Path,
        display: &Display,
    ) -> Result<Option<Observed>, PipelineError> {
        let is_asked = targets.iter().any(|target| target.is_watched()) && recipe.is_calibrated();
        let Some(wanted) = recipe.calibrate.as_ref().filter(|_| is_asked) else {
            return Ok(None);
        };
        let data = self.load(&wanted.data, wanted.samples, text)?;
        Observed::new(&self.exact.graph, origin, &self.decoding, wanted, data, scratch_dir, display).map(Some)
    }

    /// What artifacts are measured on. Errors: data that the model cannot be fed.
    pub fn evaluation(&self, wanted: &Validation, text: &dyn Text) -> Result<Data, PipelineError> {
        let data = match &wanted.data {
            Some(file) => self.load(file, wanted.samples, text)?,
            None => {
                let count = wanted.samples.map_or(DRAWN_SAMPLES, NonZeroUsize::get);
                Data::drawn(count, &self.exact.graph, &self.decoding).map_err(ChainError::Data)?
            }
        };
        validate::chain::too_long(&self.exact.graph, &Greedy::from(&self.decoding), &data, EVALUATION)?;
        Ok(data)
    }

    /// Puts texts by rules; British spellings by the checkpoint's `normalizer.json`, where it has one.
    ///
    /// Errors: that file is no table of words.
    pub fn normalizer(&self, rules: Rules) -> Result<Normalizer, PipelineError> {
        match rules {
            Rules::None | Rules::WhisperBasic => Ok(Normalizer::new(rules)),
            Rules::WhisperEnglish => {
                let spellings: Option<BTreeMap<String, String>> = self.exact.checkpoint.files().json(SPELLINGS)?;
                Ok(Normalizer::english(spellings.unwrap_or_default()))
            }
        }
    }

    /// Bytes of logits that validation keeps at a time, at most.
    pub fn logits_bytes(&self, data: &Data) -> u64 {
        validate::chain::logits_bytes(&self.exact.graph, &Greedy::from(&self.decoding), data)
    }

    /// Runs the float model on the data.
    pub fn baseline<'a>(
        &'a self,
        scoring: Scoring,
        data: Data,
        text: &'a dyn Text,
        recorded: &'a Path,
        display: &Display,
    ) -> Result<Baseline<'a>, PipelineError> {
        let greedy = Greedy::from(&self.decoding);
        let subject = Subject { imported: &self.imported, exact: &self.exact, recorded, data, text, greedy, scoring };
        Ok(Baseline::measure(subject, display)?)
    }

    /// The name of the checkpoint's folder or file, or the one that it has on the hub.
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// What was found of all artifacts.
    pub fn report(
        &self,
        origin: Origin,
        observed: Option<&Observed>,
        baseline: &Baseline,
        artifacts: Vec<ArtifactReport>,
        recipe: Note,
    ) -> Report {
        let model = ModelReport {
            name: self.name(),
            model_type: origin.model_type,
            parameters: self.exact.graph.weights.iter().map(|(_, weight)| weight.len() as u64).sum(),
            reference: origin.reference,
            logit_scale: origin.logit_scale,
            decoding: self.decoding.to_string(),
            assumes: self.exact.architecture.assumes().iter().map(|assumed| (*assumed).to_owned()).collect(),
            inputs: origin.inputs,
            score: baseline.score(),
        };
        Report {
            trefoil: env!("CARGO_PKG_VERSION").to_owned(),
            recipe,
            model,
            data: baseline.data_report(),
            calibration: observed.map(Observed::report),
            checks: baseline.checks.clone(),
            artifacts,
            others: Vec::new(),
            costs: Vec::new(),
            columns: Vec::new(),
            made: made(),
        }
    }
}

/// What a checkpoint is called. On the hub its name comes behind that of whoever keeps it; a folder there is called by a commit.
pub fn name(model: &Path) -> String {
    if let Some(id) = HubId::of_cache(model) {
        return id.name.rsplit('/').next().unwrap_or_default().to_owned();
    }
    let path = model.canonicalize().unwrap_or_else(|_| model.to_owned());
    let name = if path.is_file() { path.file_stem() } else { path.file_name() };
    name.map_or(String::new(), |name| name.to_string_lossy().into_owned())
}

/// Settings of decoding with their prompt as ids. Errors: it has marks that the model does not know.
pub fn fed_first(dir: &Path, decode: &Overrides, text: &dyn Text) -> Result<Overrides, PipelineError> {
    prompted(decode, text).map_err(|problem| PipelineError::Decode { dir: dir.to_owned(), problems: vec![problem] })
}

/// A prompt alone.
pub fn asking(prompt: &str) -> Overrides {
    Overrides { prompt: Some(prompt.to_owned()), ..Overrides::default() }
}

/// The same. Errors: in words.
pub fn prompted(decode: &Overrides, text: &dyn Text) -> Result<Overrides, String> {
    let Some(prompt) = &decode.prompt else { return Ok(decode.clone()) };
    let ids = text.prompt(prompt).map_err(|why| format!("prompt: {why}"))?;
    let ids: Option<Vec<u32>> = ids.into_iter().map(|id| u32::try_from(id).ok()).collect();
    let ids = ids.ok_or_else(|| format!("prompt: expected token ids, found {prompt}"))?;
    Ok(Overrides { decoder_input_ids: Some(ids), ..decode.clone() })
}

/// The tokenizer in a folder, with these languages, the last of each counting, and what the last ones mean for decoding.
/// Without a tokenizer, texts are token ids, which have no language.
pub fn text_of(dir: &Path, languages: &[&Languages]) -> Result<(Box<dyn Text>, Overrides), TokenizerError> {
    let mut tokenizer = match Tokenizer::open(dir) {
        Ok(tokenizer) => tokenizer,
        Err(TokenizerError::Missing { .. }) if languages.iter().all(|asked| **asked == Languages::default()) => {
            return Ok((Box::new(Ids), Overrides::default()));
        }
        Err(error) => return Err(error),
    };
    let mut decoding = Overrides::default();
    for asked in languages {
        tokenizer = tokenizer.with_languages(asked)?;
        decoding = tokenizer.decoding(asked);
    }
    Ok((Box::new(tokenizer), decoding))
}
