//! The metrics as a page for people.

use std::fmt::Write as _;

use super::catalogue::{CUT_SERIES, Kind, Metric, NODE, PEERS};

const OPENING: &str = "\
# Metrics

Generated from the code by `cargo xtask docs`.

`caliprobe run` serves them at `http://127.0.0.1:10475` (`--listen`), as OpenMetrics to whoever accepts it and
otherwise as Prometheus' text format 0.0.4. A fact that is absent has no series: zero is a count of none, not a count
that nobody made. Counters begin at zero when the daemon starts and never fall while it runs. Packets are segments, as
they stand on the wire, unless a metric says otherwise. No label names the node: that is for the scraper's target.
";

const NODE_PAGE: &str = "
## `/metrics`

At most 1,000 series and 100 KiB on any node. Metrics with a most are cut to it, and `caliprobe_cut_series` counts what
was left out.
";

const PEERS_PAGE: &str = "
## `/metrics/peers`

Two counters for every peer, never cut. What one node sent and the other did not get is lost between them:
`deploy/prometheus/caliprobe.rules.yml` joins both ends.
";

/// The whole page, in Markdown.
pub fn reference() -> String {
    let mut page = OPENING.to_owned();
    page.push_str(NODE_PAGE);
    for metric in NODE.iter().chain([&CUT_SERIES]) {
        describe(&mut page, metric);
    }
    page.push_str(PEERS_PAGE);
    for metric in PEERS {
        describe(&mut page, metric);
    }
    page
}

fn describe(page: &mut String, metric: &Metric) {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Info => "info, always 1",
    };
    let _ = write!(page, "\n### `{}`\n\n{kind}. {}.\n", metric.name, metric.help);
    if let Some(most) = metric.most {
        let _ = writeln!(page, "At most {most} series.");
    }
    if !metric.absent.is_empty() {
        let _ = writeln!(page, "No series when {}.", metric.absent);
    }
    if !metric.labels.is_empty() {
        page.push('\n');
    }
    for (name, meaning) in metric.labels {
        let _ = writeln!(page, "- `{name}`: {meaning}");
    }
}
