//! `caliprobe check`: is this node's pod network in order? Without any traffic of its own.

use std::time::Duration;

use anyhow::ensure;

use super::{look, progress::Progress, several};
use crate::{
    causes::{
        Cause,
        node::{self, Review},
        side_by_side,
    },
    cli::{CheckArgs, FailOn, Global},
    exit::Exit,
    model::Model,
    report::{
        check::{CheckDocument, Condition},
        document::{Finding, Severity, Subject},
    },
    sample::{Fact, Sample},
    sources::{self, arp_claims, route_changes},
};

/// What is about to change looks wrong for less than this: a pod that starts or stops, a route that BIRD writes
/// again. Counters that rise do so meanwhile.
pub const SETTLED: Duration = Duration::from_millis(700);

/// Judges the node and prints what it came to.
pub async fn run(args: &CheckArgs, global: &Global) -> anyhow::Result<Exit> {
    let documents = match &args.input {
        Some(path) => judged_together(&look::saved(path, global)?)?,
        None => vec![standing(args, global).await?],
    };
    several::print(&documents, global)?;
    Ok(exit_of(&documents, args.fail_on))
}

/// What is wrong with any of the nodes outweighs what cannot be said of others.
fn exit_of(documents: &[CheckDocument], fail_on: FailOn) -> Exit {
    if documents.iter().filter_map(CheckDocument::worst).any(|worst| fails(fail_on, worst)) {
        return Exit::Proven;
    }
    let is_unknown = documents.iter().any(|document| document.verdict == Condition::Unknown);
    if is_unknown { Exit::CannotSay } else { Exit::Fine }
}

/// Judges what was saved or pasted: each node by itself and next to the others, the worst first.
fn judged_together(samples: &[Sample]) -> anyhow::Result<Vec<CheckDocument>> {
    let mut documents = judge_saved(samples)?;
    documents.sort_by_key(|document| std::cmp::Reverse(document.worst()));
    Ok(documents)
}

/// The same, nodes before pods.
pub fn judge_saved(samples: &[Sample]) -> anyhow::Result<Vec<CheckDocument>> {
    let models: Vec<Model<'_>> = samples.iter().map(Model::new).collect();
    // Of what was pasted even a single row may tell something.
    models.iter().filter(|model| model.sample.missing.is_empty()).try_for_each(ensure_calico)?;
    let of_others = side_by_side::judge(&models);
    let judged =
        models.iter().zip(of_others).map(|(model, more)| (model, node::judge_with(model, None, more)));
    let (pods, nodes): (Vec<_>, Vec<_>) = judged.partition(|(model, _)| model.is_inside_pod());
    let on_nodes: Vec<Finding> =
        nodes.iter().flat_map(|(_, reviews)| reviews).flat_map(|review| review.findings.clone()).collect();
    let pods = pods.into_iter().map(|(model, mut reviews)| {
        for review in &mut reviews {
            review.findings.retain(|finding| !side_by_side::is_consequence(finding, &on_nodes));
        }
        (model, reviews)
    });
    Ok(nodes.into_iter().chain(pods).map(|(model, reviews)| CheckDocument::new(model, reviews)).collect())
}

/// What a look at one node comes to by itself.
pub fn one(sample: &Sample) -> anyhow::Result<CheckDocument> {
    judged(sample, None)
}

/// This node as the last look found it, with its condition.
pub async fn twice(global: &Global) -> anyhow::Result<(Sample, CheckDocument)> {
    settled(look(global).await?, global).await
}

/// This node's condition, with what a watch over it saw.
async fn standing(args: &CheckArgs, global: &Global) -> anyhow::Result<CheckDocument> {
    let _progress = match args.watch {
        Some(length) => Progress::within("watching routes and addresses", length, global),
        None => Progress::of("looking at this node", global),
    };
    let mut first = look(global).await?;
    if let Some(duration) = args.watch {
        let (routes, claims) = tokio::join!(route_changes::watch(duration), arp_claims::watch(duration));
        first.route_watch = Fact::Known(routes?);
        first.arp_watch = Fact::from_result(claims);
    }
    if let Some(path) = &args.record {
        look::record(&first, path)?;
    }
    Ok(settled(first, global).await?.1)
}

/// This node's condition: of what a first look finds wrong, what a second one still does.
async fn settled(first: Sample, global: &Global) -> anyhow::Result<(Sample, CheckDocument)> {
    let model = Model::new(&first);
    let wrong = faults(&node::judge(&model, None));
    if wrong.is_empty() && !node::has_errors(&model) {
        let condition = judged(&first, None)?;
        return Ok((first, condition));
    }
    tokio::time::sleep(SETTLED).await;
    let mut second = look(global).await?;
    second.route_watch.clone_from(&first.route_watch);
    second.arp_watch.clone_from(&first.arp_watch);
    let condition = judged(&second, Some((&first, &wrong)))?;
    Ok((second, condition))
}

/// One look at this node, its pods included.
pub async fn look(global: &Global) -> anyhow::Result<Sample> {
    let mut sample = look::live(global).await?.sample;
    sources::gather_control_plane(&global.sources(), &mut sample).await;
    sources::gather_rules(&global.sources(), &mut sample);
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
    ensure_calico(&model)?;
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

/// Fails where there is no pod network of Calico to speak of.
pub fn ensure_calico(model: &Model<'_>) -> anyhow::Result<()> {
    ensure!(
        model.shows_calico(),
        "nothing here is of Calico: no cali* interface, no address on tunl0, no route of BIRD or felix, no \
         /var/lib/calico/nodename; run it on a node, or with --root where the host's files are"
    );
    Ok(())
}

fn fails(fail_on: FailOn, worst: Severity) -> bool {
    match fail_on {
        FailOn::Critical => worst >= Severity::Critical,
        FailOn::Warning => worst >= Severity::Warning,
        FailOn::Info => true,
        FailOn::Never => false,
    }
}
