//! Arguments of `verify`.

use std::path::PathBuf;

/// Arguments of `verify`.
#[derive(clap::Args)]
pub struct Verify {
    /// Folders of artifacts, or folders that hold some: digests of all files, every tensor read again. Or a recipe: makes its
    /// artifacts again and compares
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Also derives every byte of the artifacts again, from this checkpoint
    #[arg(long, value_name = "CHECKPOINT")]
    pub rederive: Option<PathBuf>,
    /// With --rederive: the samples that calibrated the artifacts
    #[arg(long, value_name = "FILE", requires = "rederive")]
    pub data: Option<PathBuf>,
    /// Of a recipe: another checkpoint than the recipe's
    #[arg(long, value_name = "DIR", conflicts_with = "rederive")]
    pub model: Option<PathBuf>,
    /// Of a recipe: another folder with the artifacts than the recipe's
    #[arg(long, value_name = "DIR", conflicts_with = "rederive")]
    pub out: Option<PathBuf>,
    /// Of a recipe: only this artifact; may be given several times
    #[arg(long, value_name = "NAME", conflicts_with = "rederive")]
    pub only: Vec<String>,
}
