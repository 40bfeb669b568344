//! What trefoil calls what it leaves in a folder, and what may be called so.

use std::path::{Component, Path};

/// The manifest in an artifact's folder.
pub const MANIFEST: &str = "trefoil.json";
/// The model card in an artifact's folder.
pub const CARD: &str = "README.md";
/// The in-toto statement in an artifact's folder.
pub const PROVENANCE: &str = "provenance.intoto.json";
/// The bill of materials in an artifact's folder; the ending is the one that CycloneDX's tools look for.
pub const BOM: &str = "model.cdx.json";
/// Of the names of artifacts that failed.
pub const FAILED: &str = ".failed";
/// What a search for a plan found, for machines.
pub const TUNE_JSON: &str = "tune.json";
/// The report for people.
pub const REPORT_HTML: &str = "report.html";
/// The report for machines.
pub const REPORT_JSON: &str = "report.json";

/// Whether `name` is that of one thing in a folder.
pub fn is_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
        && !name.contains(['/', '\\'])
}

/// The name under which an artifact stays that did not pass.
pub fn failed(name: &str) -> String {
    format!("{name}{FAILED}")
}
