//! Packages of a Python that an engine needs, imported without a model.

use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::child::Patience;
use super::environments::isolated;
use super::error::RuntimeError;
use super::interface::Options;
use super::pipe::Pipe;

/// The far side; the protocol is described at the top of the second.
const SCRIPT: &str = concat!(include_str!("far_side.py"), include_str!("packages.py"));

/// The packages of an engine.
pub(super) struct Packages<'p, const N: usize> {
    /// [`crate::Runtime::name`].
    pub(super) runtime: &'static str,
    /// The command that brings them.
    pub(super) install: &'static str,
    /// As Python calls them.
    pub(super) names: &'p [&'static str; N],
}

#[derive(Deserialize)]
struct Reply {
    ok: bool,
    error: Option<String>,
    /// The package that is not installed, when that is why.
    lacks: Option<String>,
    #[serde(default)]
    versions: Vec<String>,
}

impl<const N: usize> Packages<'_, N> {
    /// Imports them; their versions in the same order. Errors: `Unavailable` when one is not installed; `Failed` when one is
    /// broken, or takes too long.
    pub(super) fn imported(&self, python: &Path, options: &Options) -> Result<[String; N], RuntimeError> {
        let failed = |message: String| RuntimeError::Failed { runtime: self.runtime, message };
        let patience = Patience::of(options).map_err(failed)?;
        let mut command = isolated(python);
        command.args(["-c", SCRIPT]).args(self.names);
        let mut pipe = Pipe::spawn("the Python process", self.runtime, &mut command, patience)
            .map_err(|error| failed(format!("{}: {error}", python.display())))?;
        let reply: Reply = pipe.call(&json!({ "call": "versions" }), Vec::new()).map_err(failed)?;
        if !reply.ok {
            let why = reply.error.unwrap_or_else(|| "refused without a reason".to_owned());
            return Err(match reply.lacks {
                Some(_) => RuntimeError::Unavailable { runtime: self.runtime, why, install: self.install.to_owned() },
                None => failed(why),
            });
        }
        let found = reply.versions.len();
        let versions = <[String; N]>::try_from(reply.versions);
        versions.map_err(|_| failed(pipe.nonsense(&format!("expected {N} versions, found {found}"))))
    }
}
