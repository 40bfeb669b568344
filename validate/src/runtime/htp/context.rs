//! Context binaries: what is shipped to a device, so that it need not compile.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::device::Device;
use crate::runtime::npu::Value;
use crate::runtime::onnx::fixed;

/// Of a name or number in a binary.
const LONGEST_WORD: usize = 32;

/// Inputs and outputs of a run, by name.
pub(super) struct Call {
    pub(super) inputs: Vec<(String, Value)>,
    pub(super) outputs: Vec<(String, Value)>,
}

/// A context binary that computes what its graph does.
pub(super) struct Context {
    pub(super) bytes: u64,
    /// As the binary names it.
    pub(super) chip: String,
    pub(super) took: Duration,
}

/// Writes the graph of a file as a context binary, opens that and runs it on what the graph was given.
///
/// Errors: none can be made, or it computes something else; in words.
pub(super) fn reloaded(device: &Device, file: &Path, call: &Call) -> Result<Context, String> {
    let text = |error: io::Error| error.to_string();
    let home = tempfile::tempdir().map_err(text)?;
    let path = home.path().join("context.onnx");
    let name = path.to_str().ok_or("the temporary folder's name is not UTF-8")?;
    // Beside the graph and not in it, for protobuf ends at 2 GB.
    let config = [("ep.context_enable", "1"), ("ep.context_file_path", name), ("ep.context_embed_mode", "0")];
    drop(device.session(file, &config)?);
    if !path.is_file() {
        return Err("no context was written".to_owned());
    }
    let (mut bytes, mut chip) = (0, None);
    for file in fs::read_dir(home.path()).map_err(text)? {
        let binary = fs::read(file.map_err(text)?.path()).map_err(text)?;
        bytes += binary.len() as u64;
        chip = chip.or_else(|| chip_of(&binary));
    }

    let start = Instant::now();
    let mut session = device.session(&path, &[])?;
    let took = start.elapsed();
    let inputs: Vec<(&str, &Value)> = call.inputs.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let names: Vec<&str> = call.outputs.iter().map(|(name, _)| name.as_str()).collect();
    let found = fixed::run(&mut session, &inputs, &names)?;
    let differs = call.outputs.iter().zip(&found).find(|((_, expected), found)| !expected.same_bits(found));
    match differs {
        None => Ok(Context { bytes, chip: chip.unwrap_or_else(|| "a chip that it does not name".to_owned()), took }),
        Some(((name, _), _)) => Err(format!("{name} differs from that of the graph")),
    }
}

/// Among the compiler's options, which a binary of QNN 2.51 holds as text, stands `soc_type=SM8650;arch=75;`.
fn chip_of(binary: &[u8]) -> Option<String> {
    let after = |key: &[u8], from: usize| {
        let start = from + binary[from..].windows(key.len()).position(|window| window == key)? + key.len();
        let len = binary[start..].iter().take(LONGEST_WORD).position(|byte| *byte == b';')?;
        Some((String::from_utf8_lossy(&binary[start..][..len]).into_owned(), start + len))
    };
    let (soc, end) = after(b"soc_type=", 0)?;
    let (arch, _) = after(b"arch=", end)?;
    Some(format!("{soc} (v{arch})"))
}

#[cfg(test)]
mod tests {
    use super::chip_of;

    #[test]
    fn a_chip_is_read_off_the_options_of_the_compiler() {
        let text = b"\0\x01arch=1;x=false;soc_type=SM8650;arch=75;num_nsps=1;\xff";
        assert_eq!(chip_of(text).as_deref(), Some("SM8650 (v75)"));
        for part in 0..text.len() - 15 {
            assert_eq!(chip_of(&text[..part]), None, "{part}");
        }
        assert_eq!(chip_of(&[&b"soc_type="[..], &[b'x'; 99], b";arch=1;"].concat()), None);
    }
}
