//! Writes the page of a made-up report, for whoever changes how pages look: `cargo run -p report --example page -- out.html`.

#[path = "../tests/page/made_up.rs"]
mod made_up;

fn main() {
    let out = std::env::args().nth(1).unwrap_or_else(|| "report.html".to_owned());
    let text = report::html::page(&made_up::report());
    match std::fs::write(&out, text) {
        Ok(()) => println!("{out}"),
        Err(e) => eprintln!("{out}: {e}"),
    }
}
