//! `model.cdx.json`: a CycloneDX 1.6 bill of materials, with the model card of its ML-BOM.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use validate::report::{ArtifactReport, Run};

use super::json::{parsed, pretty};
use super::licenses::spdx;
use crate::build::card::{Card, Source};
use crate::build::intact::Fault;
use crate::build::manifest::{Manifest, hex};
use crate::names::BOM;

/// References inside the bill.
const ARTIFACT: &str = "artifact";
const BASE: &str = "base-model";
const CALIBRATION: &str = "calibration-data";
const EVALUATION: &str = "evaluation-data";

/// The file of an artifact. `time`: RFC 3339.
pub fn text(card: &Card, time: Option<&str>) -> String {
    let mut bill = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": { "components": [{ "type": "application", "name": "trefoil", "version": card.manifest.trefoil }] },
            "component": artifact(card),
        },
        "components": components(card),
        "dependencies": dependencies(card),
    });
    bill["serialNumber"] = json!(number(&bill));
    if let Some(time) = time {
        bill["metadata"]["timestamp"] = json!(time);
    }
    pretty(&bill)
}

/// A name that follows from the bill: UUID version 8 (RFC 9562, 5.8) of the SHA-256 of all but its number and its time.
fn number(bill: &Value) -> String {
    let mut rest = bill.clone();
    rest.as_object_mut().map(|keys| keys.shift_remove("serialNumber"));
    rest.pointer_mut("/metadata").and_then(Value::as_object_mut).map(|keys| keys.shift_remove("timestamp"));
    let mut digest: Vec<char> = hex(Sha256::new_with_prefix(pretty(&rest))).chars().collect();
    digest[12] = '8';
    let variant = digest[16].to_digit(16).expect("hexadecimal") & 0b0011 | 0b1000;
    digest[16] = char::from_digit(variant, 16).expect("below 16");
    let part = |from: usize, to: usize| digest[from..to].iter().collect::<String>();
    format!("urn:uuid:{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

fn artifact(card: &Card) -> Value {
    let Card { manifest, model, source, report } = card;
    let section = report.and_then(|report| report.artifacts.iter().find(|one| one.name == manifest.name));
    let files = manifest.files.iter().map(|one| file(&one.path, &one.sha256));
    let property = |name: &str, value: String| json!({ "name": format!("trefoil:{name}"), "value": value });
    let mut component = json!({
        "type": "machine-learning-model",
        "bom-ref": ARTIFACT,
        "name": format!("{model} {}", manifest.name),
        "components": files.collect::<Vec<_>>(),
        "modelCard": { "modelParameters": parameters(manifest, source) },
        "properties": [
            property("format", manifest.format.clone()),
            property("verdict", manifest.verdict.to_string()),
            property("recipe", format!("{} sha256:{}", manifest.recipe.file, manifest.recipe.sha256)),
        ],
    });
    let datasets = [
        manifest.samples.as_ref().map(|_| CALIBRATION),
        section.and(report.as_ref()).filter(|report| !report.data.sha256.is_empty()).map(|_| EVALUATION),
    ];
    let datasets: Vec<Value> = datasets.into_iter().flatten().map(|name| json!({ "ref": name })).collect();
    if !datasets.is_empty() {
        component["modelCard"]["modelParameters"]["datasets"] = json!(datasets);
    }
    if let (Some(section), Some(report)) = (section, report) {
        let slice = format!("{} samples of {}", report.data.samples, report.data.source);
        component["modelCard"]["quantitativeAnalysis"] = json!({ "performanceMetrics": metrics(section, &slice) });
    }
    licensed(component, source)
}

fn parameters(manifest: &Manifest, source: &Source) -> Value {
    let mut parameters = json!({
        "architectureFamily": "encoder-decoder",
        "modelArchitecture": manifest.model.model_type,
    });
    if let Some(task) = &source.pipeline_tag {
        parameters["task"] = json!(task);
    }
    parameters
}

/// What engines said of the artifact on the samples. Speed is no property of a model and left out.
fn metrics(section: &ArtifactReport, slice: &str) -> Vec<Value> {
    let of_run = |run: &Run| -> Vec<Value> {
        let slice = format!("{slice}, in {}", format!("{} {}", run.engine.name, run.engine.version).trim_end());
        let metric = |kind: &str, value: f64| json!({ "type": kind, "value": value.to_string(), "slice": slice });
        let distances = run.to_float.as_ref();
        let kl = distances.and_then(|distances| distances.kl).map(|kl| metric("kl_to_float", kl));
        let top1 = distances.and_then(|distances| distances.top1).map(|top1| metric("top1_of_float", top1));
        let figures = run.score.iter().flat_map(|score| &score.figures).map(|figure| {
            let mut of_task = metric(&format!("{}_points", figure.metric.name()), figure.points);
            if let Some([low, high]) = figure.interval {
                of_task["confidenceInterval"] =
                    json!({ "lowerBound": low.to_string(), "upperBound": high.to_string() });
            }
            of_task
        });
        figures.chain(kl).chain(top1).collect()
    };
    section.runs.iter().flat_map(of_run).collect()
}

/// The base model, and what the artifact was calibrated and measured on.
fn components(card: &Card) -> Vec<Value> {
    let Card { manifest, model, source, report } = card;
    let inputs = manifest.model.inputs.iter().map(|input| file(&input.path, &input.sha256));
    let mut base = json!({
        "type": "machine-learning-model",
        "bom-ref": BASE,
        "name": model,
        "components": inputs.collect::<Vec<_>>(),
        "modelCard": { "modelParameters": parameters(manifest, source) },
    });
    if let Some((org, name)) = source.hub_name.as_deref().and_then(|name| name.split_once('/')) {
        (base["group"], base["name"]) = (json!(org), json!(name));
    }
    if let Some(hub) = &manifest.model.hub {
        base["purl"] = json!(hub.purl());
    }
    let mut all = vec![licensed(base, source)];
    let data = |reference: &str, name: &str, sha256: &str| {
        json!({
            "type": "data",
            "bom-ref": reference,
            "name": name,
            "hashes": [{ "alg": "SHA-256", "content": sha256 }],
            "data": [{ "type": "dataset", "name": name }],
        })
    };
    all.extend(manifest.samples.iter().map(|samples| data(CALIBRATION, &samples.file, &samples.sha256)));
    let evaluated = report.map(|report| &report.data).filter(|data| !data.sha256.is_empty());
    all.extend(evaluated.map(|of| data(EVALUATION, &of.source, &of.sha256)));
    all
}

fn dependencies(card: &Card) -> Value {
    let mut on = vec![BASE];
    on.extend(card.manifest.samples.iter().map(|_| CALIBRATION));
    json!([{ "ref": ARTIFACT, "dependsOn": on }, { "ref": BASE }])
}

fn file(path: &str, sha256: &str) -> Value {
    json!({ "type": "file", "name": path, "hashes": [{ "alg": "SHA-256", "content": sha256 }] })
}

/// A component with the license that the checkpoint declares, if it does.
fn licensed(mut component: Value, source: &Source) -> Value {
    let Some(license) = &source.license else { return component };
    let mut told = match spdx(license) {
        Some(id) => json!({ "id": id }),
        None => json!({ "name": source.license_name.as_ref().unwrap_or(license) }),
    };
    told["acknowledgement"] = json!("declared");
    component["licenses"] = json!([{ "license": told }]);
    component
}

/// Where a bill is not whole, or tells other digests than the manifest.
pub fn faults(text: &str, manifest: &Manifest) -> Vec<Fault> {
    let bill = match parsed(text) {
        Ok(bill) => bill,
        Err(error) => return vec![Fault::new(BOM, format!("expected a bill of materials: {error}"))],
    };
    let mut faults = Vec::new();
    let (expected, found) = (number(&bill), bill["serialNumber"].as_str().unwrap_or_default());
    if expected != found || pretty(&bill) != text {
        let sentence = format!("expected the number {expected}, which follows from what it says, found {found}");
        faults.push(Fault::new(BOM, sentence));
    }
    let files: Vec<Value> = manifest.files.iter().map(|one| file(&one.path, &one.sha256)).collect();
    if bill.pointer("/metadata/component/components") != Some(&Value::Array(files)) {
        faults.push(Fault::new(BOM, "expected the files of the manifest with their digests, found others"));
    }
    faults
}
