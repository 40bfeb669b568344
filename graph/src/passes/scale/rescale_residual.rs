use std::collections::{BTreeSet, HashMap};

use crate::build::Build;
use crate::ir::graph::{Def, Graph, ValueId};
use crate::ir::op::{Binary, Op};
use crate::ir::port::{ENCODER_HIDDEN, LOGITS};
use crate::ir::properties::Reads;
use crate::passes::pass::{About, Caller, Changed, Meaning, Pass, PassError};
use crate::weights::{Derive, WeightData, WeightId};

/// `x + f(norm(x; eps))  ->  α·x + α·f(norm(α·x; α²·eps))`: each value of a residual stream becomes α times what it was,
/// and no value after its norms changes.
///
/// For engines that compute in f16, whose largest number is 65504: in T5 the sums outgrow it (transformers #9295), and
/// α < 1 moves them back. Exact because `αx / sqrt(mean((αx)²) + α²·eps) = x / sqrt(mean(x²) + eps)`; α is a power of two,
/// so that neither weights nor sums are rounded. Where eps is computed in f16 too, α²·eps may become 0, which matters
/// only to a row of zeros.
///
/// An α of 1 leaves its stack alone. What adds to the stream is scaled where it is made: weight and
/// bias of a Linear, the table of an Embed, the gain of a norm after a sublayer. Where that weight has another use, as a
/// table that is also the head, a node multiplies the value instead.
///
/// For the graph of all entries, before quantization. Counts the stacks, with a note for each. Errors, the graph unchanged:
/// something else than a norm reads the stream, as in models that normalize after each sum; their sums are small already.
#[derive(Clone, Copy, Debug)]
pub struct RescaleResidual {
    /// α of the encoder.
    pub encoder: f32,
    /// α of the decoder.
    pub decoder: f32,
}

impl RescaleResidual {
    /// Its row of the table.
    pub const ABOUT: &'static About = &About {
        name: "rescale_residual",
        formula: "x + f(norm(x; eps)) -> α·x + α·f(norm(α·x; α²·eps))",
        caller: Caller::Recipe("rescale_residual"),
        meaning: Meaning::Kept(0.0),
    };
}

impl Pass for RescaleResidual {
    fn about(&self) -> &'static About {
        RescaleResidual::ABOUT
    }

    fn run(&self, graph: &mut Graph) -> Result<Changed, PassError> {
        let notes = rescale(graph, [self.encoder, self.decoder])?;
        Ok(Changed { count: notes.len(), notes })
    }
}

/// Returns a sentence for each stack.
fn rescale(graph: &mut Graph, factors: [f32; 2]) -> Result<Vec<String>, PassError> {
    let refused = |message: String| RescaleResidual::ABOUT.refused(message);
    let users = graph.users();
    let mut streams = Vec::new();
    for ((stack, port), alpha) in STACKS.into_iter().zip(factors) {
        let is_power_of_two = alpha.is_normal() && alpha > 0.0 && alpha.to_bits() & 0x7f_ffff == 0;
        if !is_power_of_two {
            return Err(refused(format!("{stack}: expected a power of two, found {alpha}")));
        }
        if alpha != 1.0 {
            streams.push(Stream::of(graph, &users, stack, port, alpha).map_err(refused)?);
        }
    }
    if let [one, other] = &streams[..]
        && let Some(norm) = one.norms.intersection(&other.norms).next()
    {
        return Err(refused(format!("{}: reads the streams of both stacks", graph.value(*norm).name)));
    }
    let in_weights = in_weights(graph, &streams);
    let b = Build::edit(std::mem::take(graph));
    let mut told = Vec::new();
    for stream in &streams {
        let mut counts = [0; 2];
        for part in &stream.parts {
            let is_in_weights = in_weights.contains(part);
            counts[usize::from(!is_in_weights)] += 1;
            if !is_in_weights {
                multiply(&b, &users, *part, stream.alpha);
            }
        }
        b.with_graph_mut(|g| stream.norms.iter().for_each(|norm| *eps_mut(g, *norm) *= stream.alpha.powi(2)));
        let [weights, nodes] = counts;
        told.push(format!(
            "{}: the residual stream is {} times the checkpoint's: of what is added to it, {weights} are scaled in their \
             weights and {nodes} by a node; eps of {} norms times {}",
            stream.stack,
            stream.alpha,
            stream.norms.len(),
            stream.alpha.powi(2)
        ));
    }
    *graph = b.finish().map_err(|source| RescaleResidual::ABOUT.misfit(source))?;
    let mut scaled = BTreeSet::new();
    for (part, alpha) in streams.iter().flat_map(|s| s.parts.iter().map(|part| (part, s.alpha))) {
        for weight in in_weights.contains(part).then(|| weights_of(graph, *part)).into_iter().flatten().flatten() {
            if scaled.insert(weight) {
                graph.weights.get_mut(weight).derive(Derive::MulScalar(alpha));
            }
        }
    }
    graph.sweep();
    Ok(told)
}

/// The stacks, each with the output before which its last norm stands.
const STACKS: [(&str, &str); 2] = [("encoder", ENCODER_HIDDEN), ("decoder", LOGITS)];

/// The values of the residual streams of encoder and decoder, sums and what is added up, which [`RescaleResidual`] would
/// scale; or why it refuses.
pub fn residual_streams(graph: &Graph) -> [Result<Vec<ValueId>, PassError>; 2] {
    let users = graph.users();
    STACKS.map(|(stack, port)| match Stream::of(graph, &users, stack, port, 1.0) {
        Ok(stream) => Ok(stream.sums.into_iter().chain(stream.parts).collect()),
        Err(message) => Err(RescaleResidual::ABOUT.refused(message)),
    })
}

/// The sums of a stack from its embeddings to its last norm.
struct Stream {
    stack: &'static str,
    alpha: f32,
    /// What is added up.
    parts: Vec<ValueId>,
    sums: BTreeSet<ValueId>,
    /// What reads the sums.
    norms: BTreeSet<ValueId>,
}

impl Stream {
    fn of(
        graph: &Graph,
        users: &[Vec<ValueId>],
        stack: &'static str,
        port: &str,
        alpha: f32,
    ) -> Result<Stream, String> {
        let name = |id: ValueId| &graph.value(id).name;
        let end = graph.entries.iter().find_map(|entry| entry.output(port));
        let end = end.ok_or_else(|| format!("no entry has the output {port}"))?;
        let last = last_norm(graph, end).ok_or_else(|| format!("{}: expected a norm before it", name(end)))?;

        let (mut parts, mut sums, mut seen) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        let mut pending = vec![graph.args(last)[0]];
        while let Some(id) = pending.pop() {
            if !seen.insert(id) {
                continue;
            }
            match graph.op(id) {
                Some(Op::Binary(Binary::Add)) => {
                    sums.insert(id);
                    pending.extend(graph.args(id));
                }
                _ => parts.push(id),
            }
        }
        parts.sort_unstable();

        let mut norms = BTreeSet::new();
        for id in &seen {
            let ports = graph.entries.iter().flat_map(|entry| entry.inputs.iter().chain(&entry.outputs));
            if let Some(port) = ports.clone().find(|port| port.value == *id) {
                return Err(format!(
                    "{}: is the port {} and in the residual stream of the {stack}",
                    name(*id),
                    port.name
                ));
            }
            for user in &users[id.0] {
                match (graph.op(*user), graph.args(*user)) {
                    _ if sums.contains(user) => {}
                    (Some(op), [x, scales @ ..]) if op.eps().is_some() && x == id && !scales.contains(id) => {
                        norms.insert(*user);
                    }
                    (op, _) => {
                        let op = op.map_or_else(String::new, ToString::to_string);
                        let why = match graph.op(*id) {
                            Some(op) if op.eps().is_some() => {
                                "; a model that normalizes after each sum keeps its sums small and has no stream to scale"
                            }
                            _ => "",
                        };
                        return Err(format!(
                            "{}: expected that only norms and sums read the residual stream of the {stack}, found {op} {}{why}",
                            name(*id),
                            name(*user)
                        ));
                    }
                }
            }
        }
        for norm in &norms {
            let eps = eps(graph, *norm) * alpha.powi(2);
            if !eps.is_normal() {
                return Err(format!(
                    "{}: its eps times {:e} is {eps:e}, which f32 does not hold exactly",
                    name(*norm),
                    alpha.powi(2)
                ));
            }
        }
        for weight in parts.iter().flat_map(|part| weights_of(graph, *part).into_iter().flatten()) {
            let weight = graph.weights.get(weight);
            if let WeightData::Quantized(_) = weight.data.base() {
                return Err(format!("{}: is quantized already", weight.name));
            }
        }
        Ok(Stream { stack, alpha, parts, sums, norms })
    }
}

/// The norm nearest before a value.
fn last_norm(graph: &Graph, mut id: ValueId) -> Option<ValueId> {
    loop {
        id = match (graph.op(id)?, graph.args(id)) {
            (op, _) if op.eps().is_some() => return Some(id),
            (Op::Binary(_), [a, b]) => *[a, b].into_iter().find(|arg| graph.op(**arg).is_some())?,
            (_, args) => *args.first()?,
        };
    }
}

fn eps(graph: &Graph, norm: ValueId) -> f32 {
    graph.op(norm).and_then(Op::eps).expect("norms of a stream are norms")
}

fn eps_mut(graph: &mut Graph, norm: ValueId) -> &mut f32 {
    match &mut graph.values[norm.0].def {
        Def::Op(Op::RmsNorm { eps } | Op::LayerNorm { eps }, _) => eps,
        _ => unreachable!("norms of a stream are norms"),
    }
}

/// The weights in which a part is linear, if it is one of weights alone.
fn weights_of(graph: &Graph, part: ValueId) -> Option<Vec<WeightId>> {
    let (op, args) = (graph.op(part)?, graph.args(part));
    let scales: Vec<usize> = (1..args.len()).collect();
    let is_of_weights = |place: &usize| match op.reads(*place) {
        Reads::Matrix | Reads::Kernel | Reads::Table | Reads::Gain | Reads::Bias => true,
        Reads::Operand | Reads::Integers | Reads::Distances => false,
    };
    let is_linear = op.linear_in(args.len()).contains(&scales) && scales.iter().all(is_of_weights);
    is_linear.then(|| scales.iter().map(|place| graph.weight_of(args[*place])).collect())?
}

/// The parts whose weights can take the factor: all uses of each are in such parts, with one α.
fn in_weights(graph: &Graph, streams: &[Stream]) -> BTreeSet<ValueId> {
    let mut uses: HashMap<WeightId, usize> = HashMap::new();
    let args = (0..graph.values.len()).flat_map(|index| graph.args(ValueId(index)));
    for weight in args.filter_map(|arg| graph.weight_of(*arg)) {
        *uses.entry(weight).or_default() += 1;
    }
    let parts = streams.iter().flat_map(|s| s.parts.iter().map(|part| (*part, s.alpha)));
    let mut taken: Vec<(ValueId, f32, Vec<WeightId>)> =
        parts.filter_map(|(part, alpha)| Some((part, alpha, weights_of(graph, part)?))).collect();
    loop {
        let wanted = |weight: &WeightId, alpha: f32| {
            let of_alpha = taken.iter().filter(|(_, a, _)| *a == alpha);
            of_alpha.flat_map(|(_, _, weights)| weights).filter(|w| *w == weight).count()
        };
        let fits = |(_, alpha, weights): &(ValueId, f32, Vec<WeightId>)| {
            weights.iter().all(|weight| wanted(weight, *alpha) == uses[weight])
        };
        // A part that falls out may take the weights of another with it.
        let kept: Vec<_> = taken.iter().filter(|part| fits(part)).cloned().collect();
        if kept.len() == taken.len() {
            return kept.into_iter().map(|(part, ..)| part).collect();
        }
        taken = kept;
    }
}

/// A node, or another constant in the node that is there, multiplies a part. A misfit is recorded in the builder.
fn multiply(b: &Build, users: &[Vec<ValueId>], part: ValueId, alpha: f32) {
    let (op, args, name) = b.with_graph(|g| (g.op(part).cloned(), g.args(part).to_vec(), g.value(part).name.clone()));
    let constant = |id: ValueId| {
        b.with_graph(|g| match g.value(id).def {
            Def::Const(c) => Some(c),
            Def::Input | Def::Weight(_) | Def::Op(..) => None,
        })
    };
    let replace = |reader: ValueId, old: ValueId, new: Option<ValueId>| {
        let Some(new) = new else { return };
        b.with_graph_mut(|g| {
            if let Def::Op(_, args) = &mut g.values[reader.0].def {
                args.iter_mut().filter(|arg| **arg == old).for_each(|arg| *arg = new);
            }
        });
    };
    let _scope = b.scope(name);
    match (op, &args[..]) {
        (Some(Op::Binary(Binary::Mul)), args) if args.iter().any(|arg| constant(*arg).is_some()) => {
            for (arg, c) in args.iter().filter_map(|arg| Some((*arg, constant(*arg)?))).take(1) {
                replace(part, arg, b.scalar(c * alpha).id());
            }
        }
        // The gain is a row, the value as many as there are tokens.
        (Some(Op::RmsNorm { .. }), [_, gain]) => replace(part, *gain, (b.val(*gain) * alpha).id()),
        _ => {
            let scaled = (b.val(part) * alpha).id();
            users[part.0].iter().for_each(|reader| replace(*reader, part, scaled));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::build::Val;
    use crate::eval::tensor::Tensor;
    use crate::eval::{Feeds, Interpreter, Tensors};
    use crate::ir::ty::{BATCH, DEC, ENC, Type};
    use crate::ir::verify::verify;
    use crate::weights::blob::Blob;
    use crate::weights::{AffineTensor, Block, FloatType, Quantized, Weight};

    fn weight<'b>(b: &'b Build, name: &str, shape: &[usize]) -> Val<'b> {
        let seed: usize = name.bytes().map(usize::from).sum();
        let values: Vec<f32> = (0..shape.iter().product()).map(|i| ((i * 13 + seed) % 17) as f32 / 8.0 - 1.0).collect();
        let mut bytes = vec![0; 4 * values.len()];
        FloatType::F32.encode(&values, &mut bytes);
        let data = WeightData::Stored { blob: Blob::memory(bytes), dtype: FloatType::F32 };
        b.weight(Weight { name: name.into(), shape: shape.to_vec(), data })
    }

    /// `x + wo(norm(x))` and a last norm for encoder and decoder; `write` makes `x` of the decoder's embedding.
    fn model(write: impl for<'b> Fn(&'b Build, Val<'b>) -> Val<'b>) -> Graph {
        let b = Build::new();
        let [ids, decoder_ids] =
            [("input_ids", ENC), ("decoder_input_ids", DEC)].map(|(name, n)| b.input(name, Type::i64([BATCH, n])));
        let stack = |x: Val<'_>, name: &str| {
            let w = |last: &str, shape: &[usize]| weight(&b, &format!("{name}.{last}"), shape);
            let f = x.rms_norm(w("ln", &[4]), 1e-3).linear(w("wo", &[4, 4]), Some(w("wo.bias", &[4])));
            (x + b.val(f.id().expect("fits"))).rms_norm(w("last", &[4]), 1e-3).id().expect("fits")
        };
        let hidden = b.val(stack(ids.embed(weight(&b, "own", &[7, 4])), "encoder"));
        let table = weight(&b, "tied", &[7, 4]);
        let last = b.val(stack(write(&b, decoder_ids.embed(table)), "decoder"));
        let logits = last.linear(table, None);
        let inputs = [("input_ids", ids), ("decoder_input_ids", decoder_ids)];
        b.entry("full", &inputs, &[("logits", logits), ("encoder_hidden", hidden)], BTreeMap::new());
        b.finish().expect("fits")
    }

    fn outputs(graph: &Graph) -> Tensors {
        let ids = |ids: [i64; 4]| Tensor::i64([2, 2], ids.to_vec());
        let feeds =
            Feeds::from([("input_ids".into(), ids([0, 5, 6, 2])), ("decoder_input_ids".into(), ids([1, 1, 4, 3]))]);
        Interpreter::new(graph).call("full", &feeds).expect("evaluates")
    }

    fn refusal(graph: &Graph, encoder: f32, decoder: f32) -> String {
        let mut copy = graph.clone();
        let error = rescale(&mut copy, [encoder, decoder]).expect_err("refused").to_string();
        assert_eq!((copy.values, copy.entries), (graph.values.clone(), graph.entries.clone()), "left as it was");
        error
    }

    #[test]
    fn a_table_of_its_own_is_scaled_and_a_tied_one_is_not() {
        let plain = model(|_, x| x);
        let mut scaled = plain.clone();
        let told = rescale(&mut scaled, [0.25, 0.125]).expect("a pre-norm model");
        verify(&scaled).expect("holds together");
        assert_eq!(outputs(&plain), outputs(&scaled), "not a bit changes");
        assert_eq!(
            told,
            [
                "encoder: the residual stream is 0.25 times the checkpoint's: of what is added to it, 2 are scaled in \
                 their weights and 0 by a node; eps of 2 norms times 0.0625",
                "decoder: the residual stream is 0.125 times the checkpoint's: of what is added to it, 1 are scaled in \
                 their weights and 1 by a node; eps of 2 norms times 0.015625",
            ]
        );
        let kind = |name: &str| {
            let id = scaled.weights.find(name).expect("a weight");
            scaled.weights.get(id).data.type_name()
        };
        let found = ["own", "encoder.wo", "encoder.wo.bias", "tied", "decoder.wo", "decoder.wo.bias", "decoder.ln"];
        let expected = ["f32 x 0.25", "f32 x 0.25", "f32 x 0.25", "f32", "f32 x 0.125", "f32 x 0.125", "f32"];
        assert_eq!(found.map(kind), expected);
    }

    #[test]
    fn a_factor_of_one_leaves_a_stack_alone() {
        let plain = model(|_, x| x);
        let mut scaled = plain.clone();
        assert_eq!(rescale(&mut scaled, [1.0, 1.0]), Ok(Vec::new()));
        assert_eq!(plain.values.len(), scaled.values.len());
        rescale(&mut scaled, [1.0, 0.5]).expect("a pre-norm model");
        let own = scaled.weights.find("own").expect("a weight");
        assert_eq!(scaled.weights.get(own).data.type_name(), "f32");
        assert_eq!(outputs(&plain), outputs(&scaled));
    }

    #[test]
    fn constants_and_gains_that_are_there_take_the_factor() {
        let graph = model(|b, x| x * 3.0 + x.rms_norm(weight(b, "post", &[4]) + 1.0, 1e-3));
        // The embedding itself is no part of the stream, only its multiple is.
        let mut scaled = graph.clone();
        rescale(&mut scaled, [1.0, 0.25]).expect("a pre-norm model");
        verify(&scaled).expect("holds together");
        assert_eq!(outputs(&graph), outputs(&scaled));
        assert!(scaled.values.iter().any(|value| value.def == Def::Const(0.75)), "3 / 4");
    }

    #[test]
    fn a_weight_is_shared_only_within_one_factor() {
        let graph = |write: for<'b> fn(&'b Build, Val<'b>) -> Val<'b>| model(write);
        // The encoder's table once more in the decoder.
        let shared = graph(|b, x| {
            let ids = b.with_graph(|g| g.values.iter().position(|v| v.name == "decoder_input_ids"));
            x + b.val(ValueId(ids.expect("an input"))).embed(weight(b, "own", &[7, 4]))
        });
        for (encoder, decoder, expected) in [(0.5, 0.5, "f32 x 0.5"), (0.5, 0.25, "f32"), (0.5, 1.0, "f32")] {
            let mut scaled = shared.clone();
            rescale(&mut scaled, [encoder, decoder]).expect("a pre-norm model");
            assert_eq!(outputs(&shared), outputs(&scaled), "{encoder} {decoder}");
            let own = scaled.weights.find("own").expect("a weight");
            assert_eq!(scaled.weights.get(own).data.type_name(), expected);
        }
    }

    #[test]
    fn what_is_not_exact_is_refused_by_name() {
        let plain = model(|_, x| x);
        assert_eq!(refusal(&plain, 0.3, 1.0), "rescale_residual: encoder: expected a power of two, found 0.3");
        for bad in [0.0, -0.5, f32::INFINITY, f32::NAN, 1e-40] {
            assert!(refusal(&plain, 1.0, bad).starts_with("rescale_residual: decoder: expected a power of two"));
        }
        assert_eq!(
            refusal(&plain, 2f32.powi(-60), 1.0),
            "rescale_residual: rms_norm: its eps times 7.523164e-37 is 7.52317e-40, which f32 does not hold exactly"
        );
    }

    #[test]
    fn another_reader_of_the_stream_is_refused_by_name() {
        let read = model(|b, x| x + x.linear(weight(b, "sub", &[4, 4]), None));
        assert_eq!(
            refusal(&read, 1.0, 0.5),
            "rescale_residual: embed_1: expected that only norms and sums read the residual stream of the decoder, \
             found Linear linear_1"
        );
        let post_norm = model(|b, x| {
            let x = x.layer_norm(weight(b, "post", &[4]), None, 1e-3);
            x + x.linear(weight(b, "sub", &[4, 4]), None)
        });
        assert_eq!(
            refusal(&post_norm, 1.0, 0.5),
            "rescale_residual: layer_norm: expected that only norms and sums read the residual stream of the decoder, \
             found Linear linear_1; a model that normalizes after each sum keeps its sums small and has no stream to scale"
        );
        let mut shown = model(|_, x| x);
        let sum = shown.values.iter().position(|v| v.name == "add_1").expect("the decoder's sum");
        shown.entries[0].outputs.push(crate::ir::graph::Port { name: "sum".into(), value: ValueId(sum) });
        assert_eq!(
            refusal(&shown, 0.5, 0.5),
            "rescale_residual: add_1: is the port sum and in the residual stream of the decoder"
        );
    }

    #[test]
    fn codes_are_not_scaled() {
        let mut graph = model(|_, x| x);
        let wo = graph.weights.find("encoder.wo").expect("a weight");
        let codes = Blob::memory(vec![1; 16]);
        let scales = vec![half::f16::ONE; 4];
        let tensor = AffineTensor { shape: [4, 4], bits: 8, block: Block::Row, codes, scales, zeros: None };
        graph.weights.get_mut(wo).data = WeightData::Quantized(Quantized::Affine(tensor));
        assert_eq!(refusal(&graph, 0.5, 0.5), "rescale_residual: encoder.wo: is quantized already");
    }
}
