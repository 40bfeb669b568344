//! Arguments for a checkpoint that has no recipe, and the recipe that they stand for.

use std::path::{Path, PathBuf};

use graph::Progress;
use quant::Scheme;

use crate::build::draft::{drafted, has_targets};
use crate::build::error::PipelineError;
use crate::build::given::Given;
use crate::build::source::{Source, name};
use crate::recipe::draft::Wish;
use crate::recipe::load::Loaded;
use crate::recipe::purpose::{Purpose, purpose_of, words};
use crate::show::progress::Display;

/// What a recipe would say.
#[derive(clap::Args)]
pub struct Drafting {
    /// What the artifacts are for, several with commas: onnxruntime, optimum, transformers.js, npu, llama.cpp, ggml,
    /// transformers, or an NPU profile [default: onnxruntime,ggml,transformers]
    #[arg(long = "for", value_name = "WHAT", value_delimiter = ',', value_parser = purpose)]
    purposes: Vec<Purpose>,
    /// What weights become, as `--list schemes` names it; in a GGUF the blocks of as many bits [default: 8 bits]
    #[arg(long, value_name = "SCHEME")]
    scheme: Option<Scheme>,
    /// Samples that judge the artifacts, lines `{"input": …, "target": …}` or plain text; they calibrate too where steps of
    /// activations are needed and no others are given
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Other samples, on which codes (by GPTQ) and steps are chosen
    #[arg(long, value_name = "FILE")]
    calibrate: Option<PathBuf>,
}

fn purpose(word: &str) -> Result<Purpose, String> {
    purpose_of(word).ok_or_else(|| format!("expected one of {}", words().join(", ")))
}

impl Drafting {
    /// The first argument that only a checkpoint without a recipe takes.
    pub fn given(&self) -> Option<&'static str> {
        let all = [
            ("--for", !self.purposes.is_empty()),
            ("--scheme", self.scheme.is_some()),
            ("--data", self.data.is_some()),
            ("--calibrate", self.calibrate.is_some()),
        ];
        all.into_iter().find(|(_, is_given)| *is_given).map(|(name, _)| name)
    }

    /// The recipe's text for a checkpoint. `named`: as the recipe's `model` says it; `shown`: a path as the recipe says it.
    pub fn text(
        &self,
        named: &str,
        dir: &Path,
        out: Option<&Path>,
        shown: impl Fn(&Path) -> String,
    ) -> Result<String, PipelineError> {
        let data = self.data.as_ref().map(|file| Ok::<_, PipelineError>((shown(file), has_targets(file)?)));
        let out = out.map_or_else(|| Path::new("build").join(name(dir)), Path::to_owned);
        let wish = Wish {
            model: if named.starts_with(hub::PREFIX) { named.to_owned() } else { shown(Path::new(named)) },
            out: shown(&out),
            scheme: self.scheme,
            data: data.transpose()?,
            calibration: self.calibrate.as_ref().map(|file| shown(file)),
        };
        drafted(&Source::open(dir, &[])?, &wish, &self.purposes)
    }

    /// A recipe with the name of its file: one that was written, or the one that a checkpoint stands for, which is shown. `model`,
    /// `out`: from the command line.
    pub fn loaded(
        &self,
        source: &Path,
        [model, out]: [Option<&Path>; 2],
        is_offline: bool,
        display: &Display,
    ) -> Result<(Loaded, PathBuf), PipelineError> {
        match Given::of(source, is_offline, display)? {
            Given::Recipe(file) => match self.given() {
                Some(argument) => {
                    let found = format!("the recipe {}, which says this itself", file.display());
                    Err(PipelineError::OtherSource { argument, expected: "a checkpoint", found })
                }
                None => Ok((Loaded::read(&file)?, file)),
            },
            Given::Checkpoint { named, .. } if model.is_some() => {
                let found = format!("the checkpoint {named}");
                Err(PipelineError::OtherSource { argument: "--model", expected: "a recipe", found })
            }
            Given::Checkpoint { named, dir } => {
                let text = self.text(&named, &dir, out, |path| path.display().to_string())?;
                display.say(&format!("the recipe of {}:\n", source.display()));
                text.lines().for_each(|line| display.say(&format!("    {line}")));
                display.say("");
                let file = PathBuf::from(format!("{}.yaml", name(&dir)));
                let mut loaded = Loaded::of_draft(&file, text)?;
                loaded.recipe.model = dir;
                Ok((loaded, file))
            }
        }
    }
}
