//! Templates of CI services and of Snakemake, run as the services run them: what they install, build and say.

mod install;
mod said;
mod snakemake;
mod templates;
mod under_a_request;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::cli::{code, files, text, trefoil};
use crate::fixture::{fixture, repository};

/// A limit that is kept, and one that no 8 bits keep.
const KEPT: &str = "{ max_kl: 10.0, min_top1: 0.0 }";
const BROKEN: &str = "{ max_kl: 1.0e-12, min_top1: 0.0 }";

/// A repository with recipes, and the machine of a CI service that builds them.
struct Machine {
    dir: TempDir,
}

impl Machine {
    fn new() -> Machine {
        let machine = Machine { dir: tempfile::tempdir().expect("temporary folder") };
        for (path, bytes) in files(&fixture("t5-rows-of-32")) {
            machine.write(&format!("model/{}", path.file_name().expect("named").to_string_lossy()), &bytes);
        }
        let samples: String = (0..4).map(|i| format!("{{\"input\": \"{} 5 9 1\"}}\n", 3 + i)).collect();
        machine.write("recipes/data.jsonl", samples);
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, content).expect("written");
    }

    fn program(&self, name: &str, script: &str) {
        self.write(name, script);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).expect("set");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// A recipe whose second artifact begins in line 8.
    fn recipe(&self, name: &str, limits: &str) {
        let text = format!(
            "# The artifacts of a test.\nmodel: ../model\nout: ../out/{name}\nquantize: {{ scheme: int8 }}\nartifacts:\n  \
             - onnx: {{}}\n\n  - safetensors: {{}}\n    name: \"second\" # of two\nvalidate:\n  data: data.jsonl\n  samples: 4\n  \
             limits: {limits}\n"
        );
        self.write(&format!("recipes/{name}.yaml"), text);
    }

    /// A script or program of ci/, as a service runs it: in the repository, with trefoil on PATH.
    fn command(&self, script: &str) -> Command {
        let mut command = Command::new(repository(script));
        self.surround(&mut command);
        command
    }

    fn surround(&self, command: &mut Command) {
        // What keeps engines and caches of the person who tests away.
        for (name, value) in trefoil().get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("GITHUB_") || name.starts_with("CI_")) {
            command.env_remove(name);
        }
        let binary = Path::new(env!("CARGO_BIN_EXE_trefoil")).parent().expect("a folder");
        let path = std::env::var("PATH").expect("a PATH");
        command.env("PATH", format!("{}:{}:{path}", self.path("bin").display(), binary.display()));
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("TREFOIL_CACHE", self.path("cache"));
        command.current_dir(self.dir.path());
    }

    /// The exit code of a build that leaves what it said in `state`.
    fn build(&self, more: &[&str]) -> i32 {
        let arguments = ["state", "recipes/*.yaml", "--offline", "--no-bench"];
        let output = self.command("ci/build.sh").args(arguments).args(more).output().expect("bash starts");
        assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
        code(&output)
    }

    /// The exit code of a shard on a machine of its own, whose entries are then handed over to this one.
    fn shard(&self, shard: &str) -> i32 {
        let mut command = self.command("ci/build.sh");
        command.args(["state", "recipes/*.yaml", "--offline", "--no-bench", "--shard", shard]);
        let output = command.env("TREFOIL_CACHE", self.path("elsewhere")).output().expect("bash starts");
        self.hand_over("elsewhere");
        code(&output)
    }

    /// Brings the artifacts and validations of another cache into this machine's, and ends the other.
    fn hand_over(&self, cache: &str) {
        for (path, bytes) in files(&self.path(cache)) {
            let below = path.strip_prefix(self.path(cache)).expect("below");
            if below.starts_with("artifact") || below.starts_with("validation") {
                self.write(&Path::new("cache").join(below).display().to_string(), bytes);
            }
        }
        fs::remove_dir_all(self.path(cache)).expect("removed");
    }

    /// What the action then says in the log, with more variables.
    fn say(&self, more: &[(&str, &str)]) -> String {
        let mut command = self.command("ci/github/say.sh");
        command.env("GITHUB_WORKSPACE", self.dir.path()).env("GITHUB_STEP_SUMMARY", self.path("summary.md"));
        command.envs([("STATE", "state"), ("NAME", "build"), ("GITHUB_REPOSITORY", "someone/models")]);
        good(command.envs(more.iter().copied()).output().expect("bash starts"))
    }

    /// Names of artifacts that the cache has.
    fn kept(&self) -> usize {
        fs::read_dir(self.path("cache/artifact")).map_or(0, Iterator::count)
    }
}

/// What a program that ended well printed.
fn good(output: Output) -> String {
    assert_eq!(code(&output), 0, "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
