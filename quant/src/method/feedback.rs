//! How the errors of some channels move into those that come after them.

use graph::arithmetic;
use ndarray::{ArrayView2, ArrayViewMut2, s};

use crate::calibrate::gram::{Factor, Gram};
use crate::codebook::rows::Choose;
use crate::settings::GptqSettings;

/// Channels between two updates of all later ones.
const LAZY: usize = 128;

/// What the Linears that read one activation share.
pub struct Compensation {
    pub(super) gram: Gram,
    importance: Vec<f32>,
    /// Channels in the order in which they are rounded.
    pub(super) order: Vec<usize>,
    /// `None` when no damping up to 1 made the matrix definite: then codes are the nearest ones.
    pub(super) factor: Option<Factor>,
    /// What was out of the ordinary, in words.
    pub notes: Vec<String>,
}

impl Compensation {
    /// Damping grows tenfold from the one asked for until the matrix has a factor.
    pub fn new(gram: Gram, settings: GptqSettings) -> Compensation {
        let importance = gram.diagonal();
        let mut order: Vec<usize> = (0..importance.len()).collect();
        if settings.act_order {
            order.sort_by(|a, b| importance[*b].total_cmp(&importance[*a]).then(a.cmp(b)));
        }
        let mut notes = Vec::new();
        let dead = importance.iter().filter(|x| **x == 0.0).count();
        if dead > 0 {
            notes.push(format!("{dead} of {} input channels were always 0; theirs are the nearest codes", order.len()));
        }
        let mut damping = settings.damping;
        let factor = loop {
            match gram.factor(&order, damping) {
                Some(factor) => break Some(factor),
                None if damping >= 1.0 => break None,
                None => damping = (10.0 * damping.max(1e-4)).min(1.0),
            }
        };
        let rows = gram.rows();
        if factor.is_none() {
            notes.push(format!("the Gram matrix of {rows} rows has no factor; nearest codes"));
        } else if damping > settings.damping {
            notes.push(format!(
                "the Gram matrix of {rows} rows is singular; damping {damping} instead of {}",
                settings.damping
            ));
        }
        Compensation { gram, importance, order, factor, notes }
    }

    /// `Σ x_j²` of each channel.
    pub fn importance(&self) -> &[f32] {
        &self.importance
    }
}

/// Where errors go.
pub(super) struct Feedback<'a> {
    /// [`Compensation::order`].
    pub order: &'a [usize],
    pub factor: &'a Factor,
}

impl Feedback<'_> {
    /// Codes for some rows, channel after channel. `choose` gets what the weight has become by the errors before it; what its
    /// code means goes to `decoded`.
    pub fn encode(&self, values: &[f32], decoded: &mut [f32], choose: Choose) {
        let n = self.order.len();
        let rows = values.len() / n;
        let upper = self.factor.upper();
        let mut errors = vec![0.0; rows * n];
        let mut moved = vec![0.0; rows * LAZY];
        for from in (0..n).step_by(LAZY) {
            let width = LAZY.min(n - from);
            let moved = &mut moved[..rows * width];
            {
                let before = ArrayView2::from_shape((rows, n), &errors).expect("rows·n floats");
                let mut moved = ArrayViewMut2::from_shape((rows, width), moved).expect("rows·width floats");
                let tile = upper.slice(s![..from, from..from + width]);
                arithmetic::product(1.0, &before.slice(s![.., ..from]), &tile, 0.0, &mut moved);
            }
            for row in 0..rows {
                let moved = &mut moved[row * width..][..width];
                for k in 0..width {
                    let column = self.order[from + k];
                    let at = row * n + column;
                    let meant = choose(row, column, values[at] + moved[k]);
                    decoded[at] = meant;
                    let error = values[at] - meant;
                    errors[row * n + from + k] = error;
                    let later = &self.factor.row(from + k)[from + k + 1..from + width];
                    for (moved, u) in moved[k + 1..].iter_mut().zip(later) {
                        *moved += error * u;
                    }
                }
            }
        }
    }
}
