//! What a build is asked for.

use std::path::PathBuf;
use std::str::FromStr;

use crate::command::engines::Engines;
use crate::show::table::bytes;

/// Arguments of `build`.
#[derive(clap::Args)]
pub struct Build {
    /// The recipes
    #[arg(required = true)]
    pub recipes: Vec<PathBuf>,
    /// Makes the i-th of n parts of the artifacts, as 1/3, into the cache alone
    #[arg(long, value_name = "I/N", conflicts_with = "join")]
    pub shard: Option<Shard>,
    /// Makes nothing: puts what shards made into its places, with the reports
    #[arg(long)]
    pub join: bool,
    /// Changes nothing where anything is not as NAME.lock beside the recipe says
    #[arg(long)]
    pub locked: bool,
    /// Makes the artifacts without testing them, and no report
    #[arg(long)]
    pub no_validate: bool,
    /// Does not time the artifacts in their engines
    #[arg(long)]
    pub no_bench: bool,
    /// The folder that keeps what runs made [default: $TREFOIL_CACHE, else that of the user]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Most bytes of artifacts there, as 20GB; those that nobody asked for the longest go first
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub cache_size: Option<u64>,
    #[command(flatten)]
    pub engines: Engines,
}

/// Which part of the artifacts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shard {
    /// From 1.
    number: usize,
    of: usize,
}

impl Shard {
    /// Whether it has the artifact at a place among those of all recipes, from 0. They go round, so that those of one recipe, which
    /// take about as long as each other, are dealt out evenly.
    pub fn has(self, place: usize) -> bool {
        place % self.of == self.number - 1
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let parts = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match parts {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Shard { number, of }),
            _ => Err("expected a part as 1/3, from 1/3 to 3/3".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_numbered_from_one_and_have_every_artifact_once() {
        for text in ["0/2", "3/2", "1/0", "1", "a/2", "1/2/3", "-1/2", ""] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
        for of in 1..6 {
            let all: Vec<Shard> = (1..=of).map(|i| format!("{i}/{of}").parse().expect("a part")).collect();
            for place in 0..12 {
                assert_eq!(all.iter().filter(|shard| shard.has(place)).count(), 1, "{place} of {of}");
            }
        }
    }
}
