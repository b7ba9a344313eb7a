//! `caliprobe verify`: is everything that was reached before still reached, and what changed?

use std::io::Write as _;

use anyhow::ensure;

use super::{check, progress::Progress, snapshot, standard_output};
use crate::{
    causes::before_after,
    cli::{Global, Output, VerifyArgs},
    exit::Exit,
    model::Model,
    report::verify::{Outcome, VerifyDocument},
    sample::Sample,
};

pub async fn run(args: &VerifyArgs, global: &Global) -> anyhow::Result<Exit> {
    let before = snapshot::one(&args.before, global)?;
    let document = match &args.after {
        Some(file) => compare(&before, &snapshot::one(file, global)?)?,
        None => now(&before, global).await?,
    };
    let mut out = standard_output::lock();
    match global.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?,
        Output::Text if global.quiet => writeln!(out, "{}", document.quiet())?,
        Output::Text => write!(out, "{}", document.text())?,
    }
    Ok(match document.verdict {
        Outcome::Intact => Exit::Fine,
        Outcome::Regression => Exit::Proven,
        Outcome::Unknown => Exit::CannotSay,
    })
}

/// This node as it is now. What is about to change is looked at once more.
async fn now(before: &Sample, global: &Global) -> anyhow::Result<VerifyDocument> {
    let _progress = Progress::of("looking at this node", global);
    let document = compare(before, &check::look(global).await?)?;
    if document.verdict == Outcome::Intact {
        return Ok(document);
    }
    tokio::time::sleep(check::SETTLED).await;
    compare(before, &check::look(global).await?)
}

/// Two looks at one node, the earlier one first.
pub fn compare(before: &Sample, after: &Sample) -> anyhow::Result<VerifyDocument> {
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
    let changes = before_after::judge(&old, &new);
    Ok(VerifyDocument::new(&old, &new, changes))
}
