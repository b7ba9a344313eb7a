//! Scenarios in which the daemon runs while something breaks and is repaired: which black holes opened and closed.

use std::{collections::BTreeSet, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    cluster::Cluster,
    counting::{Counting, End, Running, Step, take, wait},
    machine::Machine,
    scenario::expand,
};

/// What happens while the daemon runs, beside the scenario's traffic, and what is expected then.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watching {
    /// One after the other.
    pub steps: Vec<Step>,
    /// The black hole that must open after them; none may without it.
    pub opens: Option<Wanted>,
    /// What ends it; it must close then.
    #[serde(default)]
    pub repair: Vec<Step>,
}

/// A black hole as its document has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    pub cause: String,
    pub subject: String,
}

/// Runs it in a cluster whose traffic flows; returns what differs.
pub fn run(watching: &Watching, on: &str, cluster: &Cluster, caliprobe: &Path) -> Result<Vec<String>> {
    let node = cluster.machine(on)?;
    let id = std::process::id();
    let ready = format!("/run/caliprobe-ready-{id}");
    let folder = format!("/run/caliprobe-events-{id}");
    let folder = folder.as_str();
    node.run(|| Ok(std::fs::create_dir(folder)?))?;
    let arguments = ["run", "-o", "json", "--ready-file", "$READY", "--events-dir", folder];
    let counting = Counting::of(arguments.map(str::to_owned).to_vec());
    let running = Running::start(&counting, node, caliprobe, &ready)?;
    running.wait_until_it_counts(&counting, node, &ready)?;
    for step in &watching.steps {
        take(step, cluster, caliprobe)?;
    }
    let events = || events(node, caliprobe, folder);
    let mut differences = Vec::new();
    if let Some(wanted) = &watching.opens {
        let waited = wait(|| Ok(has(&events()?, wanted, "opened")));
        if waited.is_err() {
            differences.push(format!("{wanted:?} to open"));
        } else {
            for step in &watching.repair {
                take(step, cluster, caliprobe)?;
            }
            if !watching.repair.is_empty() && wait(|| Ok(has(&events()?, wanted, "closed"))).is_err() {
                differences.push(format!("{wanted:?} to close"));
            }
        }
    }
    running.end(End::Terminate)?;
    let events = events()?;
    node.run(|| Ok(std::fs::remove_dir_all(folder)?))?;
    let opened: BTreeSet<(String, String)> = events.iter().map(of_event).collect();
    let wanted: BTreeSet<(String, String)> =
        watching.opens.iter().map(|wanted| (wanted.cause.clone(), expand(&wanted.subject))).collect();
    if opened != wanted {
        differences.push(format!("black holes {wanted:?}, not {opened:?}"));
    }
    if !differences.is_empty() {
        differences.extend(events.iter().map(|event| format!("an event was {event}")));
    }
    Ok(differences)
}

/// What `caliprobe events` prints.
fn events(node: &Machine, caliprobe: &Path, folder: &str) -> Result<Vec<Value>> {
    let mut command = Command::new(caliprobe);
    command.args(["events", "-o", "json", "--events-dir", folder]);
    let output = node.run(|| Ok(command.output()?))?;
    ensure!(output.status.success(), "events: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(|line| serde_json::from_str(line).context("an event is no JSON")).collect()
}

fn of_event(event: &Value) -> (String, String) {
    let text = |pointer| event.pointer(pointer).and_then(Value::as_str).unwrap_or("unknown").to_owned();
    (text("/black_hole/cause"), text("/black_hole/subject/value"))
}

fn has(events: &[Value], wanted: &Wanted, kind: &str) -> bool {
    events.iter().any(|event| {
        event["kind"] == kind && of_event(event) == (wanted.cause.clone(), expand(&wanted.subject))
    })
}
