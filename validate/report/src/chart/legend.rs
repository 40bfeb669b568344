//! Which mark is whose.

use super::svg::{Anchor, FONT, Svg};
use super::width::{em, shortened};

const ROW: f64 = 18.0;
/// From a mark to its name, and from a name to the next mark.
const GAPS: [f64; 2] = [10.0, 16.0];

/// Names by their place, in rows that are not wider than what they are drawn in.
pub struct Legend {
    /// Where the mark is, from the top left corner, the series, and its name.
    entries: Vec<([f64; 2], usize, String)>,
    pub height: f64,
}

impl Legend {
    /// Series with their names.
    pub fn of<'a>(names: impl IntoIterator<Item = (usize, &'a str)>, width: f64) -> Legend {
        let mut entries = Vec::new();
        let ([mut x, mut y], [gap, apart]) = ([5.0, ROW / 2.0], GAPS);
        for (series, name) in names {
            let name = shortened(name, (width - gap - 10.0) / FONT);
            let right = x + gap + em(&name) * FONT;
            if right > width && x > 5.0 {
                (x, y) = (5.0, y + ROW);
            }
            let room = gap + em(&name) * FONT + apart;
            entries.push(([x, y], series, name));
            x += room;
        }
        let height = if entries.is_empty() { 0.0 } else { y + ROW / 2.0 + 4.0 };
        Legend { entries, height }
    }

    pub fn draw(&self, svg: &mut Svg, [left, top]: [f64; 2]) {
        if self.height == 0.0 {
            return;
        }
        for ([x, y], series, name) in &self.entries {
            svg.mark(*series, [left + x, top + y], 4.0, None);
            svg.text("", [left + x + GAPS[0], top + y + 4.0], Anchor::Start, name);
        }
    }
}
