//! `caliprobe routes` on nodes that files describe. Each file in `cases/` is one: what its route table is, and
//! which faults a person must read; nothing else may be marked. What is printed is kept in `snapshots/`.

mod live;
mod machine;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context as _, Result, ensure};
use machine::Machine;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// The case whose node this one changes.
    base: Option<String>,
    #[serde(default)]
    node: Machine,
    #[serde(default)]
    arguments: Vec<String>,
    /// The cause and the subject of every finding.
    faults: Vec<String>,
    /// The destinations of the rows that are marked.
    #[serde(default)]
    marked: Vec<String>,
}

fn cases() -> Result<BTreeMap<String, Case>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/route_tables/cases");
    let mut cases = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().context("a file without a name")?.to_string_lossy().into_owned();
        let text = fs::read_to_string(&path)?;
        let case = toml::from_str(&text).with_context(|| format!("{}", path.display()))?;
        cases.insert(name, case);
    }
    Ok(cases)
}

fn node(cases: &BTreeMap<String, Case>, case: &Case) -> Result<Machine> {
    match &case.base {
        None => Ok(case.node.clone()),
        Some(base) => {
            let base = cases.get(base).with_context(|| format!("no case {base}"))?;
            node(cases, base)?.changed(case.node.clone())
        }
    }
}

/// A sample in a file, for the program to read.
struct Saved {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Saved {
    fn new(machine: &Machine) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("sample.json");
        fs::write(&path, serde_json::to_vec(&machine.sample()?)?)?;
        Ok(Self { _folder: folder, path })
    }

    fn routes(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_caliprobe"));
        command.args(["routes", "--input"]).arg(&self.path).args(arguments);
        Ok(command.env_remove("CALIPROBE_OUTPUT").output()?)
    }
}

fn text(output: &Output) -> Result<String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(0), "exit code {:?}: {stderr}", output.status.code());
    ensure!(stderr.is_empty(), "{stderr}");
    Ok(String::from_utf8(output.stdout.clone())?)
}

fn strings(value: &Value, pointers: &[&str]) -> Vec<String> {
    let field = |item: &Value, pointer: &&str| {
        item.pointer(pointer).and_then(Value::as_str).unwrap_or("?").to_owned()
    };
    let items = value.as_array().map_or(&[][..], Vec::as_slice);
    items
        .iter()
        .map(|item| pointers.iter().map(|pointer| field(item, pointer)).collect::<Vec<_>>().join(" "))
        .collect()
}

fn judge(cases: &BTreeMap<String, Case>, case: &Case) -> Result<Vec<String>> {
    let saved = Saved::new(&node(cases, case)?)?;
    let arguments: Vec<&str> = case.arguments.iter().map(String::as_str).collect();
    let document = text(&saved.routes(&[&arguments[..], &["-o", "json"]].concat())?)?;
    let document: Value = serde_json::from_str(&document)?;
    let mut differences = Vec::new();
    let found = strings(&document["findings"], &["/cause", "/subject/value"]);
    if found != case.faults {
        differences.push(format!("faults {found:?}, not {:?}", case.faults));
    }
    let rows = document["routes"].as_array().context("no routes")?;
    let is_marked = |row: &&Value| row["faults"].as_array().is_some_and(|faults| !faults.is_empty());
    let marked: Vec<&str> =
        rows.iter().filter(is_marked).filter_map(|row| row["destination"].as_str()).collect();
    if marked != case.marked {
        differences.push(format!("marked {marked:?}, not {:?}", case.marked));
    }
    Ok(differences)
}

#[test]
fn every_file_shows_its_faults_and_no_other() {
    let cases = cases().expect("the case files are readable");
    let mut wrong = Vec::new();
    for (name, case) in &cases {
        match judge(&cases, case) {
            Ok(differences) => wrong.extend(differences.into_iter().map(|line| format!("{name}: {line}"))),
            Err(error) => wrong.push(format!("{name}: {error:#}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_reads_as_it_did() {
    let cases = cases().expect("the case files are readable");
    for (name, case) in &cases {
        let saved = Saved::new(&node(&cases, case).expect("a node")).expect("a sample");
        let arguments: Vec<&str> = case.arguments.iter().map(String::as_str).collect();
        let text = text(&saved.routes(&arguments).expect("caliprobe starts")).expect(name);
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name.as_str(), text);
        });
    }
}

#[test]
fn one_line_is_at_most_eighty_characters() {
    let cases = cases().expect("the case files are readable");
    for (name, case) in &cases {
        let saved = Saved::new(&node(&cases, case).expect("a node")).expect("a sample");
        let line = text(&saved.routes(&["-q"]).expect("caliprobe starts")).expect(name);
        assert_eq!(line.lines().count(), 1, "{name}: {line}");
        assert!(line.trim_end().chars().count() <= 80, "{name}: {line}");
    }
}

#[test]
fn the_document_keeps_its_shape() {
    let cases = cases().expect("the case files are readable");
    let case = &cases["pod-route-to-another-pod"];
    let saved = Saved::new(&node(&cases, case).expect("a node")).expect("a sample");
    let document = text(&saved.routes(&["-o", "json"]).expect("caliprobe starts")).expect("a document");
    let document: Value = serde_json::from_str(&document).expect("JSON");
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_json_snapshot!("document", document, { ".version" => "[version]" });
    });
}

#[test]
fn a_file_that_is_no_sample_is_an_error_of_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("routes.txt");
    fs::write(&path, "Nothing here is an output.\n").expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_caliprobe"))
        .args(["routes", "--input"])
        .arg(&path)
        .output()
        .expect("caliprobe starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("nothing recognised in routes.txt; accepted: outputs of ip route"), "{stderr}");
}
