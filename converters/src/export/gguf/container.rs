//! Writing the file: magic, counts, metadata, tensor table, padding, tensor data. All numbers little-endian.
//!
//! Source: docs/gguf.md and ggml/src/gguf.cpp of llama.cpp (llama-cpp-sys-2 0.1.161).

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use checkpoint::gguf::{ALIGNMENT, MAGIC, TensorType, Value, encode_string};
use checkpoint::limits::GGUF_HEADER_BYTES;

use crate::error::ExportError;

/// Bytes written at once.
pub(super) const CHUNK_BYTES: usize = 4 << 20;

/// A tensor to be written.
pub(in crate::export) struct Planned<'a> {
    pub name: String,
    /// Outermost first; the file has them innermost first.
    pub shape: &'a [usize],
    pub kind: TensorType,
}

/// Takes the next bytes of the file.
pub(in crate::export) type Sink<'a> = dyn FnMut(&[u8]) -> Result<(), ExportError> + 'a;

/// Writes a file of version 3; `data` writes the bytes of the tensor with the given index, in order.
pub(in crate::export) fn write(
    path: &Path,
    metadata: &[(String, Value)],
    tensors: &[Planned<'_>],
    mut data: impl FnMut(usize, &mut Sink<'_>) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let failed = |source| ExportError::Io { file: path.to_owned(), source };
    let mut header = MAGIC.to_vec();
    header.extend(3_u32.to_le_bytes());
    header.extend((tensors.len() as u64).to_le_bytes());
    header.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        encode_string(key, &mut header);
        header.extend(value.id().to_le_bytes());
        value.encode(&mut header);
    }
    let mut offset = 0_u64;
    let mut lengths = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let bytes = tensor.kind.bytes(tensor.shape).expect("the plan chose a type that divides the rows");
        encode_string(&tensor.name, &mut header);
        header.extend((tensor.shape.len() as u32).to_le_bytes());
        header.extend(tensor.shape.iter().rev().flat_map(|dim| (*dim as u64).to_le_bytes()));
        header.extend(tensor.kind.id().to_le_bytes());
        header.extend(offset.to_le_bytes());
        offset += bytes.next_multiple_of(ALIGNMENT);
        lengths.push(bytes);
    }
    header.resize(header.len().next_multiple_of(ALIGNMENT as usize), 0);
    if header.len() as u64 > GGUF_HEADER_BYTES {
        let message = format!("metadata and tensor table take {} of {GGUF_HEADER_BYTES} bytes", header.len());
        return Err(ExportError::Unsupported { format: "gguf", message });
    }

    let mut out = BufWriter::with_capacity(CHUNK_BYTES, File::create(path).map_err(failed)?);
    out.write_all(&header).map_err(failed)?;
    for (index, bytes) in lengths.into_iter().enumerate() {
        let mut written = 0;
        data(index, &mut |bytes| {
            written += bytes.len() as u64;
            out.write_all(bytes).map_err(failed)
        })?;
        assert_eq!(written, bytes, "bytes of {}", tensors[index].name);
        let padding = bytes.next_multiple_of(ALIGNMENT) - bytes;
        out.write_all(&[0; ALIGNMENT as usize][..padding as usize]).map_err(failed)?;
    }
    out.flush().map_err(failed)
}
