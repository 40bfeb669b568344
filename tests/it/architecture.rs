//! What may import what: modules of a crate in no circle, crates as `docs/design.md` says. Read from the sources, so that a change
//! that bends the house fails here with the files by name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use serde_json::Value;
use syn::{Attribute, Item, UseTree, Visibility};

use crate::fixture::repository;

/// Lines of a file of the command line, at most.
const MOST_LINES: usize = 400;

/// Circles that are still there: one that is cut leaves the list, and none joins it.
const LEFT: &[&str] = &[
    "converters/src/export/npu/lower.rs -> converters/src/export/npu.rs -> converters/src/export/npu/lower.rs",
    "converters/src/export/onnx/lower/attention.rs -> converters/src/export/onnx/lower.rs -> converters/src/export/onnx/lower/attention.rs",
    "converters/src/export/safetensors/compressed.rs -> converters/src/export/safetensors/container.rs -> converters/src/export/safetensors/compressed.rs",
    "converters/src/export/safetensors/layout.rs -> converters/src/export/safetensors.rs -> converters/src/export/safetensors/layout.rs",
    "converters/src/import/moonshine/gguf.rs -> converters/src/import/moonshine.rs -> converters/src/import/moonshine/gguf.rs",
    "converters/src/import/mu/gguf.rs -> converters/src/import/mu.rs -> converters/src/import/mu/gguf.rs",
    "converters/src/import/t5/gguf.rs -> converters/src/import/t5.rs -> converters/src/import/t5/gguf.rs",
    "converters/src/import/t5gemma/gguf.rs -> converters/src/import/t5gemma.rs -> converters/src/import/t5gemma/gguf.rs",
    "converters/src/import/t5gemma2/gguf.rs -> converters/src/import/t5gemma2.rs -> converters/src/import/t5gemma2/gguf.rs",
    "converters/src/import/whisper/gguf.rs -> converters/src/import/whisper.rs -> converters/src/import/whisper/gguf.rs",
    "src/command/bench/paper/table.rs -> src/command/bench/paper.rs -> src/command/bench/paper/table.rs",
    "validate/engine/src/lower.rs -> validate/engine/src/session.rs -> validate/engine/src/lower.rs",
    "validate/src/bench/measure.rs -> validate/src/runtime.rs -> validate/src/bench/measure.rs",
    "validate/src/lint/mask.rs -> validate/src/lint.rs -> validate/src/lint/mask.rs",
];

/// A crate of the workspace.
struct Crate {
    name: String,
    dir: PathBuf,
    /// Names of the packages that it is built on.
    knows: BTreeSet<String>,
}

fn crates() -> Vec<Crate> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]).current_dir(repository(""));
    let output = cargo.output().expect("cargo built this");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let packages = metadata["packages"].as_array().expect("a list").iter();
    let of = |package: &Value| {
        let all = package["dependencies"].as_array().expect("a list").iter();
        // Those of tests are of the kind `dev`.
        let knows = all.filter(|one| one["kind"].is_null()).map(|one| text(&one["name"])).collect();
        let dir = PathBuf::from(text(&package["manifest_path"])).parent().expect("in a folder").to_owned();
        Crate { name: text(&package["name"]), dir, knows }
    };
    packages.map(of).collect()
}

/// A module: what it defines and what it passes on.
#[derive(Default)]
struct Module {
    file: PathBuf,
    children: BTreeMap<String, Module>,
    /// Names of items that are written here.
    items: BTreeSet<String>,
    /// Names that come from elsewhere, private imports included, with the path as it is written.
    imports: BTreeMap<String, Vec<String>>,
    /// Modules of which all names come in.
    globs: Vec<Vec<String>>,
    /// Every path that is named here, as it is written. What is only passed on is none.
    named: Vec<Vec<String>>,
}

impl Module {
    /// Reads a file and the files of the modules that it declares. Tests are left out.
    fn read(file: &Path, folder: &Path) -> Module {
        let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        Module::of(parsed.items, file, folder)
    }

    fn of(items: Vec<Item>, file: &Path, folder: &Path) -> Module {
        let mut module = Module { file: file.to_owned(), ..Module::default() };
        for item in items.into_iter().filter(|item| !is_test(attributes(item))) {
            match item {
                Item::Mod(inner) => {
                    let (name, below) = (inner.ident.to_string(), folder.join(inner.ident.to_string()));
                    let child = match inner.content {
                        Some((_, items)) => Module::of(items, file, &below),
                        None => {
                            let own = [folder.join(format!("{name}.rs")), below.join("mod.rs")];
                            let own = own.iter().find(|file| file.exists());
                            Module::read(own.unwrap_or_else(|| panic!("{}: mod {name}", file.display())), &below)
                        }
                    };
                    module.children.insert(name, child);
                }
                Item::Use(import) => {
                    let is_passed_on = !matches!(import.vis, Visibility::Inherited);
                    module.import(&import.tree, &mut Vec::new(), is_passed_on);
                }
                other => {
                    module.items.extend(name_of(&other));
                    paths(other.to_token_stream(), &mut module.named);
                }
            }
        }
        module
    }

    fn import(&mut self, tree: &UseTree, before: &mut Vec<String>, is_passed_on: bool) {
        let whole =
            |last: &str| before.iter().cloned().chain([last.to_owned()]).filter(|part| part != "self").collect();
        let mut leaf = |path: Vec<String>, name: String, globs: bool| {
            if !is_passed_on {
                self.named.push(path.clone());
            }
            match globs {
                true => self.globs.push(path),
                false => drop(self.imports.insert(name, path)),
            }
        };
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.import(&path.tree, before, is_passed_on);
                before.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, before, is_passed_on)),
            UseTree::Name(name) if name.ident == "self" => {
                let name = before.last().expect("a group of a module").clone();
                leaf(before.clone(), name, false);
            }
            UseTree::Name(name) => leaf(whole(&name.ident.to_string()), name.ident.to_string(), false),
            UseTree::Rename(rename) => leaf(whole(&rename.ident.to_string()), rename.rename.to_string(), false),
            UseTree::Glob(_) => leaf(before.clone(), String::new(), true),
        }
    }

    fn at(&self, path: &[String]) -> &Module {
        path.iter().fold(self, |module, name| &module.children[name])
    }

    /// Every module with its path.
    fn all<'m>(&'m self, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, &'m Module)>) {
        found.push((path.clone(), self));
        for (name, child) in &self.children {
            path.push(name.clone());
            child.all(path, found);
            path.pop();
        }
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|one| one.path().is_ident("cfg") && one.meta.to_token_stream().to_string().contains("test"))
}

fn name_of(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

/// Every `a::b::c` among tokens, those that macros are given included.
fn paths(tokens: TokenStream, found: &mut Vec<Vec<String>>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let is_colon = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            // `pub(super)` and `pub(in …)` name who may look, and import nothing.
            TokenTree::Group(_) if at > 0 && matches!(&tokens[at - 1], TokenTree::Ident(word) if word == "pub") => {}
            TokenTree::Group(group) => paths(group.stream(), found),
            TokenTree::Ident(first) => {
                let mut path = vec![first.to_string()];
                while let (true, true, Some(TokenTree::Ident(next))) =
                    (is_colon(at + 1), is_colon(at + 2), tokens.get(at + 3))
                {
                    path.push(next.to_string());
                    at += 3;
                }
                found.push(path);
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        at += 1;
    }
}

/// The files of a crate and which of them each one imports from.
struct Imports(BTreeMap<PathBuf, BTreeSet<PathBuf>>);

impl Imports {
    /// Of the crate whose root is `file`.
    fn of(file: &Path) -> Imports {
        let root = Module::read(file, file.parent().expect("in a folder"));
        let mut modules = Vec::new();
        root.all(&mut Vec::new(), &mut modules);
        let mut imports: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
        for (at, module) in &modules {
            let own = imports.entry(module.file.clone()).or_default();
            let found = module.named.iter().filter_map(|path| defined(&root, at, path, 0));
            own.extend(found.filter(|found| **found != module.file).cloned());
        }
        Imports(imports)
    }

    /// A circle of each group of files that all lead to each other: the shortest, its first file last too.
    fn circles(&self) -> Vec<Vec<PathBuf>> {
        let mut all: Vec<Vec<PathBuf>> = self.0.keys().filter_map(|from| self.way_back(from)).collect();
        all.sort_by_key(Vec::len);
        let mut found: Vec<Vec<PathBuf>> = Vec::new();
        for circle in all {
            if !found.iter().any(|known| self.leads(&known[0], &circle[0]) && self.leads(&circle[0], &known[0])) {
                found.push(circle);
            }
        }
        found
    }

    fn leads(&self, from: &Path, to: &Path) -> bool {
        let (mut seen, mut open) = (BTreeSet::from([from]), vec![from]);
        while let Some(file) = open.pop() {
            open.extend(self.0[file].iter().map(PathBuf::as_path).filter(|next| seen.insert(next)));
        }
        seen.contains(to)
    }

    /// The shortest way from a file to itself.
    fn way_back(&self, from: &Path) -> Option<Vec<PathBuf>> {
        let mut ways = vec![vec![from.to_owned()]];
        let mut seen = BTreeSet::new();
        while !ways.is_empty() {
            let mut longer = Vec::new();
            for way in ways {
                for next in &self.0[way.last().expect("not empty")] {
                    let whole = || way.iter().cloned().chain([next.clone()]).collect();
                    if next == from {
                        return Some(whole());
                    }
                    if seen.insert(next.clone()) {
                        longer.push(whole());
                    }
                }
            }
            ways = longer;
        }
        None
    }
}

/// The file in which something is written that is named `path` in the module `at`. `None`: it is of another crate, or a local name.
fn defined<'m>(root: &'m Module, at: &[String], path: &[String], depth: usize) -> Option<&'m PathBuf> {
    // Imports that name each other lead nowhere.
    if depth > 16 {
        return None;
    }
    let (first, rest) = path.split_first()?;
    let here = root.at(at);
    match first.as_str() {
        "crate" => found_in(root, &[], rest, depth),
        "self" => found_in(root, at, rest, depth),
        "super" => found_in(root, &at[..at.len().checked_sub(1)?], rest, depth),
        name if here.children.contains_key(name) => found_in(root, at, path, depth),
        name => {
            let import = here.imports.get(name)?;
            // `use anyhow::anyhow` and the like.
            if import.first() == Some(first) {
                return None;
            }
            let whole: Vec<String> = import.iter().chain(rest).cloned().collect();
            defined(root, at, &whole, depth + 1)
        }
    }
}

/// Where `path` is written, seen from the module `at`, of which it names a child, an item or something that is passed on.
fn found_in<'m>(root: &'m Module, at: &[String], path: &[String], depth: usize) -> Option<&'m PathBuf> {
    let module = root.at(at);
    let Some((first, rest)) = path.split_first() else { return Some(&module.file) };
    if first == "super" {
        return found_in(root, &at[..at.len().checked_sub(1)?], rest, depth);
    }
    if module.children.contains_key(first) {
        let below: Vec<String> = at.iter().cloned().chain([first.clone()]).collect();
        return found_in(root, &below, rest, depth);
    }
    if module.items.contains(first) {
        return Some(&module.file);
    }
    if let Some(import) = module.imports.get(first) {
        let whole: Vec<String> = import.iter().chain(rest).cloned().collect();
        return defined(root, at, &whole, depth + 1);
    }
    let inside = module.globs.iter().find_map(|glob| {
        let whole: Vec<String> = glob.iter().chain(path).cloned().collect();
        let found = defined(root, at, &whole, depth + 1)?;
        // A module that does not have the name answers with itself.
        let of_glob = defined(root, at, glob, depth + 1)?;
        (found != of_glob || root_has(root, at, glob, first)).then_some(found)
    });
    Some(inside.unwrap_or(&module.file))
}

fn root_has(root: &Module, at: &[String], glob: &[String], name: &str) -> bool {
    let mut found = Vec::new();
    root.all(&mut Vec::new(), &mut found);
    let file = defined(root, at, glob, 16);
    found.iter().any(|(_, module)| Some(&module.file) == file && module.items.contains(name))
}

fn relative(file: &Path) -> String {
    file.strip_prefix(repository("")).unwrap_or(file).display().to_string()
}

#[test]
fn modules_of_a_crate_import_each_other_in_no_circle() {
    let mut told = Vec::new();
    for Crate { dir, .. } in crates() {
        let roots = ["src/lib.rs", "src/main.rs"].map(|root| dir.join(root));
        for root in roots.iter().filter(|root| root.exists()) {
            let imports = Imports::of(root);
            assert!(imports.0.values().any(|files| !files.is_empty()), "{}: nothing imports anything", root.display());
            let text = |circle: Vec<PathBuf>| circle.iter().map(|file| relative(file)).collect::<Vec<_>>().join(" -> ");
            told.extend(imports.circles().into_iter().map(text));
        }
    }
    told.sort();
    assert_eq!(told, LEFT, "modules that import each other in a circle:\n{}", told.join("\n"));
}

#[test]
fn a_circle_is_found_through_names_that_are_passed_on_and_in_macros() {
    let planted = |a: &str, b: &str, c: &str| -> Option<usize> {
        let home = tempfile::tempdir().expect("temporary folder");
        let write = |name: &str, text: &str| fs::write(home.path().join(name), text).expect("written");
        write("lib.rs", "mod a;\nmod b;\nmod c;\npub use a::A;\npub use b::*;\npub use c::C;\n");
        [("a.rs", a), ("b.rs", b), ("c.rs", c)].into_iter().for_each(|(name, text)| write(name, text));
        Imports::of(&home.path().join("lib.rs")).circles().first().map(|circle| circle.len() - 1)
    };
    let (a, b, c) = ("pub struct A;", "pub struct B(crate::A);", "use crate::b::B;\npub struct C(B);");
    assert_eq!(planted(a, b, c), None);
    // Each closes the way from a to c.
    for a in [
        "use crate::C;\npub struct A(Box<C>);",
        "pub struct A;\nimpl A { fn c() { println!(\"{}\", super::c::C::NAME) } }",
        "use crate::c as other;\npub struct A(Box<other::C>);",
    ] {
        assert_eq!(planted(a, b, c), Some(3), "{a}");
    }
    // Through a star: a and b alone.
    assert_eq!(planted("use crate::B;\npub struct A(Box<B>);", b, "pub struct C;"), Some(2));
    // A test may look anywhere.
    assert_eq!(planted("pub struct A;\n#[cfg(test)]\nmod tests { use crate::C; }", b, c), None);
}

#[test]
fn rooms_of_the_command_line_import_each_other_in_no_circle() {
    let src = repository("src");
    let room = |file: &Path| -> PathBuf {
        let below = file.strip_prefix(&src).expect("below src");
        PathBuf::from(below.iter().next().expect("a name"))
    };
    let mut rooms: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    for (file, imports) in Imports::of(&src.join("main.rs")).0 {
        let own = rooms.entry(room(&file)).or_default();
        own.extend(imports.iter().map(|other| room(other)).filter(|other| *other != room(&file)));
    }
    // main.rs stands above all rooms, and declares them.
    rooms.remove(Path::new("main.rs"));
    for own in rooms.values_mut() {
        own.remove(Path::new("main.rs"));
    }
    assert_eq!(Imports(rooms).circles(), Vec::<Vec<PathBuf>>::new());
}

#[test]
fn no_file_of_the_command_line_is_long() {
    let long = Imports::of(&repository("src/main.rs")).0.into_keys().filter_map(|file| {
        let lines = fs::read_to_string(&file).expect("there").lines().count();
        (lines > MOST_LINES).then(|| format!("{}: {lines} lines", relative(&file)))
    });
    assert_eq!(long.collect::<Vec<_>>(), Vec::<String>::new());
}

/// The crates that each one knows, from the table of `docs/design.md`. `None`: all.
fn known_by_design() -> BTreeMap<String, Option<BTreeSet<String>>> {
    let text = fs::read_to_string(repository("docs/design.md")).expect("there");
    let quoted = |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let rows = text.lines().skip_while(|line| !line.starts_with("| crate |")).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let knows = (cells[2] != "all").then(|| quoted(cells[2]).into_iter().collect());
            (quoted(cells[0])[0].clone(), knows)
        })
        .collect()
}

#[test]
fn crates_know_what_the_design_says_and_no_more() {
    let design = known_by_design();
    let all: BTreeSet<String> = crates().into_iter().map(|one| one.name).collect();
    let found: BTreeMap<String, Option<BTreeSet<String>>> = crates()
        .into_iter()
        .map(|Crate { name, knows, .. }| {
            let ours = knows.intersection(&all).cloned().collect();
            let knows = if design.get(&name) == Some(&None) { None } else { Some(ours) };
            (name, knows)
        })
        .collect();
    assert_eq!(found, design);
}
