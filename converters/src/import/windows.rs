//! Square windows of a grid of tokens, as attention within windows has them (Liu et al., arXiv 2103.14030).

use graph::{Build, Dim, Val};

/// Batch, `[rows, columns]` and channels of `[b, rows, columns, c]`; `None` after an error upstream.
fn grid_of(x: Val) -> Option<(Dim, [usize; 2], usize)> {
    let shape = x.ty()?.shape;
    let length = |axis: usize| shape.get(axis).and_then(Dim::literal);
    Some((shape.first()?.clone(), [length(1)?, length(2)?], length(3)?))
}

/// How long an axis is made to divide into windows.
pub(super) fn padded(grid: [usize; 2], side: usize) -> [usize; 2] {
    grid.map(|length| length.next_multiple_of(side))
}

/// `[b, rows, columns, c] -> [b, to[0], to[1], c]`: zeros at the bottom and at the right.
pub(super) fn pad<'b>(b: &'b Build, mut x: Val<'b>, to: [usize; 2]) -> Val<'b> {
    for axis in [1, 2] {
        let Some((batch, mut shape, channels)) = grid_of(x) else { return x };
        let missing = to[axis - 1] - shape[axis - 1];
        if missing > 0 {
            shape[axis - 1] = missing;
            let zeros = b.scalar(0.0).broadcast([batch, shape[0].into(), shape[1].into(), channels.into()]);
            x = b.concat(&[x, zeros], axis);
        }
    }
    x
}

/// `[b, rows, columns, c] -> [b, to[0], to[1], c]`: without what lies below and to the right.
pub(super) fn crop(mut x: Val<'_>, to: [usize; 2]) -> Val<'_> {
    for axis in [1, 2] {
        let Some((_, grid, _)) = grid_of(x) else { return x };
        if grid[axis - 1] > to[axis - 1] {
            x = x.slice(axis, 0, 1, to[axis - 1]);
        }
    }
    x
}

/// `[b, rows, columns, c] -> [b, windows, side², c]`, windows and their places row by row. Rows and columns are multiples of
/// `side`.
pub(super) fn partition(x: Val<'_>, side: usize) -> Val<'_> {
    let Some((b, [rows, columns], c)) = grid_of(x) else { return x };
    let [across, down] = [columns / side, rows / side];
    let cut = x.reshape([b.clone(), down.into(), side.into(), across.into(), (side * c).into()]);
    cut.transpose(vec![0, 1, 3, 2, 4]).reshape([b, (down * across).into(), (side * side).into(), c.into()])
}

/// The inverse of [`partition`]: `[b, windows, side², c] -> [b, grid[0], grid[1], c]`.
pub(super) fn merge(x: Val<'_>, grid: [usize; 2], side: usize) -> Val<'_> {
    let Some((b, _, c)) = grid_of(x) else { return x };
    let [down, across] = grid.map(|length| length / side);
    let cut = x.reshape([b.clone(), down.into(), across.into(), side.into(), (side * c).into()]);
    cut.transpose(vec![0, 1, 3, 2, 4]).reshape([b, grid[0].into(), grid[1].into(), c.into()])
}

/// `[b, windows, n, c] -> [b, windows · heads, n, c / heads]`: the heads of a window are neighbours.
pub(super) fn heads(x: Val<'_>, heads: usize) -> Val<'_> {
    let Some((b, [windows, n], c)) = grid_of(x) else { return x };
    let width = c / heads;
    let split = x.reshape([b.clone(), windows.into(), n.into(), heads.into(), width.into()]);
    split.transpose(vec![0, 1, 3, 2, 4]).reshape([b, (windows * heads).into(), n.into(), width.into()])
}

/// The inverse of [`heads`]: `[b, windows · heads, n, d] -> [b, windows, n, heads · d]`.
pub(super) fn merge_heads(x: Val<'_>, heads: usize) -> Val<'_> {
    let Some((b, [all, n], d)) = grid_of(x) else { return x };
    let windows = all / heads;
    let split = x.reshape([b.clone(), windows.into(), heads.into(), n.into(), d.into()]);
    split.transpose(vec![0, 1, 3, 2, 4]).reshape([b, windows.into(), n.into(), (heads * d).into()])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use graph::{BATCH, Feeds, Interpreter, Tensor, Type};

    use super::*;

    /// What a formula makes of a grid that counts from 1, of 2 images of 2 channels.
    fn made(grid: [usize; 2], formula: impl for<'b> Fn(&'b Build, Val<'b>) -> Val<'b>) -> Tensor {
        let b = Build::new();
        let x = b.input("x", Type::f32([Dim::from(BATCH), grid[0].into(), grid[1].into(), 2.into()]));
        let y = formula(&b, x);
        b.entry("full", &[("x", x)], &[("y", y)], BTreeMap::new());
        let graph = b.finish().expect("fits");
        let shape = [2, grid[0], grid[1], 2];
        let counted = (1..=shape.iter().product()).map(|i: usize| i as f32).collect();
        let feeds = Feeds::from([("x".to_owned(), Tensor::f32(shape, counted))]);
        Interpreter::new(&graph).call("full", &feeds).expect("runs").remove("y").expect("y")
    }

    #[test]
    fn windows_of_a_padded_grid_hold_its_places_row_by_row() {
        // 3 rows of 5 places in windows of 2: 2 x 3 windows, of which the right and the lower ones end in zeros.
        let windows = made([3, 5], |b, x| partition(pad(b, x, padded([3, 5], 2)), 2));
        assert_eq!(windows.shape(), [2, 6, 4, 2]);
        let floats = windows.as_f32().expect("floats");
        assert_eq!(floats[..8], [1.0, 2.0, 3.0, 4.0, 11.0, 12.0, 13.0, 14.0]);
        assert_eq!(floats[16..24], [9.0, 10.0, 0.0, 0.0, 19.0, 20.0, 0.0, 0.0]);
        assert_eq!(floats[40..48], [29.0, 30.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_grid_comes_back_from_its_windows_and_their_heads() {
        let same = |grid: [usize; 2], side: usize| {
            let back = made(grid, |b, x| {
                let whole = padded(grid, side);
                let windows = heads(partition(pad(b, x, whole), side), 2);
                crop(merge(merge_heads(windows, 2), whole, side), grid)
            });
            assert_eq!(back.as_f32(), made(grid, |_, x| x).as_f32(), "{grid:?} in windows of {side}");
        };
        same([3, 5], 2);
        same([4, 6], 2);
        same([3, 4], 3);
        same([2, 7], 4);
    }

    #[test]
    fn heads_of_a_window_are_neighbours() {
        let split = made([2, 3], |_, x| heads(x, 2));
        assert_eq!(split.shape(), [2, 4, 3, 1]);
        assert_eq!(split.as_f32().expect("floats")[..6], [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
    }
}
