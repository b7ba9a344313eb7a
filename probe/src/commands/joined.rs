//! `caliprobe cluster PATH…`: all nodes of a cluster held against each other, by what was saved or pasted of each.

use std::{
    io::Write as _,
    ops::ControlFlow,
    path::PathBuf,
    sync::{Mutex, mpsc},
    thread,
};

use anyhow::{Context as _, bail};
use jiff::Timestamp;

use super::{look::Given, progress::Progress, standard_output};
use crate::{
    causes::{
        cluster::{self, Node},
        node::judge,
    },
    cli::{Global, Output},
    exit::Exit,
    model::Model,
    report::{
        document::{Finding, NotSeen},
        joined::{JoinedDocument, Verdict},
    },
    sample::Sample,
    sources::saved::{self, Found},
};

/// Each holds one node as a whole; of those before it only what the others are held against is kept.
const MOST_READERS: usize = 4;

pub fn run(paths: &[PathBuf], global: &Global) -> anyhow::Result<Exit> {
    let progress = Progress::of("reading what was saved of the nodes", global);
    let document = document(paths, global)?;
    drop(progress);
    let mut out = standard_output::lock();
    match global.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?,
        Output::Text if global.quiet => writeln!(out, "{}", document.quiet())?,
        Output::Text => write!(out, "{}", document.text())?,
    }
    Ok(match document.verdict {
        Verdict::Healthy => Exit::Fine,
        Verdict::Problems => Exit::Proven,
        Verdict::Unknown => Exit::CannotSay,
    })
}

/// Reads and judges everything; an error only where nothing could be read.
pub fn document(paths: &[PathBuf], global: &Global) -> anyhow::Result<JoinedDocument> {
    let Gathered { nodes, mut not_seen, files } = gather(paths, &Given::read(global)?)?;
    if nodes.is_empty() {
        match not_seen.as_slice() {
            [] => bail!("{}", saved::nothing_recognised(&files)),
            [only] => bail!("{}: {}", only.what, only.why),
            [first, rest @ ..] => {
                bail!("no node can be judged: {}: {}, and {} more like it", first.what, first.why, rest.len())
            }
        }
    }
    let (nodes, replaced) = cluster::newest(nodes);
    let joined = cluster::judge(&nodes);
    let groups = cluster::group(&nodes, &joined.found);
    not_seen.extend(replaced);
    not_seen.extend(joined.not_seen);
    Ok(JoinedDocument::new(&Timestamp::now().to_string(), &nodes, groups, not_seen))
}

/// What was read, in the order in which it was given.
struct Gathered {
    nodes: Vec<Node>,
    not_seen: Vec<NotSeen>,
    files: Vec<String>,
}

/// A file as it was read, with its number.
type Read = (usize, String, Vec<u8>);

/// What became of it.
type Judged = (usize, Result<Node, NotSeen>);

/// One thread reads the files, others judge them: no more than one each is held at once.
fn gather(paths: &[PathBuf], given: &Given) -> anyhow::Result<Gathered> {
    let readers = thread::available_parallelism().map_or(1, |count| count.get().min(MOST_READERS));
    let (sender, receiver) = mpsc::sync_channel::<Read>(0);
    let receiver = Mutex::new(receiver);
    let (mut judged, files) = thread::scope(|scope| {
        let threads: Vec<_> = (0..readers).map(|_| scope.spawn(|| judge_all(&receiver, given))).collect();
        let (mut judged, files) = walk(paths, given, &sender);
        drop(sender);
        for thread in threads {
            judged.extend(thread.join().ok().context("a reader has ended early")?);
        }
        anyhow::Ok((judged, files))
    })?;
    judged.sort_by_key(|(number, _)| *number);
    let mut gathered = Gathered { nodes: Vec::new(), not_seen: Vec::new(), files };
    for (_, outcome) in judged {
        match outcome {
            Ok(node) => gathered.nodes.push(node),
            Err(not_seen) => gathered.not_seen.push(not_seen),
        }
    }
    Ok(gathered)
}

/// Hands saved samples on, and judges what was pasted.
fn walk(paths: &[PathBuf], given: &Given, sender: &mpsc::SyncSender<Read>) -> (Vec<Judged>, Vec<String>) {
    let (mut judged, mut files, mut number) = (Vec::new(), Vec::new(), 0);
    for path in paths {
        files.extend(saved::each(path, &mut |found| {
            number += 1;
            match found {
                Found::Saved { file, bytes } => {
                    if sender.send((number, file, bytes)).is_err() {
                        return ControlFlow::Break(());
                    }
                }
                Found::Pasted(samples) => {
                    for sample in samples {
                        let place = sample.node.pasted_from.clone();
                        judged.push((number, node(sample, given).map_err(|why| not_seen(place, &why))));
                    }
                }
                Found::Unreadable { file, why } => judged.push((number, Err(not_seen(file, &why)))),
            }
            ControlFlow::Continue(())
        }));
    }
    (judged, files)
}

fn judge_all(receiver: &Mutex<mpsc::Receiver<Read>>, given: &Given) -> Vec<Judged> {
    let mut judged = Vec::new();
    // A reader that fails must not keep the others from theirs.
    let next = || receiver.lock().unwrap_or_else(std::sync::PoisonError::into_inner).recv();
    while let Ok((number, file, bytes)) = next() {
        let outcome = saved::parse(&bytes).and_then(|sample| {
            drop(bytes);
            node(sample, given)
        });
        judged.push((number, outcome.map_err(|why| not_seen(file, &why))));
    }
    judged
}

fn not_seen(what: String, why: &anyhow::Error) -> NotSeen {
    NotSeen { what, why: format!("{why:#}") }
}

/// What the others are held against, and what `check` says; an error for what is no node.
fn node(mut sample: Sample, given: &Given) -> anyhow::Result<Node> {
    given.enter(&mut sample);
    let model = Model::new(&sample);
    if model.is_inside_pod() {
        bail!("it is the inside of a pod, and no node");
    }
    if sample.missing.is_empty() && !model.shows_calico() {
        bail!("nothing of it is of Calico");
    }
    let findings: Vec<Finding> = judge(&model, None).into_iter().flat_map(|review| review.findings).collect();
    Ok(Node::of(&model, findings))
}
