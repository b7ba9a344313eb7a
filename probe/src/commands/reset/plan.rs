//! `caliprobe reset plan`: would a reset mend anything here, and what is typed for it in which order?

use std::io::{self, Write as _};

use crate::{
    causes::reset,
    cli::{Global, Output, ResetPlanArgs},
    commands::{check, snapshot},
    exit::Exit,
    model::Model,
    report::reset_plan::ResetPlanDocument,
};

/// A view: what is wrong does not change its exit code.
pub(super) async fn run(args: &ResetPlanArgs, global: &Global) -> anyhow::Result<Exit> {
    let (sample, condition) = match &args.input {
        Some(path) => {
            let sample = snapshot::one(path, global)?;
            let condition = check::one(&sample)?;
            (sample, condition)
        }
        None => check::twice(global).await?,
    };
    let model = Model::new(&sample);
    anyhow::ensure!(
        !model.is_inside_pod(),
        "this is the inside of a pod: a reset is of its node; run it there, with hostNetwork"
    );
    let document = ResetPlanDocument::new(&model, reset::plan(&model, condition.findings));
    let mut out = io::stdout().lock();
    match global.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?,
        Output::Text if global.quiet => writeln!(out, "{}", document.quiet())?,
        Output::Text => write!(out, "{}", document.text())?,
    }
    Ok(Exit::Fine)
}
