//! Scenarios in which every node's daemon counts and a real Prometheus scrapes them all, by our own rules: what fires
//! while something is broken between two nodes, what a person who then asks is told, and that it ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    cluster::{
        Cluster,
        topology::{NODES, ROUTER},
    },
    counting::{Counting, End, Running, Step, take},
    judge::{Said, differences},
    machine::Machine,
    run::call,
    scenario::{Expectation, expand, words},
};

/// As they are shipped.
const RULES: &str = include_str!("../../deploy/prometheus/caliprobe.rules.yml");
/// All that Prometheus has of its own, on the machine that it runs on.
const FOLDER: &str = "/run/prometheus";
const ADDRESS: &str = "127.0.0.1:9090";
/// Where each node's daemon serves its metrics.
const PORT: u16 = 10475;
/// How much faster than the real one time passes in the rules: minutes would be long for a test, and nothing in a rule
/// hangs on how long they are. `hastened` applies it.
const HASTE: u32 = 10;
/// Scrapes and evaluations are as much faster.
const INTERVAL: &str = "2s";
/// The longest that anything may take to show: several of the rules' longest windows.
const DEADLINE: Duration = Duration::from_mins(4);
const LOOK: Duration = Duration::from_secs(1);

/// What is broken, which alert must fire alone, and what a person is told meanwhile.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Monitoring {
    /// How many directed pairs of nodes must be judged before anything breaks.
    pub pairs: u32,
    #[serde(rename = "break")]
    pub breaks: Vec<Step>,
    /// Labels of the one alert, `alertname` among them.
    pub fires: BTreeMap<String, String>,
    /// Asked while it fires.
    pub ask: Vec<Question>,
    pub repair: Vec<Step>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    pub on: String,
    /// `$PROMETHEUS` is where Prometheus is asked; otherwise as a scenario's.
    #[serde(deserialize_with = "words")]
    pub run: Vec<String>,
    pub expect: Expectation,
}

/// Runs it in a cluster whose traffic flows; returns what differs.
pub fn run(
    monitoring: &Monitoring,
    cluster: &Cluster,
    caliprobe: &Path,
    programs: &Path,
) -> Result<Vec<String>> {
    let daemons = daemons(cluster, caliprobe)?;
    let prometheus = Prometheus::start(cluster.machine(ROUTER)?, programs)?;
    let judged = format!("count(caliprobe:pair_loss:ratio5m) >= {}", monitoring.pairs);
    prometheus.wait_for("pairs to be judged", &judged, |series| !series.is_empty())?;
    let mut differences = Vec::new();
    for step in &monitoring.breaks {
        take(step, cluster, caliprobe)?;
    }
    prometheus.wait_for("an alert", FIRING, |series| !series.is_empty())?;
    for question in &monitoring.ask {
        let said = ask(question, cluster, caliprobe)?;
        let found = self::differences(&question.expect, &said);
        if !found.is_empty() {
            differences.extend(found);
            differences.push(format!("`{}` said {}{}", question.run.join(" "), said.stdout, said.stderr));
        }
    }
    for step in &monitoring.repair {
        take(step, cluster, caliprobe)?;
    }
    if let Err(error) = prometheus.wait_for("the end of the alert", FIRING, BTreeSet::is_empty) {
        differences.push(format!("{error:#}"));
    }
    let wanted: BTreeMap<String, String> =
        monitoring.fires.iter().map(|(name, value)| (name.clone(), expand(value))).collect();
    let fired = prometheus.query(&format!("max_over_time({FIRING}[1h])"))?;
    if fired != BTreeSet::from([wanted.clone()]) {
        differences.push(format!("{wanted:?} alone to fire, not {fired:?}"));
    }
    for daemon in daemons {
        daemon.end(End::Terminate)?;
    }
    Ok(differences)
}

const FIRING: &str = "ALERTS{alertstate=\"firing\"}";

/// One on every node, each once it counts.
fn daemons(cluster: &Cluster, caliprobe: &Path) -> Result<Vec<Running>> {
    let ready = format!("/run/caliprobe-ready-{}", std::process::id());
    let started = NODES.iter().map(|node| {
        let machine = cluster.machine(node.name)?;
        let listen = format!("{}:{PORT}", node.address);
        let arguments = ["run", "-q", "--ready-file", "$READY", "--listen", &listen];
        let counting = Counting::of(arguments.map(str::to_owned).to_vec());
        let running = Running::start(&counting, machine, caliprobe, &ready)?;
        running.wait_until_it_counts(&counting, machine, &ready)?;
        Ok(running)
    });
    started.collect()
}

fn ask(question: &Question, cluster: &Cluster, caliprobe: &Path) -> Result<Said> {
    let arguments: Vec<String> =
        question.run.iter().map(|word| word.replace("$PROMETHEUS", &format!("http://{ADDRESS}"))).collect();
    let machine = cluster.machine(&question.on)?;
    let mut command = call(caliprobe, &arguments);
    if !question.expect.is_of_text() {
        command.args(["-o", "json"]);
    }
    let output = machine.run(|| command.output().context("cannot start caliprobe"))?;
    Ok(Said::of(&output))
}

/// The labels of one series.
type Series = BTreeMap<String, String>;

/// A Prometheus on a machine; it ends when dropped.
struct Prometheus<'a> {
    machine: &'a Machine,
    process: Child,
    promtool: PathBuf,
}

impl<'a> Prometheus<'a> {
    fn start(machine: &'a Machine, programs: &Path) -> Result<Self> {
        let (rules, configuration) =
            (format!("{FOLDER}/caliprobe.rules.yml"), format!("{FOLDER}/prometheus.json"));
        let mut command = Command::new(programs.join("prometheus"));
        command.arg(format!("--config.file={configuration}"));
        command.arg(format!("--storage.tsdb.path={FOLDER}/data"));
        command.args([&format!("--web.listen-address={ADDRESS}"), "--log.level=warn"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        let process = machine.run(|| {
            fs::create_dir_all(FOLDER)?;
            fs::write(&rules, hastened(RULES))?;
            fs::write(&configuration, configured(&rules).to_string())?;
            let log = fs::File::create(format!("{FOLDER}/log"))?;
            command.stderr(log).spawn().context("cannot start Prometheus")
        })?;
        let prometheus = Self { machine, process, promtool: programs.join("promtool") };
        prometheus.wait_for("Prometheus", "vector(1)", |series| !series.is_empty())?;
        Ok(prometheus)
    }

    /// The series of an expression, without their names and the state of alerts.
    fn query(&self, expression: &str) -> Result<BTreeSet<Series>> {
        let mut command = Command::new(&self.promtool);
        command.args(["query", "instant", "--format=json", &format!("http://{ADDRESS}"), expression]);
        let output = self.machine.run(|| Ok(command.output()?))?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout).context("promtool printed no JSON")?;
        let series = answer.as_array().context("no list of series")?.iter().map(|series| {
            let labels = series["metric"].as_object().into_iter().flatten();
            let labels =
                labels.filter(|(name, _)| !["__name__", "alertstate", "severity"].contains(&name.as_str()));
            labels
                .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
                .collect()
        });
        Ok(series.collect())
    }

    fn wait_for(
        &self,
        what: &str,
        expression: &str,
        is_there: impl Fn(&BTreeSet<Series>) -> bool,
    ) -> Result<()> {
        let start = Instant::now();
        loop {
            let answer = self.query(expression);
            if answer.as_ref().is_ok_and(&is_there) {
                println!("        {what} after {} s", start.elapsed().as_secs());
                return Ok(());
            }
            if start.elapsed() > DEADLINE {
                bail!(
                    "no {what} within {} s: {expression} is {answer:?}; {}",
                    DEADLINE.as_secs(),
                    self.state()
                );
            }
            thread::sleep(LOOK);
        }
    }

    /// What Prometheus knows, for whoever has to find out why it does not come to more.
    fn state(&self) -> String {
        let told = [
            "up",
            "caliprobe:node_judged",
            "caliprobe:pair_sent:increase5m",
            "caliprobe:pair_loss:ratio5m",
            "ALERTS",
        ]
        .map(|expression| format!("{expression}: {:?}", self.query(expression)));
        let log = self.machine.run(|| Ok(fs::read_to_string(format!("{FOLDER}/log"))?)).unwrap_or_default();
        format!("{}\n{log}", told.join("\n"))
    }
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Both pages of every node, as `deploy/prometheus/scrape.yml` has them.
fn configured(rules: &str) -> Value {
    let targets: Vec<String> = NODES.iter().map(|node| format!("{}:{PORT}", node.address)).collect();
    let job = |name: &str, page: &str| json!({ "job_name": name, "metrics_path": page, "static_configs": [{ "targets": targets }] });
    json!({
        "global": { "scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL },
        "scrape_configs": [job("caliprobe", "/metrics"), job("caliprobe-peers", "/metrics/peers")],
        "rule_files": [rules],
    })
}

/// Rules in which every duration is a tenth of what it was. Names of series that speak of minutes stay.
fn hastened(rules: &str) -> String {
    let mut text = String::new();
    let mut rest = rules;
    let words = ["[", "offset ", "for: ", "interval: "];
    while let Some(place) = words.iter().filter_map(|word| Some(rest.find(word)? + word.len())).min() {
        let (head, tail) = rest.split_at(place);
        text.push_str(head);
        rest = tail;
        let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
        let unit = tail.as_bytes().get(digits).copied();
        let seconds = match (tail[..digits].parse::<u32>(), unit) {
            (Ok(number), Some(b's')) => number,
            (Ok(number), Some(b'm')) => number * 60,
            (Ok(number), Some(b'h')) => number * 3600,
            _ => continue,
        };
        let _ = write!(text, "{}s", seconds.div_ceil(HASTE));
        rest = &tail[digits + 1..];
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_rules_are_shortened_and_names_are_not() {
        let rules = "interval: 30s\nrecord: caliprobe:pair_sent:increase5m\nexpr: increase(x[5m]) > x offset 6m\nfor: 2m\n{{ $labels.x }} [a]";
        let wanted = "interval: 3s\nrecord: caliprobe:pair_sent:increase5m\nexpr: increase(x[30s]) > x offset 36s\nfor: 12s\n{{ $labels.x }} [a]";
        assert_eq!(hastened(rules), wanted);
    }
}
