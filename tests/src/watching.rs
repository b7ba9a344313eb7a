//! Scenarios in which the daemon runs while something breaks and is repaired: which black holes opened and closed.

use std::{collections::BTreeSet, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    cluster::Cluster,
    counting::{Counting, End, Running, Step, take, wait},
    machine::Machine,
    scenario::expand,
};

/// The folder of the daemon's events on its node.
const EVENTS: &str = "/run/caliprobe-events";

/// What happens while the daemon runs, beside the scenario's traffic, and what is expected then.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watching {
    /// Arguments of `run` beside the usual ones.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// One after the other. What the daemon says is in `/run/caliprobe.log`.
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
    /// Codes of what explains it, once they are told.
    #[serde(default)]
    pub explained_by: Vec<String>,
}

/// Runs it in a cluster whose traffic flows; returns what differs.
pub fn run(watching: &Watching, on: &str, cluster: &Cluster, caliprobe: &Path) -> Result<Vec<String>> {
    let node = cluster.machine(on)?;
    let id = std::process::id();
    let ready = format!("/run/caliprobe-ready-{id}");
    node.run(|| Ok(std::fs::create_dir_all(EVENTS)?))?;
    let arguments = ["run", "-o", "json", "--ready-file", "$READY", "--events-dir", EVENTS];
    let more = watching.arguments.iter().cloned();
    let counting = Counting::of(arguments.map(str::to_owned).into_iter().chain(more).collect());
    let running = Running::start(&counting, node, caliprobe, &ready)?;
    running.wait_until_it_counts(&counting, node, &ready)?;
    for step in &watching.steps {
        take(step, cluster, caliprobe)?;
    }
    let events = || events(node, caliprobe);
    let mut differences = Vec::new();
    if let Some(wanted) = &watching.opens {
        let broken = Timestamp::now();
        let opened = wait(|| Ok(!events()?.is_empty())).is_ok();
        if let Some(event) = events()?.first() {
            println!("        opened {:.1} s after the last step", seconds_since(broken, event)?);
        }
        if !opened || !has(&events()?, wanted, "opened") {
            differences.push(format!("{wanted:?} to open"));
        } else {
            if !wanted.explained_by.is_empty() && wait(|| Ok(is_explained(&events()?, wanted))).is_err() {
                differences.push(format!("{wanted:?} to be explained"));
            }
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
fn events(node: &Machine, caliprobe: &Path) -> Result<Vec<Value>> {
    let mut command = Command::new(caliprobe);
    command.args(["events", "-o", "json", "--events-dir", EVENTS]);
    let output = node.run(|| Ok(command.output()?))?;
    ensure!(output.status.success(), "events: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(|line| serde_json::from_str(line).context("an event is no JSON")).collect()
}

fn of_event(event: &Value) -> (String, String) {
    let text = |pointer| event.pointer(pointer).and_then(Value::as_str).unwrap_or("unknown").to_owned();
    (text("/black_hole/cause"), text("/black_hole/subject/value"))
}

fn seconds_since(start: Timestamp, event: &Value) -> Result<f64> {
    let time: Timestamp = event["time"].as_str().context("an event without a time")?.parse()?;
    Ok(time.duration_since(start).as_secs_f64())
}

fn has(events: &[Value], wanted: &Wanted, kind: &str) -> bool {
    events.iter().any(|event| {
        event["kind"] == kind && of_event(event) == (wanted.cause.clone(), expand(&wanted.subject))
    })
}

fn is_explained(events: &[Value], wanted: &Wanted) -> bool {
    let codes = |event: &Value| -> Vec<String> {
        let reasons = event.pointer("/black_hole/finding/explained_by").and_then(Value::as_array);
        let codes = reasons.into_iter().flatten().filter_map(|reason| reason["cause"].as_str());
        codes.map(str::to_owned).collect()
    };
    events.iter().any(|event| event["kind"] == "explained" && codes(event) == wanted.explained_by)
}
