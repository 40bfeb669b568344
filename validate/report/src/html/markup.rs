//! HTML that is put together of markup of our own and escaped text, so that nothing from outside becomes markup.

use serde_json::Value;

use crate::chart::Svg;
use crate::escape::html::{escaped, json_in_script};

/// A piece of a page.
#[derive(Clone, Default, Debug)]
pub struct Html(String);

impl Html {
    /// Markup that stands in our sources.
    pub fn raw(&mut self, markup: &'static str) -> &mut Html {
        self.0.push_str(markup);
        self
    }

    /// Text, whatever it is and whoever wrote it.
    pub fn text(&mut self, text: &str) -> &mut Html {
        self.0.push_str(&escaped(text));
        self
    }

    /// `open`, text, `close`.
    pub fn within(&mut self, open: &'static str, text: &str, close: &'static str) -> &mut Html {
        self.raw(open).text(text).raw(close)
    }

    /// Lines of text between which lines end, for a `<pre>`.
    pub fn lines(&mut self, text: &str) -> &mut Html {
        for line in text.lines() {
            self.text(line).raw("\n");
        }
        self
    }

    /// Another piece.
    pub fn add(&mut self, other: &Html) -> &mut Html {
        self.0.push_str(&other.0);
        self
    }

    /// A picture.
    pub fn svg(&mut self, svg: &Svg) -> &mut Html {
        self.0.push_str(&svg.inline());
        self
    }

    /// Data for the page's script, between its tags.
    pub fn json(&mut self, value: &Value) -> &mut Html {
        self.0.push_str(&json_in_script(&value.to_string()));
        self
    }

    pub fn into_string(self) -> String {
        self.0
    }
}
