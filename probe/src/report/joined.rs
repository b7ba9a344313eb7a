//! Nodes held against each other, as a document and as a person reads it: causes, the worst first, each with its nodes.

use serde::Serialize;

use super::{
    document::{Certainty, NotSeen, SCHEMA_VERSION, Severity},
    text::{QUIET_WIDTH, fixes, printable, push, shorten},
};
use crate::causes::cluster::{Group, Node, OfNode, Seen, list};

/// Nodes that the text names of each cause; the document has all.
const MOST_NODES: usize = 10;
/// Findings of a cause that it has, the first of them with evidence and commands.
const MOST_SHOWN: usize = 4;
/// Pieces of evidence that it has.
const MOST_EVIDENCE: usize = 6;
/// What was not seen that it has.
const MOST_NOT_SEEN: usize = 12;

#[derive(Debug, Serialize)]
pub struct JoinedDocument {
    pub schema_version: u32,
    pub command: &'static str,
    pub version: &'static str,
    /// RFC 3339, UTC.
    pub time: String,
    pub verdict: Verdict,
    /// In the order in which they were given.
    pub nodes: Vec<NodeEntry>,
    /// The worst first.
    pub groups: Vec<Group>,
    pub not_seen: Vec<NotSeen>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Healthy,
    Problems,
    /// Nothing is wrong in what was shown, and it is too little to hold two nodes against each other.
    Unknown,
}

#[derive(Debug, Serialize)]
pub struct NodeEntry {
    pub name: String,
    pub address: Option<std::net::Ipv4Addr>,
    pub kernel: String,
    /// When it was looked at, RFC 3339, UTC; absent for outputs, which do not say.
    pub time: Option<String>,
    /// What `check` says of it alone.
    pub check: Verdict,
    /// How many findings it has there.
    pub findings: usize,
}

impl NodeEntry {
    fn of(node: &Node) -> Self {
        let time = match &node.seen {
            Seen::Saved { time, .. } => Some(time.to_string()),
            Seen::Pasted { .. } => None,
        };
        let is_bad = node.findings.iter().any(|finding| finding.severity >= Severity::Warning);
        let check = match (is_bad, node.is_enough) {
            (true, _) => Verdict::Problems,
            (false, true) => Verdict::Healthy,
            (false, false) => Verdict::Unknown,
        };
        Self {
            name: node.name.clone(),
            address: node.address,
            kernel: node.kernel.clone(),
            time,
            check,
            findings: node.findings.len(),
        }
    }
}

impl JoinedDocument {
    pub fn new(time: &str, nodes: &[Node], groups: Vec<Group>, not_seen: Vec<NotSeen>) -> Self {
        let is_bad = groups.iter().any(|group| group.severity >= Severity::Warning);
        let with_routes = nodes.iter().filter(|node| node.holds_routes).count();
        let verdict = match (is_bad, with_routes) {
            (true, _) => Verdict::Problems,
            (false, 0 | 1) => Verdict::Unknown,
            (false, _) => Verdict::Healthy,
        };
        Self {
            schema_version: SCHEMA_VERSION,
            command: "cluster",
            version: env!("CARGO_PKG_VERSION"),
            time: time.to_owned(),
            verdict,
            nodes: nodes.iter().map(NodeEntry::of).collect(),
            groups,
            not_seen,
        }
    }

    /// The answer, in one line.
    pub fn headline(&self) -> String {
        let count = nodes_words(self.nodes.len());
        match (self.verdict, self.groups.as_slice()) {
            (Verdict::Problems, [first, rest @ ..]) => {
                let more = match rest.len() {
                    0 => String::new(),
                    1 => ", and 1 cause more".to_owned(),
                    more => format!(", and {more} causes more"),
                };
                format!("PROBLEMS  {}{more}", group_words(first))
            }
            (Verdict::Unknown, _) if self.nodes.len() < 2 => {
                format!("UNKNOWN  {count}: no other to hold it against; nothing wrong in what was shown")
            }
            (Verdict::Unknown, _) => {
                format!("UNKNOWN  {count}: nothing wrong in what was shown; to see next: ip route of each")
            }
            (_, []) => format!("HEALTHY  {count} agree with each other"),
            (_, notes) => format!("HEALTHY  {count} agree with each other, {} worth knowing", notes.len()),
        }
    }

    /// One line of at most eighty characters.
    pub fn quiet(&self) -> String {
        shorten(&printable(&self.headline()), QUIET_WIDTH)
    }

    /// The whole view.
    pub fn text(&self) -> String {
        let mut text = self.headline();
        text.push('\n');
        for group in &self.groups {
            text.push('\n');
            self::group(&mut text, group);
        }
        if !self.not_seen.is_empty() {
            text.push('\n');
        }
        for not_seen in self.not_seen.iter().take(MOST_NOT_SEEN) {
            push(&mut text, "?", &format!("not seen    {}: {}", not_seen.what, not_seen.why));
        }
        if let Some(more @ 1..) = self.not_seen.len().checked_sub(MOST_NOT_SEEN) {
            push(&mut text, "?", &format!("not seen    {more} more; -o json has them"));
        }
        printable(&text)
    }
}

fn nodes_words(count: usize) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

/// `37 of 500 nodes: ipip-not-allowed`.
fn group_words(group: &Group) -> String {
    let inferred = if group.certainty == Certainty::Inferred { ", inferred" } else { "" };
    format!("{} of {}: {}{inferred}", group.nodes, nodes_words(group.of), group.cause.code())
}

fn group(text: &mut String, group: &Group) {
    let label = match group.severity {
        Severity::Critical => "bad",
        Severity::Warning => "warn",
        Severity::Info => "note",
    };
    push(text, label, &group_words(group));
    let names = group.names();
    let shown = names.iter().take(MOST_NODES).copied().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(MOST_NODES);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    push(text, "on", &format!("{shown}{more}"));
    for (place, of_node) in group.findings.iter().take(MOST_SHOWN).enumerate() {
        push(text, "what", &format!("{}: {}", of_node.node, of_node.finding.summary));
        if place == 0 {
            details(text, of_node);
        }
    }
    if let Some(more @ 1..) = group.findings.len().checked_sub(MOST_SHOWN) {
        let others: Vec<String> = group
            .findings
            .iter()
            .skip(MOST_SHOWN)
            .map(|it| format!("{} {}", it.node, it.finding.subject.value))
            .collect();
        push(text, "more", &format!("{more} alike: {}", list(&others)));
    }
}

fn details(text: &mut String, of_node: &OfNode) {
    let OfNode { node, finding, .. } = of_node;
    for evidence in finding.evidence.iter().take(MOST_EVIDENCE) {
        push(text, "seen", &said(node, &evidence.text));
    }
    for reason in &finding.explained_by {
        push(text, "why", &format!("{} ({})", reason.summary, reason.cause.code()));
    }
    fixes(text, finding);
}

/// What only a node shows is said with its name; what several show names them already.
fn said(node: &str, text: &str) -> String {
    if text.contains(node) || text.contains(": ") { text.to_owned() } else { format!("{node}: {text}") }
}
