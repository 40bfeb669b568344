//! How a released program comes onto a machine of a CI service.

use std::fs;
use std::process::{Command, Output};

use sha2::{Digest, Sha256};

use super::{Machine, good};
use crate::cli::{code, text};

/// A release 1.2.3 of a program that prints its name, and the digest of its archive.
fn release(machine: &Machine) -> (String, String) {
    let system = if cfg!(target_os = "macos") { "apple-darwin" } else { "unknown-linux-gnu" };
    let name = format!("trefoil-1.2.3-{}-{system}", std::env::consts::ARCH);
    machine.program(&format!("made/{name}/trefoil"), "#!/bin/sh\necho released\n");
    let archive = format!("releases/v1.2.3/{name}.tar.gz");
    machine.write(&archive, "");
    let mut tar = Command::new("tar");
    tar.arg("-czf").arg(machine.path(&archive)).arg("-C").arg(machine.path("made")).arg(&name);
    assert!(tar.status().expect("tar starts").success());
    let digest = Sha256::digest(fs::read(machine.path(&archive)).expect("there"));
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    machine.write(&format!("{archive}.sha256"), format!("{digest}  {name}.tar.gz\n"));
    (archive, digest)
}

fn install(machine: &Machine, version: &str, sha256: &str) -> Output {
    let releases = format!("file://{}", machine.path("releases").display());
    let arguments = [&releases, version, "program", sha256];
    machine.command("ci/install.sh").args(arguments).output().expect("bash starts")
}

#[test]
fn a_release_is_installed_when_its_digest_is_the_expected_one() {
    let machine = Machine::new();
    let (archive, digest) = release(&machine);
    for sha256 in ["", &digest] {
        let folder = good(install(&machine, "1.2.3", sha256));
        let program = machine.path(folder.trim_end()).join("trefoil");
        assert_eq!(good(Command::new(program).output().expect("it starts")), "released\n");
        fs::remove_dir_all(machine.path("program")).expect("removed");
    }

    let refused = |version: &str, sha256: &str| {
        let output = install(&machine, version, sha256);
        assert_eq!((code(&output), text(&output.stdout).as_str()), (2, ""));
        assert!(!machine.path("program").exists());
        text(&output.stderr)
    };
    let said = refused("1.2.3", &"0".repeat(64));
    assert!(said.contains(&format!("expected sha256 {}, found {digest}", "0".repeat(64))), "{said}");
    let said = refused("9.9.9", "");
    assert!(said.ends_with("cannot be fetched: is there a release 9.9.9 for this machine?\n"), "{said}");
    let mut bytes = fs::read(machine.path(&archive)).expect("there");
    bytes[40] ^= 1;
    machine.write(&archive, bytes);
    let said = refused("1.2.3", "");
    assert!(said.contains(&format!("expected sha256 {digest}, found ")), "{said}");
}
