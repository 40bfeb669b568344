//! Greedy decoding of one source: `host MODEL.gguf START END ID...`, with the tokens that start and end a target.

use std::process::ExitCode;

use trefoil_engine::{Engine, EngineError, Options};

const MOST_TOKENS: usize = 64;

fn decode(file: &str, start: i64, end: i64, source: &[i64]) -> Result<Vec<i64>, EngineError> {
    let engine = Engine::open(file.as_ref(), &Options::default())?;
    let mut session = engine.session();
    session.encode_tokens(&[source])?;
    let (mut next, mut target) = (start, Vec::new());
    while target.len() < MOST_TOKENS {
        let logits = session.step(&[next], 1)?;
        let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap_or(0);
        next = best as i64;
        if next == end {
            break;
        }
        target.push(next);
    }
    Ok(target)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ids: Option<Vec<i64>> = arguments.iter().skip(1).map(|id| id.parse().ok()).collect();
    let (Some(file), Some([start, end, source @ ..])) = (arguments.first(), ids.as_deref()) else {
        eprintln!("usage: host MODEL.gguf START END ID...");
        return ExitCode::from(2);
    };
    match decode(file, *start, *end, source) {
        Ok(target) => {
            println!("{}", target.iter().map(i64::to_string).collect::<Vec<_>>().join(" "));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
