//! What a rule finds, before its name is put to it.

use converters::export::onnx::Node;

/// What a rule finds in a file.
pub type Founds = Vec<Found>;

/// A finding before its rule's name is put to it.
pub struct Found {
    pub node: Option<String>,
    pub tensor: Option<String>,
    pub why: String,
}

impl Found {
    /// Of the whole file.
    pub fn of(why: impl Into<String>) -> Found {
        Found { node: None, tensor: None, why: why.into() }
    }

    /// At a node.
    pub fn at(self, node: &Node) -> Found {
        self.maybe_at(Some(node))
    }

    /// At a node where there is one; without a name, it is its op and its first result.
    pub fn maybe_at(mut self, node: Option<&Node>) -> Found {
        self.node = node.map(|node| match (node.name.as_str(), node.outputs.first()) {
            ("", Some(output)) => format!("{} -> {output}", node.op),
            ("", None) => node.op.clone(),
            (name, _) => name.to_owned(),
        });
        self
    }

    /// Of a value.
    pub fn tensor(mut self, name: &str) -> Found {
        self.tensor = Some(name.to_owned());
        self
    }
}
