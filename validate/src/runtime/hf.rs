//! transformers in a Python process of its own: safetensors artifacts as their users load them.

use std::io;
use std::path::{Path, PathBuf};

use converters::Artifact;
use graph::tensor::Data;
use graph::{Feeds, FloatType, Tensor};
use serde::Deserialize;
use serde_json::json;

use crate::runtime::child::Patience;
use crate::runtime::environments::{active, isolated, program, python_of, variable};
use crate::runtime::error::RuntimeError;
use crate::runtime::interface::{Options, Present, Program, Runtime, Session};
use crate::runtime::packages::Packages;
use crate::runtime::pipe::Pipe;
use report::Engine;
use report::figures::counted;

/// The far side; the protocol is described at its top.
const SCRIPT: &str = concat!(include_str!("far_side.py"), include_str!("hf_session.py"));
/// Logits of one call; a reply that announces more is nonsense.
const LOGIT_BYTES: usize = 4 << 30;
const INSTALL: &str = "python3 -I -m venv .venv && .venv/bin/pip install torch transformers compressed-tensors && export \
                       TREFOIL_PYTHON=\"$PWD/.venv/bin/python\"";

/// What INSTALL brings, as Python calls it.
const PACKAGES: [&str; 3] = ["torch", "transformers", "compressed_tensors"];

/// `transformers`, loading with plain `from_pretrained` on the CPU.
#[derive(Clone, Copy, Debug)]
pub struct Transformers;

impl Program for Transformers {
    fn name(&self) -> &'static str {
        "transformers"
    }

    fn runs(&self, format: &str) -> bool {
        format == "safetensors"
    }

    fn probe(&self, options: &Options) -> Result<Present, RuntimeError> {
        let python = python(options.python.as_deref())?;
        let imported =
            Packages { runtime: self.name(), install: INSTALL, names: &PACKAGES }.imported(&python, options)?;
        let [torch, transformers, compressed_tensors] = imported;
        let version = format!("{transformers}, torch {torch}, compressed-tensors {compressed_tensors}");
        Ok(Present { version, place: python.display().to_string() })
    }
}

impl Runtime for Transformers {
    fn open(&self, artifact: &Artifact, options: &Options) -> Result<Box<dyn Session>, RuntimeError> {
        let python = python(options.python.as_deref())?;
        let patience = Patience::of(options).map_err(failed)?;
        Ok(Box::new(HfSession::start(&python, &artifact.dir, options.threads, patience)?))
    }
}

/// The Python that has transformers: as given, `$TREFOIL_PYTHON`, then that of `$VIRTUAL_ENV` or `$CONDA_PREFIX`.
fn python(given: Option<&Path>) -> Result<PathBuf, RuntimeError> {
    match given.map(Path::to_owned).or_else(|| variable("TREFOIL_PYTHON")) {
        Some(named) => program(&named).ok_or_else(|| unavailable(format!("{} is not there", named.display()))),
        None => active().find_map(|root| python_of(&root)).ok_or_else(|| {
            unavailable("no Python environment in --python, $TREFOIL_PYTHON, $VIRTUAL_ENV or $CONDA_PREFIX".to_owned())
        }),
    }
}

fn unavailable(why: String) -> RuntimeError {
    RuntimeError::Unavailable { runtime: "transformers", why, install: INSTALL.to_owned() }
}

/// Every reply's header; values follow where the call implies them.
#[derive(Deserialize)]
struct Reply {
    ok: bool,
    error: Option<String>,
    /// The package that is not installed, when that is why.
    lacks: Option<String>,
    vocab: Option<usize>,
    transformers: Option<String>,
    torch: Option<String>,
    compressed_tensors: Option<String>,
    dtype: Option<String>,
    missing: Option<Vec<String>>,
    unexpected: Option<Vec<String>>,
}

struct HfSession {
    pipe: Pipe,
    engine: Engine,
}

impl HfSession {
    fn start(python: &Path, folder: &Path, threads: usize, patience: Patience) -> Result<HfSession, RuntimeError> {
        let folder = std::path::absolute(folder).map_err(|e| failed(format!("{}: {e}", folder.display())))?;
        let mut command = isolated(python);
        command
            .args(["-c", SCRIPT])
            .arg(folder)
            // Stored values widen to f32 exactly, so what is left is the order of sums.
            .args(["--dtype", "float32"])
            .env("OMP_NUM_THREADS", threads.max(1).to_string())
            // Waiting threads that spin would take the processor from the one that works.
            .env("OMP_WAIT_POLICY", "PASSIVE")
            // The folder is whole; nothing may come from elsewhere.
            .env("HF_HUB_OFFLINE", "1")
            .env("TRANSFORMERS_OFFLINE", "1");
        let pipe = Pipe::spawn("the Python process", "transformers", &mut command, patience).map_err(|e| {
            let message = format!("{}: {e}", python.display());
            let absent = e.kind() == io::ErrorKind::NotFound && !python.exists();
            if absent { unavailable(message) } else { failed(message) }
        })?;
        let engine = Engine { name: "transformers".to_owned(), version: String::new(), settings: String::new() };
        let mut session = HfSession { pipe, engine };
        session.greet(threads)?;
        Ok(session)
    }

    /// Asks what runs, and refuses a checkpoint that transformers would complete with random tensors.
    fn greet(&mut self, threads: usize) -> Result<(), RuntimeError> {
        let reply = self.call("versions", &[])?;
        let (missing, unexpected) = (reply.missing.unwrap_or_default(), reply.unexpected.unwrap_or_default());
        if !missing.is_empty() || !unexpected.is_empty() {
            return Err(failed(format!(
                "the checkpoint does not fit the model: missing {}; unexpected or of another shape {}",
                listed(&missing),
                listed(&unexpected)
            )));
        }
        let (Some(version), Some(torch)) = (reply.transformers, reply.torch) else {
            return Err(failed(self.pipe.nonsense("expected versions, found none")));
        };
        self.engine.version = version;
        let compressed = reply.compressed_tensors.map_or(String::new(), |v| format!(", compressed-tensors {v}"));
        let dtype = reply.dtype.unwrap_or_default();
        self.engine.settings = format!(
            "torch {torch}{compressed}, {dtype}, eager attention, {}",
            counted(threads.max(1) as u64, "thread")
        );
        Ok(())
    }

    /// Sends a request with its tensors and reads the header of the reply.
    fn call(&mut self, call: &str, tensors: &[(&str, &Tensor)]) -> Result<Reply, RuntimeError> {
        let described = tensors.iter().map(|(name, tensor)| {
            let dtype = match tensor.data() {
                Data::F32(_) => "f32",
                Data::I64(_) => "i64",
            };
            json!({ "name": name, "dtype": dtype, "shape": tensor.shape() })
        });
        let header = json!({ "call": call, "tensors": described.collect::<Vec<_>>() });
        let values = tensors.iter().map(|(_, tensor)| match tensor.data() {
            Data::F32(floats) => floats.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Data::I64(ids) => ids.iter().flat_map(|id| id.to_le_bytes()).collect(),
        });
        let reply: Reply = self.pipe.call(&header, values.collect()).map_err(failed)?;
        if reply.ok {
            return Ok(reply);
        }
        let error = reply.error.unwrap_or_else(|| "refused without a reason".to_owned());
        Err(if reply.lacks.is_some() { unavailable(error) } else { failed(error) })
    }
}

fn failed(message: String) -> RuntimeError {
    RuntimeError::Failed { runtime: "transformers", message }
}

fn listed(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(5).map(String::as_str).collect();
    match names.len() {
        0 => "nothing".to_owned(),
        n if n > shown.len() => format!("{} and {} more", shown.join(", "), n - shown.len()),
        _ => shown.join(", "),
    }
}

fn rank_2(tensor: &Tensor) -> Result<[usize; 2], RuntimeError> {
    match tensor.shape() {
        [b, n] => Ok([*b, *n]),
        found => Err(failed(format!("expected ids i64[b, n], found {found:?}"))),
    }
}

impl Session for HfSession {
    fn engine(&self) -> Engine {
        self.engine.clone()
    }

    fn process(&self) -> Option<u32> {
        Some(self.pipe.process())
    }

    fn encode(&mut self, source: &Feeds) -> Result<(), RuntimeError> {
        let tensors: Vec<(&str, &Tensor)> = source.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        self.call("encode", &tensors)?;
        Ok(())
    }

    fn decode(&mut self, decoder_input_ids: &Tensor) -> Result<Tensor, RuntimeError> {
        let [batch, length] = rank_2(decoder_input_ids)?;
        let reply = self.call("decode", &[("decoder_input_ids", decoder_input_ids)])?;
        let vocabulary = reply.vocab.unwrap_or(0);
        let bytes = [batch, length, vocabulary, 4].into_iter().try_fold(1_usize, usize::checked_mul);
        let Some(bytes) = bytes.filter(|bytes| (1..=LOGIT_BYTES).contains(bytes)) else {
            let what = format!("expected logits of a vocabulary, found a width of {vocabulary}");
            return Err(failed(self.pipe.nonsense(&what)));
        };
        let values = self.pipe.values(bytes, "logits").map_err(failed)?;
        let mut logits = vec![0.0; bytes / 4];
        FloatType::F32.decode(&values, &mut logits);
        Ok(Tensor::f32([batch, length, vocabulary], logits))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A session with a program of ours in the child's place.
    fn child(script: &str) -> Result<HfSession, RuntimeError> {
        let mut program = tempfile::NamedTempFile::new().expect("temporary file");
        program.write_all(script.as_bytes()).expect("written");
        // `sh FILE -c SCRIPT FOLDER …`: the far side's arguments are ignored.
        let home = tempfile::tempdir().expect("temporary folder");
        let wrapper = home.path().join("python");
        std::fs::write(&wrapper, format!("#!/bin/sh\nexec sh {}\n", program.path().display())).expect("written");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).expect("made executable");
        }
        let patience = Patience::of(&Options::DEFAULT).expect("constants");
        HfSession::start(&wrapper, Path::new("."), 1, patience)
    }

    fn refusal(script: &str) -> String {
        child(script).err().expect("refused").to_string()
    }

    const VERSIONS: &str = r#"read x; echo '{"ok":true,"transformers":"5.0","torch":"2","compressed_tensors":null,"dtype":"float32","missing":[],"unexpected":[]}'"#;

    #[cfg(unix)]
    #[test]
    fn a_child_that_dies_is_told_with_its_last_words() {
        let text = refusal("echo 'Segmentation of worlds' >&2; exit 3");
        assert!(text.contains("broke off") && text.contains("Segmentation of worlds"), "{text}");
        let text = refusal("read x; echo not json");
        assert!(text.contains("expected a reply in JSON"), "{text}");
    }

    #[cfg(unix)]
    #[test]
    fn a_missing_package_is_unavailable_and_a_missing_tensor_is_a_failure() {
        let error = child(
            r#"read x; echo '{"ok":false,"error":"m: ModuleNotFoundError: No module named torch","lacks":"torch"}'"#,
        );
        assert!(matches!(error.err(), Some(RuntimeError::Unavailable { .. })));
        // Of a package that is there.
        for error in ["ModuleNotFoundError: No module named sympy", "ImportError: libtorch.so: invalid ELF header"] {
            let reply = format!(r#"{{"ok":false,"error":"m: {error}"}}"#);
            assert_eq!(refusal(&format!("read x; echo '{reply}'")), format!("transformers: m: {error}"));
        }
        let text = refusal(
            r#"read x; echo '{"ok":true,"transformers":"5","torch":"2","missing":["shared.weight"],"unexpected":[]}'"#,
        );
        assert!(text.contains("missing shared.weight; unexpected or of another shape nothing"), "{text}");
        let text = refusal(r#"read x; echo '{"ok":false,"error":"m: OSError: truncated"}'"#);
        assert_eq!(text, "transformers: m: OSError: truncated");
    }

    #[cfg(unix)]
    #[test]
    fn announced_lengths_are_not_believed() {
        let ids = Tensor::i64([1, 1], vec![0]);
        for (reply, expected) in [
            (r#"{"ok":true,"vocab":99999999999999}"#, "found a width of 99999999999999"),
            (r#"{"ok":true,"vocab":0}"#, "found a width of 0"),
            (r#"{"ok":true,"vocab":100000000}"#, "expected 400000000 bytes of logits, found 0"),
        ] {
            let mut session =
                child(&format!("{VERSIONS}; read y; echo '{reply}'; exec 1>&-; cat >/dev/null")).expect("greeted");
            let text = session.decode(&ids).expect_err("refused").to_string();
            assert!(text.contains(expected), "{text}");
            // The child is gone, and the session says so instead of waiting.
            assert!(session.decode(&ids).is_err());
        }
    }

    #[test]
    fn a_python_that_is_not_there_is_unavailable() {
        let error = start_in_nothing().err().expect("not there");
        assert!(matches!(error, RuntimeError::Unavailable { .. }), "{error}");
    }

    fn start_in_nothing() -> Result<HfSession, RuntimeError> {
        let patience = Patience::of(&Options::DEFAULT).expect("constants");
        HfSession::start(Path::new("/no-such-folder/python"), Path::new("."), 1, patience)
    }
}
