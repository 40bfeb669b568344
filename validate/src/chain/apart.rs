//! How far apart two tensors are.

use graph::Tensor;

/// What stands for a hidden place in engines that have no infinity.
const HIDDEN: f32 = -1e30;

/// `‖x‖₂` of what is finite and not hidden; 0 for integers.
pub(super) fn norm(x: &Tensor) -> f64 {
    let square = |x: &f32| if x.is_finite() && *x > HIDDEN { f64::from(*x).powi(2) } else { 0.0 };
    x.as_f32().unwrap_or_default().iter().map(square).sum::<f64>().sqrt()
}

/// `‖a - b‖₂ / ‖a‖₂`; 0 where nothing differs, such as places that both hide, and infinite where one of them sees what the other hides.
pub(super) fn relative(a: &Tensor, b: &Tensor) -> f64 {
    let (Some(x), Some(y)) = (a.as_f32(), b.as_f32()) else {
        return if a == b { 0.0 } else { f64::INFINITY };
    };
    let apart = |(a, b): (&f32, &f32)| match (*a <= HIDDEN, *b <= HIDDEN) {
        (true, true) => 0.0,
        (true, false) | (false, true) => f64::INFINITY,
        (false, false) if a == b => 0.0,
        (false, false) => (f64::from(*a) - f64::from(*b)).powi(2),
    };
    match x.iter().zip(y).map(apart).sum::<f64>().sqrt() {
        0.0 => 0.0,
        f64::INFINITY => f64::INFINITY,
        apart => apart / norm(a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_places_are_equal_however_they_are_written_and_nothing_else_is() {
        let of = |floats: [f32; 3]| Tensor::f32([3], floats.to_vec());
        let hidden = of([0.0, f32::NEG_INFINITY, 2.0]);
        assert_eq!(relative(&hidden, &of([0.0, f32::MIN / 2.0, 2.0])), 0.0);
        assert_eq!(relative(&hidden, &of([0.0, 0.0, 2.0])), f64::INFINITY);
        assert_eq!(relative(&of([3.0, 4.0, 0.0]), &of([3.0, 4.0, 1.0])), 0.2);
        assert!(relative(&hidden, &of([0.0, f32::MIN, f32::NAN])).is_nan());
        assert_eq!(relative(&Tensor::i64([1], vec![1]), &Tensor::i64([1], vec![2])), f64::INFINITY);
    }
}
