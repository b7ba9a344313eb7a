//! `caliprobe peers`: how does this node stand with each other one?

use super::{look, progress::Progress, several};
use crate::{
    causes::node::{self, Topic},
    cli::{Global, PeersArgs},
    exit::Exit,
    model::Model,
    probing::peers::greet,
    report::peers::PeersDocument,
    sample::Sample,
    sources,
};

/// Prints the peers. A view: what is wrong does not change its exit code.
pub async fn run(args: &PeersArgs, global: &Global) -> anyhow::Result<Exit> {
    let progress = Progress::of("asking about the other nodes", global);
    let samples = if let Some(path) = &args.input {
        look::saved(path, global)?
    } else {
        let mut sample = look::live(global).await?.sample;
        sources::gather_control_plane(&global.sources(), &mut sample).await;
        vec![sample]
    };
    let mut documents = Vec::with_capacity(samples.len());
    for sample in &samples {
        let mut document = document(args, sample).await?;
        if args.input.is_none() {
            document.add_traffic(sources::daemon::traffic(global.api_socket()).await);
        }
        if args.bad {
            document.keep_bad();
        }
        documents.push(document);
    }
    drop(progress);
    several::print(&documents, global)?;
    Ok(Exit::Fine)
}

async fn document(args: &PeersArgs, sample: &Sample) -> anyhow::Result<PeersDocument> {
    let model = Model::new(sample);
    let probes = if args.probe { greet(&model).await? } else { Vec::new() };
    let reviews = node::judge(&model, None);
    let sessions = reviews.into_iter().filter(|review| review.topic == Topic::BgpSessions);
    Ok(PeersDocument::new(&model, &probes, sessions.flat_map(|review| review.findings).collect()))
}
