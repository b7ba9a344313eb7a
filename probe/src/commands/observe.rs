//! `caliprobe observe`: the answering side of a diagnosis. Follows its probes on this node for a bounded time, and
//! says what it saw of them.

use std::{
    future::Future,
    io::{self, Write as _},
    thread,
};

use tokio::{sync::oneshot, time::sleep};

use super::following;
use crate::{
    cli::{Global, ObserveArgs, Output},
    diagnosis::FarEnd,
    exit::Exit,
    kernel::trace::TraceRequest,
    model::Model,
    probing::{follow, marks::Follow},
    report::observed::{ObservedDocument, Ready},
    sources,
};

/// Watches until standard input ends or the time is over, and prints what was seen.
pub async fn run(args: &ObserveArgs, global: &Global) -> anyhow::Result<Exit> {
    let ready = |ready: &Ready| say_ready(ready, global.output);
    let facts = watch(args, global, ready, end_of_input()).await?;
    print(&ObservedDocument::new(&args.flow, facts), global)?;
    Ok(Exit::Fine)
}

/// Watches for the probes of a flow until `end`, or until the time is over. `ready` hears when none is missed any more.
pub(super) async fn watch(
    args: &ObserveArgs,
    global: &Global,
    ready: impl FnOnce(&Ready) -> anyhow::Result<()>,
    end: impl Future<Output = ()>,
) -> anyhow::Result<FarEnd> {
    let target = args.flow.target;
    let mut before = following::look(global).await?;
    let pods: Vec<u32> = Model::new(&before).pod(target).map(|pod| pod.link).into_iter().collect();
    following::look_closer(&mut before, target, &pods, global);
    let request = TraceRequest {
        follow: Follow::Probes(args.flow.clone()),
        taps: following::taps(&Model::new(&before), &pods),
        network_namespace: before.node.network_namespace,
    };
    let mut follower = following::start_follower(&request, args.no_bpf)?;
    ready(&Ready::of(&Model::new(&before)))?;

    let mut in_time = false;
    let watched = async {
        tokio::select! {
            () = end => in_time = true,
            () = sleep(args.length) => {}
        }
    };
    let mut observed = follow::watch_until(&mut follower, watched).await?;
    if !in_time {
        observed.missed.push(format!("it watched for {} s and no longer", args.length.as_secs()));
    }
    drop(follower);

    let mut after = following::look(global).await?;
    following::look_closer(&mut after, target, &pods, global);
    sources::gather_control_plane(&global.sources(), &mut before).await;
    Ok(FarEnd { before, after, observed })
}

/// Whoever waits for this begins to send now.
fn say_ready(ready: &Ready, output: Output) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if output == Output::Json {
        writeln!(out, "{}", serde_json::to_string(ready)?)?;
        out.flush()?;
    }
    Ok(())
}

/// Standard input may be anything, and some of it can only be read by a thread that waits.
fn end_of_input() -> impl Future<Output = ()> {
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || {
        // An input that cannot be read has ended too.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        sender.send(())
    });
    async {
        let _ = receiver.await;
    }
}

fn print(document: &ObservedDocument, global: &Global) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match global.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string(document)?)?,
        Output::Text if global.quiet => writeln!(out, "{}", document.quiet())?,
        Output::Text => write!(out, "{}", document.text())?,
    }
    Ok(())
}
