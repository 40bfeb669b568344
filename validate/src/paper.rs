//! "Return of the Encoder" (Elfeki et al., arXiv 2501.16273): an encoder-decoder against a decoder-only of the same parameters,
//! width and vocabulary, of the same layers, written by the same lines, with random weights.
//!
//! What is compared is work and not answers: how long it takes until the first token, how fast tokens follow, in how much memory.

mod gguf;
mod sizes;

pub use gguf::{is_written, read, write};
pub use sizes::{Sizes, SizesError};

use std::collections::BTreeMap;

use graph::ir::port::LOGITS;
use graph::{
    BATCH, Blob, Build, BuildError, DEC, ENC, FloatType, Graph, Layout, Op, PAST, Rope, Sym, Type, Unary, Val, Visible,
    Weight, WeightData,
};
use serde::{Deserialize, Serialize};

use frontend::Draw;

/// Added to the mean square in norms.
const EPS: f32 = 1e-6;

/// Lengths of a transformer of the shape of Mu: rotary positions, RMS norms, GELU, key heads that query heads share, one matrix
/// for embedding and head.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Shape {
    /// Width of the residual stream.
    pub width: usize,
    /// Width of all query heads.
    pub queries: usize,
    /// Width of all key heads.
    pub keys: usize,
    /// Width of one head.
    pub head: usize,
    /// Inside the feed-forward layer.
    pub hidden: usize,
    /// Whether a third matrix of the feed-forward layer makes factors of what is inside.
    pub gated: bool,
    /// Tokens.
    pub vocabulary: usize,
}

/// `MuConfig`'s defaults.
pub const MU: Shape =
    Shape { width: 1024, queries: 384, keys: 192, head: 64, hidden: 4096, gated: false, vocabulary: 32128 };
/// Layers of Mu's encoder and decoder: two thirds of them encode.
pub const MU_LAYERS: [usize; 2] = [20, 10];

/// Its stacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layers {
    /// Layers of the encoder and of the decoder.
    EncoderDecoder([usize; 2]),
    /// Layers that see the source and the target as one sequence.
    DecoderOnly(usize),
}

impl Shape {
    fn attention(&self) -> usize {
        2 * self.width * (self.queries + self.keys)
    }

    fn feed_forward(&self) -> usize {
        (2 + usize::from(self.gated)) * self.width * self.hidden
    }

    /// Weights of a layer of an encoder or of a decoder-only.
    fn layer(&self) -> usize {
        self.attention() + self.feed_forward() + 2 * self.width
    }

    /// The depth at which a decoder-only is nearest in parameters to an encoder-decoder.
    pub fn same_parameters(&self, [encoder, decoder]: [usize; 2]) -> usize {
        let cross = self.attention() + self.width;
        let stacks = (encoder + decoder) * self.layer() + decoder * cross;
        (stacks + self.layer() / 2) / self.layer()
    }

    /// The graph with all entries that exporters write. Random weights of deviation `1 / sqrt(width)`; they all are parts of one
    /// buffer, which engines cannot know.
    ///
    /// The head is computed for one position of a call, as engines do for the last of a prompt; here it is the first, which takes
    /// as long. Errors: the shape does not fit itself, in words.
    pub fn graph(&self, layers: Layers) -> Result<Graph, String> {
        let noise = Noise::new(*self);
        self.graph_of(layers, &|name, shape| noise.weight(name, shape))
    }

    /// The same of other weights. `weight_of`: a weight by its name and its shape.
    fn graph_of(&self, layers: Layers, weight_of: &dyn Fn(String, Vec<usize>) -> Weight) -> Result<Graph, String> {
        let b = Build::new();
        let writer = Writer { b: &b, shape: *self, weight_of };
        match layers {
            Layers::EncoderDecoder(depths) => writer.encoder_decoder(depths),
            Layers::DecoderOnly(depth) => writer.decoder_only(depth),
        }
        let mut graph = b.finish().map_err(|error| error.to_string())?;
        graph::passes::run(&mut graph).map_err(|error| error.to_string())?;
        of_one_position(graph).map_err(|error| error.to_string())
    }
}

/// The head of the first position of a call alone. A step says nothing then of what the whole pass says elsewhere, so this comes
/// after the pass that proves that it does.
fn of_one_position(graph: Graph) -> Result<Graph, BuildError> {
    let logits = graph.entry("full").and_then(|full| full.output(LOGITS)).expect("written here");
    let [x, table] = graph.args(logits)[..] else { panic!("a product without a bias") };
    let b = Build::edit(graph);
    let one = b.val(x).slice(1, 0, 1, 1).linear(b.val(table), None).id();
    let mut graph = b.finish()?;
    let one = one.expect("it was built without an error");
    for port in graph.entries.iter_mut().flat_map(|entry| &mut entry.outputs).filter(|port| port.value == logits) {
        port.value = one;
    }
    Ok(graph)
}

/// Numbers that all weights share.
struct Noise(Blob);

impl Noise {
    fn new(shape: Shape) -> Noise {
        let most = shape.width * shape.vocabulary.max(shape.hidden).max(shape.queries);
        let mut draw = Draw::new(1);
        // A uniform number of deviation 1 is up to √3.
        let scale = (3.0 / shape.width as f32).sqrt();
        let bytes: Vec<u8> = (0..most).flat_map(|_| (draw.float() * scale).to_le_bytes()).collect();
        Noise(Blob::memory(bytes))
    }

    fn weight(&self, name: String, shape: Vec<usize>) -> Weight {
        let bytes = 4 * shape.iter().product::<usize>() as u64;
        let blob = self.0.slice(0..bytes).expect("as long as the largest weight");
        Weight { name, shape, data: WeightData::Stored { blob, dtype: FloatType::F32 } }
    }
}

struct Writer<'b> {
    b: &'b Build,
    shape: Shape,
    weight_of: &'b dyn Fn(String, Vec<usize>) -> Weight,
}

impl<'b> Writer<'b> {
    fn encoder_decoder(&self, [encoder, decoder]: [usize; 2]) {
        let b = self.b;
        let table = self.weight("table", [self.shape.vocabulary, self.shape.width]);
        let input_ids = b.input("input_ids", Type::i64([BATCH, ENC]));
        let attention_mask = b.input("attention_mask", Type::i64([BATCH, ENC]));
        let decoder_input_ids = b.input("decoder_input_ids", Type::i64([BATCH, DEC]));
        let padding = b.padding_mask(attention_mask);
        let memory = self.stack("encoder", encoder, input_ids.embed(table), (ENC, padding), None);
        let causal = b.mask(Visible::CAUSAL, 0, DEC, DEC);
        let ids = decoder_input_ids.embed(table);
        let x = self.stack("decoder", decoder, ids, (DEC, causal), Some((memory, padding)));
        let inputs =
            [("input_ids", input_ids), ("attention_mask", attention_mask), ("decoder_input_ids", decoder_input_ids)];
        let outputs = [("logits", self.head(x, table)), ("encoder_hidden", memory)];
        b.entry("full", &inputs, &outputs, BTreeMap::new());
    }

    /// The source is a part of the target. What stands for the encoder computes a mask that nobody reads.
    fn decoder_only(&self, depth: usize) {
        let b = self.b;
        let table = self.weight("table", [self.shape.vocabulary, self.shape.width]);
        let attention_mask = b.input("attention_mask", Type::i64([BATCH, ENC]));
        let decoder_input_ids = b.input("decoder_input_ids", Type::i64([BATCH, DEC]));
        let causal = b.mask(Visible::CAUSAL, 0, DEC, DEC);
        let x = self.stack("decoder", depth, decoder_input_ids.embed(table), (DEC, causal), None);
        let inputs = [("attention_mask", attention_mask), ("decoder_input_ids", decoder_input_ids)];
        let outputs = [("logits", self.head(x, table)), ("encoder_hidden", b.padding_mask(attention_mask))];
        b.entry("full", &inputs, &outputs, BTreeMap::new());
    }

    fn stack(
        &self,
        name: &str,
        depth: usize,
        mut x: Val<'b>,
        (length, mask): (Sym, Val<'b>),
        memory: Option<(Val<'b>, Val<'b>)>,
    ) -> Val<'b> {
        let _stack = self.b.scope(name);
        let positions = self.b.positions(0, length);
        for i in 0..depth {
            let _layer = self.b.scope(i);
            let at = |part: &str| format!("{name}.{i}.{part}");
            let y = self.norm(x, &at("norm"));
            x = x + self.attention(y, y, Some(positions), mask, &at("self"));
            if let Some((memory, padding)) = memory {
                let y = self.norm(x, &at("cross_norm"));
                x = x + self.attention(y, memory, None, padding, &at("cross"));
            }
            let y = self.norm(x, &at("feed_forward_norm"));
            let inside = |part: &str| y.linear(self.weight(&at(part), [self.shape.hidden, self.shape.width]), None);
            let hidden = match self.shape.gated {
                true => inside("gate").activation(Unary::GeluTanh) * inside("up"),
                false => inside("up").activation(Unary::GeluTanh),
            };
            x = x + hidden.linear(self.weight(&at("down"), [self.shape.width, self.shape.hidden]), None);
        }
        self.norm(x, &format!("{name}.norm"))
    }

    fn attention(&self, x: Val<'b>, memory: Val<'b>, positions: Option<Val<'b>>, mask: Val<'b>, name: &str) -> Val<'b> {
        let Shape { width, queries, keys, head, .. } = self.shape;
        let part = |of: Val<'b>, word: &str, wide: usize| {
            of.linear(self.weight(&format!("{name}.{word}"), [wide, width]), None).heads(wide / head)
        };
        let rope = Rope { theta: 10000.0, factor: 1.0, dims: head, layout: Layout::Half };
        let turned = |heads: Val<'b>| positions.map_or(heads, |positions| heads.rope(positions, rope));
        let (q, k) = (turned(part(x, "q", queries)), turned(part(memory, "k", keys)));
        let out = q.attention(k, part(memory, "v", keys), Some(mask), (head as f32).powf(-0.5), None);
        out.merge_heads().linear(self.weight(&format!("{name}.out"), [width, queries]), None)
    }

    fn norm(&self, x: Val<'b>, name: &str) -> Val<'b> {
        x.rms_norm(self.weight(name, [self.shape.width]), EPS)
    }

    fn head(&self, x: Val<'b>, table: Val<'b>) -> Val<'b> {
        x.linear(table, None)
    }

    fn weight(&self, name: &str, shape: impl Into<Vec<usize>>) -> Val<'b> {
        self.b.weight((self.weight_of)(format!("{name}.weight"), shape.into()))
    }
}

/// Multiplications and additions of matrix products, attention included, for a source of some tokens and some new ones of one
/// sequence. Scores that a mask hides are counted, since engines compute them.
pub fn flops(graph: &Graph, layers: Layers, source: usize, tokens: usize) -> f64 {
    let (first, start) = match layers {
        Layers::EncoderDecoder(_) => (1, 1),
        Layers::DecoderOnly(_) => (source + 1, source + 1),
    };
    let lengths = |dec: usize, past: usize| BTreeMap::from([(BATCH, 1), (ENC, source), (DEC, dec), (PAST, past)]);
    let steps = (1..tokens).map(|step| of_entry(graph, "decoder_with_past", &lengths(1, start + step - 1)));
    let encoder = graph.entry("encoder");
    let before = encoder.map(|entry| graph.before(entry)).unwrap_or_default();
    let encoding = before.into_iter().chain(encoder).map(|entry| of_entry(graph, &entry.name, &lengths(1, 0)));
    encoding.sum::<f64>() + of_entry(graph, "decoder", &lengths(first, 0)) + steps.sum::<f64>()
}

fn of_entry(graph: &Graph, name: &str, lengths: &BTreeMap<Sym, usize>) -> f64 {
    let Some(entry) = graph.entry(name) else { return 0.0 };
    let inputs: Vec<_> = entry.inputs.iter().map(|port| port.value).collect();
    // What is fed is not computed, even where the graph could.
    let computed = reached(graph, entry, &inputs);
    let elements = |id: graph::ValueId| -> f64 {
        graph.value(id).ty.shape.iter().map(|dim| dim.resolve(lengths).unwrap_or(1) as f64).product()
    };
    let last = |id: graph::ValueId, from_end: usize| {
        let shape = &graph.value(id).ty.shape;
        let dim = shape.len().checked_sub(from_end).and_then(|at| shape.get(at));
        dim.and_then(|dim| dim.resolve(lengths)).unwrap_or(1) as f64
    };
    let of = |id: &graph::ValueId| match (graph.op(*id), graph.args(*id)) {
        (Some(Op::Linear | Op::MatMul), [x, ..]) => 2.0 * elements(*id) * last(*x, 1),
        // Scores and their product with the values.
        (Some(Op::Attention { .. }), [q, k, ..]) => 4.0 * elements(*q) * last(*k, 2),
        _ => 0.0,
    };
    computed.iter().map(of).sum()
}

/// Values that an entry computes: those before its inputs are another entry's.
fn reached(graph: &Graph, entry: &graph::Entry, inputs: &[graph::ValueId]) -> Vec<graph::ValueId> {
    let mut seen = vec![false; graph.values.len()];
    inputs.iter().for_each(|id| seen[id.0] = true);
    let mut found = Vec::new();
    let mut stack: Vec<graph::ValueId> = entry.outputs.iter().map(|port| port.value).collect();
    while let Some(id) = stack.pop() {
        if !std::mem::replace(&mut seen[id.0], true) {
            found.push(id);
            stack.extend(graph.args(id));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use graph::{Port, PortRole};

    use super::*;

    pub(super) const SMALL: Shape =
        Shape { width: 16, queries: 8, keys: 4, head: 4, hidden: 24, gated: false, vocabulary: 11 };
    pub(super) const GATED: Shape = Shape { gated: true, ..SMALL };
    pub(super) const BOTH: [Layers; 2] = [Layers::EncoderDecoder([2, 1]), Layers::DecoderOnly(3)];

    fn parameters(graph: &Graph) -> usize {
        graph.weights.iter().map(|(_, weight)| weight.len()).sum()
    }

    #[test]
    fn a_decoder_only_has_the_parameters_of_the_encoder_decoder_within_half_a_layer() {
        assert_eq!(MU.same_parameters(MU_LAYERS), 31);
        for shape in [SMALL, GATED] {
            let both = shape.graph(Layers::EncoderDecoder([4, 2])).expect("built");
            let alone = shape.graph(Layers::DecoderOnly(shape.same_parameters([4, 2]))).expect("built");
            let difference = parameters(&both).abs_diff(parameters(&alone));
            assert!(2 * difference <= shape.layer() + 2 * shape.width, "{difference} of a layer's {}", shape.layer());
        }
    }

    #[test]
    fn both_have_the_entries_that_exporters_write_and_the_decoder_only_reads_no_encoder() {
        for layers in BOTH {
            let graph = SMALL.graph(layers).expect("built");
            let step = graph.entry("decoder_with_past").expect("split");
            let count = |of: fn(&Port) -> bool| step.inputs.iter().filter(|port| of(port)).count();
            let pasts = count(|port| matches!(port.role(), PortRole::Past(_)));
            let crosses = count(|port| matches!(port.role(), PortRole::Cross(_)));
            let expected = match layers {
                Layers::EncoderDecoder([_, decoder]) => (2 * decoder, 2 * decoder),
                Layers::DecoderOnly(depth) => (2 * depth, 0),
            };
            assert_eq!((pasts, crosses), expected);
            assert!(graph.entry("encoder").is_some() && graph.entry("decoder").is_some());
        }
    }

    #[test]
    fn flops_are_those_of_the_formula() {
        let Shape { width, queries, keys, hidden, vocabulary, .. } = SMALL;
        let layers = Layers::DecoderOnly(3);
        let graph = SMALL.graph(layers).expect("built");
        let linear = 2 * (2 * width * (queries + keys) + 2 * width * hidden);
        let head = 2 * width * vocabulary;
        // A prompt of 6 and then one token that sees 7.
        let prompt = 3 * (6 * linear + 4 * 6 * 6 * queries) + head;
        let step = 3 * (linear + 4 * 7 * queries) + head;
        assert_eq!(flops(&graph, layers, 5, 2), (prompt + step) as f64);
        // The encoder's part of a source does not grow with the tokens.
        let layers = Layers::EncoderDecoder([2, 1]);
        let graph = SMALL.graph(layers).expect("built");
        let [one, two, three] = [1, 2, 3].map(|tokens| flops(&graph, layers, 5, tokens));
        let step = linear + 2 * 2 * width * queries + 4 * 5 * queries + head;
        assert_eq!([two - one, three - two], [2, 3].map(|seen| (step + 4 * seen * queries) as f64));
    }
}
