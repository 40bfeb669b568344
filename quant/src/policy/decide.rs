//! The part of a recipe that chooses a scheme for every weight.

use std::collections::BTreeMap;

use globset::{Glob, GlobMatcher};
use graph::{Block, GgmlType, Graph, Weight, WeightData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fallback::Fallback;
use super::fault::{PolicyError, PolicyFault};
use super::plan::{Decider, Plan, Planned, coded};
use super::role::{Role, inputs, inputs_of, roles};
use super::rule::{DefaultRule, Rule};
use crate::edit::sites::{self, Place};
use crate::scheme::Scheme;
use crate::settings::{Activations, Clip, Equalize, GptqSettings, Method};

/// Which weights become what.
///
/// The first of `rules` that fits a weight decides; then the first of [`Policy::default_rules`]; then `scheme`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// For every weight that no rule decides.
    pub scheme: Scheme,
    /// How integer codes get their range.
    pub clip: Clip,
    /// How the codes of weights are chosen.
    pub method: Method,
    /// For `method: gptq`.
    pub gptq: GptqSettings,
    /// Factors that move between weights before they are quantized, and leave the float model as it is.
    pub equalize: Equalize,
    /// What happens to the inputs of Linears with `int8` weights.
    pub activations: Activations,
    /// Whether biases take up what rounding the weights adds to the mean of a Linear's output.
    pub bias_correction: bool,
    /// Exceptions; the first that fits decides.
    pub rules: Vec<Rule>,
}

/// The schemes of a Linear whose input can be rounded: integer products need one symmetric scale per row.
const ROUNDED: [Scheme; 2] = [Scheme::Affine { bits: 8, block: Block::Row, symmetric: true }, Scheme::INVERTED];

/// Scheme, range, method, and who decided.
type Decision = (Scheme, Option<Clip>, Option<Method>, Decider);

impl Policy {
    /// One scheme for everything that the default rules leave.
    pub fn of(scheme: Scheme) -> Policy {
        Policy { scheme, ..Policy::default() }
    }

    /// Whether it asks for anything that depends on activations.
    pub fn is_calibrated(&self) -> bool {
        let methods = self.rules.iter().filter_map(|rule| rule.method).chain([self.method]);
        methods.into_iter().any(|method| method != Method::Nearest)
            || matches!(self.activations, Activations::Static(_))
            || self.bias_correction
            || self.equalize.is_calibrated()
    }

    /// What a planned weight would be under another scheme; `None` when its rows do not fit.
    pub fn instead(&self, graph: &Graph, planned: &Planned, scheme: Scheme) -> Option<Planned> {
        if misfit(scheme, graph.weights.get(planned.id)).is_some() {
            return None;
        }
        let clip = if has_range(scheme) { self.clip } else { Clip::None };
        let inputs = inputs(graph).get(&planned.id).map_or(0, Vec::len);
        let is_read = || !inputs_of(graph, planned.id).is_empty();
        let method = possible(self.method, scheme, clip, inputs, is_read);
        Some(Planned { scheme, clip, method, decided_by: Decider::Scheme, ..planned.clone() })
    }

    /// This policy with a rule for each weight that would become something else than `wanted` says, by name.
    ///
    /// `scheme`: for all weights that neither a rule nor a default rule decides.
    pub fn for_schemes(
        &self,
        graph: &Graph,
        scheme: Scheme,
        wanted: &BTreeMap<String, Scheme>,
    ) -> Result<Policy, PolicyError> {
        let mut policy = Policy { scheme, rules: Vec::new(), ..self.clone() };
        if !wanted.values().any(|scheme| has_range(*scheme)) {
            policy.clip = Clip::None;
        }
        if !wanted.values().any(|scheme| scheme.is_quantized()) {
            (policy.method, policy.equalize) = (Method::Nearest, Equalize::None);
        }
        if !wanted.values().any(|scheme| ROUNDED.contains(scheme)) {
            policy.activations = Activations::None;
        }
        // Settings that this bare policy does not feel may be felt by the one that is made.
        let bare = Policy {
            clip: Clip::None,
            method: Method::Nearest,
            activations: Activations::None,
            equalize: Equalize::None,
            ..policy.clone()
        };
        let becomes: BTreeMap<String, Scheme> =
            bare.plan(graph)?.weights.into_iter().map(|planned| (planned.name, planned.scheme)).collect();
        let differing = wanted.iter().filter(|(name, scheme)| becomes.get(*name) != Some(scheme));
        policy.rules = differing
            .map(|(name, scheme)| Rule {
                role: None,
                pattern: Some(globset::escape(name)),
                scheme: *scheme,
                clip: None,
                method: None,
            })
            .collect();
        Ok(policy)
    }

    /// The rules that hold after those of the recipe, for this policy's scheme.
    ///
    /// | scheme | weights | become | because |
    /// | --- | --- | --- | --- |
    /// | int or ggml | norm, position, relative_bias, bias | keep | few weights that act on everything |
    /// | int or ggml | conv | keep | few weights, and no consumer reads codes there |
    /// | int4 | embedding, head | int8 | each row is a token; an error there is not averaged over a sum |
    /// | int4 | feed_forward_out | int8, same groups | the widest activations of a layer enter here |
    /// | q4, q5 | embedding, head | q6_k, or q8_0 | as llama-quantize's `output.weight` |
    /// | mxfp4 | embedding, head | keep | a 4-bit row is a token, and compressed-tensors holds one kind of codes |
    /// | q4_k | feed_forward_out | q5_k | the mean of llama-quantize's Q4_K and Q6_K for `ffn_down` |
    ///
    /// A float scheme is the type of a whole model, so nothing is excepted from it.
    pub fn default_rules(&self) -> Vec<DefaultRule> {
        let rule = |role, scheme, reason| DefaultRule { role, scheme, otherwise: scheme, reason };
        if !self.scheme.is_quantized() {
            return Vec::new();
        }
        let kept = "few weights that act on everything";
        let few = [Role::Norm, Role::Position, Role::RelativeBias, Role::Bias];
        let mut rules: Vec<DefaultRule> = few.map(|role| rule(role, Scheme::Keep, kept)).to_vec();
        rules.push(rule(Role::Conv, Scheme::Keep, "few weights, and no consumer reads codes there"));
        match self.scheme {
            Scheme::Affine { bits: 4, block, symmetric } => {
                let rows = Scheme::Affine { bits: 8, block: Block::Row, symmetric };
                let tokens = "each row is a token, and an error in it is not averaged over a sum";
                let wide = Scheme::Affine { bits: 8, block, symmetric };
                rules.push(rule(Role::Embedding, rows, tokens));
                rules.push(rule(Role::Head, rows, tokens));
                rules.push(rule(Role::FeedForwardOut, wide, "the widest activations of a layer enter here"));
            }
            Scheme::Ggml(GgmlType::Mxfp4) => {
                let tokens = "each row is a token, and no reader of compressed-tensors takes two kinds of codes";
                rules.push(rule(Role::Embedding, Scheme::Keep, tokens));
                rules.push(rule(Role::Head, Scheme::Keep, tokens));
            }
            Scheme::Ggml(kind) if kind.bits_per_weight() < GgmlType::Q6K.bits_per_weight() => {
                for role in [Role::Embedding, Role::Head] {
                    rules.push(DefaultRule {
                        otherwise: Scheme::Ggml(GgmlType::Q8_0),
                        ..rule(role, Scheme::Ggml(GgmlType::Q6K), "as llama-quantize's output.weight")
                    });
                }
                if kind == GgmlType::Q4K {
                    let reason = "the mean of llama-quantize's Q4_K and Q6_K for ffn_down";
                    rules.push(rule(Role::FeedForwardOut, Scheme::Ggml(GgmlType::Q5K), reason));
                }
            }
            _ => {}
        }
        rules
    }

    /// What every weight of the graph becomes. Errors: all that is wrong with the policy for this graph.
    pub fn plan(&self, graph: &Graph) -> Result<Plan, PolicyError> {
        self.plan_with_fallback(graph, Fallback::Refuse)
    }

    /// Like [`Policy::plan`]; a weight whose rows do not fit its ggml block type becomes what `fallback` says instead of an error.
    pub fn plan_with_fallback(&self, graph: &Graph, fallback: Fallback) -> Result<Plan, PolicyError> {
        let mut faults = Vec::new();
        let compile = |(index, rule)| Compiled::new(index, rule, &mut faults);
        let mut rules: Vec<Compiled> = self.rules.iter().enumerate().filter_map(compile).collect();
        let defaults = self.default_rules();
        let readers = inputs(graph);
        let mut weights = Vec::new();
        for (id, role) in roles(graph) {
            let weight = graph.weights.get(id);
            if let WeightData::Computed(_) = weight.data {
                let (name, decided_by) =
                    (weight.name.clone(), Decider::Default("it is computed, and no file stores it"));
                weights.push(Planned {
                    id,
                    name,
                    role,
                    scheme: Scheme::Keep,
                    clip: Clip::None,
                    method: Method::Nearest,
                    decided_by,
                });
                continue;
            }
            let mut decided = None;
            for rule in rules.iter_mut().filter(|rule| rule.fits(role, weight)) {
                rule.fitting += 1;
                if decided.is_none() {
                    rule.decided += 1;
                    let Rule { scheme, clip, method, .. } = *rule.rule;
                    decided = Some((scheme, clip, method, Decider::Rule(rule.index, rule.rule.clone())));
                }
            }
            let (mut scheme, clip, method, mut decided_by) = decided
                .or_else(|| default_for(&defaults, role, weight))
                .unwrap_or((self.scheme, None, None, Decider::Scheme));
            if let Some(why) = misfit(scheme, weight) {
                match fallback.instead_of(scheme).into_iter().find(|other| misfit(*other, weight).is_none()) {
                    Some(other) => (scheme, decided_by) = (other, Decider::Fallback { from: scheme, why }),
                    None => faults.push(PolicyFault::NotApplicable { weight: weight.name.clone(), scheme, why }),
                }
            }
            let clip = if has_range(scheme) { clip.unwrap_or(self.clip) } else { Clip::None };
            let method =
                possible(method.unwrap_or(self.method), scheme, clip, readers.get(&id).map_or(0, Vec::len), || {
                    !inputs_of(graph, id).is_empty()
                });
            weights.push(Planned { id, name: weight.name.clone(), role, scheme, clip, method, decided_by });
        }
        for Compiled { index, rule, fitting, decided, .. } in rules {
            match (fitting, decided) {
                (0, _) => faults.push(PolicyFault::MatchesNothing { index, rule: rule.clone() }),
                (_, 0) => faults.push(PolicyFault::DecidesNothing { index, rule: rule.clone() }),
                _ => {}
            }
        }
        faults.extend(self.without_effect(&weights));
        let plan = Plan { weights };
        let is_moved = |place: &Place| !coded(place, &plan).is_empty();
        if self.equalize != Equalize::None && !sites::places(graph).iter().any(is_moved) {
            let why = "no Linear with codes reads an activation whose channels have factors to take";
            faults.push(PolicyFault::NoEffect { setting: self.equalize.setting(), why });
        }
        if faults.is_empty() { Ok(plan) } else { Err(PolicyError(faults)) }
    }

    /// Settings that no planned weight feels.
    fn without_effect(&self, weights: &[Planned]) -> Vec<PolicyFault> {
        let mut faults = Vec::new();
        if self.clip == Clip::Mse && !weights.iter().any(|w| w.clip == Clip::Mse) {
            let why = "no weight gets integer codes; floats have no range and ggml's blocks a search of their own";
            faults.push(PolicyFault::NoEffect { setting: "clip: mse", why });
        }
        let takes_codes = |w: &Planned| {
            ROUNDED.contains(&w.scheme) && (w.role.is(Role::Linear) || matches!(w.role, Role::Head | Role::Embedding))
        };
        if self.method != Method::Nearest && !weights.iter().any(|w| w.method != Method::Nearest) {
            let why = "no weight of a Linear gets codes that calibration could choose";
            faults.push(PolicyFault::NoEffect { setting: self.method.setting(), why });
        }
        let setting = match self.activations {
            Activations::None => None,
            Activations::Dynamic => Some("activations: dynamic"),
            Activations::Static(_) => Some("activations: static"),
        };
        if let (Some(setting), false) = (setting, weights.iter().any(takes_codes)) {
            let why = "no Linear has int8 weights with one symmetric scale per row";
            faults.push(PolicyFault::NoEffect { setting, why });
        }
        faults
    }
}

/// A rule ready to be asked, and how it fared.
struct Compiled<'a> {
    index: usize,
    rule: &'a Rule,
    glob: Option<GlobMatcher>,
    /// Weights that it fits.
    fitting: usize,
    /// Those among them that no earlier rule fits.
    decided: usize,
}

impl<'a> Compiled<'a> {
    /// `None` when the rule can decide nothing, which is then among `faults`.
    fn new(index: usize, rule: &'a Rule, faults: &mut Vec<PolicyFault>) -> Option<Compiled<'a>> {
        if rule.clip == Some(Clip::Mse) && !has_range(rule.scheme) {
            faults.push(PolicyFault::ClipOfNoCodes { index, rule: rule.clone() });
        }
        if rule.role.is_none() && rule.pattern.is_none() {
            faults.push(PolicyFault::Unconditional { index, rule: rule.clone() });
            return None;
        }
        match rule.pattern.as_deref().map(Glob::new).transpose() {
            Ok(glob) => {
                let glob = glob.map(|glob| glob.compile_matcher());
                Some(Compiled { index, rule, glob, fitting: 0, decided: 0 })
            }
            Err(error) => {
                let why = error.kind().to_string();
                faults.push(PolicyFault::BadGlob { index, rule: rule.clone(), why });
                None
            }
        }
    }

    fn fits(&self, role: Role, weight: &Weight) -> bool {
        let named = self.glob.as_ref().is_none_or(|glob| glob.is_match(&weight.name));
        named && self.rule.role.is_none_or(|wanted| role.is(wanted))
    }
}

fn default_for(defaults: &[DefaultRule], role: Role, weight: &Weight) -> Option<Decision> {
    let rule = defaults.iter().find(|rule| rule.role == role)?;
    let scheme = if misfit(rule.scheme, weight).is_none() { rule.scheme } else { rule.otherwise };
    Some((scheme, None, None, Decider::Default(rule.reason)))
}

/// The method asked for, or the best below it that this weight can have.
///
/// `inputs`: how many activations Linears apply the weight to, 0 when something else uses it too; `is_read`: whether a Linear
/// has it at all.
fn possible(asked: Method, scheme: Scheme, clip: Clip, inputs: usize, is_read: impl Fn() -> bool) -> Method {
    match asked {
        _ if !scheme.is_quantized() => Method::Nearest,
        Method::Nearest => Method::Nearest,
        Method::Gptq if inputs == 1 => Method::Gptq,
        // Without a search for the range there is nothing that importance could change.
        _ if has_range(scheme) && clip == Clip::None => Method::Nearest,
        _ if is_read() => Method::Importance,
        _ => Method::Nearest,
    }
}

/// Whether `clip` says how a scheme's codes get their range.
fn has_range(scheme: Scheme) -> bool {
    scheme.codebook().is_some_and(|codebook| codebook.has_range())
}

/// Why a weight cannot take a scheme.
fn misfit(scheme: Scheme, weight: &Weight) -> Option<String> {
    let codebook = scheme.codebook()?;
    match weight.shape.len() {
        2 => codebook.misfit(weight.matrix()[1]),
        _ => Some(format!("expected a matrix, found {:?}", weight.shape)),
    }
}
