//! What one can trust of an artifact: `verify` finds what is not as it was made, and what lies beside it says where it comes from.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use rayon::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{Home, LOOSE, code, files, run, text, trefoil};
use crate::fixture::{fixture, fixtures, repository};

/// Every format, of the bundled model, which has a tokenizer.
fn all_formats() -> Home {
    let home = Home::with(&format!(
        "model: {}\nout: out\nquantize: {{ scheme: int8-g32 }}\nartifacts:\n  - onnx: {{}}\n  - gguf: {{}}\n  - safetensors: {{}}\n  \
         - npu: {{ profile: npu-portable, source: [8, 16], target: 8 }}\n    quantize: {{ scheme: f16 }}\n",
        repository("models/g2p-t5").display()
    ));
    let output = home.convert(&["--no-validate"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    home
}

const FORMATS: [&str; 4] = ["gguf", "npu", "onnx", "safetensors"];

/// One artifact of a tiny checkpoint, by its recipe's words.
fn tiny(artifact: &str) -> (Home, PathBuf) {
    let home = Home::with(&format!(
        "model: {}\nout: out\nquantize: {{ scheme: int8 }}\nartifacts:\n  - {artifact}: {{}}\n    name: artifact\n",
        fixture("t5-rows-of-32").display()
    ));
    let output = home.convert(&["--no-validate"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let dir = PathBuf::from(home.path("out/artifact"));
    (home, dir)
}

fn verify(dir: impl AsRef<Path>) -> Output {
    run(&["verify", "--quiet", &dir.as_ref().display().to_string()])
}

/// What is printed of an artifact with something wrong.
fn faults(dir: impl AsRef<Path>) -> String {
    let output = verify(dir);
    assert_eq!(code(&output), 1, "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// What is said where nothing can be looked at.
fn refusal(dir: impl AsRef<Path>) -> String {
    let output = verify(dir);
    assert_eq!((code(&output), text(&output.stdout)), (2, String::new()));
    text(&output.stderr)
}

fn manifest(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("trefoil.json")).expect("a manifest")).expect("JSON")
}

/// Writes a manifest that nothing vouches for: whoever changes one takes the statement away.
fn put(dir: &Path, mut manifest: Value) {
    manifest.as_object_mut().expect("an object").remove("has_provenance");
    for name in ["provenance.intoto.json", "model.cdx.json"] {
        let _ = fs::remove_file(dir.join(name));
    }
    fs::write(dir.join("trefoil.json"), format!("{manifest:#}\n")).expect("written");
}

/// Puts the digests of the files as they are now into the manifest.
fn patch(dir: &Path) {
    let mut patched = manifest(dir);
    for file in patched["files"].as_array_mut().expect("a list") {
        let at = dir.join(file["path"].as_str().expect("a path"));
        file["bytes"] = json!(fs::metadata(&at).expect("there").len());
        file["sha256"] = json!(converters::checkpoint::sha256(&at).expect("read"));
    }
    put(dir, patched);
}

/// Replaces the first place of a file that has these bytes.
fn replace(file: &Path, from: &[u8], to: &[u8]) {
    let mut bytes = fs::read(file).expect("there");
    let at = bytes.windows(from.len()).position(|window| window == from).expect("the bytes are there");
    bytes.splice(at..at + from.len(), to.iter().copied());
    fs::write(file, bytes).expect("written");
}

/// Names in these files are the engine's: what lies there is read, and its digests say the rest.
#[test]
fn files_of_ctranslate2_and_whisper_cpp_are_read_as_well() {
    let (home, speech) = (Home::with(""), crate::whisper_cpp::small());
    let recipe = |model: &Path, artifact: &str, scheme: &str| {
        format!(
            "model: {}\nout: {artifact}\nartifacts:\n  - {artifact}: {{}}\n    quantize: {{ scheme: {scheme} }}\n",
            model.display()
        )
    };
    let t5 = fixture("t5-rows-of-32");
    for (model, artifact, scheme, file) in [
        (t5.as_path(), "ctranslate2", "int8-inv", "model.bin"),
        (speech.path(), "whisper.cpp", "f16", "ggml-model.bin"),
    ] {
        fs::write(home.recipe(), recipe(model, artifact, scheme)).expect("written");
        let output = home.convert(&["--no-validate"]);
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        let dir = PathBuf::from(home.path(artifact)).join(artifact);
        let output = verify(&dir);
        assert_eq!(code(&output), 0, "{artifact}: {}", text(&output.stdout));
        assert!(text(&output.stdout).contains(" tensors read"), "{}", text(&output.stdout));
        let bytes = fs::read(dir.join(file)).expect("there");
        fs::write(dir.join(file), &bytes[..bytes.len() - 1]).expect("written");
        patch(&dir);
        assert!(faults(&dir).contains("tensors: "), "{artifact}");
    }
}

#[test]
fn a_flipped_bit_in_any_file_of_any_format_is_found_and_the_file_named() {
    let home = all_formats();
    let out = PathBuf::from(home.path("out"));
    let whole = verify(&out);
    assert_eq!(code(&whole), 0, "{}{}", text(&whole.stdout), text(&whole.stderr));
    assert_eq!(text(&whole.stdout).matches(": intact: ").count(), FORMATS.len());
    let mut kinds = BTreeSet::new();
    for format in FORMATS {
        let dir = out.join(format);
        for (file, bytes) in files(&dir) {
            let name = file.strip_prefix(&dir).expect("below").display().to_string();
            // A card tells measured figures, and is none of the bytes that are held to.
            if name == "README.md" {
                continue;
            }
            let mut flipped = bytes.clone();
            let at = bytes.len() * 2 / 3;
            flipped[at] ^= 1;
            fs::write(&file, &flipped).expect("written");
            let found = faults(&dir);
            assert!(found.contains(&format!("{}: {name}: ", dir.display())), "{name}, byte {at}: {found}");
            fs::write(&file, &bytes).expect("written");
            kinds.insert(name);
        }
        assert_eq!(code(&verify(&dir)), 0);
    }
    for kind in [
        "config.json",
        "tokenizer.json",
        "trefoil.json",
        "provenance.intoto.json",
        "model.cdx.json",
        "model.gguf",
        "model.safetensors",
        "npu.json",
        "model.onnx_data",
        "encoder_model.onnx",
    ] {
        assert!(kinds.contains(kind), "{kind} is in no artifact: {kinds:?}");
    }
}

#[test]
fn all_that_is_wrong_with_the_files_is_told_at_once() {
    let (_home, dir) = tiny("onnx");
    let (encoder, decoder) = (dir.join("encoder_model.onnx"), dir.join("decoder_model.onnx"));
    let [one, other] = [&encoder, &decoder].map(|file| fs::read(file).expect("there"));
    // Cut to one length, so that only what is in them tells them apart.
    let length = one.len().min(other.len());
    fs::write(&encoder, &one[..length]).expect("written");
    fs::write(&decoder, &other[..length]).expect("written");
    patch(&dir);
    fs::write(&encoder, &other[..length]).expect("written");
    fs::write(&decoder, &one[..length]).expect("written");
    let data = fs::read(dir.join("model.onnx_data")).expect("there");
    fs::write(dir.join("model.onnx_data"), &data[..data.len() / 2]).expect("written");
    fs::remove_file(dir.join("config.json")).expect("there");
    fs::create_dir(dir.join("more")).expect("made");
    fs::write(dir.join("more/notes.txt"), "mine").expect("written");
    let found = faults(&dir);
    for expected in [
        "decoder_model.onnx: expected SHA-256 ".to_owned(),
        ", that of decoder_model.onnx\n".to_owned(),
        ", that of encoder_model.onnx\n".to_owned(),
        format!("model.onnx_data: expected {} bytes, found {}\n", data.len(), data.len() / 2),
        "config.json: expected a file of ".to_owned(),
        "more/notes.txt: expected no file that trefoil.json does not name\n".to_owned(),
    ] {
        assert!(found.contains(&expected), "{expected}: {found}");
    }
    assert_eq!(found.lines().count(), 5, "{found}");

    let output = run(&["verify", "--json", &dir.display().to_string()]);
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((code(&output), told[0]["is_intact"].as_bool(), &told[0]["tensors"]), (1, Some(false), &Value::Null));
    assert_eq!(told[0]["faults"].as_array().map(Vec::len), Some(5));
}

#[test]
fn a_manifest_leads_nowhere_outside_of_its_folder_and_a_link_is_not_followed() {
    let (home, dir) = tiny("safetensors");
    fs::write(home.path("out/secret"), "secret").expect("written");
    let good = manifest(&dir);
    for path in ["../secret", "/etc/hostname", "a/../../secret", "./config.json", "..\\secret", "", "trefoil.json"] {
        let mut hostile = good.clone();
        hostile["files"][0]["path"] = json!(path);
        put(&dir, hostile);
        let found = faults(&dir);
        let expected =
            format!("{}: {path}: expected the name of a file of this folder in trefoil.json\n", dir.display());
        assert!(found.contains(&expected), "{path}: {found}");
    }
    let mut twice = good.clone();
    let first = twice["files"][0].clone();
    twice["files"].as_array_mut().expect("a list").push(first);
    put(&dir, twice);
    assert!(faults(&dir).contains(": expected once in trefoil.json, found again\n"));
    for (what, change) in [
        ("a manifest of no kind", json!({ "trefoil": "0.1.0" })),
        ("a recipe of no kind", {
            let mut other = good.clone();
            other["recipe"]["text"] = json!("model: 1");
            other
        }),
        ("no such artifact", {
            let mut other = good.clone();
            other["name"] = json!("other");
            other
        }),
        ("a tensor too large", {
            let mut other = good.clone();
            other["tensors"][0]["shape"] = json!([1_u64 << 40, 1_u64 << 40]);
            other
        }),
        ("another shape", {
            let mut other = good.clone();
            other["tensors"][0]["shape"] = json!([1, 2, 3]);
            other
        }),
    ] {
        put(&dir, change);
        assert!(!faults(&dir).is_empty(), "{what}");
    }

    #[cfg(unix)]
    {
        put(&dir, good);
        assert_eq!(code(&verify(&dir)), 0);
        for name in ["config.json", "trefoil.json"] {
            // The same bytes, elsewhere.
            let moved = home.path("out/moved");
            fs::rename(dir.join(name), &moved).expect("moved");
            std::os::unix::fs::symlink(&moved, dir.join(name)).expect("linked");
            let found = faults(&dir);
            assert!(
                found.contains(&format!("{name}: expected a file, found a link, which is not followed\n")),
                "{found}"
            );
            fs::remove_file(dir.join(name)).expect("there");
            fs::rename(&moved, dir.join(name)).expect("moved back");
        }
        std::os::unix::fs::symlink(home.path("out"), dir.join("up")).expect("linked");
        assert_eq!(
            faults(&dir),
            format!("{0}: up: expected a file, found a link, which is not followed\n", dir.display())
        );
    }
}

#[test]
fn what_was_broken_before_its_digest_was_taken_is_found_by_reading_it() {
    let broken = |format: &str, file: &str, change: &dyn Fn(&Path), expected: &str| {
        let (_home, dir) = tiny(format);
        change(&dir.join(file));
        patch(&dir);
        let found = faults(&dir);
        assert!(found.contains(expected), "{format}: {found}");
    };
    let half = |file: &Path| {
        let bytes = fs::read(file).expect("there");
        fs::write(file, &bytes[..bytes.len() / 2]).expect("written");
    };
    broken("onnx", "model.onnx_data", &half, "model.onnx_data");
    broken("gguf", "model.gguf", &half, "model.gguf");
    broken("safetensors", "model.safetensors", &half, "model.safetensors");
    let renamed = |file: &Path| replace(file, b"dec.blk.0.attn_q.weight", b"dec.blk.0.attn_p.weight");
    broken("gguf", "model.gguf", &renamed, "dec.blk.0.attn_q.weight is missing");
    let renamed = |file: &Path| replace(file, b"shared.weight_scale\"", b"shared.weight_scald\"");
    broken("safetensors", "model.safetensors", &renamed, "shared.weight");
    broken("onnx", "encoder_model.onnx", &|file| fs::write(file, "no graph").expect("written"), "encoder_model.onnx");
    // The last numbers of the file are no numbers.
    let not_a_number = |file: &Path| {
        let mut bytes = fs::read(file).expect("there");
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        fs::write(file, bytes).expect("written");
    };
    broken("safetensors", "model.safetensors", &not_a_number, "expected ");
    // What the manifest says of a tensor is held to what is there.
    for (key, value, expected) in [
        ("stored", json!("int4 per 32"), "expected int4 per 32, found int8 per row"),
        ("bytes", json!(1), "expected 1 bytes, found "),
        (
            "scales",
            json!({ "min": 1.0, "median": 1.0, "max": 1.0 }),
            "expected scales from 1e0 to 1e0 around 1e0, found ",
        ),
    ] {
        let (_home, dir) = tiny("safetensors");
        let mut other = manifest(&dir);
        let tensors = other["tensors"].as_array_mut().expect("a list");
        tensors.iter_mut().find(|tensor| tensor["stored"] == "int8 per row").expect("codes")[key] = value;
        put(&dir, other);
        let found = faults(&dir);
        assert!(found.contains(expected), "{key}: {found}");
    }
}

#[test]
fn where_there_is_no_artifact_a_sentence_says_what_is_there() {
    let home = TempDir::new().expect("temporary folder");
    let at = |name: &str| home.path().join(name);
    fs::create_dir(at("empty")).expect("made");
    assert!(
        refusal(at("empty"))
            .contains("empty: expected an artifact (trefoil.json) or a folder of artifacts, found an empty folder")
    );
    fs::create_dir_all(at("photos/2024")).expect("made");
    fs::write(at("photos/a.jpg"), "mine").expect("written");
    assert!(
        refusal(at("photos"))
            .contains("photos: expected an artifact (trefoil.json) or a folder of artifacts, found no such file there")
    );
    assert!(refusal(at("nowhere")).contains("nowhere: "));
    // A run that died.
    fs::create_dir_all(at("out/.trefoil/run-abc/new/onnx")).expect("made");
    fs::write(at("out/.trefoil/run-abc/new/onnx/trefoil.json"), "{}").expect("written");
    let unfinished = "found what a run works on and has not finished";
    assert!(refusal(at("out")).contains(unfinished));
    assert!(refusal(at("out/.trefoil/run-abc/new/onnx")).contains(unfinished));
    // One of several paths is a recipe.
    fs::write(at("recipe.yaml"), "model: x").expect("written");
    let [recipe, empty] = ["recipe.yaml", "empty"].map(|name| at(name).display().to_string());
    let output = run(&["verify", &recipe, &empty]);
    assert_eq!(code(&output), 2);
    assert!(text(&output.stderr).contains("expected a recipe alone, found it among other paths"));
}

/// Families, formats and schemes: the graph of an artifact is made without its checkpoint, and every tensor is found.
#[test]
fn artifacts_of_every_checkpoint_are_read_without_it() {
    let one = |(dir, format, scheme): &(PathBuf, &str, &str)| -> Option<String> {
        let options = if *format == "npu" { "{ profile: npu-portable, source: [16], target: 8 }" } else { "{}" };
        let home = Home::with(&format!(
            "model: {}\nout: out\nquantize: {{ scheme: {scheme} }}\nartifacts:\n  - {format}: {options}\n",
            dir.display()
        ));
        if code(&home.convert(&["--no-validate", "--quiet"])) == 2 {
            return None; // the format does not hold that
        }
        let output = verify(home.path("out"));
        assert_eq!(code(&output), 0, "{}: {scheme}: {}{}", dir.display(), text(&output.stdout), text(&output.stderr));
        let name = dir.file_name().expect("a folder").to_string_lossy().into_owned();
        Some(format!("{format} {name}"))
    };
    let schemes = ["keep", "f16", "int8", "int4-g32-asym", "q4_k", "fp8"];
    let cases: Vec<(PathBuf, &str, &str)> = fixtures()
        .into_iter()
        .flat_map(|dir| FORMATS.map(|format| (dir.clone(), format)))
        .flat_map(|(dir, format)| schemes.map(|scheme| (dir.clone(), format, scheme)))
        .collect();
    let read: Vec<String> = cases.par_iter().filter_map(one).collect();
    for format in FORMATS {
        let models: BTreeSet<&String> = read.iter().filter(|case| case.starts_with(format)).collect();
        assert!(models.len() >= 38, "{format}: {models:?}");
    }
    assert!(read.len() >= 500, "{}", read.len());
}

#[test]
fn what_was_converted_verifies_and_is_derived_again() {
    let home = all_formats();
    let (out, model) = (home.path("out"), repository("models/g2p-t5").display().to_string());
    let again = |more: &[&str]| run(&[&["verify", &out, "--quiet", "--rederive"], more].concat());
    let output = again(&[&model]);
    assert_eq!(code(&output), 0, "{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(
        text(&output.stdout).matches(", every byte made again; verdict when it was made: not validated").count(),
        4
    );
    // The bytes of another checkpoint are others.
    let other = TempDir::new().expect("temporary folder");
    for (file, mut bytes) in files(Path::new(&model)) {
        if file.parent() == Some(Path::new(&model)) {
            if file.ends_with("model.safetensors") {
                let end = bytes.len();
                bytes[end - 1] ^= 1;
            }
            fs::write(other.path().join(file.file_name().expect("a file")), bytes).expect("written");
        }
    }
    let output = again(&[&other.path().display().to_string()]);
    assert_eq!(code(&output), 1, "{}", text(&output.stderr));
    let found = text(&output.stdout);
    assert!(
        found.contains("model.gguf: expected the bytes that ") && found.contains(": made from another checkpoint\n"),
        "{found}"
    );
    let output = again(&[&model, "--data", &home.recipe()]);
    assert_eq!(code(&output), 2);
    assert!(text(&output.stderr).contains("expected no --data: its recipe calibrates nothing"));
    assert_eq!(code(&run(&["verify", &home.recipe(), "--rederive", &model])), 2);
}

#[test]
fn what_samples_decided_is_derived_again_from_them() {
    let data = repository("models/g2p-t5/data/calibration.jsonl");
    let model = repository("models/g2p-t5").display().to_string();
    let home = Home::with(&format!(
        "model: {model}\nout: out\ncalibrate: {{ data: {}, samples: 8 }}\nquantize: {{ scheme: int4-g32, method: gptq }}\n\
         artifacts:\n  - onnx: {{}}\n  - gguf: {{ imatrix: true }}\n",
        data.display()
    ));
    let output = home.convert(&["--no-validate"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let out = home.path("out");
    assert_eq!(manifest(Path::new(&home.path("out/gguf")))["samples"]["file"], "calibration.jsonl");
    let again = |more: &[&str]| run(&[&["verify", &out, "--quiet", "--rederive", &model], more].concat());
    let output = again(&["--data", &data.display().to_string()]);
    assert_eq!(code(&output), 0, "{}{}", text(&output.stdout), text(&output.stderr));
    let output = again(&[]);
    assert_eq!(code(&output), 2);
    assert!(
        text(&output.stderr).contains("it follows from the samples calibration.jsonl (SHA-256 "),
        "{}",
        text(&output.stderr)
    );
    let other = repository("models/g2p-t5/data/validation.jsonl").display().to_string();
    let output = again(&["--data", &other]);
    assert_eq!(code(&output), 1, "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains(": made from other samples\n"), "{}", text(&output.stdout));
}

fn read(dir: &Path, name: &str) -> Value {
    serde_json::from_slice(&fs::read(dir.join(name)).expect("there")).expect("JSON")
}

#[test]
fn a_statement_names_every_file_and_what_it_was_made_from() {
    let (_home, dir) = tiny("onnx");
    let (manifest, statement) = (manifest(&dir), read(&dir, "provenance.intoto.json"));
    let subjects: BTreeSet<String> =
        statement["subject"].as_array().expect("a list").iter().map(|one| one["name"].to_string()).collect();
    let there: BTreeSet<String> = files(&dir)
        .into_keys()
        .map(|file| json!(file.strip_prefix(&dir).expect("below").display().to_string()).to_string())
        .filter(|name| !["\"README.md\"", "\"model.cdx.json\"", "\"provenance.intoto.json\""].contains(&name.as_str()))
        .collect();
    assert_eq!(subjects, there);
    let definition = &statement["predicate"]["buildDefinition"];
    assert_eq!(definition["externalParameters"]["recipe"]["digest"]["sha256"], manifest["recipe"]["sha256"]);
    let digests = |list: &Value| -> Vec<Value> {
        list.as_array().expect("a list").iter().map(|one| one["digest"]["sha256"].clone()).collect()
    };
    let inputs: Vec<Value> =
        manifest["model"]["inputs"].as_array().expect("a list").iter().map(|one| one["sha256"].clone()).collect();
    assert_eq!(digests(&definition["resolvedDependencies"]), inputs);
    assert_eq!(statement["predicate"]["runDetails"].get("metadata"), None, "no time");
    // A statement of other files.
    let mut other = statement.clone();
    other["subject"][0]["digest"]["sha256"] = json!("0".repeat(64));
    other["subject"].as_array_mut().expect("a list").push(json!({ "name": "x", "digest": { "sha256": "0" } }));
    fs::write(dir.join("provenance.intoto.json"), format!("{other:#}\n")).expect("written");
    let found = faults(&dir);
    assert!(found.contains(" as provenance.intoto.json states it, found "), "{found}");
    assert!(found.contains("provenance.intoto.json: expected no subject x, found one\n"), "{found}");
}

#[test]
fn what_lies_beside_an_artifact_is_the_same_to_the_byte_and_has_a_time_when_one_is_given() {
    let (home, dir) = tiny("gguf");
    let recipe = home.recipe();
    let convert = |epoch: Option<&str>| {
        let mut command = trefoil();
        command.args(["convert", &recipe, "--no-validate", "--quiet", "--offline"]);
        if let Some(epoch) = epoch {
            command.env("SOURCE_DATE_EPOCH", epoch);
        }
        command.output().expect("the binary starts")
    };
    let first = files(&dir);
    assert_eq!(code(&convert(None)), 0);
    assert!(files(&dir) == first, "two conversions");
    assert_eq!(code(&convert(Some("1700000000"))), 0);
    let time = "2023-11-14T22:13:20Z";
    assert_eq!(read(&dir, "provenance.intoto.json")["predicate"]["runDetails"]["metadata"]["startedOn"], time);
    let bom = read(&dir, "model.cdx.json");
    assert_eq!(bom["metadata"]["timestamp"], time);
    assert_eq!(code(&verify(&dir)), 0);
    let without: Value = serde_json::from_slice(&first[&dir.join("model.cdx.json")]).expect("JSON");
    assert_eq!(bom["serialNumber"], without["serialNumber"]);
    for epoch in ["tomorrow", "-1", "99999999999999"] {
        let output = convert(Some(epoch));
        assert_eq!(code(&output), 2);
        let expected = format!("SOURCE_DATE_EPOCH: expected seconds since 1970, found {epoch}");
        assert!(text(&output.stderr).contains(&expected), "{}", text(&output.stderr));
    }
}

#[test]
fn a_bill_of_materials_tells_the_license_the_figures_and_the_base_model() {
    let model = crate::fixture::copy("t5-rows-of-32");
    for (license, expected) in [
        ("apache-2.0", json!({ "id": "Apache-2.0", "acknowledgement": "declared" })),
        ("openrail", json!({ "name": "openrail", "acknowledgement": "declared" })),
    ] {
        fs::write(model.path().join("README.md"), format!("---\nlicense: {license}\n---\n")).expect("written");
        let home = Home::with(&format!(
            "model: {}\nout: out\nartifacts:\n  - safetensors: {{}}\nvalidate: {{ samples: 3 }}\n",
            model.path().display()
        ));
        let output = home.convert(&[]);
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        let dir = PathBuf::from(home.path("out/safetensors"));
        let (bom, manifest) = (read(&dir, "model.cdx.json"), manifest(&dir));
        let artifact = &bom["metadata"]["component"];
        for component in [artifact, &bom["components"][0]] {
            assert_eq!(component["licenses"], json!([{ "license": expected }]));
        }
        let digests = |list: &Value| -> Vec<String> {
            let all = list.as_array().expect("a list").iter();
            all.map(|one| one["hashes"][0]["content"].as_str().expect("a digest").to_owned()).collect()
        };
        let of = |list: &Value| -> Vec<String> {
            let all = list.as_array().expect("a list").iter();
            all.map(|one| one["sha256"].as_str().expect("a digest").to_owned()).collect()
        };
        assert_eq!(digests(&artifact["components"]), of(&manifest["files"]));
        assert_eq!(digests(&bom["components"][0]["components"]), of(&manifest["model"]["inputs"]));
        assert_eq!(bom["dependencies"][0], json!({ "ref": "artifact", "dependsOn": ["base-model"] }));
        let report: Value =
            serde_json::from_slice(&fs::read(home.path("out/report.json")).expect("there")).expect("JSON");
        let metrics = artifact["modelCard"]["quantitativeAnalysis"]["performanceMetrics"].as_array().expect("figures");
        let kl = metrics.iter().find(|one| one["type"] == "kl_to_float").expect("a divergence");
        let expected = report["artifacts"][0]["runs"][0]["to_float"]["kl"].as_f64().expect("a number");
        assert_eq!(kl["value"], expected.to_string());
    }
}

/// The official schemas, in-toto's own classes, and a signature over the folder; see docs/provenance.md.
#[test]
#[ignore = "needs the environment of tools/setup.sh"]
fn tools_of_others_take_the_statement_and_the_bill_and_sign_the_folder() {
    let model = repository("models/g2p-t5").display().to_string();
    let home = Home::with(&format!(
        "model: {model}\nout: out\ncalibrate: {{ data: {model}/data/calibration.jsonl, samples: 4 }}\n\
         quantize: {{ scheme: int8, method: gptq }}\nartifacts:\n  - onnx: {{}}\n  - gguf: {{}}\n  - safetensors: {{}}\n\
         validate: {{ data: {model}/data/test.jsonl, samples: 4, speed: false, limits: {LOOSE} }}\n"
    ));
    let mut command = trefoil();
    let command = command.args(["convert", &home.recipe(), "--offline"]).env("SOURCE_DATE_EPOCH", "1700000000");
    let output = command.output().expect("the binary starts");
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    for format in ["onnx", "gguf", "safetensors"] {
        let mut command = std::process::Command::new(repository(".venv/bin/python"));
        command.arg(repository("tests/foreign/provenance_open.py")).arg(home.path(&format!("out/{format}")));
        let output = command.output().expect("tools/setup.sh makes .venv");
        assert!(output.status.success(), "{format}: {}", text(&output.stderr));
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(
            told,
            json!({ "bill": "valid", "statement": "valid", "signature": "holds", "flipped": "found" }),
            "{format}"
        );
    }
}
