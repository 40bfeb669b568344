//! A safe, owned shell around the part of ggml that the lowering uses.
//!
//! ggml ends the process where an argument does not fit, so each function here states as an assertion what ggml would
//! assert: a misfit is a panic, which unwinds. A [`Tensor`] keeps its [`Context`] alive, a context its buffer and the
//! contexts of all tensors that its own ones read; so nothing is freed while something may still be computed from it.

#![allow(unsafe_code, reason = "calls into C; everything else of the crate is safe")]

use std::cell::{Cell, OnceCell, RefCell};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::rc::Rc;

use graph::{FloatType, GgmlType};
use llama_cpp_sys_2 as sys;

/// ggml could not get the memory it asked for, or a backend failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("ggml: {0}")]
pub(crate) struct Fault(pub(crate) String);

fn fault(what: &str) -> Fault {
    Fault(what.to_owned())
}

/// What an element, or a block of them, is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Floats.
    Float(FloatType),
    /// Blocks of weights.
    Blocks(GgmlType),
    /// Rows of tables, positions.
    I32,
    /// Rows of a cache.
    I64,
}

impl Kind {
    pub(crate) const F32: Kind = Kind::Float(FloatType::F32);

    fn raw(self) -> sys::ggml_type {
        match self {
            Kind::Float(FloatType::F32) => sys::GGML_TYPE_F32,
            Kind::Float(FloatType::F16) => sys::GGML_TYPE_F16,
            Kind::Float(FloatType::BF16) => sys::GGML_TYPE_BF16,
            Kind::Blocks(kind) => kind.gguf_id() as sys::ggml_type,
            Kind::I32 => sys::GGML_TYPE_I32,
            Kind::I64 => sys::GGML_TYPE_I64,
        }
    }

    /// Elements that are stored together.
    fn block_len(self) -> usize {
        if let Kind::Blocks(kind) = self { kind.block_len() } else { 1 }
    }

    /// Bytes of such a block.
    fn block_bytes(self) -> usize {
        match self {
            Kind::Float(float) => float.bytes(),
            Kind::Blocks(kind) => kind.block_bytes(),
            Kind::I32 => 4,
            Kind::I64 => 8,
        }
    }
}

/// Where tensors and graphs are described, and the buffer that holds the data of those that have some of their own.
pub(crate) struct Context(Rc<Described>);

struct Described {
    raw: NonNull<sys::ggml_context>,
    buffer: OnceCell<Buffer>,
    /// Contexts of tensors that tensors of this one read.
    read: RefCell<Vec<Rc<Described>>>,
    /// Tensors that still fit: ggml aborts on one too many.
    left: Cell<usize>,
}

impl Drop for Described {
    fn drop(&mut self) {
        // SAFETY: made by ggml_init and freed once; tensors hold an Rc on this, so none is left.
        unsafe { sys::ggml_free(self.raw.as_ptr()) }
    }
}

struct Buffer(NonNull<sys::ggml_backend_buffer>);

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: owned by this value alone; the context of its tensors goes with it.
        unsafe { sys::ggml_backend_buffer_free(self.0.as_ptr()) }
    }
}

/// A tensor of a context. Axes are ggml's: the fastest first, always four.
#[derive(Clone)]
pub(crate) struct Tensor {
    raw: NonNull<sys::ggml_tensor>,
    kind: Kind,
    home: Rc<Described>,
}

impl Context {
    /// For at most `tensors` tensors and, where `nodes` is not 0, one graph of as many nodes and leaves.
    pub(crate) fn new(tensors: usize, nodes: usize) -> Result<Context, Fault> {
        // SAFETY: no arguments but numbers; a null buffer asks ggml to allocate one.
        let raw = unsafe {
            let graph = if nodes == 0 { 0 } else { sys::ggml_graph_overhead_custom(nodes, false) };
            let mem_size = (tensors + 1) * sys::ggml_tensor_overhead() + graph;
            sys::ggml_init(sys::ggml_init_params { mem_size, mem_buffer: ptr::null_mut(), no_alloc: true })
        };
        let raw = NonNull::new(raw).ok_or_else(|| fault("no memory to describe tensors in"))?;
        let (buffer, read, left) = (OnceCell::new(), RefCell::default(), Cell::new(tensors));
        Ok(Context(Rc::new(Described { raw, buffer, read, left })))
    }

    /// Tensors described here that a graph may be made of, once `capacity` were asked for.
    pub(crate) fn used(&self, capacity: usize) -> usize {
        capacity - self.0.left.get()
    }

    fn ctx(&self) -> *mut sys::ggml_context {
        let left = self.0.left.get();
        assert!(left > 0, "the context was made for fewer tensors");
        self.0.left.set(left - 1);
        self.0.raw.as_ptr()
    }

    /// `raw`: just made by ggml in this context from tensors of `read`.
    fn adopt(&self, raw: *mut sys::ggml_tensor, kind: Kind, read: &[&Tensor]) -> Tensor {
        let mut known = self.0.read.borrow_mut();
        for tensor in read {
            let foreign = !Rc::ptr_eq(&tensor.home, &self.0);
            if foreign && !known.iter().any(|home| Rc::ptr_eq(home, &tensor.home)) {
                known.push(tensor.home.clone());
            }
        }
        Tensor { raw: NonNull::new(raw).expect("ggml aborts instead"), kind, home: self.0.clone() }
    }

    /// A tensor without data.
    pub(crate) fn tensor(&self, kind: Kind, ne: [usize; 4], name: &str) -> Tensor {
        assert!(ne[0].is_multiple_of(kind.block_len()), "{name}: rows of {} in blocks of {}", ne[0], kind.block_len());
        let bytes = ne.iter().try_fold(kind.block_bytes(), |n: usize, x| n.checked_mul(*x));
        assert!(bytes.is_some_and(|n| n < isize::MAX as usize), "{name}: {ne:?} elements are too many");
        let name = CString::new(name.replace('\0', " ")).expect("no zero is left");
        let ne = ne.map(|n| n as i64);
        // SAFETY: `ne` has four lengths whose product was checked; ggml copies the name, cut to its field.
        unsafe {
            let raw = sys::ggml_new_tensor(self.ctx(), kind.raw(), 4, ne.as_ptr());
            // ggml would name it at its first use in a graph, which other graphs may then be reading.
            sys::ggml_set_name(raw, name.as_ptr());
            self.adopt(raw, kind, &[])
        }
    }

    /// Gives all tensors made so far their memory. Once a context.
    pub(crate) fn allocate(&self, place: Place<'_>) -> Result<(), Fault> {
        // SAFETY: the context and the backend live; the buffer is freed with the context.
        let raw = unsafe {
            if sys::ggml_get_first_tensor(self.0.raw.as_ptr()).is_null() {
                return Ok(());
            }
            match place {
                Place::Of(backend) => sys::ggml_backend_alloc_ctx_tensors(self.0.raw.as_ptr(), backend.raw.as_ptr()),
                Place::Repacked(repack) => {
                    sys::ggml_backend_alloc_ctx_tensors_from_buft(self.0.raw.as_ptr(), repack.0.as_ptr())
                }
            }
        };
        let buffer = Buffer(NonNull::new(raw).ok_or_else(|| fault("no memory for tensors"))?);
        assert!(self.0.buffer.set(buffer).is_ok(), "a context is allocated once");
        Ok(())
    }

    /// A graph of all that `outputs` need, in the order given. The context was made with room for `nodes`.
    pub(crate) fn graph(self, nodes: usize, outputs: &[Tensor], backend: &Rc<Backend>) -> Result<Graph, Fault> {
        let mut foreign = Vec::new();
        // SAFETY: room for the graph was asked for in `Context::new`; every node counts as a tensor somewhere, so `nodes`
        // bounds them; the tensors live as long as `foreign` does, which the graph keeps.
        let (raw, allocator) = unsafe {
            let raw = sys::ggml_new_graph_custom(self.0.raw.as_ptr(), nodes, false);
            for output in outputs {
                sys::ggml_build_forward_expand(raw, output.raw.as_ptr());
                foreign.push(output.home.clone());
            }
            let kind = sys::ggml_backend_get_default_buffer_type(backend.raw.as_ptr());
            (raw, sys::ggml_gallocr_new(kind))
        };
        let raw = NonNull::new(raw).ok_or_else(|| fault("no memory for a graph"))?;
        let allocator = Allocator(NonNull::new(allocator).ok_or_else(|| fault("no memory for a graph"))?);
        // SAFETY: both were just made.
        if !unsafe { sys::ggml_gallocr_alloc_graph(allocator.0.as_ptr(), raw.as_ptr()) } {
            return Err(fault("no memory for the values of a graph"));
        }
        Ok(Graph { raw, backend: backend.clone(), _allocator: allocator, _contexts: (self, foreign) })
    }
}

/// Where a context's tensors lie.
pub(crate) enum Place<'a> {
    /// As they are, where a backend computes.
    Of(&'a Backend),
    /// Rearranged for its matrix kernels.
    Repacked(Repack),
}

/// Buffers of the CPU in which rows of matrices are interleaved. `Tensor::write` takes a whole tensor there, and only
/// the first argument of `mul_mat` may lie there.
#[derive(Clone, Copy)]
pub(crate) struct Repack(NonNull<sys::ggml_backend_buffer_type>);

impl Tensor {
    fn at(&self) -> &sys::ggml_tensor {
        // SAFETY: it lives in its home, which this value holds.
        unsafe { self.raw.as_ref() }
    }

    pub(crate) fn ne(&self) -> [usize; 4] {
        self.at().ne.map(|n| n as usize)
    }

    pub(crate) fn nb(&self) -> [usize; 4] {
        self.at().nb
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn len(&self) -> usize {
        self.ne().iter().product()
    }

    pub(crate) fn bytes(&self) -> usize {
        // SAFETY: as in `at`.
        unsafe { sys::ggml_nbytes(self.raw.as_ptr()) }
    }

    pub(crate) fn is_dense(&self) -> bool {
        // SAFETY: as in `at`.
        unsafe { sys::ggml_is_contiguous(self.raw.as_ptr()) }
    }

    /// Whether each row is, however rows follow each other.
    pub(crate) fn has_dense_rows(&self) -> bool {
        self.nb()[0] == self.kind.block_bytes()
    }

    /// Whether `self` can be repeated to the shape of `other`.
    fn repeats_to(&self, other: [usize; 4]) -> bool {
        self.ne().iter().zip(other).all(|(n, to)| *n > 0 && to.is_multiple_of(*n))
    }

    /// Keeps its memory from being used again in its graph.
    pub(crate) fn keep(&self) {
        // SAFETY: a flag of a tensor that lives.
        unsafe { sys::ggml_set_output(self.raw.as_ptr()) }
    }

    fn holds(&self, offset: usize, len: usize) {
        // SAFETY: as in `at`; what a view shows lives as long as the view does.
        let owner = unsafe { self.at().view_src.as_ref() }.unwrap_or(self.at());
        let allocated = !owner.buffer.is_null() && !self.at().data.is_null();
        assert!(allocated, "data of a tensor that has no memory yet");
        assert!(self.is_dense() && offset.checked_add(len).is_some_and(|end| end <= self.bytes()), "past the end");
    }

    pub(crate) fn write(&self, offset_bytes: usize, bytes: &[u8]) {
        self.holds(offset_bytes, bytes.len());
        // SAFETY: the tensor has memory for these bytes, checked above.
        unsafe { sys::ggml_backend_tensor_set(self.raw.as_ptr(), bytes.as_ptr().cast(), offset_bytes, bytes.len()) }
    }

    pub(crate) fn write_f32(&self, values: &[f32]) {
        assert_eq!(self.kind, Kind::F32);
        self.holds(0, 4 * values.len());
        // SAFETY: as in `write`; floats are bytes.
        unsafe { sys::ggml_backend_tensor_set(self.raw.as_ptr(), values.as_ptr().cast(), 0, 4 * values.len()) }
    }

    pub(crate) fn read(&self, offset_bytes: usize, out: &mut [u8]) {
        self.holds(offset_bytes, out.len());
        // SAFETY: the tensor has memory for these bytes, checked above.
        unsafe { sys::ggml_backend_tensor_get(self.raw.as_ptr(), out.as_mut_ptr().cast(), offset_bytes, out.len()) }
    }

    pub(crate) fn read_f32(&self) -> Vec<f32> {
        assert_eq!(self.kind, Kind::F32);
        let mut out = vec![0.0f32; self.len()];
        self.holds(0, 4 * out.len());
        // SAFETY: as in `read`; any bytes are floats.
        unsafe { sys::ggml_backend_tensor_get(self.raw.as_ptr(), out.as_mut_ptr().cast(), 0, 4 * out.len()) }
        out
    }

    /// Zeros.
    pub(crate) fn clear(&self) {
        self.holds(0, self.bytes());
        // SAFETY: the tensor has memory, checked above.
        unsafe { sys::ggml_backend_tensor_memset(self.raw.as_ptr(), 0, 0, self.bytes()) }
    }
}

/// Functions of one dense tensor of floats.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Map {
    Relu,
    Tanh,
    /// With `erf`.
    GeluErf,
    /// With `tanh`, from a table of f16.
    GeluTable,
    /// From a table of f16.
    QuickGeluTable,
    Silu,
    Sigmoid,
}

/// Arithmetic of two tensors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pair {
    Add,
    Sub,
    Mul,
    Div,
}

/// One op each. What comes back is described, and computed when a graph with it runs.
impl Context {
    pub(crate) fn map(&self, map: Map, a: &Tensor) -> Tensor {
        assert!(a.kind == Kind::F32 && a.is_dense());
        let f = match map {
            Map::Relu => sys::ggml_relu,
            Map::Tanh => sys::ggml_tanh,
            Map::GeluErf => sys::ggml_gelu_erf,
            Map::GeluTable => sys::ggml_gelu,
            Map::QuickGeluTable => sys::ggml_gelu_quick,
            Map::Silu => sys::ggml_silu,
            Map::Sigmoid => sys::ggml_sigmoid,
        };
        // SAFETY: here and below: both pointers live, and what ggml asserts was asserted above.
        self.adopt(unsafe { f(self.ctx(), a.raw.as_ptr()) }, Kind::F32, &[a])
    }

    /// `b` is repeated to the shape of `a`.
    pub(crate) fn pair(&self, pair: Pair, a: &Tensor, b: &Tensor) -> Tensor {
        assert!(a.kind == Kind::F32 && b.kind == Kind::F32 && a.has_dense_rows() && b.is_dense());
        assert!(b.repeats_to(a.ne()), "{:?} to {:?}", b.ne(), a.ne());
        let f = match pair {
            Pair::Add => sys::ggml_add,
            Pair::Sub => sys::ggml_sub,
            Pair::Mul => sys::ggml_mul,
            Pair::Div => sys::ggml_div,
        };
        // SAFETY: as above.
        self.adopt(unsafe { f(self.ctx(), a.raw.as_ptr(), b.raw.as_ptr()) }, Kind::F32, &[a, b])
    }

    /// `a · factor + offset`
    pub(crate) fn scale(&self, a: &Tensor, factor: f32, offset: f32) -> Tensor {
        assert!(a.kind == Kind::F32 && a.is_dense());
        // SAFETY: as above.
        self.adopt(unsafe { sys::ggml_scale_bias(self.ctx(), a.raw.as_ptr(), factor, offset) }, Kind::F32, &[a])
    }

    /// `out[i, j] = a[·, i] · b[·, j]`; `a` is repeated along the last two axes of `b`.
    pub(crate) fn mul_mat(&self, a: &Tensor, b: &Tensor) -> Tensor {
        let (m, n) = (a.ne(), b.ne());
        assert!(a.has_dense_rows() && b.has_dense_rows() && b.kind == Kind::F32 && a.nb()[0] <= a.nb()[1]);
        assert!(!matches!(a.kind, Kind::I32 | Kind::I64));
        assert!(m[0] == n[0] && n[2].is_multiple_of(m[2]) && n[3].is_multiple_of(m[3]), "{m:?} on {n:?}");
        // SAFETY: as above.
        self.adopt(unsafe { sys::ggml_mul_mat(self.ctx(), a.raw.as_ptr(), b.raw.as_ptr()) }, Kind::F32, &[a, b])
    }

    /// `softmax(a · scale + mask)` over rows, with one more place in each row that holds `sinks[axis 2]` and is dropped.
    pub(crate) fn soft_max(&self, a: &Tensor, mask: Option<&Tensor>, scale: f32, sinks: &Tensor) -> Tensor {
        assert!(a.kind == Kind::F32 && a.is_dense() && sinks.kind == Kind::F32 && sinks.len() == a.ne()[2]);
        assert!(sinks.ne()[0] == a.ne()[2] && sinks.is_dense());
        if let Some(mask) = mask {
            let (a, m) = (a.ne(), mask.ne());
            assert!(mask.kind == Kind::F32 && mask.is_dense() && m[..2] == a[..2], "{m:?} on {a:?}");
            assert!(a[2].is_multiple_of(m[2]) && a[3].is_multiple_of(m[3]), "{m:?} on {a:?}");
        }
        let raw_mask = mask.map_or(ptr::null_mut(), |mask| mask.raw.as_ptr());
        // SAFETY: as above; no mask is a null pointer.
        let raw = unsafe {
            let raw = sys::ggml_soft_max_ext(self.ctx(), a.raw.as_ptr(), raw_mask, scale, 0.0);
            sys::ggml_soft_max_add_sinks(raw, sinks.raw.as_ptr());
            raw
        };
        let read: Vec<&Tensor> = [a, sinks].into_iter().chain(mask).collect();
        self.adopt(raw, Kind::F32, &read)
    }

    pub(crate) fn rms_norm(&self, a: &Tensor, eps: f32) -> Tensor {
        assert!(a.kind == Kind::F32 && a.is_dense());
        // SAFETY: as above.
        self.adopt(unsafe { sys::ggml_rms_norm(self.ctx(), a.raw.as_ptr(), eps) }, Kind::F32, &[a])
    }

    pub(crate) fn norm(&self, a: &Tensor, eps: f32) -> Tensor {
        assert!(a.kind == Kind::F32 && a.is_dense());
        // SAFETY: as above.
        self.adopt(unsafe { sys::ggml_norm(self.ctx(), a.raw.as_ptr(), eps) }, Kind::F32, &[a])
    }

    /// Over the first two axes and the channels of a group; channels are the third axis.
    pub(crate) fn group_norm(&self, a: &Tensor, groups: usize, eps: f32) -> Tensor {
        assert!(a.kind == Kind::F32 && a.is_dense() && groups > 0 && a.ne()[2].is_multiple_of(groups));
        // SAFETY: as above.
        let raw = unsafe { sys::ggml_group_norm(self.ctx(), a.raw.as_ptr(), groups as c_int, eps) };
        self.adopt(raw, Kind::F32, &[a])
    }

    /// Rows of a table, as f32. `ids`: a vector, every one of them a row, which the caller has checked.
    pub(crate) fn get_rows(&self, table: &Tensor, ids: &Tensor) -> Tensor {
        assert!(ids.kind == Kind::I32 && ids.ne()[1..] == [1; 3] && table.ne()[2..] == [1; 2]);
        assert!(table.has_dense_rows() && !matches!(table.kind, Kind::I32 | Kind::I64));
        // SAFETY: as above.
        let raw = unsafe { sys::ggml_get_rows(self.ctx(), table.raw.as_ptr(), ids.raw.as_ptr()) };
        self.adopt(raw, Kind::F32, &[table, ids])
    }

    /// Writes rows into `to`; reading the result, and not `to`, makes sure that it is written before.
    pub(crate) fn set_rows(&self, to: &Tensor, rows: &Tensor, ids: &Tensor) -> Tensor {
        assert!(rows.kind == Kind::F32 && ids.kind == Kind::I64 && ids.ne()[1..] == [1; 3]);
        assert!(to.has_dense_rows() && rows.has_dense_rows() && rows.ne()[1] == ids.ne()[0]);
        assert!(to.ne()[0] == rows.ne()[0] && to.ne()[2..] == rows.ne()[2..], "{:?} in {:?}", rows.ne(), to.ne());
        // SAFETY: as above; ggml checks each row id when it runs.
        let raw = unsafe { sys::ggml_set_rows(self.ctx(), to.raw.as_ptr(), rows.raw.as_ptr(), ids.raw.as_ptr()) };
        self.adopt(raw, to.kind, &[to, rows, ids])
    }

    /// Copies `from` over `to`, in the order of their elements.
    pub(crate) fn copy(&self, from: &Tensor, to: &Tensor) -> Tensor {
        assert!(from.len() == to.len() && from.kind == Kind::F32 && matches!(to.kind, Kind::Float(_)));
        // SAFETY: as above.
        let raw = unsafe { sys::ggml_cpy(self.ctx(), from.raw.as_ptr(), to.raw.as_ptr()) };
        self.adopt(raw, to.kind, &[from, to])
    }

    /// The same elements in the order of their axes.
    pub(crate) fn dense(&self, a: &Tensor) -> Tensor {
        if a.is_dense() {
            // Strides of axes of length 1 may be anything, and some ops read them all the same.
            let (ne, nb) = (a.ne(), a.nb());
            let plain = a.has_dense_rows() && (1..3).all(|i| nb[i + 1] == nb[i] * ne[i]) && a.kind.block_len() == 1;
            let is_row = plain && nb[1] == nb[0] * ne[0];
            return if is_row || a.kind.block_len() > 1 { a.clone() } else { self.reshape(a, ne) };
        }
        assert!(!matches!(a.kind, Kind::Blocks(_)));
        // SAFETY: as above.
        self.adopt(unsafe { sys::ggml_cont(self.ctx(), a.raw.as_ptr()) }, a.kind, &[a])
    }

    /// The mean of each row.
    pub(crate) fn mean(&self, a: &Tensor) -> Tensor {
        assert!(a.kind == Kind::F32 && a.is_dense());
        // SAFETY: as above.
        self.adopt(unsafe { sys::ggml_mean(self.ctx(), a.raw.as_ptr()) }, Kind::F32, &[a])
    }

    /// A view under another shape.
    pub(crate) fn reshape(&self, a: &Tensor, ne: [usize; 4]) -> Tensor {
        assert!(a.is_dense() && ne.iter().product::<usize>() == a.len(), "{:?} as {ne:?}", a.ne());
        let n = ne.map(|n| n as i64);
        // SAFETY: as above.
        let raw = unsafe { sys::ggml_reshape_4d(self.ctx(), a.raw.as_ptr(), n[0], n[1], n[2], n[3]) };
        self.adopt(raw, a.kind, &[a])
    }

    /// A view in which axis `i` of `a` is axis `to[i]`.
    pub(crate) fn permute(&self, a: &Tensor, to: [usize; 4]) -> Tensor {
        let mut sorted = to;
        sorted.sort_unstable();
        assert!(sorted == [0, 1, 2, 3]);
        let n = to.map(|n| n as c_int);
        // SAFETY: as above.
        let raw = unsafe { sys::ggml_permute(self.ctx(), a.raw.as_ptr(), n[0], n[1], n[2], n[3]) };
        self.adopt(raw, a.kind, &[a])
    }

    /// A view of `ne` elements from `offset` bytes on; rows are dense, `nb` are the strides in bytes of the other axes.
    pub(crate) fn view(&self, a: &Tensor, ne: [usize; 4], nb: [usize; 3], offset: usize) -> Tensor {
        let width = a.kind.block_bytes();
        assert!(a.kind.block_len() == 1 && a.has_dense_rows() && ne.iter().all(|n| *n > 0));
        let last = width + (ne[0] - 1) * width + (1..4).map(|i| (ne[i] - 1) * nb[i - 1]).sum::<usize>();
        assert!(offset + last <= a.bytes(), "a view past the end");
        let n = ne.map(|n| n as i64);
        // SAFETY: as above; the view lies within `a`.
        let raw = unsafe {
            sys::ggml_view_4d(self.ctx(), a.raw.as_ptr(), n[0], n[1], n[2], n[3], nb[0], nb[1], nb[2], offset)
        };
        self.adopt(raw, a.kind, &[a])
    }

    /// The same numbers as f32.
    pub(crate) fn floats(&self, a: &Tensor) -> Tensor {
        assert!(matches!(a.kind, Kind::Float(_)));
        // SAFETY: as above.
        self.adopt(unsafe { sys::ggml_cast(self.ctx(), a.raw.as_ptr(), sys::GGML_TYPE_F32) }, Kind::F32, &[a])
    }

    pub(crate) fn repeat(&self, a: &Tensor, ne: [usize; 4]) -> Tensor {
        assert!(a.kind == Kind::F32 && a.is_dense() && a.repeats_to(ne), "{:?} to {ne:?}", a.ne());
        let n = ne.map(|n| n as i64);
        // SAFETY: as above.
        let raw = unsafe { sys::ggml_repeat_4d(self.ctx(), a.raw.as_ptr(), n[0], n[1], n[2], n[3]) };
        self.adopt(raw, Kind::F32, &[a])
    }

    pub(crate) fn concat(&self, a: &Tensor, b: &Tensor, axis: usize) -> Tensor {
        assert!(axis < 4 && (0..4).all(|i| i == axis || a.ne()[i] == b.ne()[i]), "{:?}, {:?}", a.ne(), b.ne());
        assert!(a.kind == Kind::F32 && b.kind == Kind::F32);
        // SAFETY: as above.
        let raw = unsafe { sys::ggml_concat(self.ctx(), a.raw.as_ptr(), b.raw.as_ptr(), axis as c_int) };
        self.adopt(raw, Kind::F32, &[a, b])
    }

    /// `x[n, c, b]` -> `[k · c, windows, b]`: the windows of a kernel `w[k, c, o]` side by side.
    pub(crate) fn windows(&self, w: &Tensor, x: &Tensor, stride: usize, pad: usize) -> Tensor {
        let ([k, c, ..], [n, c2, _, rest]) = (w.ne(), x.ne());
        assert!(x.kind == Kind::F32 && x.is_dense() && c == c2 && rest == 1 && stride > 0 && n + 2 * pad >= k);
        let (stride, pad) = (stride as c_int, pad as c_int);
        // SAFETY: as above.
        let raw = unsafe {
            let (w, x) = (w.raw.as_ptr(), x.raw.as_ptr());
            sys::ggml_im2col(self.ctx(), w, x, stride, 0, pad, 0, 1, 0, false, sys::GGML_TYPE_F32)
        };
        self.adopt(raw, Kind::F32, &[w, x])
    }

    /// `x[m, n, c, b]` -> `[l · k · c, columns, rows, b]`: the windows of a kernel `w[l, k, c, o]` side by side.
    ///
    /// `stride`, `pad`: along n and m.
    pub(crate) fn windows_2d(&self, w: &Tensor, x: &Tensor, stride: [usize; 2], pad: [usize; 2]) -> Tensor {
        let ([l, k, c, _], [m, n, c2, _]) = (w.ne(), x.ne());
        assert!(x.kind == Kind::F32 && x.is_dense() && c == c2 && !stride.contains(&0));
        assert!(n + 2 * pad[0] >= k && m + 2 * pad[1] >= l);
        let ([s1, s0], [p1, p0]) = (stride.map(|n| n as c_int), pad.map(|n| n as c_int));
        // SAFETY: as above.
        let raw = unsafe {
            let (w, x) = (w.raw.as_ptr(), x.raw.as_ptr());
            sys::ggml_im2col(self.ctx(), w, x, s0, s1, p0, p1, 1, 1, true, sys::GGML_TYPE_F32)
        };
        self.adopt(raw, Kind::F32, &[w, x])
    }

    /// `x[d, h, n, b]`: each head turned by `positions[n] / factors[pair]`; pairs are places `i` and `i + d / 2` where
    /// `halves`, else `2i` and `2i + 1`.
    ///
    /// Whole heads only: of a head that turns in part ggml copies the rest two places at a time, past the end of an odd one
    /// and over the next head, which another thread may be writing; and it reads a factor for each pair of all places.
    pub(crate) fn rope(&self, x: &Tensor, positions: &Tensor, factors: &Tensor, halves: bool) -> Tensor {
        /// `GGML_ROPE_TYPE_NEOX`, a macro in ggml.h.
        const NEOX: c_int = 2;
        let [d, _, n, _] = x.ne();
        assert!(x.kind == Kind::F32 && x.has_dense_rows() && d.is_multiple_of(2));
        assert!(positions.kind == Kind::I32 && positions.ne() == [n, 1, 1, 1]);
        assert!(factors.kind == Kind::F32 && factors.ne() == [d / 2, 1, 1, 1]);
        let mode = if halves { NEOX } else { 0 };
        // SAFETY: as above.
        let raw = unsafe {
            let (a, b, c) = (x.raw.as_ptr(), positions.raw.as_ptr(), factors.raw.as_ptr());
            sys::ggml_rope_ext(self.ctx(), a, b, c, d as c_int, mode, 0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0)
        };
        self.adopt(raw, Kind::F32, &[x, positions, factors])
    }
}

struct Allocator(NonNull<sys::ggml_gallocr>);

impl Drop for Allocator {
    fn drop(&mut self) {
        // SAFETY: owned by one graph, which goes with it.
        unsafe { sys::ggml_gallocr_free(self.0.as_ptr()) }
    }
}

/// A graph with memory for all its values.
pub(crate) struct Graph {
    raw: NonNull<sys::ggml_cgraph>,
    backend: Rc<Backend>,
    _allocator: Allocator,
    _contexts: (Context, Vec<Rc<Described>>),
}

impl Graph {
    /// Computes all nodes. `team`: which threads.
    pub(crate) fn compute(&self, team: Team) -> Result<(), Fault> {
        self.backend.with(team, |backend| {
            // SAFETY: the graph is allocated, and what its nodes read lives as long as its contexts do.
            match unsafe { sys::ggml_backend_graph_compute(backend, self.raw.as_ptr()) } {
                sys::GGML_STATUS_SUCCESS => Ok(()),
                status => Err(Fault(format!("the graph was not computed (status {status})"))),
            }
        })
    }
}

/// Which threads compute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Team {
    /// So many of those of long graphs.
    Encoder(usize),
    /// Those of a step.
    Decoder,
}

/// `GGML_MAX_N_THREADS`, a macro in ggml.h; more are an abort.
const MOST_THREADS: usize = 512;

struct Pool(NonNull<sys::ggml_threadpool>);

impl Pool {
    fn new(threads: usize) -> Result<Pool, Fault> {
        // SAFETY: parameters are copied.
        let raw = unsafe {
            let mut params = sys::ggml_threadpool_params_default(threads as c_int);
            params.paused = threads > 1;
            sys::ggml_threadpool_new(&raw mut params)
        };
        NonNull::new(raw).map(Pool).ok_or_else(|| fault("no threads"))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: the backend that knew it was freed before (see `Backend`).
        unsafe { sys::ggml_threadpool_free(self.0.as_ptr()) }
    }
}

/// What computes, with a team of threads for each kind of graph.
///
/// Threads of ggml spin at each node, and would for a while after a graph: a team is paused as soon as its graph is computed. Two
/// teams, so that a decoder with threads of its own starts no more than those.
pub(crate) struct Backend {
    raw: NonNull<sys::ggml_backend>,
    teams: [(usize, Pool); 2],
    repack: OnceCell<Option<Repack>>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        // SAFETY: graphs hold an Rc on it, so none is left; the pools are fields and are dropped after this.
        unsafe { sys::ggml_backend_free(self.raw.as_ptr()) }
    }
}

impl Backend {
    /// The CPU.
    pub(crate) fn cpu(encoder_threads: usize, decoder_threads: usize) -> Result<Backend, Fault> {
        let threads = [encoder_threads, decoder_threads].map(|n| n.clamp(1, MOST_THREADS));
        let [encoder, decoder] = threads.map(Pool::new);
        let teams = [(threads[0], encoder?), (threads[1], decoder?)];
        // SAFETY: no arguments.
        let raw = NonNull::new(unsafe { sys::ggml_backend_cpu_init() }).ok_or_else(|| fault("no CPU backend"))?;
        Ok(Backend { raw, teams, repack: OnceCell::new() })
    }

    fn with<R>(&self, team: Team, run: impl FnOnce(sys::ggml_backend_t) -> R) -> R {
        let [(most, encoder), (few, decoder)] = &self.teams;
        let (threads, pool) = match team {
            Team::Encoder(threads) => (threads.clamp(1, *most), encoder),
            Team::Decoder => (*few, decoder),
        };
        // SAFETY: backend and pool live in `self`. One graph runs at a time, since nothing here is shared by threads.
        unsafe {
            sys::ggml_backend_cpu_set_n_threads(self.raw.as_ptr(), threads as c_int);
            sys::ggml_backend_cpu_set_threadpool(self.raw.as_ptr(), pool.0.as_ptr());
            if threads > 1 {
                sys::ggml_threadpool_resume(pool.0.as_ptr());
            }
            let result = run(self.raw.as_ptr());
            if threads > 1 {
                sys::ggml_threadpool_pause(pool.0.as_ptr());
            }
            result
        }
    }

    /// ggml's buffers of repacked matrices, where this processor has some.
    fn repack(&self) -> Option<Repack> {
        *self.repack.get_or_init(|| {
            const WANTED: &[u8] = b"CPU_REPACK";
            // SAFETY: the function has this name and this type in ggml-backend.h (ggml_backend_dev_get_extra_bufts_t), and
            // returns an array that ends with null.
            unsafe {
                let device = sys::ggml_backend_get_device(self.raw.as_ptr());
                let reg = sys::ggml_backend_dev_backend_reg(device);
                let found = sys::ggml_backend_reg_get_proc_address(reg, c"ggml_backend_dev_get_extra_bufts".as_ptr());
                type Extra = unsafe extern "C" fn(sys::ggml_backend_dev_t) -> *mut sys::ggml_backend_buffer_type_t;
                let extra: Option<Extra> = std::mem::transmute::<*mut c_void, Option<Extra>>(found);
                let mut at = extra?(device);
                while let Some(kind) = at.as_ref().copied().and_then(NonNull::new) {
                    if CStr::from_ptr(sys::ggml_backend_buft_name(kind.as_ptr())).to_bytes() == WANTED {
                        return Some(Repack(kind));
                    }
                    at = at.add(1);
                }
                None
            }
        })
    }

    /// Where a matrix of rows of `columns` would be repacked; `None` where it is not.
    pub(crate) fn repacks(&self, kind: Kind, columns: usize, rows: usize) -> Option<Repack> {
        let repack = self.repack()?;
        let context = Context::new(4, 0).ok()?;
        let w = context.tensor(kind, [columns, rows, 1, 1], "w");
        let product = context.mul_mat(&w, &context.tensor(Kind::F32, [columns, 1, 1, 1], "x"));
        // SAFETY: an empty buffer of that kind tells ggml where the matrix would lie; nothing is read from it, and the
        // matrix forgets it before it is freed.
        unsafe {
            let empty = Buffer(NonNull::new(sys::ggml_backend_buft_alloc_buffer(repack.0.as_ptr(), 0))?);
            (*w.raw.as_ptr()).buffer = empty.0.as_ptr();
            let device = sys::ggml_backend_get_device(self.raw.as_ptr());
            let does = sys::ggml_backend_dev_supports_op(device, product.raw.as_ptr());
            (*w.raw.as_ptr()).buffer = ptr::null_mut();
            does.then_some(repack)
        }
    }
}

unsafe extern "C" fn warnings_only(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if !text.is_null() && (level == sys::GGML_LOG_LEVEL_WARN || level == sys::GGML_LOG_LEVEL_ERROR) {
        // SAFETY: ggml passes a C string that lives until this function returns.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
        // A panic must not cross C, and `eprint!` panics where standard error is closed.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
    }
}

/// Drops what ggml says of each tensor that it repacks. Once a process, so that a log that others set stays theirs.
pub(crate) fn quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    // SAFETY: the callback touches nothing but standard error, so any thread may call it at any time.
    ONCE.call_once(|| unsafe { sys::ggml_log_set(Some(warnings_only), ptr::null_mut()) });
}

/// The compiled-in ggml, as `0.26.0`.
pub(crate) fn version() -> String {
    // SAFETY: a C string that is part of the program.
    unsafe { CStr::from_ptr(sys::ggml_version()) }.to_string_lossy().into_owned()
}
