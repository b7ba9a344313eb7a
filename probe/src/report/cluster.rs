//! The cluster as Prometheus knows it: nodes, and loss between them, the worst first.

use std::{cmp::Ordering, collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

use super::{
    document::{NotSeen, SCHEMA_VERSION},
    table::{self, Align},
    text::{QUIET_WIDTH, printable, push, shorten},
};
use crate::sources::prometheus::Sample;

/// Rows of the text; the document has all.
const SHOWN: usize = 20;

/// What Prometheus answered. Series of the recording rules, unless said otherwise.
#[derive(Debug, Default)]
pub struct Facts {
    pub names: Vec<Sample>,
    pub judged: Vec<Sample>,
    pub dark: Vec<Sample>,
    pub deaf: Vec<Sample>,
    pub mute: Vec<Sample>,
    pub loss: Vec<Sample>,
    pub sent: Vec<Sample>,
    /// How many directed pairs lose packets, and how many were judged.
    pub lossy_pairs: Vec<Sample>,
    pub judged_pairs: Vec<Sample>,
    /// `caliprobe_black_hole_open`, with the node's name.
    pub black_holes: Vec<Sample>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Healthy,
    Problems,
    /// No pair of nodes could be judged.
    Unknown,
}

/// How a node stands with the others, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Others send to it, and nobody hears of it.
    Dark,
    /// What others send to it is lost.
    Deaf,
    /// What it sends is lost.
    Mute,
    /// Its counters cannot be compared: its probe is away, was restarted lately, or lacks a program.
    Blind,
    Fine,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NodeEntry {
    pub standing: Standing,
    pub name: String,
    pub address: String,
}

/// One direction between two nodes, over five minutes.
#[derive(Debug, Serialize)]
pub struct PairEntry {
    pub source: String,
    pub destination: String,
    /// Names, where they are known.
    pub source_node: Option<String>,
    pub destination_node: Option<String>,
    /// Segments that left the source's wire for the destination; absent where the two answers were not of one moment.
    pub sent: Option<u64>,
    /// The share of them that did not reach the destination's wire, between 0 and 1.
    pub loss: f64,
}

#[derive(Debug, Serialize)]
pub struct BlackHoleEntry {
    pub node: String,
    pub cause: String,
    pub subject: String,
}

#[derive(Debug, Serialize)]
pub struct ClusterDocument {
    pub schema_version: u32,
    pub command: &'static str,
    pub version: &'static str,
    /// RFC 3339, UTC.
    pub time: String,
    pub verdict: Verdict,
    /// Directed pairs that both ends counted all the time, with 100 packets or more.
    pub judged_pairs: u64,
    pub lossy_pairs: u64,
    pub nodes: Vec<NodeEntry>,
    pub pairs: Vec<PairEntry>,
    pub black_holes: Vec<BlackHoleEntry>,
    pub not_seen: Vec<NotSeen>,
}

impl ClusterDocument {
    pub fn new(time: &str, facts: &Facts) -> Self {
        let names: BTreeMap<&str, &str> = facts
            .names
            .iter()
            .filter_map(|name| Some((label(name, "address")?, label(name, "node")?)))
            .collect();
        let nodes = nodes(facts, &names);
        let pairs = pairs(facts, &names);
        let black_holes: Vec<BlackHoleEntry> = facts.black_holes.iter().filter_map(black_hole).collect();
        let judged_pairs = count(&facts.judged_pairs);
        let has_bad_node = nodes.iter().any(|node| node.standing < Standing::Blind);
        let verdict = if has_bad_node || !pairs.is_empty() || !black_holes.is_empty() {
            Verdict::Problems
        } else if judged_pairs == 0 {
            Verdict::Unknown
        } else {
            Verdict::Healthy
        };
        Self {
            schema_version: SCHEMA_VERSION,
            command: "cluster",
            version: env!("CARGO_PKG_VERSION"),
            time: time.to_owned(),
            verdict,
            judged_pairs,
            lossy_pairs: count(&facts.lossy_pairs),
            not_seen: not_seen(&nodes, judged_pairs),
            nodes,
            pairs,
            black_holes,
        }
    }

    /// The answer, in one line.
    pub fn headline(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Healthy => "HEALTHY",
            Verdict::Problems => "PROBLEMS",
            Verdict::Unknown => "UNKNOWN",
        };
        let mut parts: Vec<String> = Vec::new();
        for (standing, word) in [
            (Standing::Dark, "dark"),
            (Standing::Deaf, "deaf"),
            (Standing::Mute, "mute"),
            (Standing::Blind, "blind"),
        ] {
            let count = self.nodes.iter().filter(|node| node.standing == standing).count();
            if count > 0 {
                parts.push(format!("{count} of {} nodes {word}", self.nodes.len()));
            }
        }
        if parts.is_empty() {
            parts.push(format!("{} nodes", self.nodes.len()));
        }
        parts.push(format!("{} of {} pairs lossy", self.lossy_pairs, self.judged_pairs));
        match self.black_holes.len() {
            0 => {}
            1 => parts.push("1 black hole open".to_owned()),
            more => parts.push(format!("{more} black holes open")),
        }
        format!("{verdict}  {}", parts.join(", "))
    }

    pub fn quiet(&self) -> String {
        shorten(&self.headline(), QUIET_WIDTH)
    }

    /// The whole view.
    pub fn text(&self) -> String {
        let mut text = self.headline();
        text.push('\n');
        for node in self.nodes.iter().filter(|node| node.standing != Standing::Fine).take(SHOWN) {
            push(&mut text, "node", &format!("{} ({}) {}", node.name, node.address, node.standing.words()));
        }
        for black_hole in self.black_holes.iter().take(SHOWN) {
            let BlackHoleEntry { node, cause, subject } = black_hole;
            push(&mut text, "hole", &format!("on {node}: {cause}, {subject}"));
        }
        self.push_pairs(&mut text);
        if let Some(command) = self.next_command() {
            push(&mut text, "do", &command);
        }
        for not_seen in &self.not_seen {
            push(&mut text, "?", &format!("not seen    {}: {}", not_seen.what, not_seen.why));
        }
        printable(&text)
    }

    fn push_pairs(&self, text: &mut String) {
        if self.pairs.is_empty() {
            return;
        }
        let heading =
            [("LOST", Align::Right), ("OF", Align::Right), ("FROM", Align::Left), ("TO", Align::Left)];
        let rows = self.pairs.iter().take(SHOWN).map(|pair| {
            let end = |name: &Option<String>, address: &str| {
                name.as_ref().map_or_else(|| address.to_owned(), |name| format!("{name} {address}"))
            };
            vec![
                format!("{:.0} %", pair.loss * 100.0),
                pair.sent.map_or_else(|| "?".to_owned(), |sent| sent.to_string()),
                end(&pair.source_node, &pair.source),
                end(&pair.destination_node, &pair.destination),
            ]
        });
        text.push('\n');
        for line in table::lines(&heading, rows) {
            text.push_str(&line);
            text.push('\n');
        }
        if self.pairs.len() > SHOWN {
            let _ = writeln!(text, "and {} more", self.pairs.len() - SHOWN);
        }
    }

    /// Where to look next for what is worst.
    fn next_command(&self) -> Option<String> {
        let on = |node: &str, command: String| Some(format!("on {node}: {command}"));
        if let Some(node) = self.nodes.first().filter(|node| node.standing < Standing::Blind) {
            return match node.standing {
                Standing::Dark => on("any other node", format!("ping -c 3 {}", node.address)),
                _ => on(&node.name, "caliprobe check".to_owned()),
            };
        }
        if let Some(black_hole) = self.black_holes.first() {
            return on(&black_hole.node, "caliprobe check".to_owned());
        }
        let pair = self.pairs.first()?;
        let name = |name: &Option<String>, address: &str| name.clone().unwrap_or_else(|| address.to_owned());
        let destination = name(&pair.destination_node, &pair.destination);
        let command = format!("caliprobe diagnose A-POD-ON-{destination} --from host");
        on(&name(&pair.source_node, &pair.source), command)
    }
}

impl Standing {
    fn words(self) -> &'static str {
        match self {
            Self::Dark => "is dark: others send to its pods, and nothing comes from it",
            Self::Deaf => "is deaf: what most others send to its pods is lost",
            Self::Mute => "is mute: what its pods send to most others is lost",
            Self::Blind => "is blind: its counters cannot be compared",
            Self::Fine => "is fine",
        }
    }
}

fn nodes(facts: &Facts, names: &BTreeMap<&str, &str>) -> Vec<NodeEntry> {
    let has =
        |samples: &[Sample], address: &str| samples.iter().any(|one| label(one, "address") == Some(address));
    let standing = |address: &str| {
        if has(&facts.dark, address) {
            Standing::Dark
        } else if has(&facts.deaf, address) {
            Standing::Deaf
        } else if has(&facts.mute, address) {
            Standing::Mute
        } else if has(&facts.judged, address) {
            Standing::Fine
        } else {
            Standing::Blind
        }
    };
    let entry = |(address, name): (&&str, &&str)| NodeEntry {
        standing: standing(address),
        name: (*name).to_owned(),
        address: (*address).to_owned(),
    };
    let mut nodes: Vec<NodeEntry> = names.iter().map(entry).collect();
    nodes.sort();
    nodes
}

fn pairs(facts: &Facts, names: &BTreeMap<&str, &str>) -> Vec<PairEntry> {
    let ends = |sample: &Sample| {
        Some((label(sample, "source")?.to_owned(), label(sample, "destination")?.to_owned()))
    };
    let sent: BTreeMap<_, f64> =
        facts.sent.iter().filter_map(|sent| Some((ends(sent)?, sent.value))).collect();
    let name = |address: &str| names.get(address).map(|name| (*name).to_owned());
    let entry = |loss: &Sample| {
        let ends = ends(loss)?;
        let sent = sent.get(&ends).map(|sent| whole(*sent));
        let (source, destination) = ends;
        Some(PairEntry {
            source_node: name(&source),
            destination_node: name(&destination),
            source,
            destination,
            sent,
            loss: loss.value.clamp(0.0, 1.0),
        })
    };
    let mut pairs: Vec<PairEntry> = facts.loss.iter().filter_map(entry).collect();
    pairs.sort_by(|one, other| {
        other.loss.partial_cmp(&one.loss).unwrap_or(Ordering::Equal).then(other.sent.cmp(&one.sent))
    });
    pairs
}

fn black_hole(sample: &Sample) -> Option<BlackHoleEntry> {
    let text = |name| Some(label(sample, name)?.to_owned());
    Some(BlackHoleEntry { node: text("node")?, cause: text("cause")?, subject: text("subject")? })
}

fn not_seen(nodes: &[NodeEntry], judged_pairs: u64) -> Vec<NotSeen> {
    let blind: Vec<&str> =
        nodes.iter().filter(|node| node.standing == Standing::Blind).map(|node| node.name.as_str()).collect();
    let mut not_seen = Vec::new();
    if !blind.is_empty() {
        not_seen.push(NotSeen {
            what: "loss to and from nodes that are blind".to_owned(),
            why:
                "their probe is away, was started in the last six minutes, or has devices without programs: \
                  `systemctl status caliprobe` there"
                    .to_owned(),
        });
    }
    if judged_pairs == 0 {
        not_seen.push(NotSeen {
            what: "loss between nodes".to_owned(),
            why: "no pair exchanged 100 packets in five minutes that both ends counted".to_owned(),
        });
    }
    not_seen
}

fn label<'a>(sample: &'a Sample, name: &str) -> Option<&'a str> {
    sample.labels.get(name).map(String::as_str)
}

fn count(samples: &[Sample]) -> u64 {
    samples.first().map_or(0, |sample| whole(sample.value))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rounded count; what is out of range becomes the nearest that is not"
)]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(labels: &[(&str, &str)], value: f64) -> Sample {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Sample { labels, value }
    }

    fn healthy() -> Facts {
        let node = |name, address| sample(&[("node", name), ("address", address)], 1.0);
        let nodes = || vec![node("a", "10.0.0.1"), node("b", "10.0.0.2"), node("c", "10.0.0.3")];
        Facts { names: nodes(), judged: nodes(), judged_pairs: vec![sample(&[], 6.0)], ..Facts::default() }
    }

    #[test]
    fn a_lossy_pair_comes_first_with_what_to_type() {
        let ends = [("source", "10.0.0.1"), ("destination", "10.0.0.2")];
        let back = [("source", "10.0.0.2"), ("destination", "10.0.0.9")];
        let facts = Facts {
            loss: vec![sample(&back, 0.25), sample(&ends, 1.0)],
            sent: vec![sample(&ends, 1200.4)],
            lossy_pairs: vec![sample(&[], 2.0)],
            ..healthy()
        };
        let document = ClusterDocument::new("2026-01-01T00:00:00Z", &facts);
        assert_eq!(document.verdict, Verdict::Problems);
        insta::assert_snapshot!(document.text());
    }

    #[test]
    fn a_dark_node_comes_before_those_that_are_blind() {
        let mut facts = healthy();
        facts.judged.truncate(1);
        facts.dark = vec![sample(&[("address", "10.0.0.3")], 2.0)];
        facts.black_holes = vec![sample(
            &[("node", "a"), ("cause", "stale-tunnel-route"), ("subject", "10.200.0.0/26")],
            1.0,
        )];
        insta::assert_snapshot!(ClusterDocument::new("2026-01-01T00:00:00Z", &facts).text());
    }

    #[test]
    fn nothing_wrong_is_healthy_only_where_something_was_judged() {
        let mut facts = healthy();
        let document = ClusterDocument::new("2026-01-01T00:00:00Z", &facts);
        assert_eq!(document.verdict, Verdict::Healthy);
        assert_eq!(document.quiet(), "HEALTHY  3 nodes, 0 of 6 pairs lossy");
        facts.judged_pairs.clear();
        assert_eq!(ClusterDocument::new("2026-01-01T00:00:00Z", &facts).verdict, Verdict::Unknown);
    }
}
