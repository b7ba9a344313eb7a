//! A real Prometheus on loopback, and what it scrapes.

use std::{
    fs,
    io::Read as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use caliprobe::{
    serving::{self, Serving, Settings},
    sources::prometheus::{Prometheus, Sample},
    state::State,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;

use super::{programs::find, rules::RULES};

const DEADLINE: Duration = Duration::from_mins(1);

/// It ends with the test.
pub struct Server {
    process: Child,
    pub api: Prometheus,
    _folder: TempDir,
}

impl Server {
    /// Starts it, with nodes to scrape five times a second; `None` where there is no Prometheus.
    pub async fn start(nodes: &[Node], history: Option<&str>) -> Result<Option<Self>> {
        Self::with(configure(nodes, &[RULES]), history).await
    }

    pub async fn start_without_rules(nodes: &[Node]) -> Result<Option<Self>> {
        Self::with(configure(nodes, &[]), None).await
    }

    async fn with(configuration: Value, history: Option<&str>) -> Result<Option<Self>> {
        let (Some(program), Some(promtool)) = (find("prometheus"), find("promtool")) else { return Ok(None) };
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("data");
        fs::create_dir(&data)?;
        if let Some(history) = history {
            let file = folder.path().join("history.txt");
            fs::write(&file, history)?;
            let blocks = Command::new(promtool)
                .args(["tsdb", "create-blocks-from", "openmetrics"])
                .args([&file, &data])
                .output()?;
            ensure!(blocks.status.success(), "{}", String::from_utf8_lossy(&blocks.stderr));
        }
        let file = folder.path().join("prometheus.json");
        fs::write(&file, configuration.to_string())?;
        let mut process = Command::new(program);
        process.arg(format!("--config.file={}", file.display()));
        process.arg(format!("--storage.tsdb.path={}", data.display()));
        process.args(["--web.listen-address=127.0.0.1:0", "--log.level=error"]);
        process.stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        let mut process = process.spawn()?;
        let port = listening_port(&mut process).await?;
        let api = Prometheus::parse(&format!("http://127.0.0.1:{port}")).map_err(anyhow::Error::msg)?;
        let server = Self { process, api, _folder: folder };
        server.wait_for("vector(1)").await?;
        Ok(Some(server))
    }

    /// The series of an expression, once it has any.
    pub async fn wait_for(&self, expression: &str) -> Result<Vec<Sample>> {
        let end = Instant::now() + DEADLINE;
        loop {
            match self.api.query(expression).await {
                Ok(samples) if !samples.is_empty() => return Ok(samples),
                answer if Instant::now() > end => bail!("{expression} stays without series: {answer:?}"),
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A node that serves what it knows.
pub struct Node {
    serving: Serving,
    _publisher: watch::Sender<Arc<State>>,
}

impl Node {
    pub fn serve(state: State) -> Result<Self> {
        let (publisher, receiver) = watch::channel(Arc::new(state));
        let settings = Settings { metrics: Some(([127, 0, 0, 1], 0).into()), ..Settings::default() };
        Ok(Self { serving: serving::start(&settings, receiver)?, _publisher: publisher })
    }
}

fn configure(nodes: &[Node], rules: &[&str]) -> Value {
    let targets: Vec<String> =
        nodes.iter().filter_map(|node| Some(node.serving.metrics_address()?.to_string())).collect();
    let job = |name, page| json!({ "job_name": name, "metrics_path": page, "static_configs": [{ "targets": targets }] });
    json!({
        "global": { "scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "1s" },
        "scrape_configs": [job("caliprobe", "/metrics"), job("caliprobe-peers", "/metrics/peers")],
        "rule_files": rules,
    })
}

/// The port that the kernel chose for a process that asked for any.
async fn listening_port(process: &mut Child) -> Result<u16> {
    let end = Instant::now() + DEADLINE;
    while Instant::now() < end {
        if process.try_wait()?.is_some() {
            let mut said = String::new();
            process.stderr.take().context("no stderr")?.read_to_string(&mut said)?;
            bail!("Prometheus ended: {said}");
        }
        if let Some(port) = port_of(process.id()) {
            return Ok(port);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("Prometheus does not listen")
}

/// From `/proc/net/tcp`, by the inode of one of the process' sockets; state 0A is listening.
fn port_of(process: u32) -> Option<u16> {
    let folder = Path::new("/proc").join(process.to_string());
    let links =
        fs::read_dir(folder.join("fd")).ok()?.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let inodes: Vec<String> = links
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = fs::read_to_string(folder.join("net/tcp")).ok()?;
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ours =
            fields.get(3) == Some(&"0A") && inodes.iter().any(|inode| fields.get(9) == Some(&inode.as_str()));
        let (_, port) = fields.get(1).filter(|_| ours)?.split_once(':')?;
        u16::from_str_radix(port, 16).ok()
    })
}
