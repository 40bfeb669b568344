//! Writing `ggml-model.bin`, as [`super::file`] describes it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::layout::Layout;
use crate::error::ExportError;
use crate::export::gguf::pack;

/// Writes a file. Errors: it cannot be written, or a weight not be read.
pub(super) fn write(path: &Path, head: &[u8], layout: &Layout<'_>) -> Result<(), ExportError> {
    let failed = |source| ExportError::Io { file: path.to_owned(), source };
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed)?);
    out.write_all(head).map_err(failed)?;
    for tensor in &layout.tensors {
        let counts = [tensor.shape.len() as u32, tensor.name.len() as u32, tensor.kind.id()];
        let lengths = tensor.shape.iter().rev().map(|n| *n as u32); // at most 2^31
        let header = counts.into_iter().chain(lengths).flat_map(u32::to_le_bytes).chain(tensor.name.bytes());
        out.write_all(&header.collect::<Vec<u8>>()).map_err(failed)?;
        let mut written = 0;
        pack::write(tensor.weight, tensor.kind, &mut |bytes| {
            written += bytes.len() as u64;
            out.write_all(bytes).map_err(failed)
        })?;
        assert_eq!(Some(written), tensor.kind.bytes(&tensor.weight.shape), "bytes of {}", tensor.name);
    }
    out.flush().map_err(failed)
}
