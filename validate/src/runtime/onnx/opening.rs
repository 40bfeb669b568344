//! How the graphs of a folder are opened.

use std::path::Path;

use converters::export::onnx::Folder;
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::Session as OrtSession;
use ort::session::builder::GraphOptimizationLevel;

use super::tensors::failed;
use crate::runtime::error::RuntimeError;

/// As onnxruntime calls its own.
const CPU: &str = "CPUExecutionProvider";

/// Entries of a session's configuration.
pub(super) type Config = Vec<(&'static str, &'static str)>;

/// How graphs of one folder are opened.
pub(super) struct Opening {
    pub(super) environment: Environment,
    pub(super) folder: Folder,
    pub(super) threads: usize,
    pub(super) optimizations: GraphOptimizationLevel,
    pub(super) config: Config,
}

impl Opening {
    pub(super) fn session(&self, path: &Path) -> Result<OrtSession, RuntimeError> {
        session(&self.environment, path, self.threads, self.optimizations, &self.config)
            .map_err(|error| failed(format!("{}: {error}", path.display())))
    }
}

pub(super) fn session(
    environment: &Environment,
    path: &Path,
    threads: usize,
    optimizations: GraphOptimizationLevel,
    config: &Config,
) -> Result<OrtSession, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut builder = OrtSession::builder(environment).map_err(|e| text(&e))?;
    // `ort` lets onnxruntime choose the most efficient device, and once a plugin is registered that is the plugin's.
    let cpu = environment.devices().filter(|device| device.ep().is_ok_and(|ep| ep == CPU));
    builder = builder.with_devices(cpu.take(1), None).map_err(|e| text(&e))?;
    builder = builder.with_optimization_level(optimizations).map_err(|e| text(&e))?;
    builder = builder.with_intra_threads(threads.max(1)).map_err(|e| text(&e))?;
    // Its remarks about the graph are not this program's output; its errors come back as errors.
    builder = builder.with_log_level(LogLevel::Fatal).map_err(|e| text(&e))?;
    for (key, value) in config {
        builder = builder.with_config_entry(*key, value).map_err(|e| text(&e))?;
    }
    builder.commit_from_file(path).map_err(|e| text(&e))
}
