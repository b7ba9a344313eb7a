//! `caliprobe preflight`: what do this kernel and these privileges allow, and what is lost by what they do not?

use std::{
    io::{self, Write as _},
    path::Path,
};

use anyhow::Context as _;

use super::progress::Progress;
use crate::{
    cli::{Global, Output},
    exit::Exit,
    kernel::support,
    model::{
        Model, is_pod_link,
        readiness::{Assessment, assess},
    },
    readiness::Readiness,
    report::preflight::PreflightDocument,
    sample::Sample,
    sources::{self, kernel_settings, privileges},
};

/// Tries everything and prints what came of it. It leaves nothing attached.
pub async fn run(global: &Global) -> anyhow::Result<Exit> {
    let progress = Progress::of("trying what this kernel allows", global);
    let options = global.sources();
    let sample = sources::gather(&options).await.context("cannot read this node's network state")?;
    let document = document(&sample, global);
    drop(progress);
    let mut out = io::stdout().lock();
    match global.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?,
        Output::Text if global.quiet => writeln!(out, "{}", document.quiet())?,
        Output::Text => write!(out, "{}", document.text())?,
    }
    Ok(Exit::Fine)
}

/// What it comes to for a sample of this node.
pub(super) fn document(sample: &Sample, global: &Global) -> PreflightDocument {
    let model = Model::new(sample);
    PreflightDocument::new(&model, assess_here(&model, &global.root))
}

/// What this kernel and these privileges allow, found by trying.
pub(super) fn assess_here(model: &Model<'_>, root: &Path) -> Assessment {
    let pods = model.sample.links.iter().filter(|link| is_pod_link(link));
    let readiness = Readiness {
        kernel: support::probe(root),
        privileges: privileges::read(root, pods),
        settings: kernel_settings::read(root),
    };
    assess(model, &readiness)
}
