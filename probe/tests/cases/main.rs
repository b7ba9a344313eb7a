//! Nodes as people show them when their pod network failed, or works. Each folder in `given/` holds the outputs of one
//! case, and the file of its name what `caliprobe check --input` must say of it. `CALIPROBE_CASES` names another folder
//! of such cases (`cargo xtask cases DIR`).

mod article;
mod hostile;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

/// What a person must read: a cause among the findings, or a verdict without any accusation.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    cause: Option<String>,
    verdict: Option<Verdict>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    /// Nothing is wrong, so no finding.
    Healthy,
    /// The outputs do not show what is wrong: no finding, and what to show next.
    Unknown,
}

impl Expected {
    fn words(&self) -> String {
        match (&self.cause, self.verdict) {
            (Some(cause), _) => cause.clone(),
            (None, Some(Verdict::Healthy)) => "healthy".to_owned(),
            (None, Some(Verdict::Unknown)) => "unknown".to_owned(),
            (None, None) => "?".to_owned(),
        }
    }
}

/// What `check` said of all nodes of a case.
struct Said {
    causes: Vec<String>,
    /// Whether every node that is not called healthy comes with what to show next.
    asks: bool,
}

impl Said {
    fn fits(&self, expected: &Expected) -> bool {
        match (&expected.cause, expected.verdict) {
            (Some(cause), _) => self.causes.contains(cause),
            (None, Some(Verdict::Healthy)) => self.causes.is_empty(),
            (None, Some(Verdict::Unknown)) => self.causes.is_empty() && self.asks,
            (None, None) => true,
        }
    }
}

fn check(input: &Path) -> Result<Said> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_caliprobe"));
    command.args(["check", "-o", "json", "--input"]).arg(input).env_remove("CALIPROBE_OUTPUT");
    let output = command.output()?;
    let document: Value = serde_json::from_slice(&output.stdout).context("no document")?;
    ensure!(output.status.code() != Some(2), "{}", document["error"]);
    let others = document["other_nodes"].as_array().map_or(&[][..], Vec::as_slice);
    let documents: Vec<&Value> = std::iter::once(&document).chain(others).collect();
    let mut causes = Vec::new();
    for document in &documents {
        collect(&document["findings"], &mut causes);
    }
    let is_settled = |document: &&Value| {
        document["verdict"] != "unknown" || document["next"].as_array().is_some_and(|next| !next.is_empty())
    };
    Ok(Said { causes, asks: documents.iter().all(is_settled) })
}

/// The causes of findings and of those that explain them.
fn collect(findings: &Value, causes: &mut Vec<String>) {
    for finding in findings.as_array().into_iter().flatten() {
        let cause = finding["cause"].as_str().unwrap_or("?").to_owned();
        if !causes.contains(&cause) {
            causes.push(cause);
        }
        collect(&finding["explained_by"], causes);
    }
}

fn folder() -> PathBuf {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/given");
    env::var_os("CALIPROBE_CASES").map_or_else(own, PathBuf::from)
}

/// Folders and single files of outputs, by name.
fn cases() -> Result<BTreeMap<String, PathBuf>> {
    let folder = folder();
    let entries = fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))?;
    let mut cases = BTreeMap::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            let name = path.file_name().context("a file without a name")?.to_string_lossy().into_owned();
            cases.insert(name, path);
        }
    }
    Ok(cases)
}

fn expected(case: &Path) -> Result<Expected> {
    let path = PathBuf::from(format!("{}.toml", case.display()));
    if !path.exists() {
        return Ok(Expected::default());
    }
    toml::from_str(&fs::read_to_string(&path)?).with_context(|| format!("{}", path.display()))
}

#[test]
fn every_case_is_judged_right() {
    let cases = cases().expect("the cases are readable");
    assert!(!cases.is_empty(), "no case in {}", folder().display());
    let mut wrong = 0;
    println!("{:45} {:26} {:60} ", "CASE", "EXPECTED", "FOUND");
    for (name, path) in &cases {
        let expected = expected(path).expect(name);
        let (found, is_right) = match check(path) {
            Ok(said) => (said.causes.join(", "), said.fits(&expected)),
            Err(error) => (format!("{error:#}"), false),
        };
        wrong += usize::from(!is_right);
        let found = if found.is_empty() { "–" } else { &found };
        println!("{name:45} {:26} {found:60} {}", expected.words(), if is_right { "right" } else { "WRONG" });
    }
    println!("{} of {} right", cases.len() - wrong, cases.len());
    assert_eq!(wrong, 0, "cases are judged wrong");
}
