//! The weights of a graph as tensors of ggml: the bytes of the file, uploaded once and in the type of the file.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use graph::{Def, Graph, Op, Quantized, ValueId, Weight, WeightData, WeightError, WeightId};

use crate::error::EngineError;
use crate::ggml::{Backend, Context, Kind, Place, Repack, Tensor};
use crate::options::{Options, Repacking};

/// Bytes of a tensor that are in memory twice while it is uploaded.
const CHUNK_BYTES: usize = 4 << 20;

/// What a weight is read as.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Role {
    /// The matrix of a `Linear`, or the kernel of a convolution.
    Matrix,
    /// A table of which rows are taken.
    Rows,
    /// Floats.
    Floats,
    /// Floats that the host reads.
    Host,
}

/// Uploaded weights.
pub(crate) struct Store {
    tensors: HashMap<(WeightId, Role), Tensor>,
    host: HashMap<WeightId, Rc<Vec<f32>>>,
    /// Matrices that lie in a buffer where only `mul_mat` reads them right.
    repacked: HashSet<WeightId>,
}

/// What is to be uploaded: by weight and role, whether the decoder reads it.
fn roles(graph: &Graph, stacks: &[(&[ValueId], bool)]) -> BTreeMap<(WeightId, Role), bool> {
    let mut roles = BTreeMap::new();
    for (order, of_decoder) in stacks {
        for id in *order {
            let Def::Op(op, args) = &graph.value(*id).def else { continue };
            for (place, arg) in args.iter().enumerate() {
                let Some(weight) = graph.weight_of(*arg) else { continue };
                let role = match (op, place) {
                    (Op::Linear | Op::Conv { .. } | Op::Conv2d { .. }, 1) => Role::Matrix,
                    (Op::Embed, 1) => Role::Rows,
                    (Op::RelativeBias { .. }, _) => Role::Host,
                    _ => Role::Floats,
                };
                *roles.entry((weight, role)).or_insert(false) |= *of_decoder;
            }
        }
    }
    roles
}

/// The type in which a weight can be uploaded as it is stored. Errors: ggml has none.
fn stored_kind(weight: &Weight) -> Result<Kind, String> {
    match &weight.data {
        WeightData::Stored { dtype, .. } => Ok(Kind::Float(*dtype)),
        WeightData::Derived(..) | WeightData::Computed(_) => Ok(Kind::F32),
        WeightData::Quantized(Quantized::Ggml { kind, .. }) => {
            let row = weight.shape.last().copied().unwrap_or(1);
            match row.is_multiple_of(kind.block_len()) {
                true => Ok(Kind::Blocks(*kind)),
                false => Err(format!("expected rows of a multiple of {} for {kind}, found {row}", kind.block_len())),
            }
        }
        WeightData::Quantized(Quantized::Affine(_) | Quantized::Float8(_)) => Err(format!(
            "expected floats or blocks of ggml, found {}; a gguf artifact of the model has blocks",
            weight.data.type_name()
        )),
    }
}

/// ggml's axes of a weight: the fastest first, always four. Errors: it has more.
pub(crate) fn axes(shape: &[usize]) -> Result<[usize; 4], String> {
    let mut ne = [1; 4];
    if shape.len() > 4 {
        return Err(format!("expected at most 4 axes, found {shape:?}"));
    }
    if shape.contains(&0) {
        return Err(format!("expected lengths above 0, found {shape:?}"));
    }
    shape.iter().rev().zip(&mut ne).for_each(|(n, ne)| *ne = *n);
    Ok(ne)
}

impl Store {
    /// `stacks`: the values of the encoder and those of the decoder, each with whether it is the decoder.
    pub(crate) fn new(
        graph: &Graph,
        stacks: &[(&[ValueId], bool)],
        backend: &Backend,
        options: &Options,
    ) -> Result<Store, EngineError> {
        let roles = roles(graph, stacks);
        let mut problems = Vec::new();
        let (plain, packed) = (Context::new(roles.len(), 0)?, Context::new(roles.len(), 0)?);
        let mut store = Store { tensors: HashMap::new(), host: HashMap::new(), repacked: HashSet::new() };
        let (mut uploads, mut repack): (Vec<(WeightId, Role)>, Option<Repack>) = (Vec::new(), None);
        for ((id, role), of_decoder) in &roles {
            let weight = graph.weights.get(*id);
            if *role == Role::Host {
                store.host.insert(*id, Rc::new(weight.read()?));
                continue;
            }
            let kind = if *role == Role::Floats { Ok(Kind::F32) } else { stored_kind(weight) };
            let (kind, ne) = match (kind, axes(&weight.shape)) {
                (Ok(kind), Ok(ne)) => (kind, ne),
                (Err(message), _) | (_, Err(message)) => {
                    problems.push(format!("{}: {message}", weight.name));
                    continue;
                }
            };
            let wanted = match options.repack {
                Repacking::None => false,
                Repacking::Decoder => *of_decoder,
                Repacking::All => true,
            };
            let buffers =
                (wanted && *role == Role::Matrix && matches!(kind, Kind::Blocks(_)) && weight.shape.len() == 2)
                    .then(|| backend.repacks(kind, ne[0], ne[1]))
                    .flatten();
            // One tensor serves as matrix and as table, unless it is rearranged for the first.
            let twin = if *role == Role::Matrix { Role::Rows } else { Role::Matrix };
            if buffers.is_none()
                && *role != Role::Floats
                && !store.repacked.contains(id)
                && let Some(known) = store.tensors.get(&(*id, twin))
            {
                let known = known.clone();
                store.tensors.insert((*id, *role), known);
                continue;
            }
            if buffers.is_some() {
                repack = buffers;
                store.repacked.insert(*id);
            }
            let context = if buffers.is_some() { &packed } else { &plain };
            store.tensors.insert((*id, *role), context.tensor(kind, ne, &weight.name));
            uploads.push((*id, *role));
        }
        if !problems.is_empty() {
            return Err(EngineError::Refused { problems });
        }
        plain.allocate(Place::Of(backend))?;
        if let Some(repack) = repack {
            packed.allocate(Place::Repacked(repack))?;
        }
        for key in uploads {
            let whole = key.1 == Role::Matrix && store.repacked.contains(&key.0);
            upload(graph.weights.get(key.0), &store.tensors[&key], whole)?;
        }
        Ok(store)
    }

    pub(crate) fn get(&self, id: WeightId, role: Role) -> &Tensor {
        &self.tensors[&(id, role)]
    }

    pub(crate) fn host(&self, id: WeightId) -> Rc<Vec<f32>> {
        self.host[&id].clone()
    }

    pub(crate) fn is_repacked(&self, id: WeightId) -> bool {
        self.repacked.contains(&id)
    }
}

fn upload(weight: &Weight, to: &Tensor, whole: bool) -> Result<(), EngineError> {
    let blob = match (&weight.data, to.kind()) {
        (WeightData::Stored { blob, dtype }, kind) if kind == Kind::Float(*dtype) => Some(blob),
        (WeightData::Quantized(Quantized::Ggml { blocks, kind }), to) if to == Kind::Blocks(*kind) => Some(blocks),
        _ => None,
    };
    let unreadable = |source| EngineError::Weight(WeightError { weight: weight.name.clone(), source });
    let Some(blob) = blob else {
        let [rows, columns] = weight.matrix();
        let step = (CHUNK_BYTES / 4 / columns.max(1)).max(1);
        let mut values = Vec::new();
        for first in (0..rows).step_by(step) {
            weight.rows(first..rows.min(first + step), &mut values)?;
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_ne_bytes()).collect();
            to.write(4 * first * columns, &bytes);
        }
        return Ok(());
    };
    if blob.len() != to.bytes() as u64 {
        let (expected, found) = (to.bytes(), blob.len());
        let problem = format!("{}: expected {expected} bytes, found {found}", weight.name);
        return Err(EngineError::Refused { problems: vec![problem] });
    }
    let step = if whole { to.bytes() } else { CHUNK_BYTES.min(to.bytes()) };
    let mut chunk = vec![0; step];
    for offset in (0..to.bytes()).step_by(step) {
        let len = step.min(to.bytes() - offset);
        blob.read_at(offset as u64, &mut chunk[..len]).map_err(unreadable)?;
        to.write(offset, &chunk[..len]);
    }
    Ok(())
}
