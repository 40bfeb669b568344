//! Every picture of the project: scatters with labels that never lie on each other, lines over lengths, bars, ranges, histograms.
//!
//! SVG 1.1 without scripts or fonts of its own, the same bytes for the same figures. Colours are classes: in a page its variables
//! (`prefers-color-scheme`) give them values, and a file that stands alone brings its own. A series is known by its mark's shape and
//! its colour.
//!
//! No crate does this as it stands: plotters and charts-rs write colours into every element and bring fonts and rasterizers, charming
//! draws with a JavaScript library, poloto themes by classes but has neither labels beside dots nor bars of quartiles; none places
//! labels.

mod bars;
mod histogram;
mod labels;
mod legend;
mod lines;
mod ranges;
mod scale;
mod scatter;
mod svg;
mod theme;
mod width;

pub use bars::{Bar, Bars};
pub use histogram::{Codes, Weights};
pub use lines::{Line, Panel, panels};
pub use ranges::{Range, Ranges};
pub use scale::{Kind, tick, tick_of_bytes};
pub use scatter::{Dot, Scatter};
pub use svg::Svg;
pub use theme::{STYLE, THEME};
