use super::fold_logit_scale::scaled;
use crate::ir::graph::Graph;
use crate::passes::pass::{About, Caller, Changed, Meaning, Pass, PassError};

/// `linear(rms_norm(x, w) · c, head)  ->  linear(rms_norm(x, w), head)`, for a `w` that is stored times `c`: what
/// [`FoldLogitScale`](super::fold_logit_scale::FoldLogitScale) made and a file kept.
///
/// Errors: the graph scales by something else, or not at all.
pub struct DropLogitScale {
    /// The factor that is in the file's norm.
    pub c: f32,
}

impl DropLogitScale {
    /// Its row of the table.
    pub const ABOUT: &'static About = &About {
        name: "drop_logit_scale",
        formula: "linear(rms_norm(x, w) · c, head) -> linear(rms_norm(x, w), head), where w is stored times c",
        caller: Caller::Import,
        meaning: Meaning::Completed,
    };
}

impl Pass for DropLogitScale {
    fn about(&self) -> &'static About {
        DropLogitScale::ABOUT
    }

    fn run(&self, graph: &mut Graph) -> Result<Changed, PassError> {
        let refused = |message: String| DropLogitScale::ABOUT.refused(message);
        match scaled(graph).map_err(refused)? {
            Some(found) if found.c == self.c => {
                found.without_scale(graph);
                Ok(1.into())
            }
            found => {
                let found = found.map_or("none".to_owned(), |found| found.c.to_string());
                Err(refused(format!("expected a logit scale of {}, found {found}", self.c)))
            }
        }
    }
}
