//! What becomes of weights that a whisper.cpp artifact is to hold.

use graph::FloatType;
use quant::{Clip, Decider, Method, Plan, Role, Scheme};

/// Gives what no rule of the recipe decides the type that the file has for it: matrices the policy's scheme, all of them; convolutions
/// half precision; tables of positions, norms and biases what they have.
pub fn of_one_type(plan: &mut Plan, scheme: Scheme) {
    const F16: Scheme = Scheme::Float(FloatType::F16);
    const REASON: &str = "the file has one type for all matrices, and its own for all else";
    for planned in plan.weights.iter_mut().filter(|planned| !matches!(planned.decided_by, Decider::Rule(..))) {
        let expected = match planned.role {
            Role::Embedding | Role::Head | Role::Linear | Role::FeedForwardOut => scheme,
            Role::Conv => F16,
            Role::Norm | Role::Position | Role::RelativeBias | Role::Bias => Scheme::Keep,
        };
        if planned.scheme != expected {
            (planned.scheme, planned.decided_by) = (expected, Decider::Default(REASON));
            if !expected.is_quantized() {
                (planned.clip, planned.method) = (Clip::None, Method::Nearest);
            }
        }
    }
}
