//! `trefoil recipe`: what a recipe asks for, one for a checkpoint that has none, and what one may say.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use graph::Progress;

use crate::build::error::PipelineError;
use crate::build::fetch::fetch;
use crate::build::folder::free_bytes;
use crate::build::given::Given;
use crate::build::growth::{self, refused};
use crate::build::source::{Source, fed_first, text_of};
use crate::build::twin;
use crate::command::arguments::{Common, Verdict};
use crate::command::drafting::Drafting;
use crate::command::summary::{self, Sizes, Taken};
use crate::recipe::load::Loaded;
use crate::recipe::target::Target;
use crate::show::progress::Display;
use crate::show::terminal::{print, printable};

/// What the program holds beside weights: 65 MB where the bundled model is validated, 67 MB with 71 million parameters.
const BESIDE_WEIGHTS: u64 = 64 << 20;

/// `recipe check`: what becomes of every weight, and what making it takes, without writing anything.
pub fn check(path: &Path, model: Option<&Path>, common: &Common, display: &Display) -> Result<Verdict, PipelineError> {
    let mut loaded = Loaded::read(path)?;
    loaded.replace(model, None);
    fetch(&mut loaded, false, display)?;
    let recipe = &loaded.recipe;
    let (text, of_languages) = text_of(&recipe.model, &[&recipe.languages])?;
    let decode = fed_first(&recipe.model, &recipe.decode, &*text)?;
    let source = Source::open(&recipe.model, &[&of_languages, &decode])?.seeing(recipe.image);
    let (mut plans, mut taken) = (Vec::new(), Vec::new());
    for target in &recipe.artifacts {
        let (model, _) = growth::prepared(&source, target)?;
        let plan = growth::plan(target, &model.graph)?;
        plans.push((target.name(), plan));
        taken.push(taken_by(&source, target));
    }
    // Data that is not there yet is no reason to say nothing.
    let data = source.evaluation(&recipe.validate, &*text).ok();
    let logits = data.map_or(0, |data| source.logits_bytes(&data));
    let twins = if recipe.validate.speed && twin::is_small(&source) { twin::bytes(&source) } else { 0 };
    // The folder is made when it is needed.
    let disk = std::path::absolute(&recipe.out).ok();
    let free = disk.as_ref().and_then(|out| free_bytes(out.ancestors().find(|place| place.exists())?));
    let sizes = Sizes { taken, beside: logits + twins, out: &recipe.out, free };
    print(&printable(&summary::planned(&plans, &sizes, common.json)))
        .map_err(PipelineError::io(Path::new("stdout")))?;
    Ok(Verdict::Passed)
}

/// Bytes that an artifact takes while it is made and afterwards. Errors: why it cannot be made, in words.
fn taken_by(source: &Source, target: &Target) -> Result<Taken, String> {
    let need = refused(source, target).map_err(|error| error.to_string())?;
    let weights = || source.exact.graph.weights.iter().map(|(_, weight)| weight);
    let stored: u64 = weights().map(quant::report::stored_bytes).sum();
    let calibrated: u64 =
        if target.is_calibrated() { weights().map(|weight| 4 * weight.len() as u64).sum() } else { 0 };
    // The graph before the passes is computed beside the one after them; calibration keeps about as much beside its f32.
    let memory = BESIDE_WEIGHTS + 2 * calibrated.max(stored);
    Ok(Taken { artifact: need.artifact, scratch: need.scratch, memory })
}

/// Arguments of `recipe new`.
#[derive(clap::Args)]
pub struct New {
    /// A checkpoint: its folder, a GGUF file that trefoil wrote, or `org/name[@revision]` of the Hugging Face Hub
    source: PathBuf,
    #[command(flatten)]
    drafting: Drafting,
    /// Folder for the artifacts [default: build/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Writes the recipe into this file, which is not there yet, instead of printing it
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Downloads nothing
    #[arg(long)]
    offline: bool,
}

/// `recipe new`: a recipe for a checkpoint, for people to change.
pub fn new(arguments: &New, display: &Display) -> Result<Verdict, PipelineError> {
    let New { source, drafting, out, output, offline } = arguments;
    let (named, dir) = match Given::of(source, *offline, display)? {
        Given::Checkpoint { named, dir } => (named, dir),
        Given::Recipe(recipe) => {
            let found = format!("the recipe {}", recipe.display());
            return Err(PipelineError::OtherSource { argument: "recipe new", expected: "a checkpoint", found });
        }
    };
    // In another folder than this one, relative paths would be of other things.
    let stays = output.as_ref().and_then(|file| file.parent()).is_none_or(|folder| folder.as_os_str().is_empty());
    let shown = |path: &Path| match stays {
        true => path.display().to_string(),
        false => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string(),
    };
    let text = drafting.text(&named, &dir, out.as_deref(), shown)?;
    display.finish();
    match output {
        None => print(&printable(&text)).map_err(PipelineError::io(Path::new("stdout")))?,
        Some(file) => {
            let made = File::create_new(file).and_then(|mut made| made.write_all(text.as_bytes()));
            made.map_err(PipelineError::io(file))?;
            display.say(&format!("{}: `trefoil convert` takes it", file.display()));
        }
    }
    Ok(Verdict::Passed)
}
