//! `caliprobe detach`: removes what a killed caliprobe left, and shows it.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::{
    cli::{DetachArgs, Global, Output},
    exit::Exit,
    kernel::janitor,
    report::{document::SCHEMA_VERSION, ledger as report},
    sources::traffic_control::Filter,
};

#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    command: &'static str,
    version: &'static str,
    removed: &'a [Filter],
}

/// Running instances keep theirs.
pub fn run(args: &DetachArgs, global: &Global) -> anyhow::Result<Exit> {
    let removed = janitor::sweep(args.keep_clsact)?;
    let mut out = io::stdout().lock();
    match global.output {
        Output::Json => {
            let document = Document {
                schema_version: SCHEMA_VERSION,
                command: "detach",
                version: env!("CARGO_PKG_VERSION"),
                removed: &removed,
            };
            writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?;
        }
        Output::Text if removed.is_empty() => {
            writeln!(out, "nothing to remove: no killed caliprobe left a filter in this network namespace")?;
        }
        Output::Text => {
            for filter in &removed {
                writeln!(out, "removed {}", report::filter_words(filter))?;
            }
        }
    }
    Ok(Exit::Fine)
}
