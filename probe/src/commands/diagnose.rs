//! `caliprobe diagnose`: where is the packet lost, why, what do I type?

mod endpoints;
mod far_end;
mod kernel_routes;
mod lanes;

use std::io::Write as _;

use anyhow::Context as _;
use futures_util::future::join_all;

use super::{
    following::{self, look_closer, start_follower},
    look,
    progress::Progress,
    standard_output,
};
use crate::{
    causes::trail::DeviceRole,
    cli::{DiagnoseArgs, EndpointName, Global, Output},
    diagnosis::{Diagnosis, FarEnd, Question},
    exit::Exit,
    kernel::trace::TraceRequest,
    model::Model,
    observation::{Handshake, Observation, PeerEcho, Sighting, Traffic},
    probing::{
        follow::{self, Plan},
        handshake::{self, HandshakeSocket},
        marks::Follow,
        peers,
    },
    report::{
        document::{Document, Verdict},
        text,
    },
    sample::{Fact, Sample},
    sources,
};

/// Runs one diagnosis and prints it.
pub async fn run(args: &DiagnoseArgs, global: &Global) -> anyhow::Result<Exit> {
    let target = EndpointName::parse(&args.target).map_err(|error| anyhow::anyhow!("target {error}"))?;
    let from = args
        .from
        .as_deref()
        .map(EndpointName::parse)
        .transpose()
        .map_err(|error| anyhow::anyhow!("source {error}"))?;
    let options = global.sources();
    let way = far_end::way(args)?;
    let progress = waiting(args, global);
    let mut before = following::look(global).await?;
    let mut question = endpoints::resolve(&before, &target, from.as_ref(), args.passive)?;
    question.traffic = args.traffic();
    let pods = question.pod_links(&Model::new(&before));

    let (mut observed, far) = if args.passive {
        look_closer(&mut before, question.target, &pods, global);
        (watch(args, &before, &question).await?, None)
    } else {
        let opened = lanes::open(args, &question, &Model::new(&before), global)?;
        let peer = far_end::start(way.as_ref(), args, &Model::new(&before), &question, &opened.marks).await;
        if let Some(Ok(_)) = &peer {
            // Its start took a while.
            before = following::look(global).await?;
        }
        look_closer(&mut before, question.target, &pods, global);
        let ended = Box::pin(far_end::finish(peer));
        Box::pin(probe(args, &before, &question, opened, ended)).await?
    };
    if !args.passive {
        observed.next_hop_echoes = next_hop_echoes(&Model::new(&before), &question).await?;
    }
    let mut after = following::look(global).await.context("the second time")?;
    look_closer(&mut after, question.target, &pods, global);
    if !args.passive {
        observed.kernel_routes = kernel_routes::ask(&question).await?;
    }
    let mut diagnosis = Diagnosis { passive: args.passive, question, before, after, observed, far };
    let mut documents = diagnosis.documents();
    let only_echo = !args.passive && diagnosis.question.traffic == Traffic::Echo;
    if only_echo && documents.iter().any(|document| document.verdict == Verdict::Unknown) {
        diagnosis.observed.handshakes = handshakes(&diagnosis.question, &diagnosis.before, global).await?;
        documents = diagnosis.documents();
    }
    if documents.iter().any(|document| document.verdict != Verdict::Reachable) {
        sources::gather_control_plane(&options, &mut diagnosis.before).await;
        documents = diagnosis.documents();
    }
    if let Some(path) = &args.record {
        look::record(&diagnosis, path)?;
    }
    drop(progress);
    print(&documents, global)?;
    Ok(documents
        .iter()
        .map(|document| exit_of(document.verdict))
        .max_by_key(|exit| weight(*exit))
        .unwrap_or(Exit::CannotSay))
}

/// What it waits for.
fn waiting(args: &DiagnoseArgs, global: &Global) -> Progress {
    if args.passive {
        return Progress::within("watching what passes", args.timeout, global);
    }
    Progress::of("following probes", global)
}

/// A proven fault outweighs what cannot be said.
fn weight(exit: Exit) -> u8 {
    match exit {
        Exit::Fine => 0,
        Exit::CannotSay => 1,
        Exit::Proven => 2,
        Exit::Failed | Exit::JournalLeft => 3,
    }
}

fn exit_of(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Reachable => Exit::Fine,
        Verdict::BlackHole | Verdict::Degraded | Verdict::Denied => Exit::Proven,
        Verdict::Unknown => Exit::CannotSay,
    }
}

async fn probe(
    args: &DiagnoseArgs,
    before: &Sample,
    question: &Question,
    opened: lanes::Opened,
    at_last: impl Future<Output = Option<Fact<FarEnd>>>,
) -> anyhow::Result<(Observation, Option<Fact<FarEnd>>)> {
    let request = TraceRequest {
        follow: Follow::Probes(opened.marks),
        taps: taps(before, question),
        network_namespace: before.node.network_namespace,
    };
    let mut follower = start_follower(&request, args.no_bpf)?;
    let plan = Plan { target: question.target, timeout: args.timeout };
    let leaving = |sighting: &Sighting| {
        sighting.outgoing
            && before
                .links
                .iter()
                .any(|link| link.index == sighting.link && DeviceRole::of(link) != DeviceRole::Tunnel)
    };
    follow::send_and_follow(plan, opened.lanes, &mut follower, &leaving, at_last).await
}

/// The devices whose traffic tells where a packet of this question is.
fn taps(before: &Sample, question: &Question) -> Vec<u32> {
    let model = Model::new(before);
    following::taps(&model, &question.pod_links(&model))
}

async fn watch(args: &DiagnoseArgs, before: &Sample, question: &Question) -> anyhow::Result<Observation> {
    let source = question
        .senders
        .first()
        .and_then(|chosen| chosen.sender.address())
        .context("--passive needs --from with an address: which two addresses talk to each other?")?;
    let request = TraceRequest {
        follow: Follow::Pair { source, target: question.target },
        taps: taps(before, question),
        network_namespace: before.node.network_namespace,
    };
    let mut follower = start_follower(&request, args.no_bpf)?;
    follow::watch_only(&mut follower, args.timeout).await
}

/// Where a block's route has several next hops, the probes meet one of them: the others are asked themselves.
async fn next_hop_echoes(model: &Model<'_>, question: &Question) -> anyhow::Result<Vec<PeerEcho>> {
    match model.tunnel_next_hops(question.target) {
        several if several.len() > 1 => peers::ask_nodes(several.into_iter()).await,
        _ => Ok(Vec::new()),
    }
}

/// Tries TCP from every sender at once, because echo requests told nothing.
async fn handshakes(question: &Question, before: &Sample, global: &Global) -> anyhow::Result<Vec<Handshake>> {
    let mut attempts = Vec::new();
    for (flow, chosen) in (0u8..).zip(&question.senders) {
        for port in handshake::PORTS {
            let socket = lanes::at_sender(chosen, before, global, HandshakeSocket::open)?;
            let target = question.target;
            attempts.push(async move {
                Handshake { flow, port, accepted: socket.is_accepted(target, port).await }
            });
        }
    }
    Ok(join_all(attempts).await)
}

fn print(documents: &[Document], global: &Global) -> anyhow::Result<()> {
    let mut out = standard_output::lock();
    let Some((first, rest)) = documents.split_first() else { return Ok(()) };
    match global.output {
        Output::Json => {
            let mut value = serde_json::to_value(first)?;
            if let (Some(object), Some(second)) = (value.as_object_mut(), rest.first()) {
                object.insert("other_source".to_owned(), serde_json::to_value(second)?);
            }
            writeln!(out, "{}", serde_json::to_string_pretty(&value)?)?;
        }
        Output::Text if global.quiet => writeln!(out, "{}", text::quiet(first))?,
        Output::Text => {
            for document in documents {
                write!(out, "{}", text::diagnosis(document))?;
            }
        }
    }
    Ok(())
}
