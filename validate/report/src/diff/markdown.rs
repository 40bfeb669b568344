//! A difference as Markdown, for a terminal and for a comment.

use std::fmt::{self, Write};

use super::found::Diff;
use super::outline::{Block, Part, outline};
use crate::escape::markdown::{escaped, quoted};

/// The page.
pub fn markdown(diff: &Diff) -> String {
    let mut out = format!("# {}\n\n", escaped(&diff.model));
    for block in outline(diff) {
        // Writing to a String cannot fail.
        let _ = write_block(&mut out, &block);
    }
    out.truncate(out.trim_end().len());
    out + "\n"
}

fn write_block(out: &mut String, block: &Block) -> fmt::Result {
    match block {
        Block::Heading(text) => writeln!(out, "## {}\n", escaped(text)),
        Block::Text(text) => writeln!(out, "{}\n", escaped(text)),
        Block::List(lines) if lines.is_empty() => Ok(()),
        Block::List(lines) => {
            lines.iter().try_for_each(|line| writeln!(out, "- {}", line.iter().map(part).collect::<String>()))?;
            writeln!(out)
        }
        Block::Table(head, rows) => {
            writeln!(out, "| {} |\n|{}", head.join(" | "), " --- |".repeat(head.len()))?;
            let row = |row: &Vec<String>| row.iter().map(|cell| escaped(cell)).collect::<Vec<_>>().join(" | ");
            rows.iter().try_for_each(|cells| writeln!(out, "| {} |", row(cells)))?;
            writeln!(out)
        }
    }
}

fn part(part: &Part) -> String {
    match part {
        Part::Words(text) => escaped(text),
        Part::Said(text) => quoted(text),
    }
}
