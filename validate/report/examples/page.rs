//! Writes the page of a made-up report, and pictures beside it, for whoever changes how pages look: `cargo run -p report --example page -- out.html`.

#[path = "../tests/page/made_up.rs"]
mod made_up;

fn main() {
    let out = std::env::args().nth(1).unwrap_or_else(|| "report.html".to_owned());
    let files = [
        (out.clone(), report::html::page(&made_up::report())),
        (format!("{out}.scatter.svg"), made_up::crowded_scatter()),
        (format!("{out}.lines.svg"), made_up::lines()),
    ];
    for (file, text) in files {
        match std::fs::write(&file, text) {
            Ok(()) => println!("{file}"),
            Err(e) => eprintln!("{file}: {e}"),
        }
    }
}
