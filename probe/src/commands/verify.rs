//! `caliprobe verify`: is everything that was reached before still reached, what changed, and was that meant?

use std::io::Write as _;

use anyhow::ensure;

use super::{check, progress::Progress, snapshot, standard_output, watched};
use crate::{
    causes::before_after::{self, Change, Meaning},
    changing::plan_file,
    cli::{Global, Output, VerifyArgs},
    exit::Exit,
    model::Model,
    plan::Plan,
    probing::everyone,
    report::verify::{Outcome, VerifyDocument},
    sample::{Echo, Fact, Sample},
};

/// How often a node is looked at until what looks worse does so twice, or not any more. Pods that come and go look
/// wrong for a moment.
const MOST_LOOKS: usize = 5;

pub async fn run(args: &VerifyArgs, global: &Global) -> anyhow::Result<Exit> {
    let before = snapshot::one(&args.before, global)?;
    let plan = args.plan.as_deref().map(plan_file::read).transpose()?;
    if let Some(plan) = &plan {
        ensure_fits(plan, &Model::new(&before))?;
    }
    let document = match &args.after {
        Some(file) => {
            let after = snapshot::one(file, global)?;
            compare(&before, &after, plan.as_ref())?
        }
        None => now(&before, plan.as_ref(), args, global).await?,
    };
    let mut out = standard_output::lock();
    match global.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?,
        Output::Text if global.quiet => writeln!(out, "{}", document.quiet())?,
        Output::Text => write!(out, "{}", document.text())?,
    }
    Ok(match document.verdict {
        Outcome::Intact => Exit::Fine,
        Outcome::Regression | Outcome::Unfinished => Exit::Proven,
        Outcome::Unknown => Exit::CannotSay,
    })
}

fn ensure_fits(plan: &Plan, before: &Model<'_>) -> anyhow::Result<()> {
    let name = before.node_name();
    ensure!(plan.node == name, "the plan is of node {}, and the snapshot of {name}", plan.node);
    ensure!(
        plan.boot_id == before.sample.node.boot_id,
        "the plan is of another boot of {name} than the snapshot"
    );
    Ok(())
}

/// This node as it is now. What looks worse is looked at again: only what does so twice counts.
async fn now(
    before: &Sample,
    plan: Option<&Plan>,
    args: &VerifyArgs,
    global: &Global,
) -> anyhow::Result<VerifyDocument> {
    let _progress = Progress::of("looking at this node", global);
    let ledger = watched::ledger(args.watched.window, global).await?;
    let mut after = check::look(global).await?;
    ensure_comparable(before, &after)?;
    let echoes = if args.watched.probe { asked(before, &after).await? } else { Fact::default() };
    after.ledger = ledger;
    after.echoes = echoes;
    let mut worse: Vec<Change> = Vec::new();
    let mut looks_left = MOST_LOOKS;
    loop {
        looks_left -= 1;
        let mut changes = changes(before, &after, plan);
        let (lasting, passing): (Vec<Change>, Vec<Change>) = changes
            .iter()
            .filter(|change| looks_worse(change))
            .cloned()
            .partition(|change| worse.iter().any(|other| other.is_of_same(change)));
        if !lasting.is_empty() || passing.is_empty() || looks_left == 0 {
            if lasting.is_empty() {
                // A node that looks worse in another way each time is not calm enough to be judged.
                let passing = changes.iter_mut().filter(|change| looks_worse(change));
                passing.for_each(|change| change.meaning = Meaning::Unknown);
            } else {
                changes.retain(|change| !passing.contains(change));
            }
            return Ok(VerifyDocument::new(&Model::new(before), &Model::new(&after), changes, plan));
        }
        worse = passing;
        tokio::time::sleep(check::SETTLED).await;
        let Sample { ledger, echoes, .. } = after;
        after = Sample { ledger, echoes, ..check::look(global).await? };
    }
}

fn looks_worse(change: &Change) -> bool {
    matches!(change.meaning, Meaning::Regression | Meaning::Unknown)
}

/// Who answers of those that BEFORE had, but for pods that have ended.
async fn asked(before: &Sample, after: &Sample) -> anyhow::Result<Fact<Vec<Echo>>> {
    let (old, new) = (Model::new(before), Model::new(after));
    let mut wanted = everyone::of(&old);
    wanted.retain(|echo| !before_after::is_of_ended_pod(&old, &new, echo.address));
    Ok(Fact::Known(everyone::ask(wanted).await?))
}

/// Two looks at one node, the earlier one first.
fn compare(before: &Sample, after: &Sample, plan: Option<&Plan>) -> anyhow::Result<VerifyDocument> {
    ensure_comparable(before, after)?;
    let changes = changes(before, after, plan);
    Ok(VerifyDocument::new(&Model::new(before), &Model::new(after), changes, plan))
}

fn changes(before: &Sample, after: &Sample, plan: Option<&Plan>) -> Vec<Change> {
    before_after::judge(&Model::new(before), &Model::new(after), plan)
}

fn ensure_comparable(before: &Sample, after: &Sample) -> anyhow::Result<()> {
    let (old, new) = (Model::new(before), Model::new(after));
    ensure!(
        old.node_name() == new.node_name(),
        "the snapshot is of node {}, and this is {}: a node is compared with itself",
        old.node_name(),
        new.node_name()
    );
    ensure!(
        before.time <= after.time,
        "the snapshot of before is from {}, the later one from {}: are they the wrong way round?",
        before.time,
        after.time
    );
    Ok(())
}
