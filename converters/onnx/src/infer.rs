//! Types and shapes of a graph's values, as far as they follow from its inputs without running it.

use std::collections::HashMap;

use crate::model::{Attribute, Constant, Element, Node, OnnxFile, STANDARD};

/// What is known of each value.
#[derive(Clone, Debug, Default)]
pub struct Types {
    elements: HashMap<String, Element>,
    shapes: HashMap<String, Vec<usize>>,
    /// Values of whole numbers that are constant, of at most [`MAX_INDICES`]: shapes, axes, indices.
    indices: HashMap<String, Vec<i64>>,
    /// Values without a shape whose node's arguments all have one: where the unknown begins.
    pub unknown: Vec<Unknown>,
    /// Nodes whose arguments do not fit, and values that are declared otherwise than they are.
    pub wrong: Vec<Unknown>,
    /// How many values have no shape only because an argument has none.
    pub following: usize,
}

/// A value of which something is not known, or is known to be wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unknown {
    /// The place of its node in the file; `None`: an input of the graph.
    pub node: Option<usize>,
    /// Its name.
    pub value: String,
    /// The reason.
    pub why: String,
}

/// Longer constants are tables.
const MAX_INDICES: usize = 4096;

/// Why a node's outputs have no shape.
enum Why {
    /// It depends on numbers that are known only when the graph runs, or on a rule that is not written here.
    Unknown(String),
    /// The arguments do not fit.
    Wrong(String),
}

use Why::{Unknown as NotKnown, Wrong};

type Shapes = Result<Vec<Vec<usize>>, Why>;

impl Types {
    /// Infers what can be inferred. Extents that the file declares inside the graph count where nothing can be inferred.
    pub fn of(model: &OnnxFile) -> Types {
        let mut types = Types::default();
        for constant in &model.initializers {
            types.constant(constant);
        }
        for input in &model.inputs {
            if types.shapes.contains_key(&input.name) {
                continue; // an initializer under an input's name, which may then be left out
            }
            types.elements.extend(input.element.map(|element| (input.name.clone(), element)));
            match input.fixed() {
                Some(shape) => drop(types.shapes.insert(input.name.clone(), shape)),
                None => {
                    let why = "an input whose declared shape is not all numbers".to_owned();
                    types.unknown.push(Unknown { node: None, value: input.name.clone(), why });
                }
            }
        }
        let declared: HashMap<&str, _> =
            model.values.iter().chain(&model.outputs).map(|d| (d.name.as_str(), d)).collect();
        for (at, node) in model.nodes.iter().enumerate() {
            let elements = types.elements_of(node);
            let known = node.given().all(|name| types.shapes.contains_key(name));
            let shapes = match node.constant() {
                Some(constant) => {
                    types.constant(&constant);
                    Ok(vec![constant.dims])
                }
                None if !known => Err(NotKnown("of a value without a shape".to_owned())),
                None => types.shapes_of(node, model.opsets.get(&node.domain).copied().unwrap_or(0)),
            };
            for (i, output) in node.outputs.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
                let place = |why: String| Unknown { node: Some(at), value: output.clone(), why };
                let told = declared.get(output.as_str());
                let element = elements.get(i).copied().flatten();
                match (element, told.and_then(|told| told.element)) {
                    (Some(found), Some(told)) if found != told => {
                        types.wrong.push(place(format!("declared as {told}, but {} makes {found}", node.op)));
                    }
                    _ => {}
                }
                let element = element.or_else(|| told?.element);
                types.elements.extend(element.map(|element| (output.clone(), element)));
                let fixed = told.and_then(|told| told.fixed());
                let shape = match &shapes {
                    Ok(shapes) => shapes.get(i).cloned().ok_or_else(|| format!("a rule for output {i} of {}", node.op)),
                    Err(NotKnown(why) | Wrong(why)) => Err(why.clone()),
                };
                match (shape, fixed) {
                    (Ok(shape), Some(told)) if shape != told => {
                        types.wrong.push(place(format!("declared as {told:?}, but {} makes {shape:?}", node.op)));
                        types.shapes.insert(output.clone(), shape);
                    }
                    (Ok(shape), _) => drop(types.shapes.insert(output.clone(), shape)),
                    (Err(why), told) => {
                        let wrong = matches!(shapes, Err(Wrong(_)));
                        match &told {
                            _ if wrong => types.wrong.push(place(why)),
                            Some(_) => {}
                            None if known => types.unknown.push(place(why)),
                            None => types.following += 1,
                        }
                        types.shapes.extend(told.map(|told| (output.clone(), told)));
                    }
                }
            }
        }
        types
    }

    /// Its elements' type.
    pub fn element(&self, value: &str) -> Option<Element> {
        self.elements.get(value).copied()
    }

    /// Its shape, outermost first.
    pub fn shape(&self, value: &str) -> Option<&[usize]> {
        self.shapes.get(value).map(Vec::as_slice)
    }

    /// Its numbers, if it is a short constant of whole numbers.
    pub fn indices(&self, value: &str) -> Option<&[i64]> {
        self.indices.get(value).map(Vec::as_slice)
    }

    fn constant(&mut self, constant: &Constant) {
        self.elements.insert(constant.name.clone(), constant.element);
        self.shapes.insert(constant.name.clone(), constant.dims.clone());
        let whole = matches!(constant.element, Element::INT32 | Element::INT64);
        if whole && constant.count() <= MAX_INDICES {
            // Bytes that cannot be read are told by whoever reads constants for their numbers.
            self.indices.extend(constant.ints().ok().flatten().map(|ints| (constant.name.clone(), ints)));
        }
    }

    fn elements_of(&self, node: &Node) -> Vec<Option<Element>> {
        let of = |i: usize| node.input(i).and_then(|name| self.element(name));
        let attribute = |name: &str| node.int(name).and_then(Element::of);
        let first = match node.op.as_str() {
            "Cast" => attribute("to"),
            "CastLike" | "Where" => of(1),
            "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "Not" | "And" | "Or" | "Xor"
            | "IsNaN" | "IsInf" => Some(Element::BOOL),
            "Shape" | "Size" | "NonZero" | "ArgMax" | "ArgMin" => Some(Element::INT64),
            "QuantizeLinear" => of(2).or(attribute("output_dtype")).or(Some(Element::UINT8)),
            "DequantizeLinear" => attribute("output_dtype").or(of(1)),
            "DynamicQuantizeLinear" => return vec![Some(Element::UINT8), Some(Element::FLOAT), Some(Element::UINT8)],
            "MatMulInteger" | "ConvInteger" => Some(Element::INT32),
            "TopK" => return vec![of(0), Some(Element::INT64)],
            "ConstantOfShape" => match node.attributes.get("value") {
                Some(Attribute::Tensor(value)) => Some(value.element),
                _ => Some(Element::FLOAT),
            },
            "OneHot" | "GatherBlockQuantized" => of(2),
            "Constant" => node.constant().map(|constant| constant.element),
            "If" | "Loop" | "Scan" => None,
            _ => of(0),
        };
        vec![first; node.outputs.len()]
    }

    /// Shapes of the outputs. Every given input has a shape.
    fn shapes_of(&self, node: &Node, opset: i64) -> Shapes {
        if node.domain != STANDARD && node.domain != "com.microsoft" {
            return Err(NotKnown(format!("{}.{} is not a standard operator", node.domain, node.op)));
        }
        let count = node.inputs.len();
        let shape = |i: usize| -> Result<&[usize], Why> {
            let name = node.input(i).ok_or_else(|| Wrong(format!("{} lacks its input {i}", node.op)))?;
            Ok(self.shapes[name].as_slice())
        };
        let list = |i: usize| -> Result<&[i64], Why> {
            let name = node.input(i).ok_or_else(|| Wrong(format!("{} lacks its input {i}", node.op)))?;
            self.indices(name).ok_or_else(|| NotKnown(format!("{name}, which {} goes by, is not constant", node.op)))
        };
        // In older opsets an attribute, in newer ones an input.
        let parameter = |name: &str, i: usize| -> Result<Option<Vec<i64>>, Why> {
            match (node.ints(name), node.input(i)) {
                (Some(ints), _) => Ok(Some(ints.to_vec())),
                (None, Some(_)) => list(i).map(|ints| Some(ints.to_vec())),
                (None, None) => Ok(None),
            }
        };
        let one = |shape: Vec<usize>| Ok(vec![shape]);
        match node.op.as_str() {
            "Relu"
            | "Tanh"
            | "Sigmoid"
            | "Erf"
            | "Gelu"
            | "Sqrt"
            | "Reciprocal"
            | "Neg"
            | "Abs"
            | "Exp"
            | "Log"
            | "Sin"
            | "Cos"
            | "Floor"
            | "Ceil"
            | "Round"
            | "Sign"
            | "Softplus"
            | "Softsign"
            | "HardSwish"
            | "HardSigmoid"
            | "Clip"
            | "Identity"
            | "Softmax"
            | "LogSoftmax"
            | "LpNormalization"
            | "Elu"
            | "Selu"
            | "LeakyRelu"
            | "Not"
            | "Swish"
            | "Mish"
            | "CumSum"
            | "QuickGelu"
            | "FastGelu"
            | "BiasGelu"
            | "Trilu"
            | "IsNaN"
            | "IsInf"
            | "Cast"
            | "CastLike"
            | "QuantizeLinear"
            | "DequantizeLinear"
            | "RMSNormalization"
            | "SimplifiedLayerNormalization"
            | "InstanceNormalization"
            | "GroupNormalization"
            | "RotaryEmbedding"
            | "ScatterElements"
            | "ScatterND"
            | "TensorScatter" => one(shape(0)?.to_vec()),
            "Dropout" => Ok(vec![shape(0)?.to_vec(); node.outputs.len()]),
            "DynamicQuantizeLinear" => Ok(vec![shape(0)?.to_vec(), vec![], vec![]]),
            "LayerNormalization" => {
                let x = shape(0)?;
                let axis = at(node.int("axis").unwrap_or(-1), x.len())?;
                let kept = x.iter().enumerate().map(|(i, n)| if i < axis { *n } else { 1 }).collect::<Vec<_>>();
                Ok(vec![x.to_vec(), kept.clone(), kept])
            }
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Mod" | "PRelu" | "Min" | "Max" | "Sum" | "Mean" | "And" | "Or"
            | "Xor" | "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "Where" => {
                one((1..count).try_fold(shape(0)?.to_vec(), |so_far, i| broadcast(&so_far, shape(i)?))?)
            }
            "MatMul" | "MatMulInteger" => one(product(shape(0)?, shape(1)?)?),
            "Gemm" => {
                let turned = |i: usize, key: &str| -> Result<[usize; 2], Why> {
                    match *shape(i)? {
                        [rows, columns] if node.int(key) == Some(1) => Ok([columns, rows]),
                        [rows, columns] => Ok([rows, columns]),
                        ref other => Err(Wrong(format!("Gemm of a matrix and {other:?}"))),
                    }
                };
                let ([m, k], [inner, n]) = (turned(0, "transA")?, turned(1, "transB")?);
                if k != inner {
                    return Err(Wrong(format!("Gemm of rows of {k} and columns of {inner}")));
                }
                if node.input(2).is_some() && broadcast(shape(2)?, &[m, n])? != [m, n] {
                    return Err(Wrong(format!("Gemm adds {:?} to [{m}, {n}]", shape(2)?)));
                }
                one(vec![m, n])
            }
            "GatherBlockQuantized" => {
                let (codes, indices) = (shape(0)?, shape(1)?);
                let gathered = at(node.int("gather_axis").unwrap_or(0), codes.len())?;
                let packed = at(node.int("quantize_axis").unwrap_or(1), codes.len())?;
                let mut rows = codes.to_vec();
                // Codes below a byte are packed where the data is of bytes, and counted where it is of int4.
                let bits = node.int("bits").unwrap_or(4);
                if self.element(node.input(0).unwrap_or_default()) == Some(Element::UINT8) && bits == 4 {
                    rows[packed] *= 2;
                }
                one([&rows[..gathered], indices, &rows[gathered + 1..]].concat())
            }
            "MatMulNBits" => {
                let (x, [Some(k), Some(n)]) = (shape(0)?, ["K", "N"].map(|key| node.int(key))) else {
                    return Err(Wrong("MatMulNBits without K or N".to_owned()));
                };
                match x.split_last() {
                    Some((last, outer)) if *last as i64 == k => one([outer, &[extent(n)?]].concat()),
                    _ => Err(Wrong(format!("MatMulNBits of {x:?} and rows of {k}"))),
                }
            }
            "Conv" => one(convolution(node, shape(0)?, shape(1)?)?),
            "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceL1" | "ReduceL2"
            | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceSumSquare" => {
                let (x, keep) = (shape(0)?, node.int("keepdims") != Some(0));
                match parameter("axes", 1)?.filter(|axes| !axes.is_empty()) {
                    Some(axes) => one(without(x, &axes, keep)?),
                    None if node.int("noop_with_empty_axes") == Some(1) => one(x.to_vec()),
                    None if keep => one(vec![1; x.len()]),
                    None => one(vec![]),
                }
            }
            "ArgMax" | "ArgMin" => {
                one(without(shape(0)?, &[node.int("axis").unwrap_or(0)], node.int("keepdims") != Some(0))?)
            }
            "TopK" => {
                let (mut x, k) = (shape(0)?.to_vec(), *list(1)?.first().ok_or_else(|| Wrong("TopK of no k".into()))?);
                let axis = at(node.int("axis").unwrap_or(-1), x.len())?;
                x[axis] = extent(k)?;
                Ok(vec![x.clone(), x])
            }
            "Reshape" => one(reshaped(shape(0)?, list(1)?, node.int("allowzero") == Some(1))?),
            "Flatten" => {
                let (x, axis) = (shape(0)?, node.int("axis").unwrap_or(1));
                let axis = if axis == x.len() as i64 { x.len() } else { at(axis, x.len())? };
                one(vec![size(&x[..axis])?, size(&x[axis..])?])
            }
            "Transpose" => {
                let x = shape(0)?;
                let reversed = || (0..x.len() as i64).rev().collect();
                let order = node.ints("perm").map_or_else(reversed, <[i64]>::to_vec);
                let mut sorted = order.clone();
                sorted.sort_unstable();
                if sorted != (0..x.len() as i64).collect::<Vec<_>>() {
                    return Err(Wrong(format!("Transpose of {x:?} by {order:?}")));
                }
                one(order.iter().map(|axis| x[*axis as usize]).collect())
            }
            "Concat" => {
                let mut out = shape(0)?.to_vec();
                let axis = at(node.int("axis").unwrap_or(0), out.len())?;
                for i in 1..count {
                    let x = shape(i)?;
                    let fits = x.len() == out.len() && (0..x.len()).all(|d| d == axis || x[d] == out[d]);
                    if !fits {
                        return Err(Wrong(format!("Concat of {out:?} and {x:?} on axis {axis}")));
                    }
                    out[axis] = total([out[axis], x[axis]])?;
                }
                one(out)
            }
            "Slice" => {
                let mut x = shape(0)?.to_vec();
                let (starts, ends) = match opset {
                    10.. => (list(1)?.to_vec(), list(2)?.to_vec()),
                    _ => (parameter("starts", 1)?.unwrap_or_default(), parameter("ends", 2)?.unwrap_or_default()),
                };
                let axes = parameter("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
                let steps = if node.input(4).is_some() { list(4)?.to_vec() } else { vec![1; starts.len()] };
                if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
                    return Err(Wrong("Slice with lists of different lengths".to_owned()));
                }
                for (((start, end), axis), step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
                    let axis = at(*axis, x.len())?;
                    x[axis] = sliced(x[axis] as i64, *start, *end, *step)?;
                }
                one(x)
            }
            "Split" => {
                let x = shape(0)?;
                let axis = at(node.int("axis").unwrap_or(0), x.len())?;
                let parts = match parameter("split", 1)? {
                    Some(parts) => parts.iter().map(|n| extent(*n)).collect::<Result<Vec<_>, _>>()?,
                    None => {
                        let parts = node.outputs.len().max(1);
                        let each = x[axis].div_ceil(parts);
                        (0..parts).map(|i| x[axis].saturating_sub(i * each).min(each)).collect()
                    }
                };
                if total(parts.iter().copied())? != x[axis] {
                    return Err(Wrong(format!("Split of {} into {parts:?}", x[axis])));
                }
                Ok(parts.iter().map(|n| replaced(x, axis, *n)).collect())
            }
            "Gather" => {
                let (x, indices) = (shape(0)?, shape(1)?);
                let axis = at(node.int("axis").unwrap_or(0), x.len())?;
                one([&x[..axis], indices, &x[axis + 1..]].concat())
            }
            "GatherElements" => one(shape(1)?.to_vec()),
            "GatherND" => {
                let (x, indices, batch) = (shape(0)?, shape(1)?, extent(node.int("batch_dims").unwrap_or(0))?);
                match indices.split_last() {
                    Some((width, outer)) if batch + width <= x.len() => one([outer, &x[batch + width..]].concat()),
                    _ => Err(Wrong(format!("GatherND of {x:?} by {indices:?}"))),
                }
            }
            "Unsqueeze" => {
                let (x, axes) = (shape(0)?, parameter("axes", 1)?.unwrap_or_default());
                let rank = x.len() + axes.len();
                let mut new = axes.iter().map(|axis| at(*axis, rank)).collect::<Result<Vec<_>, _>>()?;
                new.sort_unstable();
                new.dedup();
                if new.len() != axes.len() {
                    return Err(Wrong(format!("Unsqueeze of {x:?} at {axes:?}")));
                }
                let mut out = x.to_vec();
                new.iter().for_each(|axis| out.insert(*axis, 1));
                one(out)
            }
            "Squeeze" => {
                let x = shape(0)?;
                let axes = match parameter("axes", 1)? {
                    Some(axes) => axes,
                    None => (0..x.len() as i64).filter(|i| x[*i as usize] == 1).collect(),
                };
                if let Some(axis) = axes.iter().find(|axis| at(**axis, x.len()).is_ok_and(|axis| x[axis] != 1)) {
                    return Err(Wrong(format!("Squeeze of {x:?} at {axis}")));
                }
                one(without(x, &axes, false)?)
            }
            "Expand" => {
                let to = list(1)?.iter().map(|n| extent(*n)).collect::<Result<Vec<_>, _>>()?;
                one(broadcast(shape(0)?, &to)?)
            }
            "Tile" => {
                let (x, times) = (shape(0)?, list(1)?);
                if x.len() != times.len() {
                    return Err(Wrong(format!("Tile of {x:?} by {times:?}")));
                }
                one(x.iter().zip(times).map(|(n, t)| bounded(*n, extent(*t)?)).collect::<Result<_, _>>()?)
            }
            "Pad" => {
                let (x, pads) = (shape(0)?, parameter("pads", 1)?.unwrap_or_default());
                let axes = match node.input(3) {
                    Some(_) => list(3)?.iter().map(|axis| at(*axis, x.len())).collect::<Result<Vec<_>, _>>()?,
                    None => (0..x.len()).collect(),
                };
                if pads.len() != 2 * axes.len() {
                    return Err(Wrong(format!("Pad of {x:?} by {pads:?}")));
                }
                let mut out = x.to_vec();
                for (i, axis) in axes.iter().enumerate() {
                    out[*axis] =
                        extent((out[*axis] as i64).saturating_add(pads[i]).saturating_add(pads[axes.len() + i]))?;
                }
                one(out)
            }
            "OneHot" => {
                let depth = extent(*list(1)?.first().ok_or_else(|| Wrong("OneHot of no depth".into()))?)?;
                let mut out = shape(0)?.to_vec();
                let axis = at(node.int("axis").unwrap_or(-1), out.len() + 1)?;
                out.insert(axis, depth);
                one(out)
            }
            "Einsum" => one(einsum(node, (0..count).map(shape).collect::<Result<Vec<_>, _>>()?)?),
            "Shape" => {
                let rank = shape(0)?.len() as i64;
                let end = |key: &str, default: i64| {
                    let at = node.int(key).unwrap_or(default);
                    (if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank)
                };
                one(vec![(end("end", rank) - end("start", 0)).max(0) as usize])
            }
            "Size" => one(vec![]),
            "Range" | "ConstantOfShape" | "NonZero" | "If" | "Loop" | "Scan" => {
                Err(NotKnown(format!("what {} makes is known only when it runs", node.op)))
            }
            other => Err(NotKnown(format!("no rule tells the shape that {other} makes"))),
        }
    }
}

/// An axis that may count from the end.
fn at(axis: i64, rank: usize) -> Result<usize, Why> {
    let from_start = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    usize::try_from(from_start)
        .ok()
        .filter(|axis| *axis < rank)
        .ok_or_else(|| Wrong(format!("axis {axis} of a tensor of rank {rank}")))
}

fn extent(n: i64) -> Result<usize, Why> {
    usize::try_from(n).map_err(|_| Wrong(format!("an extent of {n}")))
}

/// A product, as far as an extent can be written.
fn bounded(a: usize, b: usize) -> Result<usize, Why> {
    let product = a.checked_mul(b).filter(|n| i64::try_from(*n).is_ok());
    product.ok_or_else(|| Wrong(format!("an extent of {a} · {b}")))
}

/// A sum, as far as an extent can be written.
fn total(parts: impl IntoIterator<Item = usize>) -> Result<usize, Why> {
    let sum = |so_far: usize, n| so_far.checked_add(n).filter(|n| i64::try_from(*n).is_ok());
    parts.into_iter().try_fold(0, sum).ok_or_else(|| Wrong("an extent above 2^63".to_owned()))
}

fn size(shape: &[usize]) -> Result<usize, Why> {
    shape.iter().try_fold(1, |total, n| bounded(total, *n))
}

fn replaced(shape: &[usize], axis: usize, n: usize) -> Vec<usize> {
    let mut out = shape.to_vec();
    out[axis] = n;
    out
}

fn without(shape: &[usize], axes: &[i64], keep: bool) -> Result<Vec<usize>, Why> {
    let axes = axes.iter().map(|axis| at(*axis, shape.len())).collect::<Result<Vec<_>, _>>()?;
    let kept = |(i, n): (usize, &usize)| match axes.contains(&i) {
        true => keep.then_some(1),
        false => Some(*n),
    };
    Ok(shape.iter().enumerate().filter_map(kept).collect())
}

fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, Why> {
    let rank = a.len().max(b.len());
    let of = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    let extent = |i| match (of(a, i), of(b, i)) {
        (x, y) if x == y || y == 1 => Ok(x),
        (1, y) => Ok(y),
        _ => Err(Wrong(format!("{a:?} and {b:?} do not broadcast"))),
    };
    (0..rank).map(extent).collect()
}

fn product(a: &[usize], b: &[usize]) -> Result<Vec<usize>, Why> {
    let wrong = || Wrong(format!("MatMul of {a:?} and {b:?}"));
    let (Some((k, left)), false) = (a.split_last(), b.is_empty()) else { return Err(wrong()) };
    let (outer, inner, last) = match b {
        [k] => (&b[..0], *k, None),
        [outer @ .., k, n] => (outer, *k, Some(*n)),
        [] => return Err(wrong()),
    };
    if *k != inner {
        return Err(wrong());
    }
    let (left, rows) = match left.split_last() {
        Some((rows, left)) => (left, Some(*rows)),
        None => (left, None),
    };
    let mut out = broadcast(left, outer)?;
    out.extend(rows);
    out.extend(last);
    Ok(out)
}

fn convolution(node: &Node, x: &[usize], w: &[usize]) -> Result<Vec<usize>, Why> {
    let wrong = || Wrong(format!("Conv of {x:?} with {w:?}"));
    let ([batch, channels, spatial @ ..], [n, per_group, kernel @ ..]) = (x, w) else { return Err(wrong()) };
    let group = extent(node.int("group").unwrap_or(1))?;
    if spatial.len() != kernel.len() || bounded(*per_group, group)? != *channels {
        return Err(wrong());
    }
    let rank = spatial.len();
    let list = |name: &str, default: i64, len: usize| -> Result<Vec<usize>, Why> {
        let list = node.ints(name).map_or_else(|| vec![default; len], <[i64]>::to_vec);
        if list.len() != len {
            return Err(wrong());
        }
        list.iter().map(|n| extent(*n)).collect()
    };
    let (strides, dilations, pads) =
        (list("strides", 1, rank)?, list("dilations", 1, rank)?, list("pads", 0, 2 * rank)?);
    let same = match node.attributes.get("auto_pad") {
        Some(Attribute::Text(text)) => text.starts_with("SAME"),
        _ => false,
    };
    let mut out = vec![*batch, *n];
    for i in 0..rank {
        if strides[i] == 0 {
            return Err(wrong());
        }
        out.push(if same {
            spatial[i].div_ceil(strides[i])
        } else {
            let reach = bounded(dilations[i], kernel[i].saturating_sub(1))?;
            let padded = total([spatial[i], pads[i], pads[i + rank]])?;
            padded.checked_sub(1).and_then(|n| n.checked_sub(reach)).ok_or_else(wrong)? / strides[i] + 1
        });
    }
    Ok(out)
}

fn reshaped(x: &[usize], to: &[i64], zeros_count: bool) -> Result<Vec<usize>, Why> {
    let wrong = || Wrong(format!("Reshape of {x:?} to {to:?}"));
    let mut out = Vec::with_capacity(to.len());
    for (i, n) in to.iter().enumerate() {
        out.push(match n {
            0 if !zeros_count => *x.get(i).ok_or_else(wrong)?,
            -1 => 1,
            n => extent(*n)?,
        });
    }
    let (all, known) = (size(x)?, size(&out)?);
    if let Some(free) = to.iter().position(|n| *n == -1) {
        if known == 0 || all % known != 0 {
            return Err(wrong());
        }
        out[free] = all / known;
    } else if all != known {
        return Err(wrong());
    }
    Ok(out)
}

fn sliced(extent: i64, start: i64, end: i64, step: i64) -> Result<usize, Why> {
    let from_start = |at: i64| if at < 0 { at.saturating_add(extent) } else { at };
    let (start, end) = (from_start(start), from_start(end));
    let span = match step {
        0 => return Err(Wrong("Slice with steps of 0".to_owned())),
        1.. => end.clamp(0, extent) - start.clamp(0, extent),
        _ => start.clamp(-1, extent - 1) - end.clamp(-1, extent - 1),
    };
    Ok(span.max(0).unsigned_abs().div_ceil(step.unsigned_abs()) as usize)
}

fn einsum(node: &Node, inputs: Vec<&[usize]>) -> Result<Vec<usize>, Why> {
    let Some(Attribute::Text(equation)) = node.attributes.get("equation") else {
        return Err(Wrong("Einsum without an equation".to_owned()));
    };
    let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let Some((left, right)) = text.split_once("->").filter(|_| !text.contains('.')) else {
        return Err(NotKnown(format!("no rule tells the shape of Einsum {equation}")));
    };
    let wrong = || Wrong(format!("Einsum {equation} of {inputs:?}"));
    let terms: Vec<&str> = left.split(',').collect();
    let mut letters = HashMap::new();
    if terms.len() != inputs.len() {
        return Err(wrong());
    }
    for (term, shape) in terms.iter().zip(&inputs) {
        if term.chars().count() != shape.len() {
            return Err(wrong());
        }
        for (letter, n) in term.chars().zip(*shape) {
            if *letters.entry(letter).or_insert(*n) != *n {
                return Err(wrong());
            }
        }
    }
    right.chars().map(|letter| letters.get(&letter).copied().ok_or_else(wrong)).collect()
}

#[cfg(test)]
mod tests;
