use std::collections::HashMap;

use crate::build::{Build, Val};
use crate::ir::graph::{Def, Graph, ValueId};
use crate::ir::op::{Binary, Layout, Op, Rope};
use crate::passes::pass::{About, Caller, Changed, Meaning, Pass, PassError};
use crate::rewrite::redirect;
use crate::weights::Weight;

/// Fused ops become those of which NPU toolchains are made:
///
/// - `Attention(q, k, v, bias)  ->  softmax(cap(q·kᵀ·scale) + bias)·v`, or `+ bias₁ + bias₂`; shared key heads are repeated;
/// - `Rope(x, p)  ->  x · cos[p] + swapped(x) · sin[p]`, with tables in place of functions;
/// - masks of -inf get the number `hidden`.
///
/// Counts the ops that were replaced. Errors: rotary pairs of neighbours, for which a swap would need five axes.
#[derive(Clone, Copy, Debug)]
pub struct Expand {
    /// What masks give to hidden keys. A finite number stays finite in an engine's narrow types.
    /// With one, a query that sees no key mixes all of them, where -inf gives zeros; such queries are padding.
    pub hidden: f32,
    /// Whether each summand of a bias is added to the scores by itself, masks last, so that each can have steps of its own. In
    /// floats the sum of all is better: scores are large, and every addition rounds them.
    pub split_bias: bool,
    /// Rows of the tables that rotary positions become: as many as the longest sequence has places.
    pub positions: usize,
}

impl Expand {
    /// Its row of the table.
    pub const ABOUT: &'static About = &About {
        name: "expand",
        formula: "Attention, Rope -> matrix products, a softmax and tables",
        caller: Caller::Format("npu"),
        // Sums have another order.
        meaning: Meaning::Kept(1e-5),
    };
}

impl Pass for Expand {
    fn about(&self) -> &'static About {
        Expand::ABOUT
    }

    fn run(&self, graph: &mut Graph) -> Result<Changed, PassError> {
        expand(graph, *self).map(Changed::from)
    }
}

fn expand(graph: &mut Graph, settings: Expand) -> Result<usize, PassError> {
    for value in &mut graph.values {
        if let Def::Op(Op::Mask { hidden, .. } | Op::PaddingMask { hidden }, _) = &mut value.def
            && hidden.is_infinite()
        {
            *hidden = settings.hidden;
        }
    }
    let fused: Vec<(ValueId, Op, Vec<ValueId>)> = (0..graph.values.len())
        .map(ValueId)
        .filter_map(|id| match &graph.value(id).def {
            Def::Op(op @ (Op::Attention { .. } | Op::Rope(_)), args) => Some((id, op.clone(), args.clone())),
            _ => None,
        })
        .collect();
    let b = Build::edit(std::mem::take(graph));
    let mut new_id: HashMap<ValueId, ValueId> = HashMap::new();
    for (id, op, args) in &fused {
        let _here = b.scope(b.with_graph(|g| g.value(*id).name.clone()));
        let args: Vec<Val> = args.iter().map(|arg| b.val(*arg)).collect();
        let written = match op {
            Op::Rope(rope) => turned(&b, args[0], args[1], rope, settings.positions),
            Op::Attention { scale, softcap } => attended(&b, &args, *scale, *softcap, settings.split_bias),
            _ => unreachable!("only these two were collected"),
        };
        // A misfit is recorded in the builder, which finish() returns.
        new_id.extend(written.id().map(|new| (*id, new)));
    }
    *graph = b.finish().map_err(|source| Expand::ABOUT.misfit(source))?;
    redirect(graph, &new_id);
    graph.sweep();
    Ok(fused.len())
}

fn attended<'b>(b: &'b Build, args: &[Val<'b>], scale: f32, softcap: Option<f32>, split_bias: bool) -> Val<'b> {
    let &[q, k, v, ref bias @ ..] = args else { unreachable!("inference counted the arguments") };
    let q = if scale == 1.0 { q } else { q * scale };
    let [k, v] = [k, v].map(|keys| repeated(b, keys, q));
    let mut scores = q.matmul(k.t());
    if let Some(cap) = softcap {
        scores = (scores / cap).tanh() * cap;
    }
    let terms = match split_bias {
        true => bias.iter().flat_map(|bias| summands(b, *bias)).collect(),
        false => bias.to_vec(),
    };
    for term in terms {
        scores = scores + term;
    }
    scores.softmax().matmul(v)
}

/// `[b, g, k, d] -> [b, h, k, d]`: each head for the h / g query heads that read it. By slices, which keep four axes.
fn repeated<'b>(b: &'b Build, keys: Val<'b>, q: Val<'b>) -> Val<'b> {
    let heads = |x: Val| x.ty().and_then(|ty| ty.shape.get(1)?.literal()).unwrap_or(1);
    let (groups, times) = (heads(keys), heads(q) / heads(keys).max(1));
    if times == 1 {
        return keys;
    }
    let each: Vec<Val> = (0..groups).map(|group| keys.slice(1, group, 1, 1)).collect();
    let many: Vec<Val> = each.iter().flat_map(|one| std::iter::repeat_n(*one, times)).collect();
    b.concat(&many, 1)
}

/// What a bias is the sum of, masks last.
fn summands<'b>(b: &'b Build, bias: Val<'b>) -> Vec<Val<'b>> {
    let (mut terms, mut pending) = (Vec::new(), bias.id().map_or_else(Vec::new, |id| vec![id]));
    while let Some(id) = pending.pop() {
        match b.with_graph(|g| g.value(id).def.clone()) {
            Def::Op(Op::Binary(Binary::Add), args) => pending.extend(args.into_iter().rev()),
            def => terms.push((matches!(def, Def::Op(Op::Mask { .. } | Op::PaddingMask { .. }, _)), id)),
        }
    }
    terms.sort_by_key(|(is_mask, _)| *is_mask);
    terms.into_iter().map(|(_, id)| b.val(id)).collect()
}

fn turned<'b>(b: &'b Build, x: Val<'b>, positions: Val<'b>, rope: &Rope, rows: usize) -> Val<'b> {
    if rope.layout != Layout::Half {
        b.fail("expected rotary pairs of half a head apart, found neighbours");
        return x;
    }
    let Some(width) = x.ty().and_then(|ty| ty.shape[3].literal()) else { return x };
    let half = rope.dims / 2;
    let [cos, sin] = ["cos", "sin"].map(|word| positions.embed(b.weight(table(rope, width, rows, word))));
    let mut parts = vec![x.slice(3, half, 1, half), x.slice(3, 0, 1, half)];
    if rope.dims < width {
        parts.push(x.slice(3, rope.dims, 1, width - rope.dims));
    }
    x * cos + b.concat(&parts, 3) * sin
}

/// `[rows, width]`: what each place of a head is multiplied with at each position, 1 or 0 where it does not turn. Angles are
/// rounded to f32 before their sine is taken, as the interpreter does.
fn table(rope: &Rope, width: usize, rows: usize, word: &str) -> Weight {
    let (half, frequencies) = (rope.dims / 2, rope.frequencies());
    let cell = |i: usize| {
        let (position, place) = (i / width, i % width);
        if place >= rope.dims {
            return if word == "cos" { 1.0 } else { 0.0 };
        }
        let (sin, cos) = (position as f32 * frequencies[place % half]).sin_cos();
        match word {
            "cos" => cos,
            _ if place < half => -sin,
            _ => sin,
        }
    };
    let floats: Vec<f32> = (0..rows * width).map(cell).collect();
    let Rope { theta, factor, dims, .. } = rope;
    Weight::stored(format!("rope.{theta}.{factor}.{dims}.{width}.{rows}.{word}"), vec![rows, width], &floats)
}
