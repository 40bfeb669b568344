//! What lies around the program: the folder that it is started in, and Python environments that are broken.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cli::{code, text};
use crate::fixture::fixture;

/// Modules that Python, pip or an engine would import from the working folder if it were on the path.
const MODULES: [&str; 13] = [
    "argparse",
    "ctypes",
    "json",
    "numpy",
    "onnxruntime",
    "openvino",
    "rknn",
    "sitecustomize",
    "tempfile",
    "torch",
    "transformers",
    "usercustomize",
    "venv",
];
/// Programs that a relative entry of `PATH` would bring.
const PROGRAMS: [&str; 5] = ["cc", "gdb", "ld", "python", "python3"];
/// Environments and caches, as earlier versions looked for them or as relative variables would name them.
const ROOTS: [&str; 4] = [".", ".venv", ".venv-openvino", ".venv-rknn"];
const LIBRARY: &str = "libonnxruntime.so.1.32.0";

/// A folder of traps, and the file that each of them writes its name to.
struct Hostile {
    home: TempDir,
    python: PathBuf,
}

impl Hostile {
    fn new() -> Hostile {
        let hostile = Hostile { home: tempfile::tempdir().expect("temporary folder"), python: python() };
        let marker = hostile.marker();
        let write = |path: PathBuf, content: &str| {
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(&path, content).expect("written");
        };
        let module = |name: &str| format!("open({:?}, 'a').write('module {name}\\n')\n", marker.display().to_string());
        for name in MODULES {
            write(hostile.dir().join(format!("{name}.py")), &module(name));
        }
        for name in ["__init__", "__main__"] {
            write(hostile.dir().join("pip").join(format!("{name}.py")), &module("pip"));
        }
        let library = hostile.library();
        for root in ROOTS.map(|root| hostile.dir().join(root)) {
            let packages = root.join("lib/python3.11/site-packages");
            for name in ["openvino", "rknn", "torch", "transformers"] {
                write(packages.join(name).join("__init__.py"), &module(name));
            }
            for folder in ["onnxruntime/capi", "onnxruntime_qnn"] {
                fs::create_dir_all(packages.join(folder)).expect("made");
            }
            fs::copy(&library, packages.join("onnxruntime/capi").join(LIBRARY)).expect("copied");
            for name in ["libonnxruntime_providers_qnn.so", "libQnnHtp.so"] {
                fs::copy(&library, packages.join("onnxruntime_qnn").join(name)).expect("copied");
            }
            for name in PROGRAMS {
                let script = format!("#!/bin/sh\necho program {name} >>{}\n", marker.display());
                for path in [root.join(name), root.join("bin").join(name)] {
                    write(path.clone(), &script);
                    executable(&path);
                }
            }
        }
        // As of XDG_CACHE_HOME=. and of a bare ORT_DYLIB_PATH.
        fs::create_dir_all(hostile.dir().join("trefoil/onnxruntime-1.32.0")).expect("made");
        for name in ["trefoil/onnxruntime-1.32.0/libonnxruntime.so.1.32.0", "libonnxruntime.so"] {
            fs::copy(&library, hostile.dir().join(name)).expect("copied");
        }
        hostile
    }

    fn dir(&self) -> &Path {
        self.home.path()
    }

    fn marker(&self) -> PathBuf {
        self.dir().join("executed")
    }

    /// A library that writes to the marker when it is loaded; without a C compiler, one that cannot be loaded.
    fn library(&self) -> PathBuf {
        let [source, library] = ["trap.c", "trap.so"].map(|name| self.dir().join(name));
        let marker = self.marker().display().to_string();
        let code = format!(
            "#include <stdio.h>\n__attribute__((constructor)) static void trap(void) {{ FILE *f = fopen({marker:?}, \"a\"); \
             fputs(\"library\\n\", f); fclose(f); }}\n"
        );
        fs::write(&source, code).expect("written");
        let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
        if !made.is_ok_and(|status| status.success()) {
            fs::write(&library, "no library").expect("written");
        }
        library
    }

    /// The program in this folder, with no engine but those that the variables name and none from the network.
    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trefoil"));
        let known = [
            "TREFOIL_PYTHON",
            "TREFOIL_OPENVINO_PYTHON",
            "TREFOIL_RKNN_PYTHON",
            "TREFOIL_ONNXRUNTIME_QNN",
            "TREFOIL_CTRANSLATE2_PYTHON",
        ];
        let others = ["VIRTUAL_ENV", "CONDA_PREFIX", "ORT_DYLIB_PATH", "XDG_CACHE_HOME"];
        for name in known.into_iter().chain(others) {
            command.env_remove(name);
        }
        let cache = self.dir().join("elsewhere");
        let path = std::env::var("PATH").expect("set");
        command.env("HOME", cache).env("PIP_NO_INDEX", "1").env("PATH", format!(".::bin:{path}"));
        command.args(arguments).current_dir(self.dir()).envs(variables.iter().copied());
        command.output().expect("the binary starts")
    }

    fn executed(&self) -> String {
        fs::read_to_string(self.marker()).unwrap_or_default()
    }
}

fn executable(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("made executable");
    }
}

/// A Python of this machine, outside of any environment and no script in its place.
fn python() -> PathBuf {
    let ask = "import os, sys; print(os.path.realpath(sys.executable))";
    let said = Command::new("python3").args(["-I", "-c", ask]).output().expect("tests need python3");
    PathBuf::from(text(&said.stdout).trim())
}

#[test]
fn nothing_of_the_working_folder_is_executed_or_loaded_unless_it_is_named() {
    let hostile = Hostile::new();
    // The traps work.
    let sprung = Command::new(&hostile.python).args(["-c", "import json, torch"]).current_dir(hostile.dir()).status();
    assert!(sprung.is_ok_and(|status| status.success()));
    assert_eq!(hostile.executed(), "module json\nmodule torch\n");
    fs::remove_file(hostile.marker()).expect("removed");

    let recipe = format!(
        "model: {}\nout: out\nquantize: {{ scheme: int8 }}\nartifacts:\n  - onnx: {{}}\n  - safetensors: {{}}\n  \
         - gguf: {{}}\n    quantize: {{ scheme: q8_0 }}\n  - npu: {{ profile: npu-portable, source: [24], target: 16 }}\n    \
         quantize: {{ scheme: f32 }}\n\
         validate:\n  samples: 2\n  limits: {{ max_kl: 10, min_top1: 0 }}\n",
        fixture("t5-rows-of-32").display()
    );
    fs::write(hostile.dir().join("recipe.yaml"), recipe).expect("written");
    let python = hostile.python.display().to_string();
    let here = hostile.dir().display().to_string();
    let named = [
        ("TREFOIL_PYTHON", "python3"),
        ("TREFOIL_OPENVINO_PYTHON", python.as_str()),
        ("TREFOIL_RKNN_PYTHON", python.as_str()),
        ("PYTHONPATH", here.as_str()),
        ("PYTHONSTARTUP", "json.py"),
        ("PYTHONHOME", here.as_str()),
        ("XDG_CACHE_HOME", "."),
        ("ORT_DYLIB_PATH", "libonnxruntime.so"),
    ];
    let stale = [("VIRTUAL_ENV", ".venv"), ("CONDA_PREFIX", ".venv"), ("XDG_CACHE_HOME", ""), ("ORT_DYLIB_PATH", "")];
    let model = fixture("t5-rows-of-32").display().to_string();
    for variables in [&[][..], &named, &stale] {
        let output = hostile.run(&["convert", "recipe.yaml", "--no-bench"], variables);
        let said = text(&output.stderr) + &text(&output.stdout);
        assert_eq!(hostile.executed(), "", "{variables:?}: {said}");
        // Nobody has measured the noise of random weights on two samples.
        assert!(code(&output) <= 1, "{variables:?}: {said}");
        for artifact in ["onnx", "safetensors", "gguf", "npu"] {
            let dir = format!("out/{artifact}");
            hostile.run(&["validate", &dir, "--reference", &model, "--samples", "2"], variables);
            hostile.run(&["run", &dir, "1 2 3"], variables);
            assert_eq!(hostile.executed(), "", "{artifact}, {variables:?}");
        }
    }
    // A bare name is neither a file here nor one of the system's.
    let output = hostile.run(&["run", "out/onnx", "1 2 3"], &named);
    let said = text(&output.stderr);
    let expected = "ORT_DYLIB_PATH is libonnxruntime.so: expected a path with a folder, as ./libonnxruntime.so";
    assert!(code(&output) == 2 && said.contains(expected), "{said}");
    // What is named with a folder is the user's word.
    let output = hostile.run(&["run", "out/safetensors", "1 2 3"], &[("TREFOIL_PYTHON", "./python3")]);
    assert_eq!((code(&output), hostile.executed().as_str()), (2, "program python3\n"));
}

/// An environment of this machine's Python whose package torch is this text.
fn environment(torch: &str) -> TempDir {
    let (home, python) = (tempfile::tempdir().expect("temporary folder"), python());
    let ask = "import sys; print(f'python{sys.version_info[0]}.{sys.version_info[1]}')";
    let version = Command::new(&python).args(["-I", "-c", ask]).output().expect("Python starts");
    let packages = home.path().join("lib").join(text(&version.stdout).trim()).join("site-packages");
    fs::create_dir_all(packages.join("torch")).expect("made");
    fs::create_dir(home.path().join("bin")).expect("made");
    let base = python.parent().expect("a folder").display();
    fs::write(home.path().join("pyvenv.cfg"), format!("home = {base}\n")).expect("written");
    #[cfg(unix)]
    std::os::unix::fs::symlink(&python, home.path().join("bin/python")).expect("linked");
    match torch {
        "" => fs::remove_dir(packages.join("torch")).expect("removed"),
        torch => fs::write(packages.join("torch/__init__.py"), torch).expect("written"),
    }
    home
}

#[cfg(unix)]
#[test]
fn a_package_that_is_not_installed_is_not_run_and_one_that_is_broken_or_hangs_is_failed() {
    let hostile = Hostile::new();
    let recipe = format!(
        "model: {}\nout: out\nartifacts:\n  - safetensors: {{}}\nvalidate:\n  samples: 2\n",
        fixture("t5-rows-of-32").display()
    );
    fs::write(hostile.dir().join("recipe.yaml"), recipe).expect("written");
    for (torch, seconds, exit, expected) in [
        ("", "60", 0, "the package torch is not installed"),
        ("import sympy_of_torch", "60", 1, "ModuleNotFoundError: No module named 'sympy_of_torch'"),
        ("raise ImportError('libtorch.so: invalid ELF header')", "60", 1, "libtorch.so: invalid ELF header"),
        ("import os; os.abort()", "60", 1, "it ended with signal 6"),
        ("import time; time.sleep(1000)", "3", 1, "no answer in 3 s"),
        ("", "soon", 1, "TREFOIL_ENGINE_SECONDS: expected whole seconds above 0, found \"soon\""),
    ] {
        let environment = environment(torch);
        let root = environment.path().display().to_string();
        let start = Instant::now();
        let variables = [("VIRTUAL_ENV", root.as_str()), ("TREFOIL_ENGINE_SECONDS", seconds)];
        let output =
            hostile.run(&["convert", "recipe.yaml", "--offline", "--no-bench", "--report-dir", "report"], &variables);
        let said = text(&output.stderr) + &text(&output.stdout);
        let report = fs::read_to_string(hostile.dir().join("report/report.json")).expect("written");
        let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
        let checks = report["artifacts"][0]["checks"].as_array().expect("a list");
        let outcome = if exit == 0 { "not_run" } else { "failed" };
        let told = |check: &&serde_json::Value| check["sentence"].as_str().is_some_and(|s| s.contains(expected));
        let check = checks.iter().find(told).unwrap_or_else(|| panic!("{torch:?}: no {expected:?} in {checks:#?}"));
        assert_eq!(check["outcome"], outcome, "{torch:?}: {check}");
        assert_eq!(code(&output), exit, "{torch:?}: {said}");
        assert!(start.elapsed() < Duration::from_secs(120), "{torch:?}");
        assert_eq!(hostile.executed(), "");
    }
}
