//! `caliprobe peers`: how does this node stand with each other one?

use std::io::{self, Write as _};

use super::look;
use crate::{
    causes::node::{self, Topic},
    cli::{Global, Output, PeersArgs},
    exit::Exit,
    model::Model,
    probing::peers::greet,
    report::peers::PeersDocument,
    sources,
};

/// Prints the peers. A view: what is wrong does not change its exit code.
pub async fn run(args: &PeersArgs, global: &Global) -> anyhow::Result<Exit> {
    let sample = match &args.input {
        Some(path) => look::saved(path, global)?,
        None => {
            let mut sample = look::live(global).await?.sample;
            sources::gather_control_plane(&global.sources(), &mut sample).await;
            sample
        }
    };
    let model = Model::new(&sample);
    let probes = if args.probe { greet(&model).await? } else { Vec::new() };
    let reviews = node::judge(&model, None);
    let sessions = reviews.into_iter().filter(|review| review.topic == Topic::BgpSessions);
    let mut document =
        PeersDocument::new(&model, &probes, sessions.flat_map(|review| review.findings).collect());
    if args.bad {
        document.keep_bad();
    }
    print(&document, global)?;
    Ok(Exit::Fine)
}

fn print(document: &PeersDocument, global: &Global) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match global.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(document)?)?,
        Output::Text if global.quiet => writeln!(out, "{}", document.quiet())?,
        Output::Text => write!(out, "{}", document.text())?,
    }
    Ok(())
}
