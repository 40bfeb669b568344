//! Writing `model.bin`, as [`super::file`] describes it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::builder::Layout;
use super::file::{VERSION, put};
use super::part::Variable;
use crate::error::ExportError;

/// Writes a file. Errors: it cannot be written, or a weight not be read.
pub(super) fn write(path: &Path, layout: &Layout<'_>) -> Result<(), ExportError> {
    let failed = |source| ExportError::Io { file: path.to_owned(), source };
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed)?);
    let (spec, revision) = layout.spec;
    let mut header = VERSION.to_le_bytes().to_vec();
    put(&mut header, spec);
    header.extend(u32::to_le_bytes(revision));
    header.extend((layout.variables.len() as u32).to_le_bytes());
    for Variable { name, shape, dtype, content } in &layout.variables {
        put(&mut header, name);
        header.push(shape.len() as u8);
        header.extend(shape.iter().flat_map(|n| (*n as u32).to_le_bytes()));
        header.push(dtype.id());
        let bytes = shape.iter().product::<usize>() * dtype.bytes();
        header.extend((bytes as u32).to_le_bytes()); // the layout has none that is longer
        out.write_all(&header).map_err(failed)?;
        let mut written = 0;
        content.stream(*dtype, &mut |bytes| {
            written += bytes.len();
            out.write_all(bytes).map_err(failed)
        })?;
        assert_eq!(written, bytes, "bytes of {name}");
        header.clear();
    }
    header.extend((layout.aliases.len() as u32).to_le_bytes());
    for (alias, name) in &layout.aliases {
        put(&mut header, alias);
        put(&mut header, name);
    }
    out.write_all(&header).and_then(|()| out.flush()).map_err(failed)
}
