//! `caliprobe cleanup plan`: what is stale on this node. It changes nothing.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use anyhow::ensure;

use crate::{
    causes::cleanup,
    cli::{CleanupPlanArgs, Global, Output},
    commands::{check, progress::Progress, snapshot},
    exit::Exit,
    model::Model,
    plan::Plan,
    report::cleanup as report,
    sample::Sample,
    sources::surroundings,
};

/// A device that carries nothing for so long is not in use.
const LOOKED_ON: Duration = Duration::from_secs(5);

pub(super) async fn run(args: &CleanupPlanArgs, global: &Global) -> anyhow::Result<Exit> {
    let plan = match &args.input {
        Some(path) => cleanup::plan(&Model::new(&snapshot::one(path, global)?), None),
        None => standing(global).await?,
    };
    let mut out = io::stdout().lock();
    match global.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&plan)?)?,
        Output::Text if global.quiet => writeln!(out, "{}", report::quiet(&plan))?,
        Output::Text => write!(out, "{}", report::text(&plan))?,
    }
    Ok(Exit::Fine)
}

/// This node's plan. What looks stale is looked at twice: counters that rise meanwhile show that it is in use.
async fn standing(global: &Global) -> anyhow::Result<Plan> {
    let _progress = Progress::of("watching what looks unused", global);
    let first = look(global).await?;
    let model = Model::new(&first);
    ensure!(
        !model.is_inside_pod(),
        "this is the inside of a pod: a clean-up is made on its node, with hostNetwork"
    );
    if !cleanup::has_candidates(&model) {
        return Ok(cleanup::plan(&model, None));
    }
    tokio::time::sleep(LOOKED_ON).await;
    let second = look(global).await?;
    Ok(cleanup::plan(&Model::new(&second), Some(&model)))
}

async fn look(global: &Global) -> anyhow::Result<Sample> {
    let mut sample = check::look(global).await?;
    surroundings::gather(&global.sources(), &mut sample).await;
    Ok(sample)
}
