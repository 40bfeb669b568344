//! The printed form, for goldens, `inspect` and error messages.

use std::fmt::Write;

use crate::ir::graph::{Def, Entry, Graph, Port};

/// Every entry of a graph.
pub fn print(graph: &Graph) -> String {
    let entries: Vec<String> = graph.entries.iter().map(|entry| print_entry(graph, entry)).collect();
    entries.join("\n")
}

/// One entry: its ports, then a line a value, `name: type = op(arguments)`.
pub fn print_entry(graph: &Graph, entry: &Entry) -> String {
    let ports = |ports: &[Port]| -> String {
        let port = |p: &Port| format!("\n  {}: {}{}", p.name, graph.value(p.value).ty, alias(graph, p));
        ports.iter().map(port).collect()
    };
    let mut text = format!("entry {}", entry.name);
    for (sym, length) in &entry.fixed {
        write!(text, ", {} = {length}", sym.0).expect("a String takes everything");
    }
    write!(text, "\nin{}\nout{}\n", ports(&entry.inputs), ports(&entry.outputs)).expect("a String takes everything");
    for id in graph.order(entry).into_iter().skip(entry.inputs.len()) {
        let value = graph.value(id);
        match &value.def {
            Def::Op(op, args) => {
                let args: Vec<&str> = args.iter().map(|arg| graph.value(*arg).name.as_str()).collect();
                writeln!(text, "{}: {} = {op}({})", value.name, value.ty, args.join(", "))
            }
            Def::Weight(id) => {
                writeln!(text, "{}: {} = {}", value.name, value.ty, graph.weights.get(*id).data.type_name())
            }
            Def::Input => writeln!(text, "{}: {} = empty", value.name, value.ty),
            Def::Const(_) => Ok(()),
        }
        .expect("a String takes everything");
    }
    text
}

fn alias(graph: &Graph, port: &Port) -> String {
    let name = &graph.value(port.value).name;
    if *name == port.name { String::new() } else { format!(" = {name}") }
}
