//! Decoding with a cache in the interpreter against what transformers recorded: step by step, and greedily.

use std::collections::BTreeMap;
use std::path::Path;

use converters::checkpoint::Overrides;
use converters::import;
use graph::passes::run;
use graph::{Feeds, Interpreter, Tensor};
use validate::Greedy;
use validate::runtime::Session;
use validate::runtime::reference::{Reference, caching};

use crate::fixture::{expected, feeds, fixture, fixtures, lcg, source};
use crate::import::{F32_NOISE, relative_l2};

/// Recorded steps: DECODE_STEPS of recording.py.
const STEPS: usize = 4;
/// Tokens after the prompt in the recordings: MAX_NEW_TOKENS of recording.py.
const MAX_NEW_TOKENS: usize = 12;

/// Column `at` of i64[b, n].
fn column(ids: &Tensor, at: usize) -> Tensor {
    let rows: Vec<i64> = ids.as_i64().expect("ids").chunks(ids.shape()[1]).map(|row| row[at]).collect();
    Tensor::i64([rows.len(), 1], rows)
}

/// Position `at` of f32[b, n, v].
fn position(logits: &Tensor, at: usize) -> Vec<f32> {
    let &[_, n, v] = logits.shape() else { panic!("[b, n, v]") };
    logits.as_f32().expect("floats").chunks(n * v).flat_map(|row| row[at * v..][..v].to_vec()).collect()
}

#[test]
fn four_cached_steps_are_the_whole_pass_and_what_transformers_recorded() {
    for dir in fixtures() {
        let (recorded, _) = expected(&dir);
        let mut model = import(&dir).unwrap_or_else(|e| panic!("{e}"));
        run(&mut model.graph).expect("passes");
        let whole = Interpreter::new(&model.graph).call("full", &feeds(&recorded)).expect("evaluates");
        let interpreter = caching(&model.graph);
        let mut session = Reference::new(&interpreter);
        session.encode(&source(&recorded)).expect("encoded");
        let &[rows, _, vocabulary] = recorded["logits"].shape() else { panic!("[b, n, v]") };
        let mut worst = [0.0f64; 2];
        for step in 0..STEPS {
            let found = session.decode(&column(&recorded["decoder_input_ids"], step)).expect("decoded");
            let found = || found.as_f32().expect("floats").iter().copied();
            worst[0] = worst[0].max(relative_l2(found(), position(&whole["logits"], step).into_iter()));
            // Mu's recordings hold none.
            if let Some(recorded) = recorded.get("step_logits") {
                assert_eq!(recorded.shape(), [STEPS, rows, vocabulary], "{}", dir.display());
                let size = rows * vocabulary;
                let recorded = &recorded.as_f32().expect("floats")[step * size..][..size];
                worst[1] = worst[1].max(relative_l2(found(), recorded.iter().copied()));
            }
        }
        assert!(worst.iter().all(|e| *e <= F32_NOISE), "{}: {worst:?}", dir.display());
    }
}

/// The sources of the recorded prompts: ids as they are, floats made from their seeds (`Floats` in recording.py).
fn prompts(recorded: &BTreeMap<String, Tensor>) -> Feeds {
    let named = |pairs: Vec<(&str, Tensor)>| pairs.into_iter().map(|(name, t)| (name.to_owned(), t)).collect();
    let read = |name: &str| recorded.get(name).cloned();
    let texts: Vec<_> = [("input_ids", read("prompt_ids")), ("attention_mask", read("prompt_mask"))]
        .into_iter()
        .filter_map(|(name, tensor)| Some((name, tensor?)))
        .collect();
    let Some(seeds) = recorded.get("prompt_seed") else { return named(texts) };
    let name = ["input_features", "input_values", "pixel_values"].into_iter().find(|name| recorded.contains_key(*name));
    let name = name.expect("floats were recorded");
    let row = &recorded[name].shape()[1..];
    let last = *row.last().expect("of rank 2 or more");
    let seeds = seeds.as_i64().expect("integers");
    let lengths = recorded.get("prompt_length").map(|lengths| lengths.as_i64().expect("integers"));
    let length = |i: usize| lengths.map_or(last, |lengths| lengths[i] as usize);
    let mut values = Vec::new();
    for (i, seed) in seeds.iter().enumerate() {
        let made = lcg(*seed, row.iter().product()).into_iter().enumerate();
        values.extend(made.map(|(at, x)| if at % last < length(i) { x } else { 0.0 }));
    }
    let values = Tensor::f32([&[seeds.len()], row].concat(), values);
    let mask = (0..seeds.len()).flat_map(|i| (0..last).map(move |at| i64::from(at < length(i))));
    match lengths {
        None => named([texts, vec![(name, values)]].concat()),
        Some(_) => {
            let mask = Tensor::i64([seeds.len(), last], mask.collect());
            named(vec![(name, values), ("attention_mask", mask)])
        }
    }
}

/// Rows of which greedy decoding says other tokens than were recorded.
fn differing(dir: &Path, source: &Feeds, recorded: &Tensor) -> Vec<usize> {
    let mut model = import(dir).unwrap_or_else(|e| panic!("{e}"));
    run(&mut model.graph).expect("passes");
    let greedy = Greedy::from(model.checkpoint.generation()).at_most(MAX_NEW_TOKENS);
    let interpreter = caching(&model.graph);
    let found = greedy.run(&mut Reference::new(&interpreter), source).expect("decoded");
    let width = recorded.shape()[1];
    let rows = recorded.as_i64().expect("ids").chunks(width);
    assert_eq!(rows.len(), found.len());
    let pad = greedy.settings.pad_token_id;
    let same = |found: &validate::Generated, row: &[i64]| {
        let mut said = [&found.prompt[..], &found.tokens].concat();
        said.resize(width, pad);
        said == row
    };
    found.iter().zip(rows).enumerate().filter(|(_, (found, row))| !same(found, row)).map(|(i, _)| i).collect()
}

#[test]
fn a_prompt_of_several_tokens_is_fed_as_generate_feeds_it() {
    let mut fed = Vec::new();
    for name in ["donut", "nougat", "trocr-vit"] {
        let dir = fixture(name);
        let (recorded, _) = expected(&dir);
        let mut model = import(&dir).unwrap_or_else(|e| panic!("{e}"));
        run(&mut model.graph).expect("passes");
        let interpreter = caching(&model.graph);
        let source = Feeds::from([("pixel_values".to_owned(), recorded["given_pixels"].clone())]);
        for number in 0..4 {
            let [prompt, greedy] = ["prompt", "greedy"].map(|of| &recorded[&format!("given_{of}_{number}")]);
            let ids = prompt.as_i64().expect("ids").iter().map(|id| *id as u32).collect();
            let asked = Overrides { decoder_input_ids: Some(ids), ..Overrides::default() };
            let settings = model.checkpoint.generation().with(&asked).expect("fits");
            let width = greedy.shape()[1];
            fed.push(settings.decoder_input_ids.len() - prompt.len());
            let found = Greedy::from(&settings).at_most(MAX_NEW_TOKENS).run(&mut Reference::new(&interpreter), &source);
            for (found, row) in found.expect("decoded").iter().zip(greedy.as_i64().expect("ids").chunks(width)) {
                let mut said = [&found.prompt[..], &found.tokens].concat();
                said.resize(width, settings.pad_token_id);
                assert_eq!(said, row, "{name}, prompt {number}");
            }
        }
    }
    // The start token comes first but in a Donut, and where it is there.
    assert_eq!(fed, [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0]);
}

#[test]
fn greedy_tokens_are_those_of_generate_with_all_that_the_generation_config_asks_for() {
    let mut with_prompts = 0;
    for dir in fixtures() {
        let (recorded, _) = expected(&dir);
        let place = dir.display();
        assert_eq!(differing(&dir, &source(&recorded), &recorded["greedy"]), [0; 0], "{place}: greedy");
        let Some(greedy) = recorded.get("prompt_greedy") else { continue };
        assert_eq!(greedy.shape()[0], 50, "{place}");
        assert_eq!(differing(&dir, &prompts(&recorded), greedy), [0; 0], "{place}: prompts");
        with_prompts += 1;
    }
    println!("{with_prompts} fixtures with 50 prompts each");
    assert!(with_prompts >= 15, "{with_prompts}");
}
