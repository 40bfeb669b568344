//! The sizes of a family's model, from its config.json alone.

use std::fmt;
use std::path::{Path, PathBuf};

use converters::{ImportError, import_config};
use graph::ir::port::LOGITS;
use graph::{Binary, Dim, Entry, Graph, Op, PortRole, ValueId};

use super::Shape;

/// What a config.json says of a model, read off the graph that its family builds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// The family's word.
    pub model_type: String,
    /// For blocks of Mu's kind.
    pub shape: Shape,
    /// Layers of the encoder and of the decoder.
    pub depths: [usize; 2],
    /// Of the family's own graph.
    pub parameters: u64,
}

/// A config that gives no sizes.
#[derive(Debug, thiserror::Error)]
pub enum SizesError {
    /// Its family refuses it.
    #[error("{0}")]
    Import(#[from] Box<ImportError>),
    /// The model cannot be compared.
    #[error("{}: expected {expected}, found {found}; {todo}", .file.display())]
    Unfit {
        /// The config.
        file: PathBuf,
        /// What a [`Shape`] can say.
        expected: &'static str,
        /// What the config says.
        found: String,
        /// For the user.
        todo: &'static str,
    },
}

/// Sizes of one stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stack {
    queries: usize,
    keys: usize,
    head: usize,
    width: usize,
    hidden: usize,
    gated: bool,
}

impl Sizes {
    /// Reads a config.json of any family, under any name.
    ///
    /// Errors: the file, its family's refusal, a model that hears sound, or one of sizes that differ between its stacks.
    pub fn of_config(file: &Path) -> Result<Sizes, SizesError> {
        let unfit = |expected, found, todo| SizesError::Unfit { file: file.to_owned(), expected, found, todo };
        let mut model = import_config(file).map_err(Box::new)?;
        let model_type = model.checkpoint.config().model_type().unwrap_or_default().to_owned();
        if let Err(does) = model.architecture.front_end().reads_text() {
            let found = format!("{model_type}, whose encoder {does}");
            return Err(unfit("an encoder-decoder of text", found, "give the config.json of one that reads tokens"));
        }
        let parameters = model.graph.weights.iter().map(|(_, weight)| weight.len() as u64).sum();
        graph::passes::run(&mut model.graph)
            .map_err(|error| unfit("a graph that splits", error.to_string(), "give another config.json"))?;
        let graph = &model.graph;
        let [encoder, step] = ["encoder", "decoder_with_past"].map(|name| graph.entry(name));
        let (Some(encoder), Some(step)) = (encoder, step) else {
            return Err(unfit("an encoder and a decoder", "one stack".to_owned(), "give another config.json"));
        };
        let stacks = [encoder, step].map(|entry| Stack::of(graph, entry));
        let shown = |stack: &Option<Stack>| stack.map_or("none".to_owned(), |stack| stack.to_string());
        let shown = format!("{} in the encoder and {} in the decoder", shown(&stacks[0]), shown(&stacks[1]));
        let (&[Some(stack), Some(other)], Some(vocabulary)) = (&stacks, last(graph, step, LOGITS)) else {
            return Err(unfit("attention and a feed-forward layer in both stacks", shown, "give another config.json"));
        };
        if stack != other {
            return Err(unfit("stacks of the same sizes", shown, "give the config.json of such a model"));
        }
        let Stack { queries, keys, head, width, hidden, gated } = stack;
        let attentions = graph.order(encoder).into_iter().filter(|id| is_attention(graph, *id)).count();
        let caches = step.inputs.iter().filter(|port| matches!(port.role(), PortRole::Past(_))).count();
        let shape = Shape { width, queries, keys, head, hidden, gated, vocabulary };
        Ok(Sizes { model_type, shape, depths: [attentions, caches / 2], parameters })
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stack { queries, keys, head, width, hidden, gated } = self;
        let [queries, keys] = [queries, keys].map(|wide| wide / head.max(&1));
        let gate = if *gated { " with a gate" } else { "" };
        write!(f, "width {width}, {queries} query and {keys} key heads of {head}, {hidden} inside{gate}")
    }
}

impl Stack {
    /// Of the first attention and the first feed-forward layer.
    fn of(graph: &Graph, entry: &Entry) -> Option<Stack> {
        let order = graph.order(entry);
        let attention = order.iter().find(|id| is_attention(graph, **id))?;
        let [q, k, ..] = graph.args(*attention) else { return None };
        let (queries, keys, head) = (length(graph, *q, 1)?, length(graph, *k, 1)?, length(graph, *q, 3)?);
        let (down, gated) = order.iter().find_map(|id| Some((*id, gate_before(graph, *id)?)))?;
        let (width, hidden) = (length(graph, down, 2)?, length(graph, *graph.args(down).first()?, 2)?);
        Some(Stack { queries: queries * head, keys: keys * head, head, width, hidden, gated })
    }
}

fn is_attention(graph: &Graph, id: ValueId) -> bool {
    matches!(graph.op(id), Some(Op::Attention { .. }))
}

fn length(graph: &Graph, id: ValueId, axis: usize) -> Option<usize> {
    graph.value(id).ty.shape.get(axis)?.literal()
}

fn last(graph: &Graph, entry: &Entry, output: &str) -> Option<usize> {
    graph.value(entry.output(output)?).ty.shape.last().and_then(Dim::literal)
}

/// Whether the activation before the second matrix of a feed-forward layer has a factor; `None` for other values.
fn gate_before(graph: &Graph, id: ValueId) -> Option<bool> {
    let of_linear = |id: &ValueId| match (graph.op(*id), graph.args(*id)) {
        (Some(Op::Unary(_)), [x]) => matches!(graph.op(*x), Some(Op::Linear)),
        _ => false,
    };
    let (Some(Op::Linear), [x, ..]) = (graph.op(id), graph.args(id)) else { return None };
    match (graph.op(*x), graph.args(*x)) {
        (Some(Op::Unary(_)), _) if of_linear(x) => Some(false),
        (Some(Op::Binary(Binary::Mul)), factors) if factors.iter().any(of_linear) => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::Value as Json;

    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name).join("config.json")
    }

    fn json(name: &str) -> Json {
        serde_json::from_slice(&fs::read(fixture(name)).expect("a fixture")).expect("JSON")
    }

    /// Of a config under another name than the usual one.
    fn sizes(json: &Json) -> Result<Sizes, SizesError> {
        let home = tempfile::tempdir().expect("a folder");
        let file = home.path().join("any.json");
        fs::write(&file, json.to_string()).expect("written");
        Sizes::of_config(&file)
    }

    #[test]
    fn sizes_are_those_of_the_config_in_the_families_of_t5() {
        for name in ["t5-v1.0", "t5-v1.1", "mt5", "byt5", "umt5"] {
            let json = json(name);
            let of = |key: &str| json[key].as_u64().unwrap_or_else(|| panic!("{key} of {name}")) as usize;
            let found = sizes(&json).unwrap_or_else(|error| panic!("{name}: {error}"));
            let wide = of("num_heads") * of("d_kv");
            let gated = json["feed_forward_proj"].as_str().is_some_and(|word| word.starts_with("gated"));
            let (head, width, hidden, vocabulary) = (of("d_kv"), of("d_model"), of("d_ff"), of("vocab_size"));
            let shape = Shape { width, queries: wide, keys: wide, head, hidden, gated, vocabulary };
            assert_eq!((found.shape, found.depths), (shape, ["num_layers", "num_decoder_layers"].map(of)), "{name}");
        }
    }

    #[test]
    fn sizes_are_those_of_the_config_in_the_other_families_of_text() {
        // The fixtures' stacks differ; here the decoder takes the encoder's sizes and keeps its depth.
        let fairseq = [("decoder_ffn_dim", 28), ("decoder_attention_heads", 4)];
        let plain =
            |vocabulary| Shape { width: 16, queries: 16, keys: 16, head: 4, hidden: 28, gated: false, vocabulary };
        for name in ["bart", "m2m_100", "mbart", "pegasus"] {
            let mut json = json(name);
            fairseq.iter().for_each(|(key, value)| json[*key] = (*value).into());
            let vocabulary = json["vocab_size"].as_u64().expect("a number") as usize;
            let found = sizes(&json).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!((found.shape, found.depths), (plain(vocabulary), [3, 2]), "{name}");
        }
        let mut gemma = json("t5gemma");
        for key in ["head_dim", "hidden_size", "intermediate_size", "num_key_value_heads"] {
            gemma["decoder"][key] = gemma["encoder"][key].clone();
        }
        gemma["decoder"]["cross_attention_hidden_size"] = 24.into();
        let shape = Shape { width: 24, queries: 36, keys: 18, head: 6, hidden: 20, gated: true, vocabulary: 66 };
        let found = sizes(&gemma).expect("sizes");
        assert_eq!((found.shape, found.depths, found.model_type.as_str()), (shape, [3, 2], "t5gemma"));
        let mut gemma = json("t5gemma2");
        for key in ["head_dim", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"] {
            gemma["decoder"][key] = gemma["encoder"]["text_config"][key].clone();
        }
        let found = sizes(&gemma).expect("sizes");
        assert_eq!((found.shape.width, found.shape.gated, found.depths), (24, true, [3, 2]));
        let mut mu = json("mu");
        mu["model_type"] = "mu".into();
        let shape = Shape { width: 64, queries: 96, keys: 48, head: 16, hidden: 160, gated: false, vocabulary: 128 };
        let found = sizes(&mu).expect("sizes");
        assert_eq!((found.shape, found.depths), (shape, [3, 2]));
    }

    #[test]
    fn the_parameters_are_those_of_the_checkpoint() {
        for name in ["t5-v1.0", "t5-v1.1", "mt5"] {
            let file = fixture(name);
            let stored = converters::import(file.parent().expect("its folder")).expect("imports").graph;
            let expected: u64 = stored.weights.iter().map(|(_, weight)| weight.len() as u64).sum();
            assert_eq!(Sizes::of_config(&file).expect("sizes").parameters, expected, "{name}");
        }
    }

    #[test]
    fn a_config_that_cannot_be_compared_is_told_with_the_reason() {
        let home = tempfile::tempdir().expect("a folder");
        let written = |name: &str, text: &str| {
            let file = home.path().join(name);
            fs::write(&file, text).expect("written");
            file
        };
        let text = fs::read_to_string(fixture("t5-v1.1")).expect("a fixture");
        for (file, expected) in [
            (home.path().join("none.json"), "none.json"),
            (written("list.json", "[]"), "not the expected JSON"),
            (written("gpt2.json", r#"{"model_type": "gpt2"}"#), "gpt2"),
            (written("narrow.json", &text.replace("\"d_model\"", "\"d_modle\"")), "d_model"),
            (
                written("deep.json", &text.replace("\"num_layers\": 3", "\"num_layers\": 2000000")),
                "at most 1024 layers",
            ),
            (
                fixture("bart"),
                "expected stacks of the same sizes, found width 16, 4 query and 4 key heads of 4, 28 inside in the encoder and",
            ),
            (fixture("whisper"), "expected an encoder-decoder of text, found whisper, whose encoder hears sound; give"),
        ] {
            let error = Sizes::of_config(&file).expect_err("no sizes").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
