//! A difference as a page of HTML that needs nothing beside it.

use std::fmt::{self, Write};

use super::found::Diff;
use super::outline::{Block, Part, outline};
use crate::escape::html::escaped;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse}td,th{padding:.2rem .8rem .2rem 0;text-align:left;border-bottom:1px solid #8884}\
code{background:#8882;padding:0 .2rem;white-space:pre-wrap}@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}}";

/// The page.
pub fn html(diff: &Diff) -> String {
    let title = escaped(&diff.model);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head>\n\
         <body><h1>{title}</h1>\n"
    );
    for block in outline(diff) {
        // Writing to a String cannot fail.
        let _ = write_block(&mut out, &block);
    }
    out + "</body></html>\n"
}

fn write_block(out: &mut String, block: &Block) -> fmt::Result {
    match block {
        Block::Heading(text) => writeln!(out, "<h2>{}</h2>", escaped(text)),
        Block::Text(text) => writeln!(out, "<p>{}</p>", escaped(text)),
        Block::List(lines) if lines.is_empty() => Ok(()),
        Block::List(lines) => {
            let line = |line: &Vec<Part>| format!("<li>{}</li>", line.iter().map(part).collect::<String>());
            writeln!(out, "<ul>{}</ul>", lines.iter().map(line).collect::<String>())
        }
        Block::Table(head, rows) => {
            let cells = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
                let all: String = cells.map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell))).collect();
                format!("<tr>{all}</tr>\n")
            };
            let body: String = rows.iter().map(|row| cells("td", &mut row.iter().map(String::as_str))).collect();
            writeln!(out, "<table>{}{body}</table>", cells("th", &mut head.iter().copied()))
        }
    }
}

fn part(part: &Part) -> String {
    match part {
        Part::Words(text) => escaped(text),
        Part::Said(text) => format!("<code>{}</code>", escaped(text)),
    }
}
