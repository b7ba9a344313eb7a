//! `caliprobe bundle`: everything that a ticket needs of this node, in one archive, without what must not leave it.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use anyhow::{Context as _, ensure};
use flate2::{Compression, write::GzEncoder};
use serde::Serialize;
use serde_json::Value;

use super::{check, preflight, progress::Progress};
use crate::{
    cli::{BundleArgs, Global, Output},
    daemon::journal,
    exit::Exit,
    masking::{Key, Mask, Scrubbed, scrub, scrub_value},
    model::Model,
    report::{
        bundle::{BundleDocument, Content},
        document::{Header, Node, NotSeen},
        text::{QUIET_WIDTH, shorten},
    },
    sample::Sample,
    sources::{
        logs,
        saved::{self, BUNDLE_LIST, BUNDLE_SNAPSHOT},
    },
};

/// The newest of the daemon's events; a ticket is about what happened lately.
const MOST_EVENTS: usize = 5_000;
/// Bytes of a key that nobody guesses.
const SHORTEST_KEY: usize = 16;

pub async fn run(args: &BundleArgs, global: &Global) -> anyhow::Result<Exit> {
    let to_standard_output = args.file == Path::new("-");
    ensure!(
        to_standard_output || !args.file.exists(),
        "{} is there already: name another file",
        args.file.display()
    );
    let key = args.mask.then(|| mask_key(args.mask_key.as_deref())).transpose()?;
    let progress = Progress::of("looking at this node", global);
    let sample = check::look(global).await?;
    let preflight = preflight::document(&sample, global);
    let mut packing = Packing::new(&sample, key.as_ref())?;
    packing.add_snapshot_and_check()?;
    packing.add_document("preflight.json", "what this kernel and these privileges allow", &preflight)?;
    packing.add_events(&args.events_dir);
    packing.add_logs(&global.root);
    let (document, archive) = packing.finish()?;
    drop(progress);
    if to_standard_output {
        io::stdout().lock().write_all(&archive)?;
        eprint!("{}", document.text("standard output", archive.len()));
        return Ok(Exit::Fine);
    }
    saved::write_whole(&args.file, |writer| writer.write_all(&archive))
        .with_context(|| format!("cannot write {}", args.file.display()))?;
    let name = args.file.display().to_string();
    let mut out = io::stdout().lock();
    match global.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?,
        Output::Text if global.quiet => {
            writeln!(out, "{}", shorten(&document.headline(&name, archive.len()), QUIET_WIDTH))?;
        }
        Output::Text => write!(out, "{}", document.text(&name, archive.len()))?,
    }
    Ok(Exit::Fine)
}

/// The caller's, so that bundles of several nodes fit together, or one that nobody has.
fn mask_key(file: Option<&Path>) -> anyhow::Result<Key> {
    let Some(file) = file else { return Ok(Key::new(rand::random::<[u8; 32]>())) };
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    ensure!(
        bytes.len() >= SHORTEST_KEY,
        "{} holds {} bytes, and a key has at least {SHORTEST_KEY}: head -c 32 /dev/urandom > FILE",
        file.display(),
        bytes.len()
    );
    Ok(Key::new(bytes))
}

/// A bundle as it grows.
struct Packing {
    /// As it may leave the node; everything that is judged is judged of it.
    sample: Sample,
    mask: Option<Mask>,
    files: Vec<(Content, Vec<u8>)>,
    left_out: Vec<NotSeen>,
    secrets: usize,
}

impl Packing {
    fn new(sample: &Sample, key: Option<&Key>) -> anyhow::Result<Self> {
        let (value, secrets) = scrub_value(serde_json::to_value(sample)?);
        let scrubbed: Sample = serde_json::from_value(value).context("the sample without secrets is none")?;
        let mut mask = key.map(|key| Mask::of(key, &scrubbed));
        let sample = match &mut mask {
            Some(mask) => mask.sample(&scrubbed)?,
            None => scrubbed,
        };
        let mut packing = Self { sample, mask, files: Vec::new(), left_out: Vec::new(), secrets };
        packing.leave_out(
            "CNI configurations and kubeconfigs",
            "they hold keys and tokens; the snapshot has the networks' names, plug-ins and kind of datastore",
        );
        packing.leave_out(
            "environments of processes",
            "they hold passwords; the snapshot has names of Calico's own",
        );
        Ok(packing)
    }

    fn leave_out(&mut self, what: &str, why: impl Into<String>) {
        self.left_out.push(NotSeen { what: what.to_owned(), why: why.into() });
    }

    fn add(&mut self, name: &str, what: &str, bytes: Vec<u8>) {
        let content = Content { name: name.to_owned(), what: what.to_owned(), bytes: bytes.len() };
        self.files.push((content, bytes));
    }

    fn add_snapshot_and_check(&mut self) -> anyhow::Result<()> {
        let snapshot = serde_json::to_vec(&self.sample)?;
        self.add(BUNDLE_SNAPSHOT, "the node's state: routes, devices, rules, sets, sessions, pods", snapshot);
        match check::judge_saved(std::slice::from_ref(&self.sample)) {
            Ok(documents) => {
                for document in documents {
                    self.add("check.txt", "what is wrong with it", document.text().into_bytes());
                    self.add("check.json", "the same for programs", serde_json::to_vec_pretty(&document)?);
                }
            }
            Err(error) => self.leave_out("check", format!("{error:#}")),
        }
        Ok(())
    }

    fn add_document(&mut self, name: &str, what: &str, document: &impl Serialize) -> anyhow::Result<()> {
        let value = self.cleaned(serde_json::to_value(document)?);
        self.add(name, what, serde_json::to_vec_pretty(&value)?);
        Ok(())
    }

    fn cleaned(&mut self, value: Value) -> Value {
        let (value, removed) = scrub_value(value);
        self.secrets += removed;
        match &mut self.mask {
            Some(mask) => mask.value(value),
            None => value,
        }
    }

    fn add_events(&mut self, folder: &Path) {
        let events = match journal::read(folder) {
            Ok(events) if events.is_empty() => {
                return self.leave_out("events", format!("none at {}", folder.display()));
            }
            Ok(events) => events,
            Err(error) => return self.leave_out("events", format!("{error:#}")),
        };
        let mut lines = Vec::new();
        for event in events.iter().skip(events.len().saturating_sub(MOST_EVENTS)) {
            let Ok(value) = serde_json::to_value(event) else { continue };
            lines.push(self.cleaned(value).to_string());
        }
        let what = format!("{} black holes that the daemon saw open or close", lines.len());
        self.add("events.jsonl", &what, (lines.join("\n") + "\n").into_bytes());
    }

    fn add_logs(&mut self, root: &Path) {
        if self.mask.is_some() {
            return self.leave_out("logs", "they name pods and nodes that nobody can tell from other words");
        }
        let tails = logs::tails(root);
        if tails.is_empty() {
            return self
                .leave_out("logs", format!("none of Calico's under {}", root.join("var/log").display()));
        }
        for logs::Tail { of, text } in tails {
            let Scrubbed { text, removed } = scrub(&text);
            self.secrets += removed;
            let name = format!("log-{}.txt", file_name(&of));
            self.add(&name, &format!("the end of the log of {of}"), text.into_bytes());
        }
    }

    /// The archive; what it holds comes first.
    fn finish(self) -> anyhow::Result<(BundleDocument, Vec<u8>)> {
        let model = Model::new(&self.sample);
        let header = Header::new("bundle", &self.sample.time, Node::of(&model));
        let folder = format!("caliprobe-bundle-{}", file_name(&header.node.name));
        let (contents, bytes): (Vec<Content>, Vec<Vec<u8>>) = self.files.into_iter().unzip();
        let document = BundleDocument {
            header,
            masked: self.mask.is_some(),
            files: contents,
            left_out: self.left_out,
            secrets_removed: self.secrets,
        };
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        let list = serde_json::to_vec_pretty(&document)?;
        let names = document.files.iter().map(|file| file.name.as_str());
        for (name, bytes) in
            std::iter::once(BUNDLE_LIST).chain(names).zip(std::iter::once(&list).chain(&bytes))
        {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, format!("{folder}/{name}"), bytes.as_slice())?;
        }
        Ok((document, archive.into_inner()?.finish()?))
    }
}

/// What a name of a file may hold.
fn file_name(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    text.chars().map(|c| if is_plain(c) { c } else { '-' }).take(100).collect()
}
