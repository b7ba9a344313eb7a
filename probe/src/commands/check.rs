//! `caliprobe check`: is this node's pod network in order? Without any traffic of its own.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use anyhow::{Context as _, ensure};

use super::look;
use crate::{
    causes::{
        Cause,
        node::{self, Review},
    },
    cli::{CheckArgs, FailOn, Global, Output},
    exit::Exit,
    model::Model,
    report::{
        check::CheckDocument,
        document::{Severity, Subject},
    },
    sample::Sample,
    sources,
};

/// What is about to change looks wrong for less than this: a pod that starts or stops, a route that BIRD writes
/// again. Counters that rise do so meanwhile.
const SETTLED: Duration = Duration::from_millis(700);

/// Judges the node and prints what it came to.
pub async fn run(args: &CheckArgs, global: &Global) -> anyhow::Result<Exit> {
    let document = match &args.input {
        Some(path) => {
            let sample = look::saved(path, global)?;
            judged(&sample, None)?
        }
        None => standing(global).await?,
    };
    print(&document, global)?;
    Ok(match document.worst() {
        Some(worst) if fails(args.fail_on, worst) => Exit::Proven,
        _ => Exit::Fine,
    })
}

/// This node's condition: of what a first look finds wrong, what a second one still does.
async fn standing(global: &Global) -> anyhow::Result<CheckDocument> {
    let first = look(global).await?;
    let model = Model::new(&first);
    let wrong = faults(&node::judge(&model, None));
    if wrong.is_empty() && !node::has_errors(&model) {
        return judged(&first, None);
    }
    tokio::time::sleep(SETTLED).await;
    let second = look(global).await?;
    judged(&second, Some((&first, &wrong)))
}

/// One look at this node, its pods included.
async fn look(global: &Global) -> anyhow::Result<Sample> {
    let mut sample = look::live(global).await?.sample;
    sources::gather_control_plane(&global.sources(), &mut sample).await;
    Ok(sample)
}

/// What identifies a finding over several looks.
type Fault = (Cause, Subject);

fn faults(reviews: &[Review]) -> Vec<Fault> {
    let findings = reviews.iter().flat_map(|review| &review.findings);
    findings.map(|finding| (finding.cause, finding.subject.clone())).collect()
}

fn judged(sample: &Sample, earlier: Option<(&Sample, &[Fault])>) -> anyhow::Result<CheckDocument> {
    let model = Model::new(sample);
    ensure!(
        model.shows_calico(),
        "nothing here is of Calico: no cali* interface, no address on tunl0, no route of BIRD or felix, no \
         /var/lib/calico/nodename; run it on a node, or with --root where the host's files are"
    );
    let mut reviews = node::judge(&model, earlier.map(|(sample, _)| sample));
    if let Some((_, wrong)) = earlier {
        for review in &mut reviews {
            review.findings.retain(|finding| {
                // Only a second look shows what rises.
                finding.cause == Cause::NicDrops
                    || wrong
                        .iter()
                        .any(|(cause, subject)| *cause == finding.cause && *subject == finding.subject)
            });
        }
    }
    Ok(CheckDocument::new(&model, reviews))
}

fn fails(fail_on: FailOn, worst: Severity) -> bool {
    match fail_on {
        FailOn::Critical => worst >= Severity::Critical,
        FailOn::Warning => worst >= Severity::Warning,
        FailOn::Info => true,
        FailOn::Never => false,
    }
}

fn print(document: &CheckDocument, global: &Global) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match global.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(document)?),
        Output::Text if global.quiet => writeln!(out, "{}", document.quiet()),
        Output::Text => write!(out, "{}", document.text()),
    }
    .context("cannot print")
}
