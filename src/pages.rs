//! The files of a report: a row each, and whoever writes, replaces or removes them goes by the rows.

use validate::report::{Report, html, junit, markdown};

use crate::names::{REPORT_HTML, REPORT_JSON};

/// A file and what is in it.
pub struct Renderer {
    /// Its name.
    pub name: &'static str,
    /// Of the whole report and nothing else.
    pub render: fn(&Report) -> String,
}

/// Every file, the one for machines first.
pub const RENDERERS: &[Renderer] = &[
    Renderer { name: REPORT_JSON, render: Report::to_json },
    Renderer { name: REPORT_HTML, render: html::page },
    Renderer { name: "report.md", render: markdown::page },
    Renderer { name: "report.xml", render: junit::page },
];

/// Their names, in that order.
pub fn names() -> Vec<&'static str> {
    RENDERERS.iter().map(|renderer| renderer.name).collect()
}
