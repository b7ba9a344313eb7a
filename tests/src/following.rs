//! Scenarios in which `caliprobe reset follow` watches a reset, beside `ip monitor route`: both must have seen the same
//! routes go and return, and for as long.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use jiff::civil::DateTime;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    cluster::Cluster,
    counting::{Step, take, wait},
    machine::Machine,
    run::call,
    scenario::expand,
};

/// The longest that caliprobe may take until it follows.
const START: Duration = Duration::from_secs(30);
/// How far the two may be apart, milliseconds.
const APART: u64 = 1_000;
/// A route that shows that `ip monitor` listens (RFC 5737).
const MARK: &str = "192.0.2.1";

/// What happens while it follows, and what it must say then.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Following {
    /// Arguments of `reset follow` beside the usual ones.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// One after the other.
    pub steps: Vec<Step>,
    /// Whether it is interrupted once they are done.
    #[serde(default)]
    pub interrupt: bool,
    pub exit: i32,
    pub verdict: String,
    /// Blocks that must have gone and returned.
    #[serde(default)]
    pub dark: Vec<String>,
    /// Blocks that must have stayed all the time.
    #[serde(default)]
    pub never: Vec<String>,
    /// Whether the kernel tells of the routes that go: it does not where a device goes down.
    #[serde(default = "told")]
    pub told: bool,
    /// Fields of the summary by JSON pointer.
    #[serde(default)]
    pub fields: BTreeMap<String, Value>,
}

fn told() -> bool {
    true
}

/// Runs it in a cluster; returns what differs.
pub fn run(following: &Following, on: &str, cluster: &Cluster, caliprobe: &Path) -> Result<Vec<String>> {
    let node = cluster.machine(on)?;
    let monitor = Monitor::start(node)?;
    let arguments = ["reset", "follow", "-o", "json"].map(str::to_owned);
    let arguments: Vec<String> = arguments.into_iter().chain(following.arguments.iter().cloned()).collect();
    let mut command = call(caliprobe, &arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = node.spawn(&mut command)?;
    let (lines, first) = read(&mut child)?;
    ensure!(first.recv_timeout(START).is_ok(), "caliprobe follows nothing: {}", errors(&mut child));
    for step in &following.steps {
        take(step, cluster, caliprobe)?;
    }
    if following.interrupt {
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT)?;
    }
    let status = child.wait()?;
    let output = lines.join().map_err(|_| anyhow::anyhow!("the reader of caliprobe's output panicked"))?;
    let summary: Value = serde_json::from_str(output.last().context("caliprobe printed nothing")?)
        .with_context(|| format!("no summary: {}", errors(&mut child)))?;
    let mut differences = judge(following, &summary, status.code());
    if following.told {
        differences.extend(compare(following, &summary, &monitor.intervals()?));
    }
    if !differences.is_empty() {
        differences.extend(output.iter().map(|line| format!("it said {line}")));
    }
    Ok(differences)
}

type Lines = thread::JoinHandle<Vec<String>>;

fn read(child: &mut Child) -> Result<(Lines, mpsc::Receiver<()>)> {
    let stdout = child.stdout.take().context("no standard output")?;
    let (sender, first) = mpsc::channel();
    let lines = thread::spawn(move || {
        let mut lines = Vec::new();
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            lines.push(line);
            let _ = sender.send(());
        }
        lines
    });
    Ok((lines, first))
}

fn errors(child: &mut Child) -> String {
    let _ = child.kill();
    child.stderr.take().and_then(|stderr| std::io::read_to_string(stderr).ok()).unwrap_or_default()
}

fn judge(following: &Following, summary: &Value, exit: Option<i32>) -> Vec<String> {
    let mut differences = Vec::new();
    if exit != Some(following.exit) {
        differences.push(format!("exit code {}, not {exit:?}", following.exit));
    }
    if summary["verdict"] != following.verdict.as_str() {
        differences.push(format!("verdict {}, not {}", following.verdict, summary["verdict"]));
    }
    for (pointer, wanted) in &following.fields {
        let wanted = match wanted {
            Value::String(text) => Value::String(expand(text)),
            other => other.clone(),
        };
        if summary.pointer(pointer) != Some(&wanted) {
            differences.push(format!("{pointer} = {wanted}, not {:?}", summary.pointer(pointer)));
        }
    }
    for block in following.dark.iter().map(|block| expand(block)) {
        if dark(summary, &block).is_none() {
            differences.push(format!("{block} to have been dark"));
        }
    }
    for block in following.never.iter().map(|block| expand(block)) {
        let row = row(summary, &block);
        if row.is_none_or(|row| !row["dark_ms"].is_null() || row["back"] != true) {
            differences.push(format!("{block} to have been there all the time, not {row:?}"));
        }
    }
    differences
}

fn row<'a>(summary: &'a Value, block: &str) -> Option<&'a Value> {
    summary["blocks"].as_array()?.iter().find(|row| row["subject"] == block)
}

fn dark(summary: &Value, block: &str) -> Option<u64> {
    row(summary, block)?["dark_ms"].as_u64()
}

/// Against what `ip monitor` saw, in milliseconds by block.
fn compare(following: &Following, summary: &Value, seen: &BTreeMap<String, u64>) -> Vec<String> {
    let mut differences = Vec::new();
    for block in following.dark.iter().map(|block| expand(block)) {
        let (Some(said), Some(seen)) = (dark(summary, &block), seen.get(&block)) else {
            differences.push(format!("{block} to be seen dark by ip monitor, too: {seen:?}"));
            continue;
        };
        println!("        {block} was dark for {said} ms, by ip monitor for {seen} ms");
        if said.abs_diff(*seen) > APART {
            differences.push(format!("{block} to be dark for {seen} ms, not {said} ms"));
        }
    }
    for block in following.never.iter().map(|block| expand(block)) {
        if let Some(seen) = seen.get(&block) {
            differences.push(format!("{block} never to go, which ip monitor saw for {seen} ms"));
        }
    }
    differences
}

/// `ip monitor route` while it runs.
struct Monitor {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Monitor {
    fn start(node: &Machine) -> Result<Self> {
        let mut command = Command::new("ip");
        command.args(["-ts", "-o", "monitor", "route"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = node.spawn(&mut command)?;
        let stdout = child.stdout.take().context("no standard output")?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(line);
            }
        });
        let monitor = Self { child, lines };
        wait(|| {
            let route = |verb: &str| {
                node.run(|| Ok(Command::new("ip").args(["route", verb, MARK, "dev", "lo"]).output()?))
            };
            route("add")?;
            route("del")?;
            Ok(monitor.lines().iter().any(|line| line.contains(MARK)))
        })
        .context("ip monitor does not listen")?;
        Ok(monitor)
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// For how many milliseconds each destination that went was away, until it returned.
    fn intervals(&self) -> Result<BTreeMap<String, u64>> {
        intervals(&self.lines())
    }
}

/// Lines as `[2026-11-28T18:00:00.123456] Deleted 10.200.153.64/26 via 172.30.10.187 dev tunl0 proto bird onlink`.
fn intervals(lines: &[String]) -> Result<BTreeMap<String, u64>> {
    let mut gone: BTreeMap<&str, DateTime> = BTreeMap::new();
    let mut away = BTreeMap::new();
    for line in lines {
        let Some((time, rest)) = line.strip_prefix('[').and_then(|line| line.split_once("] ")) else {
            continue;
        };
        let time: DateTime = time.parse().with_context(|| format!("a line of ip monitor: {line}"))?;
        let deleted = rest.trim_start().strip_prefix("Deleted ");
        let destination = deleted.unwrap_or(rest).split_whitespace().next().unwrap_or_default();
        if deleted.is_some() {
            gone.insert(destination, time);
        } else if let Some(since) = gone.remove(destination) {
            let millis = time.duration_since(since).as_millis();
            *away.entry(destination.to_owned()).or_default() += u64::try_from(millis)?;
        }
    }
    Ok(away)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ip_monitor_prints_is_read() {
        let lines = [
            "[2026-11-28T18:00:00.123456] Deleted 10.200.153.64/26 via 172.30.10.187 dev tunl0 proto bird onlink ",
            "[2026-11-28T18:00:01.000000] 10.200.55.237 dev cali1 scope link ",
            "[2026-11-28T18:00:02.678456] 10.200.153.64/26 via 172.30.10.187 dev tunl0 proto bird onlink ",
        ]
        .map(str::to_owned);
        let expected = BTreeMap::from([("10.200.153.64/26".to_owned(), 2_555)]);
        assert_eq!(intervals(&lines).unwrap(), expected);
    }
}
