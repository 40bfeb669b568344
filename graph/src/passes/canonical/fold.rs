use crate::ir::graph::Graph;
use crate::passes::pass::{About, Caller, Changed, Meaning, Pass, PassError};
use crate::rewrite::{Pattern, Rule};

/// The rule of [`Fold`].
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

/// `x · 1`, `x / 1`, `x + 0`, `x - 0` -> `x`
pub struct Fold;

impl Fold {
    /// Its row of the table.
    pub const ABOUT: &'static About = &About {
        name: "fold",
        formula: "x · 1, x / 1, x + 0, x - 0 -> x",
        caller: Caller::Conversion,
        meaning: Meaning::Kept(0.0),
    };
}

impl Pass for Fold {
    fn about(&self) -> &'static About {
        Fold::ABOUT
    }

    fn run(&self, graph: &mut Graph) -> Result<Changed, PassError> {
        Fold::ABOUT.by_rule(graph, &FOLD)
    }
}
