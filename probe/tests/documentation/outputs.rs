//! Outputs that pages show. A code block whose line before is one of these markers holds what caliprobe says today:
//!
//! - `<!-- recorded: NAME -->`: of `tests/recorded/NAME.json.gz`, judged again;
//! - `<!-- snapshot: FILE -->`: of a snapshot, which its own test keeps fresh;
//! - with `, findings` after it: without what was fine;
//! - with `, in part` after it: some lines of it, in their order, with `…` for what is left out where it matters.
//!
//! The block's first line, where it begins with a prompt, is the command, and stays.

use std::{
    fs::{self, File},
    io::Read as _,
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use caliprobe::{
    commands::check::judge_saved,
    diagnosis::Diagnosis,
    report::{check::CheckDocument, text},
    sample::Sample,
};
use flate2::read::GzDecoder;

use crate::pages::TOP;

const FENCE: &str = "```";

/// What stands for lines that are left out.
const GAP: &str = "…";

struct Marker<'a> {
    source: Source<'a>,
    extent: Extent,
}

enum Source<'a> {
    Recorded(&'a str),
    Snapshot(&'a str),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Whole,
    Findings,
    Part,
}

/// The page with every output as it is today.
pub fn refreshed(page: &str) -> Result<String> {
    let mut lines = page.lines();
    let mut text = String::new();
    while let Some(line) = lines.next() {
        push(&mut text, line);
        let Some(marker) = Marker::parse(line) else { continue };
        ensure!(lines.next() == Some(FENCE), "no code block follows {line}");
        push(&mut text, FENCE);
        let mut shown = lines.by_ref().take_while(|line| *line != FENCE).peekable();
        if let Some(command) = shown.next_if(|line| is_command(line)) {
            push(&mut text, command);
        }
        let shown: Vec<&str> = shown.collect();
        text.push_str(&marker.output(&shown).with_context(|| line.to_owned())?);
        push(&mut text, FENCE);
    }
    Ok(text)
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn is_command(line: &str) -> bool {
    line.starts_with("# ") || line.starts_with("$ ")
}

impl<'a> Marker<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let words = line.strip_prefix("<!-- ")?.strip_suffix(" -->")?;
        let (kind, words) = words.split_once(": ")?;
        let (name, extent) = match words.split_once(", ") {
            None => (words, Extent::Whole),
            Some((name, "findings")) => (name, Extent::Findings),
            Some((name, "in part")) => (name, Extent::Part),
            Some(_) => return None,
        };
        let source = match kind {
            "recorded" => Source::Recorded(name),
            "snapshot" => Source::Snapshot(name),
            _ => return None,
        };
        Some(Self { source, extent })
    }

    /// What the block must hold, where it holds `shown` now.
    fn output(&self, shown: &[&str]) -> Result<String> {
        let whole = match self.source {
            Source::Recorded(name) => judged_again(name)?,
            Source::Snapshot(file) => snapshot(file)?,
        };
        match self.extent {
            Extent::Whole => Ok(whole),
            Extent::Findings => {
                let is_fine = |line: &&str| line.starts_with("ok ") || line.starts_with("?  ");
                let findings: Vec<&str> = whole.lines().take_while(|line| !is_fine(line)).collect();
                Ok(findings.join("\n").trim_end().to_owned() + "\n")
            }
            Extent::Part => {
                let mut left = whole.lines();
                for line in shown.iter().filter(|line| **line != GAP && !line.is_empty()) {
                    if !left.any(|other| other == *line) {
                        bail!("the output has no such line, or not in this order: {line}");
                    }
                }
                Ok(shown.iter().flat_map(|line| [*line, "\n"]).collect())
            }
        }
    }
}

/// What caliprobe says of a recording.
fn judged_again(name: &str) -> Result<String> {
    let path = Path::new(TOP).join("tests/recorded").join(name).with_extension("json.gz");
    let mut recorded = String::new();
    GzDecoder::new(File::open(&path).with_context(|| path.display().to_string())?)
        .read_to_string(&mut recorded)?;
    if let Ok(diagnosis) = serde_json::from_str::<Diagnosis>(&recorded) {
        return Ok(diagnosis.documents().iter().map(text::diagnosis).collect());
    }
    let sample: Sample = serde_json::from_str(&recorded)?;
    Ok(judge_saved(&[sample])?.iter().map(CheckDocument::text).collect())
}

/// What a snapshot of insta holds.
fn snapshot(file: &str) -> Result<String> {
    let text = fs::read_to_string(Path::new(TOP).join(file)).with_context(|| file.to_owned())?;
    let head = text.strip_prefix("---\n").context("it is no snapshot")?;
    let (_, body) = head.split_once("\n---\n").context("it is no snapshot")?;
    Ok(body.trim_end().to_owned() + "\n")
}
