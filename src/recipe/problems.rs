//! What a recipe can say and cannot mean.

use std::collections::BTreeSet;

use converters::export::npu::{Npu, PROFILES};
use hub::{HubId, PREFIX};
use quant::{Activations, Equalize, Policy};

use crate::names::{FAILED, is_name};
use crate::pages;
use crate::recipe::rescale::RescaleResidual;
use crate::recipe::schema::Recipe;
use crate::recipe::yaml;

impl Recipe {
    /// What is well-formed and cannot be, all at once.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.artifacts.is_empty() {
            problems.push("artifacts: expected at least one of onnx, npu, gguf, safetensors, found none".to_owned());
        }
        if let Some(found) = self.model.to_str().filter(|text| text.starts_with(PREFIX) && HubId::parse(text).is_none())
        {
            problems.push(format!("model: expected `hub:org/name` or `hub:org/name@revision`, found `{found}`"));
        }
        let mut names = BTreeSet::new();
        for (index, target) in self.artifacts.iter().enumerate() {
            let formats: Vec<&str> = target.formats().iter().map(|f| f.name()).collect();
            if formats.len() != 1 {
                let found = if formats.is_empty() { "none".to_owned() } else { formats.join(" and ") };
                problems.push(format!(
                    "artifacts[{index}]: expected exactly one of onnx, npu, gguf, safetensors, found {found}"
                ));
                continue;
            }
            let name = target.name();
            if !is_folder_name(name) {
                problems.push(format!(
                    "artifacts[{index}].name: expected the name of a folder below `out`, found `{name}`"
                ));
            }
            if name.ends_with(FAILED) || pages::names().contains(&name) {
                problems.push(format!(
                    "artifacts[{index}].name: expected a name that trefoil does not give itself, found `{name}`"
                ));
            }
            if target.is_calibrated() && self.calibrate.is_none() {
                problems.push(format!(
                    "artifacts[{index}]: it watches the model decode; expected `calibrate: {{ data: FILE }}` in \
                     the recipe, found none"
                ));
            }
            if target.rescale_residual == Some(RescaleResidual::Auto) && self.calibrate.is_none() {
                problems.push(format!(
                    "artifacts[{index}].rescale_residual: auto watches the model decode; expected `calibrate: {{ data: FILE \
                     }}` in the recipe, found none"
                ));
            }
            if let Some(RescaleResidual::By(factors)) = target.rescale_residual {
                let is_factor = |alpha: f32| alpha > 0.0 && alpha <= 1.0 && alpha.log2().fract() == 0.0;
                for (stack, alpha) in [("encoder", factors.encoder), ("decoder", factors.decoder)] {
                    if !is_factor(alpha) {
                        problems.push(format!(
                            "artifacts[{index}].rescale_residual.{stack}: expected a power of two up to 1, found {alpha}"
                        ));
                    }
                }
            }
            if let Some(npu) = target.npu() {
                problems
                    .extend(npu_problems(npu, target.policy()).into_iter().map(|p| format!("artifacts[{index}].{p}")));
            }
            let holds_nodes = target.onnx().is_some() || target.npu().is_some();
            if target.rescale_residual.is_some() && !holds_nodes {
                problems.push(format!(
                    "artifacts[{index}].rescale_residual: readers of {} take eps from the config; only onnx and npu can hold it",
                    target.format().name()
                ));
            }
            if let Equalize::Smoothquant(settings) = target.policy().equalize
                && !(0.0..=1.0).contains(&settings.alpha)
            {
                problems.push(format!(
                    "artifacts[{index}].quantize.equalize.smoothquant.alpha: expected 0 to 1, found {}",
                    settings.alpha
                ));
            }
            if matches!(target.policy().activations, Activations::Static(_)) && !holds_nodes {
                problems.push(format!(
                    "artifacts[{index}].quantize.activations: {} has no place for static ranges; expected none or dynamic",
                    target.format().name()
                ));
            }
            if target.policy().activations == Activations::Dynamic && target.granularity().is_none() {
                problems.push(format!(
                    "artifacts[{index}].quantize.activations: {} engines round activations in their own way; expected none",
                    target.format().name()
                ));
            }
            if !names.insert(name) {
                problems.push(format!("artifacts[{index}]: a second artifact named `{name}`; give it a `name`"));
            }
        }
        problems
    }
}

/// What an NPU artifact cannot be.
fn npu_problems(npu: &Npu, policy: &Policy) -> Vec<String> {
    let mut problems = Vec::new();
    let Some(profile) = npu.profile() else {
        let known: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
        let meant = yaml::nearest(&npu.profile, &known).map_or(String::new(), |word| format!("; did you mean {word}?"));
        return vec![format!("npu.profile: expected one of {}, found {}{meant}", known.join(", "), npu.profile)];
    };
    if npu.source.contains(&0) {
        problems.push("npu.source: expected lengths of at least 1, found 0".to_owned());
    }
    if npu.target < 2 {
        problems.push(format!("npu.target: expected at least 2, found {}", npu.target));
    }
    if !matches!(npu.key_bits, 8 | 16) {
        problems.push(format!("npu.key_bits: expected 8 or 16, found {}", npu.key_bits));
    }
    let found = match policy.activations {
        Activations::None => "none".to_owned(),
        Activations::Dynamic => "dynamic".to_owned(),
        Activations::Static(wanted) => format!("static of {} bits", wanted.bits),
    };
    let expected = match profile.writes.activations {
        None => "none".to_owned(),
        Some(bits) => format!("static of {bits} bits"),
    };
    if found != expected {
        problems.push(format!("quantize.activations: {} takes {expected}, found {found}", profile.name));
    }
    problems
}

/// Whether `name` is one visible folder, so that nothing is written outside of `out`.
fn is_folder_name(name: &str) -> bool {
    is_name(name) && !name.starts_with('.')
}
