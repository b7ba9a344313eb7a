//! `caliprobe cluster`: who disagrees with whom, by what Prometheus scraped, or by snapshots of the nodes.

use std::io::Write as _;

use anyhow::bail;
use jiff::Timestamp;

use super::{joined, progress::Progress, standard_output};
use crate::{
    cli::{ClusterArgs, Global, Output},
    exit::Exit,
    report::cluster::{ClusterDocument, Facts, Verdict},
    sources::prometheus::Prometheus,
};

pub async fn run(args: &ClusterArgs, global: &Global) -> anyhow::Result<Exit> {
    match &args.prometheus {
        Some(prometheus) if args.paths.is_empty() => ask(prometheus, global).await,
        _ => joined::run(&args.paths, global),
    }
}

/// Asks Prometheus, and prints nodes and pairs, the worst first.
async fn ask(prometheus: &Prometheus, global: &Global) -> anyhow::Result<Exit> {
    let progress = Progress::of("asking Prometheus", global);
    let facts = gather(prometheus).await?;
    drop(progress);
    let document = ClusterDocument::new(&Timestamp::now().to_string(), &facts);
    let mut out = standard_output::lock();
    match global.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?,
        Output::Text if global.quiet => writeln!(out, "{}", document.quiet())?,
        Output::Text => write!(out, "{}", document.text())?,
    }
    Ok(match document.verdict {
        Verdict::Healthy => Exit::Fine,
        Verdict::Problems => Exit::Proven,
        Verdict::Unknown => Exit::CannotSay,
    })
}

async fn gather(prometheus: &Prometheus) -> anyhow::Result<Facts> {
    let names = prometheus.query("caliprobe:node_name").await?;
    if names.is_empty() {
        if prometheus.query("count(caliprobe_node_info)").await?.is_empty() {
            bail!(
                "{prometheus} has no metrics of caliprobe: run `caliprobe run --listen ADDRESS:10475` on the nodes, and \
                 scrape them as deploy/prometheus/scrape.yml does"
            );
        }
        bail!("{prometheus} scrapes caliprobe without its rules: load deploy/prometheus/caliprobe.rules.yml");
    }
    Ok(Facts {
        names,
        judged: prometheus.query("caliprobe:node_judged").await?,
        dark: prometheus.query("caliprobe:node_dark:senders").await?,
        deaf: prometheus.query("caliprobe:node_deaf:pairs").await?,
        mute: prometheus.query("caliprobe:node_mute:pairs").await?,
        loss: prometheus.query("topk(1000, caliprobe:pair_loss:ratio5m >= 0.05)").await?,
        sent: prometheus
            .query("caliprobe:pair_sent:increase5m and topk(1000, caliprobe:pair_loss:ratio5m >= 0.05)")
            .await?,
        lossy_pairs: prometheus.query("count(caliprobe:pair_loss:ratio5m >= 0.05)").await?,
        judged_pairs: prometheus.query("count(caliprobe:pair_loss:ratio5m)").await?,
        black_holes: prometheus
            .query(
                "topk(1000, caliprobe_black_hole_open * on (instance) group_left (node) \
                 max by (instance, node) (caliprobe_node_info))",
            )
            .await?,
    })
}
