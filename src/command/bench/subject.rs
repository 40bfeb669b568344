//! An artifact to be measured: what it is fed.

use std::path::{Path, PathBuf};

use converters::checkpoint::Files;
use converters::export::gguf::{FILE, GgufFile, Value};
use converters::import::family;
use converters::{Artifact, Checkpoint, FORMATS, limits};
use frontend::{Draws, Kind};
use serde_json::Value as Json;
use validate::Greedy;

use super::error::BenchError;
use crate::build::manifest::Manifest;
use crate::build::there;
use crate::command::inspect::kind;

/// An artifact, of trefoil or of others.
pub struct Subject {
    pub dir: PathBuf,
    pub artifact: Artifact,
    pub draws: Draws,
    /// What decoders are fed first.
    pub prompt: Vec<i64>,
}

impl Subject {
    /// Reads what an artifact says of itself: its manifest, else the file, else its config.json.
    pub fn open(dir: &Path) -> Result<Subject, BenchError> {
        let wrong = |message: String| BenchError::Artifact { dir: dir.to_owned(), message };
        let io = |source| BenchError::Io { file: dir.to_owned(), source };
        there::folder(dir).map_err(io)?;
        let manifest = Manifest::read(dir).map_err(io)?;
        let found = kind(dir)?;
        let named = manifest.as_ref().map_or(found, |manifest| &manifest.format);
        let format = FORMATS.iter().map(|format| format.name()).find(|name| *name == named);
        let format = match format {
            Some("npu") => {
                let why = "an artifact for NPUs has no speed on this processor: its toolchain measures it on the chip";
                return Err(wrong(why.to_owned()));
            }
            Some(format) => format,
            None => return Err(wrong(format!("expected an artifact, found a {named}; `convert` makes one of it"))),
        };
        let Said { model_type, vocabulary, prompt, special } = match &manifest {
            Some(manifest) => Said::by_manifest(manifest),
            None if format == "gguf" => Said::by_file(dir).map_err(wrong)?,
            None => Said::by_config(dir).map_err(wrong)?,
        };
        let front_end = family(&model_type).map_or(Kind::Text, |family| family.front_end());
        let files = Files::open(dir).map_err(|error| wrong(error.to_string()))?;
        let draws = Draws::open(front_end, &files, vocabulary, special).map_err(wrong)?;
        let artifact = Artifact::list(format, dir).map_err(io)?;
        Ok(Subject { dir: dir.to_owned(), artifact, draws, prompt })
    }

    /// Errors: another model's sources would be other work.
    pub fn same_work(&self, other: &Subject) -> Result<(), BenchError> {
        let told =
            |subject: &Subject| format!("{} and a decoder that begins with {:?}", subject.draws.told(), subject.prompt);
        match told(self) == told(other) {
            true => Ok(()),
            false => {
                let (expected, first, found) = (told(other), other.dir.display(), told(self));
                let message = format!("expected {expected} as {first} has, found {found}; give artifacts of one model");
                Err(BenchError::Artifact { dir: self.dir.clone(), message })
            }
        }
    }
}

/// What is known of a model without its graph.
struct Said {
    model_type: String,
    vocabulary: Option<usize>,
    prompt: Vec<i64>,
    special: Vec<i64>,
}

impl Said {
    fn by_manifest(manifest: &Manifest) -> Said {
        let greedy = Greedy::from(&manifest.decoding);
        let tables = manifest.tensors.iter().filter(|tensor| tensor.role == quant::Role::Embedding);
        Said {
            model_type: manifest.model.model_type.clone(),
            vocabulary: tables.filter_map(|table| table.shape.first().copied()).min(),
            prompt: greedy.prompt(),
            special: special(&manifest.decoding),
        }
    }

    /// Of a GGUF: ours says how it decodes, one of llama.cpp's converter has a start token.
    fn by_file(dir: &Path) -> Result<Said, String> {
        let Ok(checkpoint) = Checkpoint::open(dir) else { return Said::by_foreign_file(&dir.join(FILE)) };
        let decoding = checkpoint.generation();
        Ok(Said {
            model_type: checkpoint.config().model_type().unwrap_or_default().to_owned(),
            vocabulary: vocabulary(checkpoint.config().json()),
            prompt: Greedy::from(decoding).prompt(),
            special: special(decoding),
        })
    }

    fn by_foreign_file(file: &Path) -> Result<Said, String> {
        let gguf = GgufFile::open(file).map_err(|error| error.to_string())?;
        let Some(Value::String(family)) = gguf.get("general.architecture") else {
            return Err(format!("{FILE}: expected a general.architecture, found none"));
        };
        let start = gguf.get(&format!("{family}.decoder_start_token_id"));
        let Some(Value::U32(start)) = start else {
            return Err(format!("{FILE}: expected a {family}.decoder_start_token_id, found none"));
        };
        let special = ["bos", "eos", "padding"].map(|name| gguf.get(&format!("tokenizer.ggml.{name}_token_id")));
        let id = |value: &Value| if let Value::U32(id) = value { Some(i64::from(*id)) } else { None };
        let table = gguf.tensors.iter().find(|tensor| tensor.name == "token_embd.weight");
        Ok(Said {
            model_type: family.clone(),
            vocabulary: table.and_then(|table| table.shape.first().copied()),
            prompt: vec![i64::from(*start)],
            special: special.into_iter().flatten().filter_map(id).collect(),
        })
    }

    fn by_config(dir: &Path) -> Result<Said, String> {
        let text = limits::read_text(&dir.join("config.json")).map_err(|error| format!("config.json: {error}"))?;
        let json: Json = serde_json::from_str(&text).map_err(|error| format!("config.json: {error}"))?;
        let id = |key: &str| json.get(key).and_then(Json::as_i64);
        let start = id("decoder_start_token_id").or(id("bos_token_id"));
        Ok(Said {
            model_type: json.get("model_type").and_then(Json::as_str).unwrap_or_default().to_owned(),
            vocabulary: vocabulary(&json),
            prompt: vec![start.ok_or("config.json: expected a decoder_start_token_id, found none")?],
            special: ["pad_token_id", "eos_token_id", "bos_token_id"].into_iter().filter_map(id).collect(),
        })
    }
}

fn vocabulary(config: &Json) -> Option<usize> {
    usize::try_from(config.get("vocab_size")?.as_u64()?).ok()
}

fn special(decoding: &converters::checkpoint::Generation) -> Vec<i64> {
    [&[decoding.pad_token_id, decoding.decoder_start_token_id], &decoding.eos_token_ids[..]].concat()
}
