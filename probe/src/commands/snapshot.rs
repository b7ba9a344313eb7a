//! `caliprobe snapshot`: this node's state in a file, and what such a file holds.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use anyhow::{Context as _, bail, ensure};

use super::{check, look, progress::Progress};
use crate::{
    cli::{Global, Output, SnapshotCommand},
    exit::Exit,
    model::Model,
    report::snapshot::SnapshotDocument,
    sample::Sample,
};

pub async fn run(command: &SnapshotCommand, global: &Global) -> anyhow::Result<Exit> {
    match command {
        SnapshotCommand::Save { file } => save(file, global).await?,
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

async fn save(file: &Path, global: &Global) -> anyhow::Result<()> {
    let to_standard_output = file == Path::new("-");
    ensure!(
        to_standard_output || !file.exists(),
        "{} is there already, and a snapshot of before must not be lost: name another file",
        file.display()
    );
    let progress = Progress::of("looking at this node", global);
    let text = serde_json::to_vec(&check::look(global).await?)?;
    drop(progress);
    if to_standard_output {
        io::stdout().lock().write_all(&text)?;
        return Ok(());
    }
    write_whole(file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    eprintln!("{}: {} KiB", file.display(), text.len().div_ceil(1024));
    Ok(())
}

/// All of it or nothing: it gets its name once it is on the disk, and no file of that name is lost.
fn write_whole(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut unnamed = tempfile::NamedTempFile::new_in(folder)?;
    unnamed.write_all(bytes)?;
    unnamed.as_file().sync_all()?;
    unnamed.persist_noclobber(file)?;
    // The name too.
    fs::File::open(folder)?.sync_all()?;
    Ok(())
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
