//! Decoding with a cache in the interpreter against what transformers recorded.

use converters::import;
use graph::passes::run;
use graph::{Interpreter, Tensor};
use validate::runtime::Session;
use validate::runtime::reference::{Reference, caching};

use crate::fixture::{expected, feeds, fixtures, source};
use crate::import::{F32_NOISE, relative_l2};

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
        let &[steps, rows, vocabulary] = recorded["step_logits"].shape() else { panic!("[step, b, v]") };
        let recorded_steps = recorded["step_logits"].as_f32().expect("floats").chunks(rows * vocabulary);
        assert_eq!(steps, 4);
        let mut worst = [0.0f64; 2];
        for (step, recorded_step) in recorded_steps.enumerate() {
            let found = session.decode(&column(&recorded["decoder_input_ids"], step)).expect("decoded");
            let found = || found.as_f32().expect("floats").iter().copied();
            let errors = [
                relative_l2(found(), recorded_step.iter().copied()),
                relative_l2(found(), position(&whole["logits"], step).into_iter()),
            ];
            worst = [0, 1].map(|i| worst[i].max(errors[i]));
        }
        assert!(worst.iter().all(|e| *e <= F32_NOISE), "{}: {worst:?}", dir.display());
    }
}
