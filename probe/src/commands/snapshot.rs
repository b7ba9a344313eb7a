//! `caliprobe snapshot`: this node's state in a file, and what such a file holds.

use std::{
    io::{self, BufWriter, Write as _},
    path::Path,
};

use anyhow::{Context as _, bail, ensure};

use super::{check, look, progress::Progress, watched};
use crate::{
    cli::{Global, Output, SnapshotCommand, SnapshotSaveArgs},
    exit::Exit,
    model::Model,
    probing::everyone,
    report::snapshot::SnapshotDocument,
    sample::{Fact, Sample},
    sources::saved,
};

pub async fn run(command: &SnapshotCommand, global: &Global) -> anyhow::Result<Exit> {
    match command {
        SnapshotCommand::Save(args) => save(args, global).await?,
        SnapshotCommand::Show { file } => show(&one(file, global)?, global)?,
    }
    Ok(Exit::Fine)
}

/// The one sample that a snapshot is.
pub fn one(file: &Path, global: &Global) -> anyhow::Result<Sample> {
    let samples = look::saved(file, global)?;
    let count = samples.len();
    let Ok([sample]) = <[Sample; 1]>::try_from(samples) else {
        bail!("{} holds {count} nodes; a snapshot is of one", file.display());
    };
    ensure!(
        sample.missing.is_empty(),
        "{} is no snapshot but pasted outputs, which lack much: `caliprobe check --input` judges them",
        file.display()
    );
    Ok(sample)
}

async fn save(args: &SnapshotSaveArgs, global: &Global) -> anyhow::Result<()> {
    let file = args.file.as_path();
    let to_standard_output = file == Path::new("-");
    ensure!(
        to_standard_output || !file.exists(),
        "{} is there already, and a snapshot of before must not be lost: name another file",
        file.display()
    );
    let progress = Progress::of("looking at this node", global);
    let sample = whole(args, global).await?;
    drop(progress);
    if to_standard_output {
        serde_json::to_writer(BufWriter::new(io::stdout().lock()), &sample)?;
        return Ok(());
    }
    let bytes =
        saved::write_sample(file, &sample).with_context(|| format!("cannot write {}", file.display()))?;
    eprintln!("{}: {} KiB", file.display(), bytes.div_ceil(1024));
    Ok(())
}

/// This node as it is once everything is counted and asked.
async fn whole(args: &SnapshotSaveArgs, global: &Global) -> anyhow::Result<Sample> {
    let ledger = watched::ledger(args.watched.window, global).await?;
    let mut sample = check::look(global).await?;
    sample.ledger = ledger;
    if args.watched.probe {
        let model = Model::new(&sample);
        sample.echoes = Fact::Known(everyone::ask(everyone::of(&model)).await?);
    }
    Ok(sample)
}

fn show(sample: &Sample, global: &Global) -> anyhow::Result<()> {
    let document = SnapshotDocument::new(&Model::new(sample));
    let mut out = io::stdout().lock();
    match global.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?,
        Output::Text if global.quiet => writeln!(out, "{}", document.quiet())?,
        Output::Text => write!(out, "{}", document.text())?,
    }
    Ok(())
}
