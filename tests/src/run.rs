//! Runs scenarios, each in a cluster of its own, so that none depends on another.

use std::{
    fs::{self, Permissions},
    io::{BufRead as _, BufReader},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cluster::{Cluster, topology},
    counting, following,
    judge::{Said, differences, differences_of_less},
    machine::Machine,
    monitoring,
    recording::Recording,
    scenario::{Scenario, expand},
    settings::Settings,
    watching,
};

/// The longest that a scenario's traffic may take until it flows.
const TRAFFIC: Duration = Duration::from_secs(20);
/// `nobody` of Debian.
const UNPRIVILEGED: u32 = 65534;
/// Seconds that caliprobe may take.
const LONGEST: &str = "120";

#[derive(Debug, Default)]
pub struct Tally {
    pub passed: u32,
    pub failed: u32,
    pub skipped: u32,
}

/// What scenarios are run with.
#[derive(Debug)]
pub struct Lab {
    pub caliprobe: PathBuf,
    /// A BIRD 1.6, for clusters whose nodes run one.
    pub bird: Option<PathBuf>,
    /// The folder of prometheus and promtool, for scenarios in which the nodes are scraped.
    pub prometheus: Option<PathBuf>,
    /// The kernel series, which a scenario may be limited to.
    pub kernel: String,
    /// Whether `diagnose` is asked to do without eBPF.
    pub without_bpf: bool,
    /// Whether what each verdict rests on is printed.
    pub record: bool,
}

impl Lab {
    /// Runs them in order and prints a line for each.
    pub fn run(&self, scenarios: &[Scenario]) -> Tally {
        let mut tally = Tally::default();
        for scenario in scenarios {
            if let Some(why) = self.not_for(scenario) {
                println!("skipped {}: {why}", scenario.name);
                tally.skipped += 1;
                continue;
            }
            match one(scenario, self) {
                Ok(Outcome { differences, said, time }) if differences.is_empty() => {
                    let admitted = scenario.expect.exit.is_some() && said.exit != scenario.expect.exit;
                    let admitted = if admitted { ", cannot say without eBPF" } else { "" };
                    println!("ok      {} ({:.1} s{admitted})", scenario.name, time.as_secs_f64());
                    tally.passed += 1;
                }
                Ok(outcome) => {
                    print_failure(&scenario.name, &outcome);
                    tally.failed += 1;
                }
                Err(error) => {
                    println!("FAILED  {}: {error:#}", scenario.name);
                    tally.failed += 1;
                }
            }
        }
        println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
        tally
    }

    fn not_for(&self, scenario: &Scenario) -> Option<String> {
        if !scenario.kernels.is_empty() && !scenario.kernels.contains(&self.kernel) {
            return Some(format!("not for {}", self.kernel));
        }
        (self.without_bpf && !scenario.is_of_diagnose()).then(|| "not about diagnose".to_owned())
    }
}

struct Outcome {
    differences: Vec<String>,
    said: Said,
    time: Duration,
}

fn print_failure(name: &str, outcome: &Outcome) {
    println!("FAILED  {name}");
    for difference in &outcome.differences {
        println!("        expected {difference}");
    }
    for line in outcome.said.stdout.lines().chain(outcome.said.stderr.lines()) {
        println!("        | {line}");
    }
}

fn one(scenario: &Scenario, lab: &Lab) -> Result<Outcome> {
    let cluster = Cluster::build(scenario.cluster, lab.bird.as_deref())?;
    for (machine, commands) in &scenario.breaks {
        let output = shell(&format!("set -e\n{}", commands.as_slice().join("\n")), |command| {
            command.env("CALIPROBE", &lab.caliprobe);
            cluster.machine(machine)?.run(|| Ok(command.output()?))
        })?;
        ensure!(
            output.status.success(),
            "cannot break {machine}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let mut settings = Settings::default();
    for (key, value) in &scenario.kernel {
        settings.set(key, value)?;
    }
    let mut traffic = Traffic::default();
    for (machine, scripts) in &scenario.traffic {
        for script in scripts.as_slice() {
            traffic.start(cluster.machine(machine)?, machine, script, &lab.caliprobe)?;
        }
    }
    traffic.wait_until_it_flows()?;
    if let Some(max) = scenario.conntrack_max {
        settings.set("net.netfilter.nf_conntrack_max", &max.to_string())?;
    }
    let caliprobe = invocation(scenario, &lab.caliprobe)?;
    let start = Instant::now();
    if let Some(counting) = &scenario.count {
        let differences = counting::run(counting, &scenario.on, &cluster, &caliprobe)?;
        return Ok(Outcome { differences, said: Said::default(), time: start.elapsed() });
    }
    if let Some(watching) = &scenario.watch {
        let differences = watching::run(watching, &scenario.on, &cluster, &caliprobe)?;
        return Ok(Outcome { differences, said: Said::default(), time: start.elapsed() });
    }
    if let Some(follow) = &scenario.follow {
        let differences = following::run(follow, &scenario.on, &cluster, &caliprobe)?;
        return Ok(Outcome { differences, said: Said::default(), time: start.elapsed() });
    }
    if let Some(monitoring) = &scenario.monitor {
        let programs = lab
            .prometheus
            .as_deref()
            .context("this scenario runs Prometheus, and none was given (--prometheus)")?;
        let differences = monitoring::run(monitoring, &cluster, &caliprobe, programs)?;
        return Ok(Outcome { differences, said: Said::default(), time: start.elapsed() });
    }
    if !scenario.steps.is_empty() {
        for step in &scenario.steps {
            counting::take(step, &cluster, &caliprobe)?;
        }
        return Ok(Outcome { differences: Vec::new(), said: Said::default(), time: start.elapsed() });
    }
    let machine = cluster.machine(&scenario.on)?;
    let recording = Recording::of(scenario).filter(|_| lab.record);
    let judge = if lab.without_bpf { differences_of_less } else { differences };
    let expect = scenario.expect_without_bpf.as_ref().filter(|_| lab.without_bpf).unwrap_or(&scenario.expect);
    let mut asked = 1;
    let mut said = ask(scenario, lab, &caliprobe, machine, recording.as_ref())?;
    while asked < scenario.times && judge(expect, &said).is_empty() {
        asked += 1;
        said = ask(scenario, lab, &caliprobe, machine, recording.as_ref())?;
    }
    let time = start.elapsed();
    if let Some(recording) = recording {
        println!("{}", machine.run(|| recording.line())?);
    }
    let mut differences = judge(expect, &said);
    if scenario.times > 1 && !differences.is_empty() {
        differences.push(format!("this {} times, and the {asked}. time it was not so", scenario.times));
    }
    Ok(Outcome { differences, said, time })
}

/// What starts caliprobe with the scenario's privileges.
fn invocation(scenario: &Scenario, caliprobe: &Path) -> Result<PathBuf> {
    if let Some(capabilities) = &scenario.capabilities {
        let set =
            capabilities.iter().fold("-all".to_owned(), |set, capability| format!("{set},+{capability}"));
        let script = std::env::temp_dir().join("caliprobe-with-capabilities");
        let text = format!(
            "#!/bin/sh\nexec setpriv --bounding-set={set} --inh-caps={set} {} \"$@\"\n",
            caliprobe.display()
        );
        fs::write(&script, text).with_context(|| format!("cannot write {}", script.display()))?;
        fs::set_permissions(&script, Permissions::from_mode(0o755))?;
        return Ok(script);
    }
    if !scenario.unprivileged {
        return Ok(caliprobe.to_owned());
    }
    // The checkout may be in a home that only its owner can enter.
    let copy = std::env::temp_dir().join("caliprobe");
    fs::copy(caliprobe, &copy).with_context(|| format!("cannot write {}", copy.display()))?;
    Ok(copy)
}

fn ask(
    scenario: &Scenario,
    lab: &Lab,
    caliprobe: &Path,
    machine: &Machine,
    recording: Option<&Recording>,
) -> Result<Said> {
    let mut command = call(caliprobe, &scenario.run);
    if lab.without_bpf && !scenario.run.iter().any(|argument| argument == "--no-bpf") {
        command.arg("--no-bpf");
    }
    if let Some(recording) = recording {
        command.args(recording.arguments());
    }
    if !scenario.expect.is_of_text() {
        command.args(["-o", "json"]);
    }
    if scenario.unprivileged {
        command.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
    }
    let output = machine.run(|| command.output().context("cannot start caliprobe"))?;
    Ok(Said::of(&output))
}

/// caliprobe with these arguments, for no longer than it may take.
pub fn call(caliprobe: &Path, arguments: &[String]) -> Command {
    let path = caliprobe.display().to_string();
    let mut command = Command::new("timeout");
    command.arg(LONGEST).arg(caliprobe);
    command.args(arguments.iter().map(|argument| expand(argument).replace("$CALIPROBE", &path)));
    command.stdin(Stdio::null()).env("NO_COLOR", "1");
    command
}

/// A shell with the cluster's names in its environment.
fn shell<T>(script: &str, start: impl FnOnce(&mut Command) -> Result<T>) -> Result<T> {
    let mut command = Command::new("bash");
    command.args(["-c", script]).envs(topology::variables()).stdin(Stdio::null());
    start(&mut command)
}

/// Scripts that run beside caliprobe, and end with the scenario.
#[derive(Default)]
struct Traffic {
    children: Vec<Child>,
    waiting: Vec<(String, mpsc::Receiver<bool>)>,
}

impl Traffic {
    fn start(&mut self, machine: &Machine, name: &str, script: &str, caliprobe: &Path) -> Result<()> {
        let mut child = shell(script, |command| {
            command.env("CALIPROBE", caliprobe);
            command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::null());
            machine.spawn(command)
        })?;
        let stdout = child.stdout.take().context("no standard output")?;
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines();
            let _ = sender.send(matches!(lines.next(), Some(Ok(_))));
            // Its pipe is kept empty, so that it goes on.
            lines.for_each(drop);
        });
        self.waiting.push((format!("{name}: {script}"), receiver));
        self.children.push(child);
        Ok(())
    }

    fn wait_until_it_flows(&mut self) -> Result<()> {
        for (what, flows) in self.waiting.drain(..) {
            ensure!(flows.recv_timeout(TRAFFIC).unwrap_or(false), "this traffic does not flow: {what}");
        }
        Ok(())
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        for child in &mut self.children {
            let group = nix::unistd::Pid::from_raw(child.id().cast_signed());
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
            let _ = child.wait();
        }
    }
}
