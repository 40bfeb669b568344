//! What a search is asked for.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use quant::Scheme;

/// Samples that judge a trial, unless told otherwise.
const SAMPLES: usize = 128;

/// Arguments of `tune`.
#[derive(clap::Args)]
pub struct Tune {
    /// The recipe
    pub recipe: PathBuf,
    /// Which artifact [default: the recipe's only one]
    #[arg(long, value_name = "NAME")]
    pub only: Option<String>,
    /// Most bytes of its weights, as 2900000 or 2.9MB
    #[arg(long, value_name = "BYTES", value_parser = bytes, group = "budget")]
    pub max_size: Option<u64>,
    /// Most KL divergence from the float model, in nats
    #[arg(long, value_name = "KL", group = "budget")]
    pub max_kl: Option<f64>,
    /// Most points of the task's metric lost on the calibration data
    #[arg(long, value_name = "POINTS", group = "budget")]
    pub max_drop: Option<f64>,
    /// Schemes to choose from [default: those of the format]
    #[arg(long, value_name = "SCHEME", value_delimiter = ',')]
    pub candidates: Vec<Scheme>,
    /// Calibration samples that judge a trial, from the first
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::new(SAMPLES).expect("not 0"))]
    pub samples: NonZeroUsize,
    /// Another checkpoint than the recipe's
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Where the new recipe goes [default: beside the recipe, as NAME-tuned.yaml]
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Where tune.md, tune.json and tune.svg go [default: in the recipe's `out`]
    #[arg(long, value_name = "DIR")]
    pub report_dir: Option<PathBuf>,
}

/// `2900000`, `2.9MB`, `350kB`; in powers of 1000.
fn bytes(text: &str) -> Result<u64, String> {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0), ("", 1.0)];
    let found = units.iter().find_map(|(unit, size)| Some((text.trim().strip_suffix(unit)?.trim(), size)));
    let number = found.and_then(|(number, size)| Some(number.parse::<f64>().ok()? * size));
    number
        .filter(|n| *n >= 1.0 && *n < 1e15)
        .map(|n| n as u64)
        .ok_or_else(|| "expected a size as 2900000 or 2.9MB".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_powers_of_a_thousand() {
        assert_eq!(
            [bytes("2900000"), bytes("2.9MB"), bytes("350 kB"), bytes("1GB")].map(|b| b.ok()),
            [Some(2_900_000), Some(2_900_000), Some(350_000), Some(1_000_000_000)]
        );
        assert!(["", "MB", "-3", "2 TB", "NaN", "0"].iter().all(|text| bytes(text).is_err()));
    }
}
