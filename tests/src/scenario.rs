//! Scenarios: data files that say what to break, what to ask caliprobe, and what a person must then read.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Deserializer};

use crate::{
    cluster::topology::{self, Variant},
    counting::{Counting, Step},
    following::Following,
    monitoring::Monitoring,
    watching::Watching,
};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Where it was read from.
    #[serde(skip)]
    pub file: PathBuf,
    pub name: String,
    /// Kernel series on which it runs; all without it.
    #[serde(default)]
    pub kernels: Vec<String>,
    #[serde(default)]
    pub cluster: Variant,
    /// The node on which caliprobe runs.
    pub on: String,
    /// Where on the path its fault lies, for the table of causes.
    #[serde(default)]
    pub fault: Option<Fault>,
    /// Whether it is run on every kernel whenever all tests are; the others are where asked for.
    #[serde(default, rename = "short")]
    _short: bool,
    /// How many minutes it may take where one is not enough; whoever starts the lab keeps to it.
    #[serde(default, rename = "minutes")]
    _minutes: u32,
    /// Shell commands by machine (a node, a pod or the router), run before caliprobe, which is
    /// `$CALIPROBE`. Where they break nothing the table is named `prepare`.
    #[serde(default, rename = "break", alias = "prepare")]
    pub breaks: BTreeMap<String, Commands>,
    /// Settings of the kernel that no machine has for itself, such as the size of tables, set after `break`.
    #[serde(default)]
    pub kernel: BTreeMap<String, String>,
    /// Shell scripts by machine that run beside caliprobe, which is `$CALIPROBE`; each must print a line once its traffic
    /// flows.
    #[serde(default)]
    pub traffic: BTreeMap<String, Commands>,
    /// How many connections each machine may track, set once the traffic flows: its connections are to be among them.
    #[serde(default)]
    pub conntrack_max: Option<u32>,
    /// Arguments of caliprobe; `$NAME` stands for what `caliprobe-lab shell` shows by `env`, and `$CALIPROBE` for
    /// caliprobe itself.
    #[serde(default, deserialize_with = "words")]
    pub run: Vec<String>,
    /// How often caliprobe is asked, one after the other; each time what is expected must hold.
    #[serde(default = "once")]
    pub times: u32,
    /// Whether caliprobe runs as a user without privileges.
    #[serde(default)]
    pub unprivileged: bool,
    /// The capabilities of caliprobe, as `net_admin`, where it runs as root without the others, as in a container.
    pub capabilities: Option<Vec<String>>,
    #[serde(default)]
    pub expect: Expectation,
    /// What holds in its place where drops are not to be seen and another cause looks the same.
    pub expect_without_bpf: Option<Expectation>,
    /// In place of `run` and `expect`: caliprobe runs while things happen.
    pub count: Option<Counting>,
    /// The same: the daemon runs while something breaks and is repaired.
    pub watch: Option<Watching>,
    /// The same: the daemons of all nodes run, and Prometheus scrapes them.
    pub monitor: Option<Monitoring>,
    /// The same: scripts, one after the other, which judge for themselves what `$CALIPROBE` shows.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// The same: `caliprobe reset follow` watches what happens.
    pub follow: Option<Following>,
}

fn once() -> u32 {
    1
}

/// Where a scenario's fault meets the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// On their way to the target, at the sender's node or before the target's.
    Sender,
    /// On their way to the target, at its node.
    Receiver,
    /// On the answers' way back.
    Return,
    /// A state of the node, which no packet needs to meet.
    Node,
}

/// One shell command, or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Commands {
    One(String),
    Several(Vec<String>),
}

impl Commands {
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(command) => std::slice::from_ref(command),
            Self::Several(commands) => commands,
        }
    }
}

/// Arguments as a list, or as one text with blanks between them.
pub fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(match Commands::deserialize(deserializer)? {
        Commands::One(text) => text.split_whitespace().map(str::to_owned).collect(),
        Commands::Several(words) => words,
    })
}

/// What must hold; an absent field is not looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    #[serde(alias = "exit_code", alias = "exit-code")]
    pub exit: Option<i32>,
    pub verdict: Option<String>,
    /// Of the first finding.
    pub cause: Option<String>,
    pub certainty: Option<String>,
    /// How many findings; one where a cause is expected, none where a verdict without a cause is.
    pub findings: Option<usize>,
    /// Codes of what explains the first finding.
    pub explained_by: Option<Vec<String>>,
    pub direction: Option<String>,
    pub stage: Option<String>,
    pub device: Option<String>,
    /// Where it was lost.
    pub node: Option<String>,
    /// A node that is named as the next place to look.
    pub next_node: Option<String>,
    /// What must be said not to have been seen.
    #[serde(default)]
    pub not_seen: Vec<String>,
    /// Packets by point of the path on the way forward.
    #[serde(default)]
    pub counts: BTreeMap<String, u64>,
    /// Fields of the document by JSON pointer.
    #[serde(default)]
    pub fields: BTreeMap<String, serde_json::Value>,
    /// With any of these caliprobe prints text.
    #[serde(default)]
    pub stdout_contains: Vec<String>,
    #[serde(default)]
    pub stderr_contains: Vec<String>,
}

impl Expectation {
    /// Whether the text is judged instead of the document.
    pub fn is_of_text(&self) -> bool {
        !self.stdout_contains.is_empty() || !self.stderr_contains.is_empty()
    }

    fn is_of_document(&self) -> bool {
        self.verdict.is_some() || self.cause.is_some() || !self.fields.is_empty() || !self.counts.is_empty()
    }
}

impl Scenario {
    /// Reads a file; the error names it and the place in it.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let scenario = Self::parse(&text).with_context(|| format!("{} is no scenario", path.display()))?;
        Ok(Self { file: path.to_owned(), ..scenario })
    }

    fn parse(text: &str) -> Result<Self> {
        let scenario: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            anyhow::anyhow!("line {line}: {}", error.message().replace('\n', " "))
        })?;
        ensure!(!scenario.name.trim().is_empty(), "`name` is empty");
        ensure!(
            topology::NODES.iter().any(|node| node.name == scenario.on),
            "`on` names no node: {}",
            scenario.on
        );
        ensure!(scenario.fault.is_none() || scenario.expect.cause.is_some(), "`fault` without a cause");
        let runs_otherwise = scenario.count.is_some()
            || scenario.watch.is_some()
            || scenario.monitor.is_some()
            || scenario.follow.is_some();
        if runs_otherwise || !scenario.steps.is_empty() {
            ensure!(
                scenario.run.is_empty(),
                "either `run` or `count`, `watch`, `monitor`, `follow` or `steps`"
            );
            return Ok(scenario);
        }
        ensure!(!scenario.run.is_empty(), "`run` is empty");
        ensure!(
            scenario.expect.is_of_text() != scenario.expect.is_of_document(),
            "`expect` must be either of the document or of the text"
        );
        Ok(scenario)
    }

    /// Whether it asks where a packet is lost.
    pub fn is_of_diagnose(&self) -> bool {
        self.count.is_none() && self.run.iter().any(|argument| argument == "diagnose")
    }

    /// The files of all arguments in their order; an unreadable one is an error before anything runs.
    pub fn read_all(files: &[PathBuf]) -> Result<Vec<Self>> {
        files.iter().map(|file| Self::read(file)).collect()
    }
}

/// Puts the cluster's names in the place of `$NAME`.
pub fn expand(text: &str) -> String {
    let mut expanded = text.to_owned();
    let mut variables = topology::variables();
    // Longer names first: one may begin as another does.
    variables.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    for (name, value) in variables {
        expanded = expanded.replace(&format!("${name}"), &value);
    }
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "name = 'x'\non = 'paas-188'\nrun = ['diagnose', '$WEB_187']\n\
        [expect]\nexit = 0\nverdict = 'reachable'\n";

    #[test]
    fn a_scenario_is_read() {
        let scenario = Scenario::parse(GOOD).unwrap();
        assert_eq!(scenario.cluster, Variant::Bird);
        assert_eq!(expand(&scenario.run[1]), "10.200.153.70");
    }

    #[test]
    fn what_is_unreadable_is_said_with_its_place() {
        for (text, expected) in [
            (GOOD.replace("on = ", "no = "), "unknown field `no`"),
            (GOOD.replace("'x'", "'x"), "line 1"),
            (GOOD.replace("paas-188", "paas-1"), "names no node"),
            (GOOD.replace("verdict = 'reachable'", ""), "either of the document or of the text"),
            (String::new(), "missing field `name`"),
        ] {
            let error = format!("{:#}", Scenario::parse(&text).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn one_command_may_stand_for_itself() {
        let text = GOOD
            .replace("['diagnose', '$WEB_187']", "'diagnose $WEB_187'")
            .replace("exit =", "exit_code =")
            .replace("[expect]", "[break]\npaas-188 = 'ip route del $BLOCK_187'\n[expect]");
        let scenario = Scenario::parse(&text).unwrap();
        assert_eq!(scenario.run, ["diagnose", "$WEB_187"]);
        assert_eq!(scenario.expect.exit, Some(0));
        assert_eq!(scenario.breaks["paas-188"].as_slice(), ["ip route del $BLOCK_187"]);
    }

    /// Results are told apart by their names.
    #[test]
    fn what_comes_with_caliprobe_is_readable_and_has_names_of_its_own() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let files: Vec<PathBuf> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .collect();
        let scenarios = Scenario::read_all(&files).unwrap();
        let names: std::collections::BTreeSet<&str> =
            scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
        assert_eq!(names.len(), scenarios.len());
    }

    #[test]
    fn longer_names_are_not_cut() {
        assert_eq!(expand("$WEB_188_INTERFACE"), topology::NODES[2].pods[0].interface());
    }
}
