use crate::ir::graph::Graph;
use crate::passes::pass::{About, Caller, Changed, Meaning, Pass, PassError};
use crate::rewrite::{Rule, variants};

/// The rule of [`FuseAttention`].
pub const FUSE_ATTENTION: Rule = Rule {
    name: "fuse_attention",
    find: || {
        variants(|b, [scaled, capped, biased]| {
            let [q, k, v] = b.holes(["q", "k", "v"]);
            let mut s = q.matmul(k.t());
            if scaled {
                s = s * b.hole("scale");
            }
            if capped {
                s = (s / b.hole("cap")).tanh() * b.hole("cap");
            }
            if biased {
                s = s + b.hole("bias");
            }
            s.softmax().matmul(v)
        })
    },
    replace: |m, b| {
        // None: the hole is not a constant, so leave the graph alone.
        let scale = m.scalar_or("scale", 1.0)?;
        let softcap = m.optional_scalar("cap")?;
        let [q, k, v] = ["q", "k", "v"].map(|hole| m.val(b, hole));
        Some(q.attention(k, v, m.optional_val(b, "bias"), scale, softcap))
    },
};

/// `softmax(cap(q·kᵀ·scale) + bias)·v  ->  Attention(q, k, v, bias)`
///
/// `scale`, `cap` and `bias` may each be missing. Refused when the scores or the probabilities are used elsewhere.
pub struct FuseAttention;

impl FuseAttention {
    /// Its row of the table.
    pub const ABOUT: &'static About = &About {
        name: "fuse_attention",
        formula: "softmax(cap(q·kᵀ·scale) + bias)·v -> Attention(q, k, v, bias)",
        caller: Caller::Conversion,
        // The order of one sum and one product changes: 1.4e-6.
        meaning: Meaning::Kept(1e-5),
    };
}

impl Pass for FuseAttention {
    fn about(&self) -> &'static About {
        FuseAttention::ABOUT
    }

    fn run(&self, graph: &mut Graph) -> Result<Changed, PassError> {
        FuseAttention::ABOUT.by_rule(graph, &FUSE_ATTENTION)
    }
}
