//! What the one word of a command line stands for.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use hub::{HubError, HubId};

use crate::build::error::PipelineError;
use crate::build::fetch::fetched;
use crate::recipe::load::is_on_hub;
use crate::show::progress::Display;

/// The first bytes of a GGUF file.
const GGUF: [u8; 4] = *b"GGUF";
/// What ends the name of a file, and never that of a repository which is meant.
const ENDINGS: [&str; 5] = ["yaml", "yml", "gguf", "json", "safetensors"];

/// A recipe, or a checkpoint that has none yet.
pub enum Given {
    Recipe(PathBuf),
    Checkpoint {
        /// As a recipe's `model` says it.
        named: String,
        /// Its folder or file.
        dir: PathBuf,
    },
}

impl Given {
    /// A file is a recipe, if it is no GGUF; what is no path may be a name of the hub, and then the checkpoint is brought.
    ///
    /// Errors: it is neither, which is said of both; the hub's.
    pub fn of(source: &Path, is_offline: bool, display: &Display) -> Result<Given, PipelineError> {
        let text = source.to_string_lossy().into_owned();
        if source.is_dir() || is_gguf(source) {
            return Ok(Given::Checkpoint { named: text, dir: source.to_owned() });
        }
        let ends = |ending: &&str| source.extension().is_some_and(|found| found == *ending);
        if source.exists() || !is_on_hub(source) && ENDINGS.iter().any(ends) {
            return Ok(Given::Recipe(source.to_owned()));
        }
        let Some(id) = HubId::parse(&text) else {
            let found = "it is no `org/name` or `org/name@revision` of the hub".to_owned();
            return Err(PipelineError::NoSource { named: text, found });
        };
        match fetched(&id, is_offline, display) {
            Ok(dir) => Ok(Given::Checkpoint { named: format!("{}{id}", hub::PREFIX), dir }),
            Err(PipelineError::Hub(error @ (HubError::NoRepository { .. } | HubError::NotCached { .. })))
                if !is_on_hub(source) =>
            {
                Err(PipelineError::NoSource { named: text, found: error.to_string() })
            }
            Err(error) => Err(error),
        }
    }
}

fn is_gguf(path: &Path) -> bool {
    let mut head = [0; 4];
    path.is_file() && File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok() && head == GGUF
}
