//! What a policy may do and a report must not keep quiet about.

use graph::{Graph, Op, ValueId};

use super::decide::Policy;
use super::plan::Plan;
use crate::settings::{Equalize, Method};

/// A setting, and what it does badly or not at all beside the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caution {
    /// As the recipe names it.
    pub about: &'static str,
    /// A sentence.
    pub text: String,
}

/// What is to be said of an artifact. `graph`: as it computes in the end, rounded activations included.
pub fn cautions(policy: &Policy, plan: &Plan, graph: &Graph) -> Vec<Caution> {
    let mut found = Vec::new();
    let compensated = plan.weights.iter().filter(|planned| planned.method == Method::Gptq).count();
    if let (Equalize::Awq(_), 1..) = (policy.equalize, compensated) {
        let text = format!(
            "awq chooses factors for nearest codes, and {compensated} weights get theirs by gptq; together they were worse than gptq \
             alone where both were measured (docs/measurements.md): try `equalize: none` with `method: gptq`, or awq with \
             `importance`"
        );
        found.push(Caution { about: "equalize", text });
    }
    let rounded = |wanted: &dyn Fn(ValueId) -> bool| {
        let linears = (0..graph.values.len()).map(ValueId).filter(|id| graph.op(*id) == Some(&Op::Linear));
        linears.filter(|id| is_rounded(graph, graph.args(*id)[0]) && wanted(*id)).count()
    };
    let by_gptq = rounded(&|linear| {
        let weight = graph.weight_of(graph.args(linear)[1]);
        plan.weights.iter().any(|planned| Some(planned.id) == weight && planned.method == Method::Gptq)
    });
    if by_gptq > 0 {
        let text = format!(
            "{by_gptq} Linears read activations that are rounded, and gptq chose their codes on activations before rounding"
        );
        found.push(Caution { about: "method", text });
    }
    let with_bias = rounded(&|linear| graph.args(linear).len() > 2);
    if policy.bias_correction && with_bias > 0 {
        let text = format!(
            "{with_bias} biases belong to Linears that read rounded activations; what that rounding adds to their means is not in them"
        );
        found.push(Caution { about: "bias_correction", text });
    }
    found
}

fn is_rounded(graph: &Graph, id: ValueId) -> bool {
    matches!(graph.op(id), Some(Op::DynamicQuant(_) | Op::FakeQuant(_)))
}
