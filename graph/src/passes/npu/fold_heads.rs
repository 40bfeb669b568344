use std::collections::HashMap;

use crate::build::{Build, Val};
use crate::ir::fake_quant::FakeQuant;
use crate::ir::graph::{Def, Graph, ValueId};
use crate::ir::op::Op;
use crate::ir::ty::Dim;
use crate::passes::pass::{About, Caller, Changed, Meaning, Pass, PassError};
use crate::rewrite::redirect;

/// `softmax(s)·v  ->  reshape(reshape(softmax(s))·reshape(v))`, heads in place of the batch, where 16-bit values `v` come from outside and
/// nothing is added to the scores `s`: attention to an encoder whose places are all real, one step.
///
/// Qualcomm's HTP compiler (QAIRT 2.4x, in onnxruntime-qnn 2.7) ends with QNN_COMMON_ERROR_MEM_ALLOC at such a product of four axes with
/// more than one head, and takes it with three, or where a mask is added. A static graph, rounded. Counts the products.
pub struct FoldHeads;

impl FoldHeads {
    /// Its row of the table.
    pub const ABOUT: &'static About = &About {
        name: "fold_heads",
        formula: "softmax(s)·v of four axes -> of three, where 16-bit v is an input and s has no mask",
        caller: Caller::Format("npu"),
        meaning: Meaning::Kept(0.0),
    };
}

impl Pass for FoldHeads {
    fn about(&self) -> &'static About {
        FoldHeads::ABOUT
    }

    fn run(&self, graph: &mut Graph) -> Result<Changed, PassError> {
        fold(graph).map(Changed::from)
    }
}

/// A product and the steps of its factors and of itself.
struct Product {
    id: ValueId,
    factors: [ValueId; 2],
    steps: [FakeQuant; 3],
}

fn fold(graph: &mut Graph) -> Result<usize, PassError> {
    let users = graph.users();
    let products: Vec<Product> =
        (0..graph.values.len()).map(ValueId).filter_map(|id| product(graph, &users[id.0], id)).collect();
    let b = Build::edit(std::mem::take(graph));
    let mut new_id: HashMap<ValueId, ValueId> = HashMap::new();
    for product in &products {
        let _here = b.scope(b.with_graph(|g| g.value(product.id).name.clone()));
        new_id.extend(folded(&b, product).id().map(|new| (product.id, new)));
    }
    *graph = b.finish().map_err(|source| FoldHeads::ABOUT.misfit(source))?;
    redirect(graph, &new_id);
    graph.sweep();
    Ok(products.len())
}

/// The product `id`, if it is such a one.
fn product(graph: &Graph, users: &[ValueId], id: ValueId) -> Option<Product> {
    let (Op::MatMul, &[p, v], &[user]) = (graph.op(id)?, graph.args(id), users) else { return None };
    let (shares, of_shares) = rounded(graph, p)?;
    let (values, of_values) = rounded(graph, v)?;
    let (_, of_product) = rounded(graph, user)?;
    let is_input = matches!(graph.value(values).def, Def::Input) && of_values.bits == 16;
    let heads = graph.value(id).ty.shape.get(1).and_then(Dim::literal)?;
    let one = graph.value(id).ty.shape.len() == 4 && graph.value(id).ty.shape[0].literal() == Some(1);
    let fits = is_input && one && heads > 1 && is_unmasked(graph, shares);
    fits.then_some(Product { id, factors: [p, v], steps: [of_shares, of_values, of_product] })
}

/// What is rounded, and to which steps.
fn rounded(graph: &Graph, id: ValueId) -> Option<(ValueId, FakeQuant)> {
    match (graph.op(id)?, graph.args(id)) {
        (Op::FakeQuant(steps), &[of]) => Some((of, *steps)),
        _ => None,
    }
}

/// Whether it is a softmax of a product of two matrices.
fn is_unmasked(graph: &Graph, id: ValueId) -> bool {
    let (Some(Op::Softmax), &[scores]) = (graph.op(id), graph.args(id)) else { return false };
    let scores = rounded(graph, scores).map_or(scores, |(of, _)| of);
    matches!(graph.op(scores), Some(Op::MatMul))
}

fn folded<'b>(b: &'b Build, product: &Product) -> Val<'b> {
    let shape = b.with_graph(|g| g.value(product.id).ty.shape.clone());
    let round = |x: Val<'b>, steps: FakeQuant| b.op(Op::FakeQuant(steps), &[x]);
    let [p, v] = [0, 1].map(|i| {
        let factor = b.val(product.factors[i]);
        let dims = factor.ty().map(|ty| ty.shape[1..].to_vec()).unwrap_or_default();
        round(factor.reshape(dims), product.steps[i])
    });
    let whole = p.matmul(v);
    // By its name what calibration saw of the product of four axes is found.
    b.with_graph_mut(|g| {
        if let Some(id) = whole.id() {
            g.values[id.0].name = format!("{}.of_heads", g.value(product.id).name);
        }
    });
    round(whole, product.steps[2]).reshape(shape)
}
