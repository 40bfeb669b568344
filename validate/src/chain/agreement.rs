//! How alike what two models say is.

use metrics::Agreement;

use crate::generate::Generated;

/// Compares generations; a reference is cut where an engine with a shorter limit had to stop.
pub(super) fn agreement(reference: &[Generated], found: &[Generated], limit: usize) -> Option<Agreement> {
    metrics::agreement(reference.iter().zip(found).map(|(a, b)| {
        let kept = a.tokens.len().min(limit);
        [(&a.tokens[..kept], a.ended && kept == a.tokens.len()), (&b.tokens[..], b.ended)]
    }))
}
