//! What becomes of the weights of a model that the files of an artifact do not hold.

use graph::Graph;
use quant::{Clip, Decider, Method, Plan, Scheme};

/// Keeps every weight that is in no part of `held` as the checkpoint has it.
pub fn keep_others(plan: &mut Plan, held: &Graph) {
    const REASON: &str = "the file does not hold it";
    for planned in plan.weights.iter_mut().filter(|planned| held.weights.find(&planned.name).is_none()) {
        (planned.scheme, planned.clip, planned.method) = (Scheme::Keep, Clip::None, Method::Nearest);
        planned.decided_by = Decider::Default(REASON);
    }
}
