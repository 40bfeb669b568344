//! Where the provider's libraries lie, and their registration.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::runtime::environments::{named, site_packages, version};
use crate::runtime::error::RuntimeError;
use crate::runtime::interface::Options;
use crate::runtime::names::HTP;
use crate::runtime::onnx::{Loaded, load as load_onnxruntime};

/// The release that was looked at.
const INSTALL: &str = "python3 -I -m venv .venv && .venv/bin/pip install onnxruntime-qnn==2.7.0 && export \
                       VIRTUAL_ENV=\"$PWD/.venv\" # Qualcomm's, proprietary; its licence allows development and benchmarks";
/// As the provider calls itself.
pub(super) const EP: &str = "QNNExecutionProvider";
/// Names a folder like `site-packages/onnxruntime_qnn`.
pub(super) const VARIABLE: &str = "TREFOIL_ONNXRUNTIME_QNN";
const PACKAGE: &str = "onnxruntime_qnn";
const PROVIDER: &str = "libonnxruntime_providers_qnn.so";
const BACKEND: &str = "libQnnHtp.so";

/// onnxruntime with the provider in it.
#[derive(Clone)]
pub(super) struct Provider {
    pub(super) loaded: Loaded,
    /// What the provider is told to run on.
    pub(super) backend: PathBuf,
    /// Of the package.
    pub(super) version: String,
}

/// Loads onnxruntime and registers the provider, once in this process.
///
/// Errors: `Unavailable` when it is not installed; never fetches it.
pub(super) fn load(options: &Options) -> Result<Provider, RuntimeError> {
    static REGISTERED: Mutex<Option<Provider>> = Mutex::new(None);
    let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(provider) = &*registered {
        return Ok(provider.clone());
    }
    let folder = find(options)?;
    let loaded = load_onnxruntime(options)?;
    let library = folder.join(PROVIDER);
    let registration = loaded.environment.register_ep_library(EP, &library);
    let failed = |e| RuntimeError::Failed { runtime: HTP, message: format!("{}: {e}", library.display()) };
    registration.map_err(failed)?;
    let version = folder.parent().and_then(|packages| version(packages, PACKAGE));
    let version = version.unwrap_or_else(|| "of unknown version".to_owned());
    let provider = Provider { loaded, backend: folder.join(BACKEND), version };
    *registered = Some(provider.clone());
    Ok(provider)
}

/// The package's folder, an absolute path. Errors: `Unavailable` when it is not installed.
pub(super) fn find(options: &Options) -> Result<PathBuf, RuntimeError> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(unavailable("the simulator is in the package for Linux on x86_64 alone".to_owned()));
    }
    let named = named(VARIABLE).transpose().map_err(unavailable)?;
    folder(named, site_packages(options.python.as_deref()))
}

fn unavailable(why: String) -> RuntimeError {
    RuntimeError::Unavailable { runtime: HTP, why, install: INSTALL.to_owned() }
}

/// The first folder that has both libraries.
fn folder(named: Option<PathBuf>, site_packages: Vec<PathBuf>) -> Result<PathBuf, RuntimeError> {
    let whole = |folder: &Path| folder.join(PROVIDER).is_file() && folder.join(BACKEND).is_file();
    match named {
        Some(folder) if whole(&folder) => Ok(folder),
        Some(folder) => {
            Err(unavailable(format!("{VARIABLE} is {}, where {PROVIDER} and {BACKEND} are not", folder.display())))
        }
        None => {
            let found = site_packages.into_iter().map(|packages| packages.join(PACKAGE)).find(|folder| whole(folder));
            found.ok_or_else(|| {
                let places = "$TREFOIL_ONNXRUNTIME_QNN, --python, $VIRTUAL_ENV or $CONDA_PREFIX";
                unavailable(format!("no package onnxruntime-qnn in {places}"))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_with_one_of_two_libraries_is_not_taken_and_the_error_says_how_to_install() {
        let home = tempfile::tempdir().expect("temporary folder");
        let packages: Vec<PathBuf> = ["a", "b"].map(|name| home.path().join(name)).to_vec();
        for folder in packages.iter().map(|p| p.join(PACKAGE)) {
            fs::create_dir_all(&folder).expect("made");
            fs::write(folder.join(PROVIDER), "").expect("written");
        }
        let error = folder(None, packages.clone()).expect_err("one is missing in each");
        let RuntimeError::Unavailable { install, .. } = &error else { panic!("{error}") };
        assert!(install.contains("pip install onnxruntime-qnn==2.7.0"), "{install}");
        fs::write(packages[1].join(PACKAGE).join(BACKEND), "").expect("written");
        assert_eq!(folder(None, packages.clone()).expect("whole"), packages[1].join(PACKAGE));

        // What is named is never passed over.
        let error = folder(Some(home.path().to_owned()), packages).expect_err("nothing there");
        assert!(error.to_string().contains(&format!("{VARIABLE} is {}", home.path().display())), "{error}");
    }
}
