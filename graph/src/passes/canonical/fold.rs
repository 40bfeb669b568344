use crate::rewrite::{Pattern, Rule};

/// `x · 1`, `x / 1`, `x + 0`, `x - 0` -> `x`
pub const FOLD: Rule = Rule {
    name: "fold",
    find: || {
        vec![
            Pattern::new(|b| b.hole("x") * 1.0),
            Pattern::new(|b| b.hole("x") / 1.0),
            Pattern::new(|b| b.hole("x") + 0.0),
            Pattern::new(|b| b.hole("x") - 0.0),
        ]
    },
    replace: |m, b| Some(m.val(b, "x")),
};
