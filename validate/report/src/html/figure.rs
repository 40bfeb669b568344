//! Pictures in the page: drawn twice where letters would be too small on a phone.

use super::markup::Html;
use crate::chart::Svg;

/// Pixels of a picture beside another, and of one on a phone.
const WIDTHS: [f64; 2] = [520.0, 326.0];

/// The picture for screens and paper, and the one for phones; one of them is shown.
pub fn both(draw: impl Fn(f64) -> Svg) -> Html {
    let mut out = Html::default();
    out.raw("<figure>").raw("<div class=\"wide\">").svg(&draw(WIDTHS[0])).raw("</div>");
    out.raw("<div class=\"narrow\">").svg(&draw(WIDTHS[1])).raw("</div>").raw("</figure>");
    out
}

/// A small picture of one width.
pub fn small(draw: impl Fn(f64) -> Svg) -> Html {
    let mut out = Html::default();
    out.raw("<figure>").svg(&draw(WIDTHS[1])).raw("</figure>");
    out
}
