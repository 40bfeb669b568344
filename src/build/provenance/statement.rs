//! `provenance.intoto.json`: an in-toto Statement v1 with the predicate SLSA Provenance v1.

use serde_json::{Value, json};
use validate::report::figures::short;

use super::json::{parsed, pretty};
use crate::build::intact::Fault;
use crate::build::manifest::{self, Manifest};
use crate::names::PROVENANCE;

/// in-toto's Statement layer.
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// SLSA's predicate.
const PREDICATE: &str = "https://slsa.dev/provenance/v1";
/// What was done, by whose parameters `externalParameters` are named.
const BUILD_TYPE: &str = "pkg:generic/trefoil#convert/v1";
/// Who did it: a program, on whatever machine. A build service that vouches for itself states another one.
const BUILDER: &str = "pkg:generic/trefoil";

/// The file of an artifact. `sha256`: of its manifest; `time`: RFC 3339.
pub fn text(manifest: &Manifest, sha256: &str, time: Option<&str>) -> String {
    pretty(&statement(manifest, sha256, time))
}

fn statement(manifest: &Manifest, sha256: &str, time: Option<&str>) -> Value {
    let files = manifest.files.iter().map(|file| (file.path.as_str(), file.sha256.as_str()));
    let subject: Vec<Value> = files.chain([(manifest::FILE, sha256)]).map(resource).collect();
    let mut run = json!({ "builder": { "id": BUILDER, "version": { "trefoil": manifest.trefoil } } });
    if let Some(time) = time {
        run["metadata"] = json!({ "startedOn": time, "finishedOn": time });
    }
    let mut internal = json!({ "format": manifest.format });
    if let Some(calibrated) = &manifest.calibrated {
        internal["kernel"] = json!(calibrated.kernel);
    }
    json!({
        "_type": STATEMENT,
        "subject": subject,
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "recipe": resource((&manifest.recipe.file, &manifest.recipe.sha256)),
                    "artifact": manifest.name,
                },
                "internalParameters": internal,
                "resolvedDependencies": dependencies(manifest),
            },
            "runDetails": run,
        },
    })
}

/// The commit of the hub, if the checkpoint is one; its files, then those of samples.
fn dependencies(manifest: &Manifest) -> Vec<Value> {
    let inputs = manifest.model.inputs.iter().map(|input| (input.path.as_str(), input.sha256.as_str()));
    let samples = manifest.samples.iter().map(|samples| (samples.file.as_str(), samples.sha256.as_str()));
    let commit =
        manifest.model.hub.iter().map(|hub| json!({ "uri": hub.purl(), "digest": { "gitCommit": hub.commit } }));
    commit.chain(inputs.chain(samples).map(resource)).collect()
}

/// A ResourceDescriptor.
fn resource((name, sha256): (&str, &str)) -> Value {
    json!({ "name": name, "digest": { "sha256": sha256 } })
}

/// Where a statement is not the one that the manifest gives. `sha256`: of the manifest. What another version wrote is held to the
/// digests of its subjects.
pub fn faults(text: &str, manifest: &Manifest, sha256: &str) -> Vec<Fault> {
    let found = match parsed(text) {
        Ok(found) => found,
        Err(error) => return vec![Fault::new(PROVENANCE, format!("expected an in-toto statement: {error}"))],
    };
    let time = found.pointer("/predicate/runDetails/metadata/startedOn").and_then(Value::as_str);
    let expected = statement(manifest, sha256, time);
    let faults = subjects(&expected, &found);
    let is_same = pretty(&expected) == text;
    if !faults.is_empty() || is_same || manifest.trefoil != env!("CARGO_PKG_VERSION") {
        return faults;
    }
    let (ours, theirs) = (pretty(&expected), text);
    let differs = ours.lines().zip(theirs.lines()).position(|(a, b)| a != b);
    let line = differs.unwrap_or(ours.lines().count().min(theirs.lines().count()));
    let at = |text: &str| text.lines().nth(line).map_or("the end".to_owned(), |line| line.trim().to_owned());
    let sentence =
        format!("line {}: expected {} as {} gives it, found {}", line + 1, at(&ours), manifest::FILE, at(theirs));
    vec![Fault::new(PROVENANCE, sentence)]
}

/// Subjects whose digests differ, and those that one of both lacks.
fn subjects(expected: &Value, found: &Value) -> Vec<Fault> {
    let of = |statement: &Value| -> Vec<(String, String)> {
        let all = statement["subject"].as_array().into_iter().flatten();
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        all.map(|one| (word(&one["name"]), word(&one["digest"]["sha256"]))).collect()
    };
    let (expected, found) = (of(expected), of(found));
    let stated = |name: &str| found.iter().find(|(known, _)| known == name);
    let mut faults = Vec::new();
    for (name, sha256) in &expected {
        match stated(name) {
            Some((_, found)) if found == sha256 => {}
            Some((_, found)) => faults.push(Fault::new(
                name,
                format!("expected SHA-256 {}… as {PROVENANCE} states it, found {}…", short(found), short(sha256)),
            )),
            None => faults.push(Fault::new(PROVENANCE, format!("expected {name} among its subjects, found none"))),
        }
    }
    let others = found.iter().filter(|(name, _)| expected.iter().all(|(known, _)| known != name));
    faults.extend(others.map(|(name, _)| Fault::new(PROVENANCE, format!("expected no subject {name}, found one"))));
    faults
}
