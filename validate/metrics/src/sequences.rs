//! How alike two sequences are, and the generations of two models.

/// Number of leading elements that are equal.
pub fn common_prefix<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Share of positions with the same token, out of the longer sequence's length; 1 when both are empty.
pub fn token_agreement<T: PartialEq>(a: &[T], b: &[T]) -> f64 {
    let same = a.iter().zip(b).filter(|(a, b)| a == b).count();
    share(same, a.len().max(b.len()), 1.0)
}

/// How alike the generations of a reference and a candidate are.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Agreement {
    /// Sequences compared.
    pub sequences: u64,
    /// Share of sequences with all tokens equal.
    pub identical: f64,
    /// Mean of [`token_agreement`].
    pub tokens: f64,
    /// Mean of the longest common prefix over the reference's length.
    pub prefix: f64,
    /// Share of the candidate's sequences that ended with the end-of-sequence token.
    pub ended: f64,
    /// The same of the reference's.
    pub reference_ended: f64,
}

/// Compares generations, each given as tokens and whether it ended by itself. `None` when there is none.
pub fn agreement<'a>(pairs: impl IntoIterator<Item = [(&'a [i64], bool); 2]>) -> Option<Agreement> {
    let mut n = 0_usize;
    let mut sum =
        Agreement { sequences: 0, identical: 0.0, tokens: 0.0, prefix: 0.0, ended: 0.0, reference_ended: 0.0 };
    for [(a, a_ended), (b, b_ended)] in pairs {
        n += 1;
        sum.identical += f64::from(u8::from(a == b && a_ended == b_ended));
        sum.tokens += token_agreement(a, b);
        sum.prefix += share(common_prefix(a, b), a.len(), 1.0);
        sum.ended += f64::from(u8::from(b_ended));
        sum.reference_ended += f64::from(u8::from(a_ended));
    }
    let mean = |x: f64| x / n as f64;
    (n > 0).then(|| Agreement {
        sequences: n as u64,
        identical: mean(sum.identical),
        tokens: mean(sum.tokens),
        prefix: mean(sum.prefix),
        ended: mean(sum.ended),
        reference_ended: mean(sum.reference_ended),
    })
}

fn share(part: usize, whole: usize, of_nothing: f64) -> f64 {
    if whole == 0 { of_nothing } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_is_the_mean_over_sequences() {
        let found = agreement([
            [(&[5, 6, 1][..], true), (&[5, 6, 1][..], true)],
            [(&[5, 6, 7, 1][..], true), (&[5, 8, 7][..], false)],
        ])
        .expect("two sequences");
        assert_eq!((found.identical, found.tokens, found.prefix), (0.5, (1.0 + 0.5) / 2.0, (1.0 + 0.25) / 2.0));
        assert_eq!((found.ended, found.reference_ended), (0.5, 1.0));
    }
}
