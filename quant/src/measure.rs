//! How far weights, and the outputs of their Linears, are from what they were.

/// Sums over weights `w` and what they became, `w'`.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Errors {
    /// Largest `|w - w'|`.
    pub max_abs: f64,
    /// Sum of `(w - w')²`.
    pub error_squares: f64,
    /// Sum of `w²`.
    pub squares: f64,
}

impl Errors {
    /// Sums in eight lanes, element i in lane i mod 8, so that the order of additions is fixed and the loop vectorizes.
    ///
    /// NaN or infinity in `became` makes `error_squares` NaN or infinite.
    pub fn between(weights: &[f32], became: &[f32]) -> Errors {
        const LANES: usize = 8;
        assert_eq!(weights.len(), became.len(), "two versions of the same weights");
        let (mut max_abs, mut errors, mut squares) = ([0.0_f64; LANES], [0.0_f64; LANES], [0.0_f64; LANES]);
        let mut add = |w: &[f32; LANES], v: &[f32; LANES]| {
            for i in 0..LANES {
                let (w, v) = (f64::from(w[i]), f64::from(v[i]));
                let error = w - v;
                max_abs[i] = if error.abs() > max_abs[i] { error.abs() } else { max_abs[i] };
                errors[i] += error * error;
                squares[i] += w * w;
            }
        };
        let ((weights, weights_rest), (became, became_rest)) = (weights.as_chunks(), became.as_chunks());
        for (w, v) in weights.iter().zip(became) {
            add(w, v);
        }
        let (mut w, mut v) = ([0.0; LANES], [0.0; LANES]);
        w[..weights_rest.len()].copy_from_slice(weights_rest);
        v[..became_rest.len()].copy_from_slice(became_rest);
        add(&w, &v);
        Errors {
            max_abs: max_abs.into_iter().fold(0.0, f64::max),
            error_squares: errors.into_iter().sum(),
            squares: squares.into_iter().sum(),
        }
    }

    /// `‖w - w'‖ / ‖w‖`; 0 when both are 0.
    pub fn ratio(self) -> f64 {
        if self.error_squares == 0.0 { 0.0 } else { (self.error_squares / self.squares).sqrt() }
    }

    /// These sums and those of other weights.
    pub fn and(self, other: Errors) -> Errors {
        Errors {
            max_abs: self.max_abs.max(other.max_abs),
            error_squares: self.error_squares + other.error_squares,
            squares: self.squares + other.squares,
        }
    }
}

/// Sums of squares over the outputs of a Linear on the calibration samples.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct OutputErrors {
    /// Of the outputs themselves.
    pub signal: f64,
    /// Of what the chosen codes change.
    pub noise: f64,
    /// Of what the nearest codes under the same scales would change.
    pub nearest: f64,
}

impl OutputErrors {
    /// These sums and those of other rows.
    pub fn and(self, other: OutputErrors) -> OutputErrors {
        OutputErrors {
            signal: self.signal + other.signal,
            noise: self.noise + other.noise,
            nearest: self.nearest + other.nearest,
        }
    }
}
