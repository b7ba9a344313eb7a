//! `caliprobe version`: which caliprobe this is, and which versions of its documents it reads and writes.

use std::io::Write as _;

use super::standard_output;
use crate::{
    changing::journal,
    cli::{Global, Output},
    exit::Exit,
    plan,
    report::{
        document::SCHEMA_VERSION,
        version::{Schemas, VersionDocument},
    },
    sample,
    sources::identity,
};

/// Prints it.
pub fn run(global: &Global) -> anyhow::Result<Exit> {
    let schemas = Schemas {
        documents: SCHEMA_VERSION,
        snapshots: sample::FORMAT_VERSION,
        plans: plan::FORMAT_VERSION,
        journals: journal::FORMAT_VERSION,
    };
    let document = VersionDocument::new(identity::kernel()?, schemas);
    let mut out = standard_output::lock();
    match global.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?,
        Output::Text if global.quiet => writeln!(out, "{}", document.quiet())?,
        Output::Text => write!(out, "{}", document.text())?,
    }
    Ok(Exit::Fine)
}
