//! What must hold for the whole tree: who may depend on whom, how long files are, that every file
//! says what it is, that ARCHITECTURE.md tells the truth, that nothing in the tree is dead.
//!
//! Not here: the length of functions and the ban of `unwrap` (clippy), formatting (rustfmt).

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helper functions of tests; a panic shows the line"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which member may depend on which, in ordinary and in development dependencies.
/// An edge is added by editing this table in the commit that adds it, with the reason.
const EDGES: &[(&str, &[&str], &[&str])] = &[
    // member, may use, may use in its tests
    ("blueshift", &["faults", "leader", "tpch"], &["tpch"]),
    ("compute", &["faults", "sql", "storage"], &[]),
    ("failing_calls", &[], &["faults", "tpch"]),
    ("failing_calls_preload", &[], &[]),
    ("faults", &[], &[]),
    ("leader", &["compute", "faults", "sql", "storage", "wlm"], &["tpch"]),
    ("slt", &[], &[]),
    ("sql", &[], &[]),
    ("storage", &["faults"], &[]),
    ("tidy", &[], &[]),
    ("tpch", &[], &[]),
    ("wlm", &[], &[]),
];

/// Members that stay small and quick to build: nothing of DataFusion below them, at any depth.
const WITHOUT_DATAFUSION: &[&str] =
    &["failing_calls_preload", "faults", "slt", "storage", "wlm", "tpch", "tidy"];

/// External packages with a single door: package, members that may use it directly.
const DOORS: &[(&str, &[&str])] = &[
    ("pgwire", &["leader"]),
    ("rusqlite", &["leader"]),
    ("tokio-postgres", &["blueshift", "failing_calls", "leader", "slt", "tpch"]),
    ("s3s", &["tpch"]),
    ("s3s-fs", &["tpch"]),
    ("fastlanes", &["storage"]),
    ("fsst-rs", &["storage"]),
];

const FILE_LINES_MAX: usize = 1000;
const ARCHITECTURE_LINES_MAX: usize = 400;
const README_LINES_MAX: usize = 40;

/// Folders that hold no source of ours.
const NOT_OURS: &[&str] = &[".git", "target", "blueshift-data", "node_modules"];

#[test]
fn crates_depend_only_as_the_table_says() {
    let metadata = cargo_metadata();
    let members = members(&metadata);
    let listed: BTreeSet<&str> = EDGES.iter().map(|(member, _, _)| *member).collect();
    let present: BTreeSet<&str> = members.keys().map(String::as_str).collect();
    assert_eq!(present, listed, "every workspace member has a row in EDGES");

    let mut wrong = Vec::new();
    for (member, normal, dev) in EDGES {
        for (dependency, kind) in &members[*member] {
            if !listed.contains(dependency.as_str()) {
                continue;
            }
            let allowed = normal.contains(&dependency.as_str())
                || kind == "dev" && dev.contains(&dependency.as_str());
            if !allowed {
                wrong.push(format!("{member} -> {dependency} ({kind})"));
            }
        }
    }
    assert!(wrong.is_empty(), "edges that the table does not allow: {wrong:#?}");
}

#[test]
fn leaf_crates_do_not_reach_datafusion() {
    let graph = dependency_graph(&cargo_metadata());
    for member in WITHOUT_DATAFUSION {
        let path = path_to(&graph, member, |name| name.starts_with("datafusion"));
        assert_eq!(path, None, "{member} must not reach DataFusion");
    }
    let path = path_to(&graph, "leader", |name| name.starts_with("datafusion"));
    assert!(path.is_some(), "the search itself works: the leader reaches DataFusion");
}

#[test]
fn external_packages_come_in_through_their_door() {
    let metadata = cargo_metadata();
    let members = members(&metadata);
    let mut wrong = Vec::new();
    for (package, doors) in DOORS {
        for (member, dependencies) in &members {
            let used = dependencies.iter().any(|(name, _)| name == package);
            if used && !doors.contains(&member.as_str()) {
                wrong.push(format!("{member} uses {package}; allowed: {doors:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_member_takes_the_workspace_lints() {
    for manifest in files_ending("Cargo.toml") {
        let text = read(&manifest);
        assert!(
            text.contains("[lints]\nworkspace = true"),
            "{}: needs `[lints]` with `workspace = true`",
            manifest.display()
        );
    }
    let clippy = read(&root().join("clippy.toml"));
    assert!(clippy.contains("too-many-lines-threshold = 70"), "functions have at most 70 lines");
    let manifest = read(&root().join("Cargo.toml"));
    assert!(manifest.contains("too_many_lines = \"deny\""), "and clippy holds it");
    assert!(!manifest.contains("panic = \"abort\""), "one bad query must not end the others");
}

#[test]
fn files_are_not_too_long() {
    let mut wrong = Vec::new();
    for file in files_ending(".rs") {
        let lines = read(&file).lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}", relative(&file)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(read(&root().join("ARCHITECTURE.md")).lines().count() <= ARCHITECTURE_LINES_MAX);
    assert!(read(&root().join("README.md")).lines().count() <= README_LINES_MAX);
    assert!(read(&root().join("src/main.rs")).lines().count() < 80, "main is a table of modes");
}

#[test]
fn every_source_file_says_what_it_is() {
    let mut wrong = Vec::new();
    for file in files_ending(".rs") {
        let text = read(&file);
        let header = text.lines().take_while(|line| line.starts_with("//!"));
        let words: usize = header.map(|line| line.split_whitespace().count() - 1).sum();
        if words < 3 {
            wrong.push(relative(&file));
        }
    }
    assert!(wrong.is_empty(), "no `//!` header at the top: {wrong:#?}");
}

#[test]
fn sources_are_ascii() {
    let mut wrong = Vec::new();
    for ending in [".rs", ".toml", ".sql", ".py", ".java"] {
        for file in files_ending(ending) {
            for (index, line) in read(&file).lines().enumerate() {
                if !line.is_ascii() {
                    wrong.push(format!("{}:{}", relative(&file), index + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "write other characters as escapes: {wrong:#?}");
}

#[test]
fn todo_comments_name_an_issue_or_a_design_note() {
    // Spelled in two parts, so that this file does not find itself.
    let todo = concat!("TO", "DO");
    let banned = [concat!("FIX", "ME"), concat!("XX", "X:"), concat!("HA", "CK:")];
    let mut wrong = Vec::new();
    for ending in [".rs", ".toml", ".sql", ".py", ".java", ".slt"] {
        for file in files_ending(ending) {
            for (index, line) in read(&file).lines().enumerate() {
                if has_bare(line, todo) || banned.iter().any(|word| line.contains(word)) {
                    wrong.push(format!("{}:{}: {}", relative(&file), index + 1, line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn architecture_names_every_member_and_only_paths_that_exist() {
    let text = read(&root().join("ARCHITECTURE.md"));
    let map = text.split("## 5.").nth(1).and_then(|rest| rest.split("## 6.").next()).unwrap();
    for (member, _, _) in EDGES {
        assert!(map.contains(&format!("**`{member}`**")), "section 5 lacks `{member}`");
    }
    let mut missing = Vec::new();
    for document in ["ARCHITECTURE.md", "README.md", "STYLE.md", "SECURITY.md"] {
        let text = read(&root().join(document));
        for path in paths_in(&text) {
            if !root().join(path).try_exists().unwrap() {
                missing.push(format!("{document}: {path}"));
            }
        }
    }
    assert!(missing.is_empty(), "paths that do not exist: {missing:#?}");
}

#[test]
fn every_rust_file_is_part_of_a_crate() {
    let mut dead = Vec::new();
    for file in files_ending(".rs") {
        if is_crate_root(&file) {
            continue;
        }
        let (folder, module) = module_of(&file);
        let file_name = file.file_name().unwrap().to_string_lossy();
        let names = [
            format!("mod {module};"),
            format!("mod {module} {{"),
            format!("#[path = \"{file_name}\"]"),
        ];
        let declared = files_ending(".rs").iter().any(|candidate| {
            candidate.starts_with(&folder) && candidate != &file && {
                let text = read(candidate);
                names.iter().any(|name| text.contains(name.as_str()))
            }
        }) || parent_declares(&folder, &names);
        if !declared {
            dead.push(relative(&file));
        }
    }
    assert!(dead.is_empty(), "files that no `mod` names: {dead:#?}");
}

#[test]
fn every_slt_file_is_run_and_checks_something() {
    let home = root().join("tests/slt");
    let mut wrong = Vec::new();
    for file in files_ending(".slt") {
        let text = read(&file);
        let records = text
            .lines()
            .filter(|line| line.starts_with("query ") || line.starts_with("statement "))
            .count();
        let skipped = text.lines().any(|line| line.starts_with("halt"));
        if !file.starts_with(&home) || records == 0 || skipped {
            wrong.push(relative(&file));
        }
    }
    assert!(wrong.is_empty(), "not under tests/slt, empty, or halted: {wrong:#?}");
    assert!(!files_ending(".slt").is_empty());
}

// The dependency graph.

fn cargo_metadata() -> Value {
    let platform = Command::new("rustc").arg("-vV").output().unwrap();
    let platform = String::from_utf8(platform.stdout).unwrap();
    let host = platform.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", host])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Each workspace member with its direct dependencies: package name and kind.
fn members(metadata: &Value) -> BTreeMap<String, Vec<(String, String)>> {
    let ids: BTreeSet<&str> = strings(&metadata["workspace_members"]).collect();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .filter(|package| ids.contains(package["id"].as_str().unwrap()))
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let dependencies = dependencies
                .map(|dependency| (text(&dependency["name"]), kind(&dependency["kind"])));
            (text(&package["name"]), dependencies.collect())
        })
        .collect()
}

/// Package name to the names of what it links in an ordinary build, resolved.
fn dependency_graph(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let names: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (package["id"].as_str().unwrap(), package["name"].as_str().unwrap()))
        .collect();
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().unwrap() {
        let from = names[node["id"].as_str().unwrap()];
        let linked = graph.entry(from.to_owned()).or_default();
        for dependency in node["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            if kinds.iter().any(|entry| kind(&entry["kind"]) != "dev") {
                linked.insert(names[dependency["pkg"].as_str().unwrap()].to_owned());
            }
        }
    }
    graph
}

/// The chain of packages from `start` to the first one that `wanted` accepts.
fn path_to(
    graph: &BTreeMap<String, BTreeSet<String>>,
    start: &str,
    wanted: impl Fn(&str) -> bool,
) -> Option<Vec<String>> {
    let mut seen = BTreeSet::from([start.to_owned()]);
    let mut chains = vec![vec![start.to_owned()]];
    while let Some(chain) = chains.pop() {
        for next in &graph[chain.last().unwrap()] {
            let mut longer = chain.clone();
            longer.push(next.clone());
            if wanted(next) {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                chains.push(longer);
            }
        }
    }
    None
}

fn kind(value: &Value) -> String {
    value.as_str().unwrap_or("normal").to_owned()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().unwrap().iter().map(|entry| entry.as_str().unwrap())
}

// The files of the tree.

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

fn relative(file: &Path) -> String {
    file.strip_prefix(root()).unwrap().display().to_string()
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn files_ending(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(&root(), ending, &mut found);
    found.sort();
    found
}

fn collect(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !NOT_OURS.contains(&name) {
                collect(&path, ending, found);
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

/// Whether Cargo itself finds the file, so that no `mod` has to name it.
fn is_crate_root(file: &Path) -> bool {
    let name = file.file_name().unwrap().to_str().unwrap();
    let folder = file.parent().unwrap();
    let parent = folder.file_name().unwrap().to_str().unwrap();
    matches!(name, "lib.rs" | "main.rs" | "build.rs")
        || matches!(parent, "tests" | "benches" | "examples" | "bin")
        || parent == "fuzz_targets"
}

/// The folder in which a declaration is looked for, and the module's name.
fn module_of(file: &Path) -> (PathBuf, String) {
    let folder = file.parent().unwrap();
    let stem = file.file_stem().unwrap().to_str().unwrap();
    if stem == "mod" {
        let name = folder.file_name().unwrap().to_str().unwrap();
        return (folder.parent().unwrap().to_owned(), name.to_owned());
    }
    (folder.to_owned(), stem.to_owned())
}

/// Whether `folder.rs` beside `folder/` declares the module.
fn parent_declares(folder: &Path, names: &[String]) -> bool {
    let parent = folder.with_extension("rs");
    parent.is_file() && names.iter().any(|name| read(&parent).contains(name.as_str()))
}

// Text.

/// Whether the line has `word` without a number in parentheses after it.
fn has_bare(line: &str, word: &str) -> bool {
    let mut rest = line;
    while let Some(at) = rest.find(word) {
        rest = &rest[at + word.len()..];
        let number = rest.strip_prefix('(').and_then(|tail| tail.split(')').next());
        let digits = number.map(|inner| inner.trim_start_matches('#')).unwrap_or_default();
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return true;
        }
    }
    false
}

/// Code spans of a document that look like paths of this tree.
fn paths_in(document: &str) -> Vec<&str> {
    let mut inside_block = false;
    let mut paths = Vec::new();
    for line in document.lines() {
        if line.starts_with("```") {
            inside_block = !inside_block;
        } else if !inside_block {
            let spans = line.split('`').skip(1).step_by(2);
            paths.extend(spans.filter(|span| looks_like_path(span)));
        }
    }
    paths
}

fn looks_like_path(span: &str) -> bool {
    let characters = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    span.contains('/') && span.chars().all(characters) && !span.starts_with('/')
}

#[test]
fn the_checks_of_text_find_what_they_look_for() {
    let word = concat!("TO", "DO");
    assert!(has_bare(&format!("// {word}: later"), word));
    assert!(has_bare(&format!("// {word}(soon)"), word));
    assert!(!has_bare(&format!("// {word}(#12): with the next format"), word));
    assert!(!has_bare(&format!("// {word}(0003)"), word));
    assert_eq!(paths_in("see `a/b.rs` and `cargo run`, `x`"), ["a/b.rs"]);
    assert_eq!(paths_in("```\n`a/b.rs`\n```\n"), Vec::<&str>::new());
}
