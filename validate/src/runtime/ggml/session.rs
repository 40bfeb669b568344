//! A GGUF artifact in `trefoil-engine`, as a session.

use converters::Artifact;
use converters::export::gguf::FILE;
use graph::{Feeds, Tensor};
use trefoil_engine as engine;

use crate::paper;
use crate::runtime::error::RuntimeError;
use crate::runtime::interface::{Options, Session};
use crate::runtime::names::GGML;
use report::Engine;
use report::figures::counted;

pub(super) struct Ggml {
    engine: engine::Engine,
    session: engine::Session,
    options: engine::Options,
    /// What was encoded last.
    source: Option<Feeds>,
}

fn failed(error: impl ToString) -> RuntimeError {
    RuntimeError::Failed { runtime: GGML, message: error.to_string() }
}

impl Ggml {
    /// Errors: what is wrong with the file, in the words of the engine.
    pub(super) fn open(artifact: &Artifact, options: &Options) -> Result<Ggml, String> {
        let exact = engine::Options {
            encoder_threads: options.threads.max(1),
            decoder_threads: Some(1),
            ..engine::Options::default()
        };
        let options = match options.as_used {
            false => exact,
            true => engine::Options {
                decoder_threads: None,
                cache: engine::Cache::F16,
                repack: engine::Repacking::Decoder,
                ..exact
            },
        };
        let engine = match paper::is_written(&artifact.dir) {
            true => engine::Engine::of_graph(paper::read(&artifact.dir)?, &options),
            false => engine::Engine::open(&artifact.dir.join(FILE), &options),
        };
        let engine = engine.map_err(|e| e.to_string())?;
        Ok(Ggml { session: engine.session(), engine, options, source: None })
    }
}

impl Session for Ggml {
    fn engine(&self) -> Engine {
        Engine {
            name: GGML.to_owned(),
            version: engine::ggml_version(),
            settings: format!(
                "CPU, {} cache, {}, {} for the encoder{} where others leave them idle",
                match self.options.cache {
                    engine::Cache::F32 => "f32",
                    engine::Cache::F16 => "f16",
                },
                match self.options.repack {
                    engine::Repacking::None => "matrices as stored",
                    engine::Repacking::Decoder => "the decoder's matrices repacked",
                    engine::Repacking::All => "matrices repacked",
                },
                counted(self.options.encoder_threads as u64, "thread"),
                match self.options.decoder_threads {
                    None => " and for a step".to_owned(),
                    Some(threads) => format!(" and {threads} for a step,"),
                },
            ),
        }
    }

    fn encode(&mut self, source: &Feeds) -> Result<(), RuntimeError> {
        if self.source.as_ref() == Some(source) {
            // The same sources again: only the targets start anew.
            self.session.restart();
            return Ok(());
        }
        self.source = None;
        self.session.encode(source).map_err(failed)?;
        self.source = Some(source.clone());
        Ok(())
    }

    fn decode(&mut self, decoder_input_ids: &Tensor) -> Result<Tensor, RuntimeError> {
        let (shape, Some(ids)) = (decoder_input_ids.shape(), decoder_input_ids.as_i64()) else {
            return Err(failed("decoder_input_ids: expected i64[b, n], found floats"));
        };
        let [rows, tokens] = *shape else {
            return Err(failed(format!("decoder_input_ids: expected i64[b, n], found {shape:?}")));
        };
        let logits = self.session.step(ids, tokens).map_err(failed)?;
        // A graph may compute them for one token of a call.
        let positions = logits.len() / (rows * self.engine.vocabulary());
        Ok(Tensor::f32([rows, positions, self.engine.vocabulary()], logits))
    }

    fn keep(&mut self, rows: &[usize]) -> Result<bool, RuntimeError> {
        // The next source is encoded whole.
        self.source = None;
        self.session.select(rows).map_err(failed)?;
        Ok(true)
    }

    fn limit_tokens(&self) -> Option<usize> {
        self.engine.limit_tokens()
    }
}

#[cfg(test)]
mod tests {
    use graph::eval::Interpreter;

    use super::*;
    use crate::paper::{Layers, Shape};
    use crate::runtime::reference::Reference;
    use metrics::Meter;

    /// The engine looks up GELU in a table of f16.
    const TABLE_NOISE: f64 = 2e-3;

    #[test]
    fn the_models_of_the_paper_say_what_their_graphs_say_with_a_prompt_in_one_call() {
        let shape = Shape { width: 32, queries: 32, keys: 16, head: 8, hidden: 40, gated: true, vocabulary: 19 };
        for layers in [Layers::EncoderDecoder([3, 2]), Layers::DecoderOnly(4)] {
            let graph = shape.graph(layers).expect("built");
            let home = tempfile::tempdir().expect("a folder");
            let artifact = paper::write(&graph, shape, layers, home.path()).expect("written");
            let mut engine = Ggml::open(&artifact, &Options::DEFAULT).expect("opens");
            let interpreter = Interpreter::new(&graph);
            let mut reference = Reference::new(&interpreter);
            let source = Feeds::from([
                ("input_ids".to_owned(), Tensor::i64([1, 5], vec![3, 7, 2, 18, 9])),
                ("attention_mask".to_owned(), Tensor::i64([1, 5], vec![1; 5])),
            ]);
            engine.encode(&source).expect("encodes");
            reference.encode(&source).expect("encodes");
            for ids in [vec![4, 11, 6, 2, 17, 1], vec![5], vec![12]] {
                let ids = Tensor::i64([1, ids.len()], ids);
                let [found, expected] =
                    [engine.decode(&ids), reference.decode(&ids)].map(|logits| logits.expect("decodes"));
                assert_eq!((found.shape(), expected.shape()), (&[1, 1, 19][..], &[1, 1, 19][..]));
                let mut meter = Meter::ZERO;
                meter.add(expected.as_f32().expect("floats"), found.as_f32().expect("floats"), 19);
                let distance = meter.distances().rel_l2.expect("finite");
                assert!(distance <= TABLE_NOISE, "{layers:?}: {distance}");
            }
        }
    }
}
