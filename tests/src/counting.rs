//! Scenarios in which caliprobe runs while things happen: what it counted, and what is left when it ends.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    os::unix::{net::UnixStream, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    cluster::{Cluster, topology},
    machine::Machine,
    scenario::expand,
};

/// The longest that caliprobe may take until it counts, and the kernel until it has put everything away.
const DEADLINE: Duration = Duration::from_mins(1);
/// Seconds that a step may take.
const STEP: &str = "60";
/// What caliprobe says on its node beside the ledger.
const LOG: &str = "/run/caliprobe.log";
/// Where it is asked.
const API: &str = "/run/caliprobe/api.sock";
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How our programs' names begin.
const PROGRAMS: [&str; 3] = ["caliprobe_", "trace_", "count_drop"];

/// What happens while caliprobe runs, and what is expected then.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counting {
    /// Arguments of caliprobe; `$READY` is a file that tells when it counts.
    #[serde(default = "usual_arguments")]
    pub arguments: Vec<String>,
    /// One after the other.
    pub steps: Vec<Step>,
    #[serde(default)]
    pub end: End,
    /// Numbers of the ledger by their path; the other side is a number, another path, or `tcp-out MACHINE`.
    #[serde(default)]
    pub expect: BTreeMap<String, Value>,
    /// What the ledger must say that it could not count.
    #[serde(default)]
    pub limits: Vec<String>,
    /// Whether the kernel must have lost notifications.
    #[serde(default)]
    pub overruns: bool,
    /// Pod interfaces for which the law holds: every packet has an outcome.
    #[serde(default)]
    pub law: Vec<String>,
}

impl Counting {
    /// Nothing but caliprobe with these arguments.
    pub(crate) fn of(arguments: Vec<String>) -> Self {
        let (steps, end, expect) = (Vec::new(), End::Terminate, BTreeMap::new());
        Self { arguments, steps, end, expect, limits: Vec::new(), overruns: false, law: Vec::new() }
    }
}

fn usual_arguments() -> Vec<String> {
    ["run", "-o", "json", "--ready-file", "$READY"].map(str::to_owned).to_vec()
}

/// A shell script on a machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub on: String,
    pub run: String,
    /// A device of that node, which is awaited until the daemon there counts at it.
    pub covered: Option<String>,
}

/// How caliprobe ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    #[default]
    Terminate,
    /// SIGKILL for the process alone.
    Kill,
    /// SIGKILL for its process group.
    KillGroup,
    /// The end of its PID namespace, as of a container's; then `caliprobe detach`.
    KillNamespace,
}

/// Runs it in a cluster in which everything is broken that is to be; returns what differs.
pub fn run(counting: &Counting, on: &str, cluster: &Cluster, caliprobe: &Path) -> Result<Vec<String>> {
    let node = cluster.machine(on)?;
    let before = Leavings::of(node)?;
    ensure!(before.programs.is_empty(), "programs of caliprobe are loaded already: {:?}", before.programs);
    let ready = format!("/run/caliprobe-ready-{}", std::process::id());
    let running = Running::start(counting, node, caliprobe, &ready)?;
    running.wait_until_it_counts(counting, node, &ready)?;
    for step in &counting.steps {
        take(step, cluster, caliprobe)?;
    }
    let overruns =
        if counting.overruns { node.run(local_state)?["health"]["overruns"].as_u64() } else { None };
    let output = running.end(counting.end)?;
    if counting.end == End::KillNamespace {
        let mut detach = Command::new(caliprobe);
        detach.arg("detach");
        let output = node.run(|| Ok(detach.output()?))?;
        ensure!(output.status.success(), "detach: {}", String::from_utf8_lossy(&output.stderr));
    }
    let mut differences = before.differences_after(node)?;
    if counting.overruns && overruns.is_none_or(|overruns| overruns == 0) {
        differences.push(format!("notifications to be lost, not {overruns:?}"));
    }
    if counting.end == End::Terminate {
        let last = output.lines().last().context("caliprobe printed no ledger")?;
        let reading: Value = serde_json::from_str(last).context("the ledger is no JSON")?;
        judge(counting, &reading, cluster, &mut differences)?;
        if !differences.is_empty() {
            differences.push(format!("the ledger: {reading:#}"));
        }
    }
    Ok(differences)
}

pub(crate) fn take(step: &Step, cluster: &Cluster, caliprobe: &Path) -> Result<()> {
    let mut command = Command::new("timeout");
    command.args([STEP, "bash", "-c", &format!("set -e\n{}", step.run)]).envs(topology::variables());
    command.env("CALIPROBE", caliprobe).stdin(Stdio::null());
    let output = cluster.machine(&step.on)?.run(|| Ok(command.output()?))?;
    ensure!(
        output.status.success(),
        "`{}` on {}: {}{}",
        step.run.trim(),
        step.on,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    match &step.covered {
        Some(device) => wait_until_covered(&expand(device), cluster.machine(&step.on)?),
        None => Ok(()),
    }
}

/// By the index that the device has now: another one of its name may have been there before.
fn wait_until_covered(device: &str, node: &Machine) -> Result<()> {
    let index = node.run(|| Ok(nix::net::if_::if_nametoindex(device)?))?;
    wait(|| {
        let state = node.run(local_state)?;
        let links = state.pointer("/reading/links").and_then(Value::as_array).context("no links")?;
        Ok(links.iter().any(|link| link["link"] == index && link["covered-since"].is_string()))
    })
    .with_context(|| format!("{device} is not covered"))
}

/// What the daemon of the calling thread's machine answers at its local API.
fn local_state() -> Result<Value> {
    let mut stream = UnixStream::connect(API)?;
    stream.write_all(b"GET /v1/state HTTP/1.1\r\nHost: caliprobe\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    serde_json::from_str(body).context("the state is no JSON")
}

/// caliprobe while it runs. Killed when dropped.
pub(crate) struct Running {
    child: Option<Child>,
    output: Option<thread::JoinHandle<String>>,
}

impl Running {
    pub(crate) fn start(counting: &Counting, node: &Machine, caliprobe: &Path, ready: &str) -> Result<Self> {
        let mut command = Command::new(caliprobe);
        command.args(counting.arguments.iter().map(|argument| expand(&argument.replace("$READY", ready))));
        if counting.end == End::KillNamespace {
            // The end of the first process of a PID namespace is the end of all.
            let mut container = Command::new("unshare");
            container.args(["--pid", "--fork", "--kill-child", "--mount-proc"]).arg(caliprobe);
            container.args(command.get_args());
            command = container;
        }
        let log = node.run(|| Ok(fs::File::create(LOG)?))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).process_group(0);
        Self::spawn(node, command)
    }

    fn spawn(node: &Machine, mut command: Command) -> Result<Self> {
        let mut child = node.spawn(&mut command)?;
        let mut stdout = child.stdout.take().context("no standard output")?;
        let output = thread::spawn(move || {
            let mut text = String::new();
            let _ = stdout.read_to_string(&mut text);
            text
        });
        Ok(Self { child: Some(child), output: Some(output) })
    }

    /// `run` writes a file; a diagnosis counts once it holds the link of its drop program, which it attaches last.
    pub(crate) fn wait_until_it_counts(
        &self,
        counting: &Counting,
        node: &Machine,
        ready: &str,
    ) -> Result<()> {
        if !counting.arguments.iter().any(|argument| argument == "$READY") {
            let process = self.child.as_ref().context("not running")?.id();
            let descriptors = format!("/proc/{process}/fdinfo");
            return wait(|| Ok(fs::read_dir(&descriptors).is_ok_and(hold_a_link)))
                .context("caliprobe attaches nothing");
        }
        wait(|| node.run(|| Ok(Path::new(ready).exists()))).context("caliprobe does not get ready")?;
        node.run(|| Ok(fs::remove_file(ready)?))
    }

    pub(crate) fn end(mut self, end: End) -> Result<String> {
        let mut child = self.child.take().context("not running")?;
        let process = Pid::from_raw(child.id().cast_signed());
        match end {
            End::Terminate => kill(process, Signal::SIGTERM)?,
            End::Kill => kill(process, Signal::SIGKILL)?,
            End::KillGroup | End::KillNamespace => killpg(process, Signal::SIGKILL)?,
        }
        let status = child.wait()?;
        if end == End::Terminate && !status.success() {
            bail!("caliprobe ended with {status}");
        }
        let output = self.output.take().context("no standard output")?;
        output.join().map_err(|_| anyhow::anyhow!("the reader of caliprobe's output panicked"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn hold_a_link(mut descriptors: fs::ReadDir) -> bool {
    descriptors.any(|descriptor| {
        descriptor.is_ok_and(|descriptor| {
            fs::read_to_string(descriptor.path()).is_ok_and(|text| text.contains("link_type:"))
        })
    })
}

pub(crate) fn wait(mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + DEADLINE;
    while !condition()? {
        ensure!(Instant::now() < end, "not within {} s", DEADLINE.as_secs());
        thread::sleep(LOOK);
    }
    Ok(())
}

/// What caliprobe could leave behind.
#[derive(Debug, PartialEq, Eq)]
struct Leavings {
    /// Our programs that are loaded anywhere.
    programs: Vec<String>,
    /// Queueing disciplines and filters of the node, ours and others'.
    traffic_control: String,
}

impl Leavings {
    fn of(node: &Machine) -> Result<Self> {
        let programs = aya::programs::loaded_programs()
            .filter_map(|program| program.ok()?.name_as_str().map(str::to_owned))
            .filter(|name| PROGRAMS.iter().any(|ours| name.starts_with(ours)))
            .collect();
        let mut command = Command::new("bash");
        command.args([
            "-c",
            "tc qdisc show; for d in /sys/class/net/*; do d=${d##*/}; for w in ingress egress; do \
             echo $d $w; tc filter show dev $d $w 2>/dev/null; done; done",
        ]);
        let output = node.run(|| Ok(command.output()?))?;
        Ok(Self { programs, traffic_control: String::from_utf8_lossy(&output.stdout).into_owned() })
    }

    /// The kernel and the helper need a moment after the end; what then still differs is left for good.
    fn differences_after(&self, node: &Machine) -> Result<Vec<String>> {
        let mut last = Self::of(node)?;
        let settled = wait(|| {
            last = Self::of(node)?;
            Ok(last == *self)
        });
        if settled.is_ok() {
            return Ok(Vec::new());
        }
        Ok(vec![format!("the node as before: {self:#?}, not {last:#?}")])
    }
}

fn judge(
    counting: &Counting,
    reading: &Value,
    cluster: &Cluster,
    differences: &mut Vec<String>,
) -> Result<()> {
    for (path, wanted) in &counting.expect {
        let found = number(reading, path);
        let wanted_number = match wanted {
            Value::String(text) => match text.strip_prefix("tcp-out ") {
                Some(machine) => Some(tcp_out(cluster.machine(machine)?)?),
                None => number(reading, text),
            },
            other => other.as_u64(),
        };
        if found.is_none() || found != wanted_number {
            differences.push(format!("{path} = {wanted} ({wanted_number:?}), not {found:?}"));
        }
    }
    for wanted in &counting.limits {
        let said = reading["limits"].as_array().into_iter().flatten().filter_map(Value::as_str);
        if !said.into_iter().any(|limit| limit.contains(wanted)) {
            differences.push(format!("the limit {wanted:?}"));
        }
    }
    for interface in &counting.law {
        let count = |outcome: &str| {
            number(reading, &format!("links.{interface}.{outcome}.segments"))
                .with_context(|| format!("no {outcome} of {interface}"))
        };
        let outcomes = count("encapsulated")? + count("same-node")? + count("bare")? + count("dropped")?;
        if count("from-pod")? != outcomes {
            differences.push(format!("{} segments from {interface}, not {outcomes}", count("from-pod")?));
        }
    }
    Ok(())
}

/// A number by its path: members by name, elements of lists by what names them, which may
/// be one of the cluster's `$NAME`s.
fn number(reading: &Value, path: &str) -> Option<u64> {
    let mut value = reading;
    for part in path.split('.') {
        let part = expand(part);
        value = match value {
            Value::Array(list) => list.iter().find(|element| {
                ["name", "block", "peer", "symbol"].iter().any(|key| element[*key] == part.as_str())
            })?,
            other => other.get(&part)?,
        };
    }
    value.as_u64()
}

/// TCP segments that a machine has sent, retransmissions included (net/ipv4/proc.c).
fn tcp_out(machine: &Machine) -> Result<u64> {
    // Read by a process of the machine: this thread itself is not in its `/proc`.
    let mut command = Command::new("cat");
    command.arg("/proc/self/net/snmp");
    let output = machine.run(|| Ok(command.output()?))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().context("no names")?, lines.next().context("no values")?);
    let wanted = ["OutSegs", "RetransSegs"];
    let pairs = names.split(' ').zip(values.split(' ')).filter(|(name, _)| wanted.contains(name));
    pairs.map(|(_, value)| value.parse::<u64>().context("no number")).sum()
}
