//! `caliprobe observe`: the answering side of a diagnosis. Follows its probes on this node for a bounded time, and
//! says what it saw of them.

use std::{
    future::Future,
    io::{self, Write as _},
    thread,
};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

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
    say_ready(&Ready::of(&Model::new(&before)), global.output)?;

    let end = Instant::now() + args.length;
    let closed = end_of_input();
    let mut in_time = false;
    let watched = async {
        tokio::select! {
            () = closed => in_time = true,
            () = sleep_until(end) => {}
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
    let facts = FarEnd { before, after, observed };
    print(&ObservedDocument::new(&args.flow, facts), global)?;
    Ok(Exit::Fine)
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
