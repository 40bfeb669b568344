//! The page as a whole.

use super::checks::checks;
use super::head::{head, headline, name};
use super::layers::layers;
use super::made::made;
use super::markup::Html;
use super::outcome::State;
use super::samples::samples;
use super::table::table;
use super::tensors::tensors;
use crate::chart::{STYLE, THEME};
use crate::report::Report;

/// The text of `report.html`: one file that needs no other, no network and, for all but searching, no script.
pub fn page(report: &Report) -> String {
    let state = State::of_all(report.all_checks().map(|(_, check)| check));
    let mut out = Html::default();
    out.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    out.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">");
    // Nothing from outside can have a request made, whatever it got past.
    out.raw(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
             script-src 'unsafe-inline'; img-src data:\"><link rel=\"icon\" href=\"data:,\">",
    );
    out.within("<title>", &format!("{}: {}", name(report), headline(report, state)), "</title>");
    out.raw("<style>\n").raw(THEME).raw(STYLE).raw(include_str!("style.css")).raw("</style></head><body>");
    out.add(&head(report)).raw(NAVIGATION).raw("<main>");
    for section in [table, samples, layers, tensors, checks, made] {
        out.add(&section(report));
    }
    out.raw("</main><footer>").text(&format!("trefoil {}", report.trefoil)).raw("</footer>");
    out.raw("<script>\n").raw(include_str!("script.js")).raw("</script></body></html>\n");
    out.into_string()
}

const NAVIGATION: &str = "<nav class=\"sections\" aria-label=\"Sections\"><a href=\"#artifacts\">Artifacts</a><a href=\"#answers\">Answers</a>\
    <a href=\"#layers\">Inside</a><a href=\"#tensors\">Tensors</a><a href=\"#checks\">Checks</a><a href=\"#not-run\">Not run</a>\
    <a href=\"#again\">Reproduce</a></nav>";
