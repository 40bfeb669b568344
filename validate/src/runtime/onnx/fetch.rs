//! Where the library of onnxruntime comes from.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use sha2::{Digest, Sha256};

use crate::runtime::child::{Child, Ended, Patience};
use crate::runtime::environments::{folder, isolated, named, program, site_packages};
use crate::runtime::error::RuntimeError;
use crate::runtime::interface::Options;
use crate::runtime::names::ONNXRUNTIME;

/// The release whose numbers were looked at: 1.24 to 1.31 fail on int8 in blocks, 1.24 and 1.26 on f16.
const VERSION: &str = "1.32.0";
const INSTALL: &str = "python3 -I -m venv .venv && .venv/bin/pip install onnxruntime==1.32.0 && export \
                       VIRTUAL_ENV=\"$PWD/.venv\" # or set ORT_DYLIB_PATH to libonnxruntime, or leave --offline out: then it \
                       is fetched";

/// A wheel of [`VERSION`] for CPython 3.13; only the library in it is used, so the interpreter does not matter.
struct Wheel {
    os: &'static str,
    arch: &'static str,
    platform: &'static str,
    sha256: &'static str,
    /// The library's path inside.
    library: &'static str,
}

const WHEELS: &[Wheel] = &[
    Wheel {
        os: "linux",
        arch: "x86_64",
        platform: "manylinux_2_28_x86_64",
        sha256: "02ea12a28c069ea8510093d95a7f6ff8126bfd9fc5c0d3381c03b80fb2b424ba",
        library: "onnxruntime/capi/libonnxruntime.so.1.32.0",
    },
    Wheel {
        os: "linux",
        arch: "aarch64",
        platform: "manylinux_2_28_aarch64",
        sha256: "54d02baff2df38777b4c3cc7af326406fe8b8a48f54720f4c446d2d327920a79",
        library: "onnxruntime/capi/libonnxruntime.so.1.32.0",
    },
    Wheel {
        os: "macos",
        arch: "aarch64",
        platform: "macosx_14_0_arm64",
        sha256: "27bf5dad46355a8a435c9c4e1556464d99ca834ea44e0f452909712068b8821b",
        library: "onnxruntime/capi/libonnxruntime.1.32.0.dylib",
    },
    Wheel {
        os: "windows",
        arch: "x86_64",
        platform: "win_amd64",
        sha256: "c7f9aa98036ba2a47aa041a4a8c6d0a1f7bfe1bde44c131dcd15ce334f2f148d",
        library: "onnxruntime/capi/onnxruntime.dll",
    },
];

/// Names the library.
pub(in crate::runtime) const VARIABLE: &str = "ORT_DYLIB_PATH";

/// The library: as [`local`] finds it, or fetched into the cache; an absolute path. Errors: `Unavailable`, with what was
/// tried.
pub(in crate::runtime) fn library(options: &Options) -> Result<PathBuf, RuntimeError> {
    if let Some(path) = found()? {
        return Ok(path);
    }
    if options.offline {
        return Err(unavailable("not found on this machine, and fetching is off".to_owned()));
    }
    let patience = Patience::of(options).map_err(|message| RuntimeError::Failed { runtime: ONNXRUNTIME, message })?;
    fetch(&cache().ok_or_else(|| unavailable("no home folder to keep it in".to_owned()))?, patience)
}

/// The library where it is on this machine; an absolute path.
pub(in crate::runtime) fn local() -> Result<PathBuf, RuntimeError> {
    let why = "not found on this machine; the first command that runs it fetches it with pip";
    found()?.ok_or_else(|| unavailable(why.to_owned()))
}

/// Named by `ORT_DYLIB_PATH`, beside the binary, in the user's cache or in a Python environment, in that order. Errors: the
/// variable names no file.
fn found() -> Result<Option<PathBuf>, RuntimeError> {
    if let Some(path) = named(VARIABLE).transpose().map_err(unavailable)? {
        return match path.is_file() {
            true => Ok(Some(path)),
            false => Err(unavailable(format!("{VARIABLE} is {}, where no file is", path.display()))),
        };
    }
    let environments = site_packages(None).into_iter().map(|packages| packages.join("onnxruntime/capi"));
    let folders = beside_the_binary().into_iter().chain(cache()).chain(environments);
    Ok(folders.filter_map(|folder| find(&folder)).next())
}

/// Folders of this process in which a library may lie.
fn beside_the_binary() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.parent()?.to_owned())
}

fn unavailable(why: String) -> RuntimeError {
    RuntimeError::Unavailable { runtime: ONNXRUNTIME, why, install: INSTALL.to_owned() }
}

/// Where trefoil keeps what can be made or fetched again; `None` without a home folder.
pub fn cache_folder() -> Option<PathBuf> {
    let base = match std::env::consts::OS {
        "windows" => folder("LOCALAPPDATA"),
        "macos" => folder("HOME").map(|home| home.join("Library/Caches")),
        // The XDG specification has relative paths ignored.
        _ => folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache"))),
    }?;
    Some(base.join("trefoil"))
}

fn cache() -> Option<PathBuf> {
    Some(cache_folder()?.join(format!("onnxruntime-{VERSION}")))
}

/// `libonnxruntime.so`, `libonnxruntime.so.1.32.0`, `libonnxruntime.1.32.0.dylib` or `onnxruntime.dll` in a folder.
pub(super) fn find(folder: &Path) -> Option<PathBuf> {
    let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let stem = format!("{prefix}onnxruntime");
    let mut found: Vec<PathBuf> = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let rest = name.strip_prefix(&stem).map(|rest| rest.replacen(suffix, "", 1));
        name.contains(suffix) && rest.is_some_and(|rest| rest.chars().all(|c| c == '.' || c.is_ascii_digit()))
    });
    found.sort();
    found.pop()
}

/// Downloads the wheel with pip, checks it and keeps its library.
fn fetch(cache: &Path, patience: Patience) -> Result<PathBuf, RuntimeError> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let wheel = WHEELS.iter().find(|wheel| wheel.os == os && wheel.arch == arch);
    let wheel = wheel.ok_or_else(|| unavailable(format!("no wheel of {VERSION} is known for {os} on {arch}")))?;
    eprintln!("fetching onnxruntime {VERSION} for {} with pip", wheel.platform);
    let parent = cache.parent().expect("the cache is a folder of a folder");
    let in_cache = |error: io::Error| unavailable(format!("{}: {error}", parent.display()));
    fs::create_dir_all(parent).map_err(in_cache)?;
    let scratch = tempfile::tempdir_in(parent).map_err(in_cache)?;
    let file = download(wheel, scratch.path(), patience)?;
    let found = sha256(&file).map_err(|error| unavailable(format!("{}: {error}", file.display())))?;
    if found != wheel.sha256 {
        return Err(unavailable(format!("the wheel has SHA-256 {found}, expected {}", wheel.sha256)));
    }
    let name = Path::new(wheel.library).file_name().expect("a file");
    let unpacked = scratch.path().join("library");
    fs::create_dir(&unpacked).map_err(in_cache)?;
    unzip(&file, wheel.library, &unpacked.join(name))
        .map_err(|error| unavailable(format!("{} in {}: {error}", wheel.library, file.display())))?;
    match fs::rename(&unpacked, cache) {
        Ok(()) => Ok(cache.join(name)),
        // Another process was faster.
        Err(error) => find(cache).ok_or_else(|| in_cache(error)),
    }
}

fn download(wheel: &Wheel, folder: &Path, patience: Patience) -> Result<PathBuf, RuntimeError> {
    let python = if cfg!(windows) { "python" } else { "python3" };
    let python = program(Path::new(python)).ok_or_else(|| {
        unavailable(format!("no {python} in the absolute folders of $PATH, whose pip would fetch it"))
    })?;
    let mut command = isolated(&python);
    command.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:"]);
    command.args(["--disable-pip-version-check", "--no-input", "--quiet"]);
    command.args(["--platform", wheel.platform, "--python-version", "313", "--implementation", "cp", "--dest"]);
    command.arg(folder).arg(format!("onnxruntime=={VERSION}")).stdin(Stdio::null()).stdout(Stdio::null());
    let could_not = |why: String| unavailable(format!("pip could not download onnxruntime {VERSION}: {why}"));
    let mut pip = Child::spawn("pip", &mut command)
        .map_err(|error| unavailable(format!("cannot run {}: {error}", python.display())))?;
    let ended = pip.wait(patience.fetch);
    let words = pip.end();
    match ended.map_err(could_not)? {
        Ended::Code(0) => {}
        ended => return Err(could_not(words.last().cloned().unwrap_or_else(|| format!("it {ended} without a word")))),
    }
    let files = fs::read_dir(folder).map_err(|error| unavailable(format!("{}: {error}", folder.display())))?;
    let mut paths = files.flatten().map(|entry| entry.path());
    paths
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .ok_or_else(|| unavailable("pip downloaded no wheel".to_owned()))
}

fn sha256(file: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(file)?, &mut hash)?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn unzip(archive: &Path, member: &str, to: &Path) -> io::Result<()> {
    let mut archive = zip::ZipArchive::new(File::open(archive)?)?;
    let mut from = archive.by_name(member)?;
    io::copy(&mut from, &mut File::create(to)?)?;
    Ok(())
}
