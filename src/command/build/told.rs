//! What a build prints.

use std::path::PathBuf;

use serde_json::{Value, json};
use validate::report::{OutputFile, Report, Verdict};

use crate::build::parts::{Came, Parts};
use crate::show::table::{aligned, size};

/// What became of an artifact.
pub struct Row {
    name: String,
    came: Came,
    verdict: Verdict,
    /// Of its entry in the cache.
    key: String,
    files: Vec<OutputFile>,
}

/// What became of a recipe.
pub struct Told {
    /// Its file.
    pub recipe: PathBuf,
    /// Where its artifacts lie; nowhere but in the cache after a shard.
    pub out: Option<PathBuf>,
    /// Artifacts that this run was asked for.
    pub rows: Vec<Row>,
    /// What differs from its lock; nothing was put into a place then.
    pub drift: Vec<String>,
    /// The lock that was written.
    pub lock: Option<PathBuf>,
    /// What was found.
    pub report: Option<Report>,
    /// Why there is no more.
    pub error: Option<String>,
}

impl Told {
    /// Nothing yet.
    pub fn of(recipe: PathBuf) -> Told {
        Told { recipe, out: None, rows: Vec::new(), drift: Vec::new(), lock: None, report: None, error: None }
    }

    /// A row for each artifact.
    pub fn rows(parts: &Parts) -> Vec<Row> {
        let row = |(one, side): (&crate::build::work::Staged, &crate::build::parts::Side)| Row {
            name: one.target.name().to_owned(),
            came: side.came,
            verdict: one.manifest.verdict,
            key: side.name.as_str().to_owned(),
            files: one.manifest.files.clone(),
        };
        parts.staged.iter().zip(&parts.sides).map(row).collect()
    }

    /// Whether nothing that was asked for went wrong.
    pub fn is_good(&self) -> bool {
        self.error.is_none() && self.drift.is_empty() && self.rows.iter().all(|row| row.verdict != Verdict::Failed)
    }

    fn json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "name": row.name, "came": row.came.name(), "verdict": row.verdict, "key": row.key, "files": row.files
            })
        };
        json!({
            "recipe": self.recipe,
            "out": self.out,
            "lock": self.lock,
            "artifacts": self.rows.iter().map(row).collect::<Vec<_>>(),
            "drift": self.drift,
            "verdict": self.report.as_ref().map(Report::verdict),
            "error": self.error,
        })
    }

    fn text(&self) -> String {
        let place = self.out.as_ref().map_or("the cache".to_owned(), |out| out.display().to_string());
        let recipe = self.recipe.display();
        let mut text = match (self.drift.is_empty(), self.rows.is_empty()) {
            (false, _) => return format!("{recipe}: not as its lock says, and nothing was changed\n"),
            (true, true) => format!("{recipe}: nothing is asked of it here\n"),
            (true, false) => format!("{recipe} in {place}\n"),
        };
        let rows = self.rows.iter().map(|row| {
            let came = match row.came {
                Came::Cached => "from the cache",
                Came::Tested => "from the cache, tested anew",
                Came::Made => "made",
            };
            let bytes = row.files.iter().map(|file| file.bytes).sum();
            vec![row.name.clone(), came.to_owned(), size(bytes), row.verdict.to_string()]
        });
        text.push_str(&aligned(2, &rows.collect::<Vec<_>>()));
        text.extend(self.report.as_ref().map(|report| format!("  {}\n", report.verdict())));
        text.extend(self.lock.as_ref().map(|lock| format!("  lock: {}\n", lock.display())));
        text
    }
}

/// All recipes for people, or for machines. `damaged`: entries of the cache that were.
pub fn all(told: &[Told], damaged: &[String], as_json: bool) -> String {
    if as_json {
        let recipes: Vec<Value> = told.iter().map(Told::json).collect();
        let all = json!({ "recipes": recipes, "damaged": damaged });
        return serde_json::to_string_pretty(&all).expect("only JSON types") + "\n";
    }
    told.iter().filter(|told| told.error.is_none()).map(Told::text).collect()
}
