//! The rules as a table, for the documentation.

use converters::export::npu::{PROFILES, Severity};

use super::rules::RULES;

/// Markdown: a line a rule, a column a profile.
pub fn table() -> String {
    let mut text = String::from("| rule | what must hold |");
    PROFILES.iter().for_each(|profile| text.push_str(&format!(" {} |", profile.name)));
    text.push_str(" how it is known |\n| --- | --- |");
    PROFILES.iter().for_each(|_| text.push_str(" --- |"));
    text.push_str(" --- |\n");
    for rule in RULES {
        text.push_str(&format!("| {} | {} |", rule.id, rule.what));
        for profile in PROFILES {
            let applies = !rule.id.starts_with('Q') || profile.takes.quantized.is_some();
            let level = profile.level(rule.id, rule.severity).filter(|_| applies);
            text.push_str(match level {
                Some(Severity::Error) => " error |",
                Some(Severity::Warning) => " warning |",
                Some(Severity::Info) => " info |",
                None => "  |",
            });
        }
        text.push_str(&format!(" {} |\n", rule.evidence));
    }
    text
}
