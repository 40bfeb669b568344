//! Weights held between uses, and given up for those that are read now.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::prepared::{Matrices, Panels};
use crate::ir::graph::Graph;
use crate::weights::{Weight, WeightError, WeightId};

/// A weight that so many calls have passed over gives its room to one that is read now: an encoder's, once decoding has
/// begun. Fewer would throw out what the next step reads where weights do not all fit.
const KEPT_CALLS: u64 = 16;

/// Bytes by which held weights may be wider than they are stored: small models are widened once, large ones at each use.
const WIDER_BYTES: usize = 128 << 20;

/// How a weight is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// As ops read it that are no products.
    Floats,
    /// As products read it.
    Panels,
    /// As it is stored, out of reach of the disk.
    Stored,
}

#[derive(Clone)]
enum Held {
    Floats(Arc<Vec<f32>>),
    Panels(Arc<Panels>),
    Stored(Arc<Weight>),
}

/// Weights of one graph. Whether and how one is held changes no result.
#[derive(Default)]
pub(super) struct Cache {
    limit_bytes: usize,
    table: Mutex<Table>,
}

/// A weight, and whether it is held for products.
type Key = (WeightId, bool);

#[derive(Default)]
struct Table {
    entries: HashMap<Key, Entry>,
    bytes: usize,
    wider_bytes: usize,
}

struct Entry {
    slot: Arc<Slot>,
    bytes: usize,
    wider_bytes: usize,
    last_call: u64,
}

struct Slot {
    form: Form,
    /// Empty until it has been read. Whoever reads holds the lock, so that nobody reads a second time meanwhile; nothing
    /// that it does there waits for another thread, which might be waiting for the lock.
    held: Mutex<Option<Held>>,
}

impl Slot {
    fn filled(&self, weight: &Weight) -> Result<Held, WeightError> {
        let mut held = lock(&self.held);
        if let Some(held) = &*held {
            return Ok(held.clone());
        }
        let read = match self.form {
            Form::Floats => Held::Floats(Arc::new(weight.read()?)),
            Form::Panels => Held::Panels(Arc::new(Panels::pack(weight)?)),
            Form::Stored => Held::Stored(Arc::new(weight.resident()?)),
        };
        *held = Some(read.clone());
        Ok(read)
    }
}

impl Cache {
    /// Holds weights of at most `limit_bytes`.
    pub(super) fn of(limit_bytes: usize) -> Cache {
        Cache { limit_bytes, table: Mutex::default() }
    }

    /// A weight as f32.
    pub(super) fn floats(&self, graph: &Graph, id: WeightId, call: u64) -> Result<Arc<Vec<f32>>, WeightError> {
        let weight = graph.weights.get(id);
        match self.slot((id, false), &[(Form::Floats, 4 * weight.len(), 0)], call) {
            None => Ok(Arc::new(weight.read()?)),
            Some(slot) => match slot.filled(weight)? {
                Held::Floats(floats) => Ok(floats),
                Held::Panels(_) | Held::Stored(_) => unreachable!("the key says that it is floats"),
            },
        }
    }

    /// A weight if it is held as f32.
    pub(super) fn known_floats(&self, id: WeightId) -> Option<Arc<Vec<f32>>> {
        let slot = lock(&self.table).entries.get(&(id, false))?.slot.clone();
        match &*lock(&slot.held) {
            Some(Held::Floats(floats)) => Some(floats.clone()),
            _ => None,
        }
    }

    /// A weight as the right side of a product.
    pub(super) fn matrix<'g>(&self, graph: &'g Graph, id: WeightId, call: u64) -> Result<Matrices<'g>, WeightError> {
        let weight = graph.weights.get(id);
        let (wide, stored) = (4 * weight.len(), weight.data.resident_bytes());
        let forms = [(Form::Panels, wide, wide.saturating_sub(stored)), (Form::Stored, stored, 0)];
        let Some(slot) = self.slot((id, true), &forms, call) else { return Ok(Matrices::Unheld(weight)) };
        Ok(match slot.filled(weight)? {
            Held::Panels(panels) => Matrices::Panels(panels),
            Held::Stored(weight) => Matrices::Stored(weight),
            Held::Floats(_) => unreachable!("the key says that it is for products"),
        })
    }

    /// The slot of a key: a new one, of the first of some forms (with its bytes, and by how many it is wider than stored)
    /// for which there is room or room can be made.
    fn slot(&self, key: Key, forms: &[(Form, usize, usize)], call: u64) -> Option<Arc<Slot>> {
        let mut table = lock(&self.table);
        if let Some(entry) = table.entries.get_mut(&key) {
            entry.last_call = entry.last_call.max(call);
            return Some(entry.slot.clone());
        }
        for &(form, bytes, wider_bytes) in forms {
            // What can never fit drives nothing out.
            if bytes > self.limit_bytes || wider_bytes > WIDER_BYTES {
                continue;
            }
            let fits = |table: &Table| {
                table.bytes + bytes <= self.limit_bytes && table.wider_bytes + wider_bytes <= WIDER_BYTES
            };
            if !fits(&table) {
                table.drop_unread(call);
            }
            if fits(&table) {
                table.bytes += bytes;
                table.wider_bytes += wider_bytes;
                let slot = Arc::new(Slot { form, held: Mutex::default() });
                table.entries.insert(key, Entry { slot: slot.clone(), bytes, wider_bytes, last_call: call });
                return Some(slot);
            }
        }
        None
    }
}

impl Table {
    fn drop_unread(&mut self, call: u64) {
        self.entries.retain(|_, entry| entry.last_call + KEPT_CALLS >= call);
        self.bytes = self.entries.values().map(|entry| entry.bytes).sum();
        self.wider_bytes = self.entries.values().map(|entry| entry.wider_bytes).sum();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic while holding the lock")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::blob::Blob;
    use crate::weights::{FloatType, WeightData};

    /// Weights of 8 numbers each: 32 bytes as f32, 16 as f16.
    fn graph(types: &[FloatType]) -> Graph {
        let mut graph = Graph::default();
        for dtype in types {
            let data = WeightData::Stored { blob: Blob::zeros(8 * dtype.bytes() as u64), dtype: *dtype };
            graph.weights.push(Weight { name: "w".into(), shape: vec![2, 4], data });
        }
        graph
    }

    fn form(matrix: &Matrices) -> &'static str {
        match matrix {
            Matrices::Panels(_) => "panels",
            Matrices::Stored(_) => "stored",
            Matrices::Unheld(_) => "unheld",
        }
    }

    #[test]
    fn what_calls_pass_over_makes_room_and_what_they_read_stays() {
        let graph = graph(&[FloatType::F32; 4]);
        let cache = Cache::of(64);
        let read = |id, call| form(&cache.matrix(&graph, WeightId(id), call).expect("zeros"));
        assert_eq!([read(0, 1), read(1, 1), read(2, 1)], ["panels", "panels", "unheld"]);
        // Weights 1 and 2 are read by every call; weight 0 by none from call 2 on.
        for call in 2..=1 + KEPT_CALLS {
            assert_eq!([read(1, call), read(2, call)], ["panels", "unheld"]);
        }
        let later = 2 + KEPT_CALLS;
        assert_eq!([read(2, later), read(1, later), read(0, later)], ["panels", "panels", "unheld"]);
        assert_eq!(lock(&cache.table).bytes, 64);
    }

    #[test]
    fn a_narrow_weight_is_held_as_stored_where_panels_do_not_fit() {
        let graph = graph(&[FloatType::F16, FloatType::F16]);
        let cache = Cache::of(48);
        let read = |id| form(&cache.matrix(&graph, WeightId(id), 1).expect("zeros"));
        assert_eq!([read(0), read(1), read(0)], ["panels", "stored", "panels"]);
    }
}
