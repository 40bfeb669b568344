//! How each weight of a graph is stored, or why it cannot be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use checkpoint::Integers;
use graph::{
    AffineTensor, Computed, FloatType, Granularity, Graph, Op, Quantized, ValueId, Weight, WeightData, WeightId,
};
use serde_json::{Value, json};

use super::compressed::{Codes, Kind};
use super::options::{Dtype, Safetensors};
use super::small_floats::{self, SmallFloats};
use super::tensor::{Content, Tensor};
use crate::error::ExportError;
use crate::model::Model;

/// How the weights of one graph are stored.
pub struct Layout<'a> {
    /// Each weight, in the order of the graph.
    weights: Vec<(&'a Weight, Form<'a>)>,
    /// Tensors that the graph does not use and the model of transformers has.
    carried: Vec<Weight>,
    /// Buffers of it that follow from the config.
    integers: Vec<Integers>,
    /// `dtype` of config.json.
    dtype: FloatType,
    /// Kinds of integer codes; empty without.
    groups: Vec<Group>,
    /// What all codes are where they are no integers.
    small_floats: Option<SmallGroup>,
    /// Whether codes are packed and decoded while loading.
    packed: bool,
    /// Modules of a target class that have no codes.
    ignored: Vec<String>,
}

enum Form<'a> {
    Floats(FloatType),
    /// The same, columns as rows.
    Turned(FloatType),
    /// A computed table, as f32. It is not the checkpoint's, so it decides no type of the whole.
    Table,
    /// Index into [`Layout::groups`].
    Codes(&'a AffineTensor, usize),
    SmallFloats(SmallFloats<'a>),
}

/// A config group.
struct Group {
    sort: Sort,
    kind: Kind,
    /// Classes or names of modules.
    targets: Vec<String>,
}

/// The config group of codes that are small floats.
struct SmallGroup {
    kind: small_floats::Kind,
    /// Classes of modules.
    targets: Vec<String>,
}

/// What tells config groups apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Sort {
    /// Inputs are rounded, a scale a token.
    activations: bool,
    bits: u8,
    symmetric: bool,
    /// 0: a row.
    columns_a_scale: usize,
}

impl Sort {
    fn of(tensor: &AffineTensor, used: &Use) -> Sort {
        let columns_a_scale = match tensor.block.per_row(tensor.shape[1]) {
            1 => 0,
            _ => tensor.block.len(tensor.shape[1]),
        };
        Sort { activations: used.rounded, bits: tensor.bits, symmetric: tensor.zeros.is_none(), columns_a_scale }
    }
}

/// What a weight is to the modules of transformers.
#[derive(Default)]
struct Use {
    /// A Linear multiplies by it.
    linear: bool,
    /// An Embed or a relative bias reads its rows.
    table: bool,
    /// A Linear with this weight reads rounded activations.
    rounded: bool,
    /// A Linear with this weight reads floats.
    plain: bool,
}

impl<'a> Layout<'a> {
    /// Errors: every weight that cannot be stored exactly or would not load, with the reason.
    pub fn of(options: &Safetensors, model: &'a Model) -> Result<Layout<'a>, ExportError> {
        let graph = &model.graph;
        let mut faults = Vec::new();
        let uses = uses(graph, &mut faults);
        let rounded = uses.values().any(|u| u.rounded);
        let mut layout = Layout {
            weights: Vec::new(),
            carried: model.checkpoint.carried(),
            integers: model.checkpoint.integers(),
            dtype: FloatType::F32,
            groups: Vec::new(),
            small_floats: None,
            packed: !rounded,
            ignored: vec![],
        };
        let mut codes: Vec<(&Weight, &AffineTensor, &Use)> = Vec::new();
        let mut floats: Vec<(&Weight, SmallFloats, &Use)> = Vec::new();
        let unused = Use::default();
        let turned = |weight: &Weight| model.architecture.is_transposed(&weight.name);
        for (id, weight) in graph.weights.iter() {
            let used = uses.get(&id).unwrap_or(&unused);
            if turned(weight) && matches!(weight.data, WeightData::Quantized(_)) {
                faults.push(format!("{}: only Linears can have codes, and transformers has none there", weight.name));
            }
            match &weight.data {
                WeightData::Quantized(Quantized::Affine(tensor)) => {
                    faults.extend(misfit(weight, used, rounded).filter(|_| !turned(weight)));
                    codes.push((weight, tensor, used));
                }
                WeightData::Quantized(quantized) => match (SmallFloats::of(quantized), &weight.data) {
                    (Some(small), _) => {
                        faults.extend(misfit(weight, used, rounded).filter(|_| !turned(weight)));
                        floats.push((weight, small, used));
                    }
                    (None, data) => {
                        faults.push(format!("{}: {} blocks exist only in gguf", weight.name, data.type_name()))
                    }
                },
                WeightData::Stored { .. } | WeightData::Derived(..) | WeightData::Computed(_) => {}
            }
        }
        layout.group(&codes, options, &mut faults);
        layout.join(&floats, codes.len(), &mut faults);
        let mut of_codes = codes.iter();
        for (id, weight) in graph.weights.iter() {
            let form = match &weight.data {
                WeightData::Stored { dtype, .. } if turned(weight) => Form::Turned(float_type(options.dtype, *dtype)),
                WeightData::Derived(..) if turned(weight) => Form::Turned(FloatType::F32),
                WeightData::Stored { dtype, .. } => Form::Floats(float_type(options.dtype, *dtype)),
                WeightData::Derived(..) => Form::Floats(FloatType::F32),
                // A parameter of Marian and Pegasus, which transformers 5.23 reports as missing when a Pegasus lacks it.
                WeightData::Computed(Computed::Sinusoid) => Form::Table,
                // No parameter of transformers: it computes the table, and refuses a tensor.
                WeightData::Computed(Computed::SinusoidBetweenEnds { .. } | Computed::OneRow(_)) => continue,
                WeightData::Quantized(Quantized::Affine(_)) => {
                    let (_, tensor, used) = of_codes.next().expect("each was seen before");
                    Form::Codes(tensor, layout.group_of(tensor, used))
                }
                WeightData::Quantized(quantized) => match SmallFloats::of(quantized) {
                    Some(small) => Form::SmallFloats(small),
                    None => continue, // a ggml weight, which is a fault already
                },
            };
            if let Some(dtype) = form.float() {
                faults.extend(narrowed(options.dtype, dtype, weight, !codes.is_empty() || !floats.is_empty()));
                let used = uses.get(&id).unwrap_or(&unused);
                layout.ignored.extend((used.linear || used.table).then(|| module(&weight.name).to_owned()));
            }
            layout.weights.push((weight, form));
        }
        let head = model.architecture.head(&model.checkpoint);
        if graph.weights.find(&format!("{head}.weight")).is_none() {
            layout.ignored.push(head.to_owned()); // it has the weight of the embedding, which is no Linear's
        }
        let types: BTreeSet<&str> =
            layout.weights.iter().filter_map(|(_, form)| form.float().map(FloatType::name)).collect();
        let first = layout.weights.iter().find_map(|(_, form)| form.float());
        let is_plain = layout.groups.is_empty() && layout.small_floats.is_none();
        if let (true, Some(dtype)) = (is_plain && types.len() == 1, first) {
            layout.dtype = dtype;
        }
        match faults.is_empty() {
            true => Ok(layout),
            false => {
                let hint = "a rule of `quantize` can give these weights another scheme or keep them".to_owned();
                Err(ExportError::CannotHold { format: "safetensors", items: faults, hint })
            }
        }
    }

    /// Makes the config groups.
    fn group(&mut self, codes: &[(&Weight, &AffineTensor, &Use)], options: &Safetensors, faults: &mut Vec<String>) {
        if codes.is_empty() {
            return;
        }
        if self.packed {
            let kind = codes.iter().map(|(_, tensor, _)| Kind::of(tensor)).reduce(Kind::and).expect("not empty");
            let wide: Vec<&str> = codes.iter().filter(|(_, t, _)| t.bits == 8).map(|(w, ..)| w.name.as_str()).collect();
            if wide.len() < codes.len() && !wide.is_empty() && !options.widen_codes {
                faults.push(format!(
                    "{} of {} weights with codes have 8 bits and the others 4, but transformers reads one width for a \
                     whole model; `safetensors: {{ widen_codes: true }}` stores all in 8 bits; with 8 bits: {}",
                    wide.len(),
                    codes.len(),
                    wide.join(", ")
                ));
            }
            let targets = classes(codes.iter().any(|(.., used)| used.table));
            let (_, tensor, used) = codes[0];
            self.groups.push(Group { sort: Sort::of(tensor, used), kind, targets });
            return;
        }
        let mut groups: BTreeMap<Sort, Group> = BTreeMap::new();
        for (weight, tensor, used) in codes {
            let (sort, kind) = (Sort::of(tensor, used), Kind::of(tensor));
            let group = groups.entry(sort).or_insert(Group { sort, kind, targets: Vec::new() });
            group.kind = group.kind.and(kind);
            group.targets.push(module(&weight.name).to_owned());
        }
        self.groups = groups.into_values().collect();
        if let [only] = &mut self.groups[..] {
            only.targets = vec!["Linear".to_owned()];
        }
    }

    /// Makes the config group of codes that are small floats. `integers`: weights with other codes.
    fn join(&mut self, codes: &[(&Weight, SmallFloats, &Use)], integers: usize, faults: &mut Vec<String>) {
        let Some((_, first, _)) = codes.first() else { return };
        let kind = codes.iter().try_fold(first.kind(), |kind, (_, small, _)| kind.and(small.kind()));
        let names = || codes.iter().map(|(weight, ..)| weight.name.as_str()).collect::<Vec<_>>().join(", ");
        match kind {
            _ if !self.packed => faults.push(format!(
                "{} weights are small floats, which transformers decodes while loading, and then it rounds no activation: {}",
                codes.len(),
                names()
            )),
            Some(kind) if integers == 0 => {
                let targets = classes(codes.iter().any(|(.., used)| used.table));
                self.small_floats = Some(SmallGroup { kind, targets });
            }
            _ => faults.push(format!(
                "{} weights are 4- or 8-bit floats and others have other codes, but transformers reads one kind for a whole \
                 model: {}",
                codes.len(),
                names()
            )),
        }
    }

    /// The group of a weight with codes.
    fn group_of(&self, tensor: &AffineTensor, used: &Use) -> usize {
        if self.packed {
            return 0;
        }
        let sort = Sort::of(tensor, used);
        self.groups.iter().position(|group| group.sort == sort).expect("every weight with codes has made or joined one")
    }

    /// Every tensor of the files; those of one weight stand together.
    pub fn tensors(&self) -> Vec<Vec<Tensor<'_>>> {
        let tensors = |(weight, form): &(&'a Weight, Form<'a>)| match form {
            Form::Floats(dtype) => {
                let content = Content::Floats { weight, dtype: *dtype };
                vec![Tensor { name: weight.name.clone(), shape: weight.shape.clone(), content }]
            }
            Form::Table => {
                let content = Content::Floats { weight, dtype: FloatType::F32 };
                vec![Tensor { name: weight.name.clone(), shape: weight.shape.clone(), content }]
            }
            Form::Turned(dtype) => {
                let shape = weight.shape.iter().rev().copied().collect();
                let content = Content::Turned { weight, dtype: *dtype };
                vec![Tensor { name: weight.name.clone(), shape, content }]
            }
            Form::Codes(tensor, group) => {
                let kind = self.groups[*group].kind;
                Tensor::of_codes(Codes { weight, tensor, kind, packed: self.packed })
            }
            Form::SmallFloats(codes) => {
                let group = self.small_floats.as_ref().expect("`join` saw the weight");
                Tensor::of_small_floats(weight, *codes, group.kind)
            }
        };
        let carried = self.carried.iter().map(|weight| {
            let dtype = match weight.data {
                WeightData::Stored { dtype, .. } => dtype,
                _ => unreachable!("the checkpoint stores it"),
            };
            vec![Tensor {
                name: weight.name.clone(),
                shape: weight.shape.clone(),
                content: Content::Floats { weight, dtype },
            }]
        });
        let integers = self.integers.iter().map(|known| {
            let content = Content::Integers(&known.values);
            vec![Tensor { name: known.name.clone(), shape: known.shape.clone(), content }]
        });
        self.weights.iter().map(tensors).chain(carried).chain(integers).collect()
    }

    /// The checkpoint's config.json with `dtype` and `quantization_config`.
    pub fn write_config(&self, model: &Model, dir: &Path) -> Result<(), ExportError> {
        let mut config = model.checkpoint.config_json().clone();
        let entries = config.as_object_mut().expect("an importer has read keys from it");
        let dtype = match self.dtype {
            FloatType::F32 => "float32",
            FloatType::F16 => "float16",
            FloatType::BF16 => "bfloat16",
        };
        // transformers before 4.56 knows the second name only.
        entries.insert("dtype".to_owned(), dtype.into());
        if let Some(old) = entries.get_mut("torch_dtype") {
            *old = dtype.into();
        }
        if !self.groups.is_empty() || self.small_floats.is_some() {
            entries.insert("quantization_config".to_owned(), self.quantization_config());
        }
        let file = dir.join("config.json");
        let text = serde_json::to_string_pretty(&config).expect("keys are strings") + "\n";
        std::fs::write(&file, text).map_err(|source| ExportError::Io { file, source })
    }

    fn quantization_config(&self) -> Value {
        let format = match &self.small_floats {
            Some(group) => group.kind.format(),
            None if self.packed => "pack-quantized",
            None => "int-quantized",
        };
        let group = |targets: &[String], weights: Value, activations: Value| {
            json!({
                "targets": targets,
                "weights": weights,
                "input_activations": activations,
                "output_activations": null,
                "format": format,
            })
        };
        let of_integers = |one: &Group| {
            let activations = json!({
                "num_bits": 8, "type": "int", "symmetric": true, "strategy": "token", "dynamic": true,
            });
            group(&one.targets, one.kind.config(), if one.sort.activations { activations } else { Value::Null })
        };
        let of_floats = self.small_floats.as_ref().map(|one| group(&one.targets, one.kind.config(), Value::Null));
        let all = self.groups.iter().map(of_integers).chain(of_floats);
        let groups: serde_json::Map<String, Value> =
            all.enumerate().map(|(index, group)| (format!("group_{index}"), group)).collect();
        let mut config = json!({
            "quant_method": "compressed-tensors",
            "format": format,
            "quantization_status": "compressed",
            "config_groups": groups,
            "ignore": self.ignored,
            "kv_cache_scheme": null,
        });
        if self.packed {
            config["dequantize"] = true.into();
        }
        config
    }
}

impl Form<'_> {
    fn float(&self) -> Option<FloatType> {
        match self {
            Form::Floats(dtype) | Form::Turned(dtype) => Some(*dtype),
            Form::Table | Form::Codes(..) | Form::SmallFloats(_) => None,
        }
    }
}

/// The classes of modules whose weights have codes.
fn classes(tables: bool) -> Vec<String> {
    let classes: &[&str] = if tables { &["Linear", "Embedding"] } else { &["Linear"] };
    classes.iter().map(|class| (*class).to_owned()).collect()
}

/// The name of the module that owns a weight.
fn module(weight: &str) -> &str {
    weight.strip_suffix(".weight").unwrap_or(weight)
}

fn uses(graph: &Graph, faults: &mut Vec<String>) -> BTreeMap<WeightId, Use> {
    let mut uses: BTreeMap<WeightId, Use> = BTreeMap::new();
    for index in 0..graph.values.len() {
        let id = ValueId(index);
        let Some(op) = graph.op(id) else { continue };
        if let Op::FakeQuant(_) = op {
            faults.push(format!(
                "{}: expected activations with a scale a token, found fixed steps",
                graph.value(id).name
            ));
        }
        let args = graph.args(id);
        for (place, arg) in args.iter().enumerate() {
            if let Some(Op::DynamicQuant(granularity)) = graph.op(*arg) {
                if (op, place) != (&Op::Linear, 0) {
                    faults.push(format!("{}: reads rounded activations and is no Linear", graph.value(id).name));
                } else if *granularity != Granularity::Token {
                    let name = &graph.value(id).name;
                    faults.push(format!("{name}: expected activations with a scale a token, found one a tensor"));
                }
            }
            let Some(weight) = graph.weight_of(*arg) else { continue };
            let used = uses.entry(weight).or_default();
            match (op, place) {
                (Op::Linear, 1) => {
                    used.linear = true;
                    match graph.op(args[0]) {
                        Some(Op::DynamicQuant(_)) => used.rounded = true,
                        _ => used.plain = true,
                    }
                }
                (Op::Embed, 1) | (Op::RelativeBias { .. }, 0) => used.table = true,
                _ => {}
            }
        }
    }
    uses
}

/// Why a weight cannot have codes.
fn misfit(weight: &Weight, used: &Use, rounded: bool) -> Option<String> {
    let Weight { name, shape, .. } = weight;
    if shape.len() != 2 || !name.ends_with(".weight") {
        return Some(format!("{name}: expected a matrix named *.weight to have codes, found {shape:?}"));
    }
    if !used.linear && !used.table {
        return Some(format!("{name}: only weights of Linears and embeddings can have codes"));
    }
    if rounded && used.table {
        return Some(format!("{name}: an embedding cannot have codes where activations are rounded"));
    }
    (used.rounded && used.plain).then(|| format!("{name}: one Linear reads rounded activations, another reads floats"))
}

/// The type in the file for one in the graph.
fn float_type(wanted: Dtype, stored: FloatType) -> FloatType {
    if wanted == Dtype::F32 { FloatType::F32 } else { stored }
}

/// Why an option's type is not possible.
fn narrowed(wanted: Dtype, found: FloatType, weight: &Weight, codes: bool) -> Option<String> {
    let wanted = match wanted {
        Dtype::AsStored | Dtype::F32 => return None,
        Dtype::F16 => FloatType::F16,
        Dtype::Bf16 => FloatType::BF16,
    };
    let Weight { name, .. } = weight;
    if codes {
        let wanted = wanted.name();
        return Some(format!("{name}: dtype {wanted} would make transformers round the products of codes and scales"));
    }
    (found != wanted).then(|| {
        format!(
            "{name}: expected {} for dtype {}, found {}; the scheme rounds",
            wanted.name(),
            wanted.name(),
            found.name()
        )
    })
}
