//! What one node saw of another's probes (`caliprobe observe`): counts by point, drops, the rules that visible drops
//! prove, and the facts that the asking side judges.

use std::{fmt::Write as _, net::Ipv4Addr};

use serde::Serialize;

use super::{
    document::{Direction, Finding, Header, Node, NotSeen, PathPoint, Protocol, SCHEMA_VERSION},
    text::{QUIET_WIDTH, finding_code, fixes, path_words, printable, push, shorten},
};
use crate::{
    causes::{case::Case, path, trail::Dropped, verdict},
    diagnosis::FarEnd,
    model::Model,
    observation::{DropNamespace, Series},
    probing::marks::Marks,
    sample::NetfilterHook,
};

/// The line before the document: from now on no probe is missed.
#[derive(Clone, Debug, Serialize)]
pub struct Ready {
    pub ready: bool,
    pub schema_version: u32,
    pub version: &'static str,
    pub node: Node,
}

impl Ready {
    pub fn of(model: &Model<'_>) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        Self { ready: true, schema_version: SCHEMA_VERSION, version, node: Node::of(model) }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct ObservedDocument {
    #[serde(flatten)]
    pub header: Header,
    pub target: Ipv4Addr,
    pub protocol: Protocol,
    /// The target's port; absent for ICMP.
    pub port: Option<u16>,
    /// One for each sender whose probes were seen.
    pub flows: Vec<ObservedFlow>,
    pub not_seen: Vec<NotSeen>,
    /// What the asking side's verdict rests on.
    pub facts: FarEnd,
}

/// The probes of one sender.
#[derive(Clone, Debug, Serialize)]
pub struct ObservedFlow {
    /// The address that they came from, as it was here.
    pub source: Ipv4Addr,
    pub path: Vec<PathPoint>,
    pub drops: Vec<ObservedDrop>,
    pub findings: Vec<Finding>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ObservedDrop {
    pub direction: Direction,
    /// Absent where the kernel gives none.
    pub reason: Option<String>,
    /// The function that freed the packet; absent where symbols are hidden.
    pub symbol: Option<String>,
    pub hook: Option<NetfilterHook>,
    pub device: Option<String>,
    pub inside_a_pod: bool,
    pub packets: u32,
}

impl ObservedDocument {
    pub fn new(flow: &Marks, facts: FarEnd) -> Self {
        let model = Model::new(&facts.before);
        let header = Header::new("observe", &facts.before.time, Node::of(&model));
        let flows =
            (0..Series::SENDERS).filter_map(|sender| observed(&facts, &model, flow, sender)).collect();
        let not_seen = |(what, why): &(String, String)| NotSeen { what: what.clone(), why: why.clone() };
        let not_seen = facts.observed.limits.iter().map(not_seen).collect();
        let (protocol, port) = (flow.traffic.into(), flow.traffic.port());
        Self { header, target: flow.target, protocol, port, flows, not_seen, facts }
    }

    /// The whole report.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let node = &self.header.node.name;
        if self.flows.is_empty() {
            let _ = writeln!(text, "NOTHING  no packet of this flow to {} was seen on {node}", self.target);
        }
        for flow in &self.flows {
            let _ = writeln!(text, "SEEN  {} → {} on {node}: {}", flow.source, self.target, flow.words());
            for drop in &flow.drops {
                push(&mut text, "drop", &drop.words());
            }
            for finding in &flow.findings {
                for evidence in &finding.evidence {
                    push(&mut text, "why", &evidence.text);
                }
            }
            if let Some(path) = path_words(&flow.path) {
                push(&mut text, "path", &path);
            }
            for finding in &flow.findings {
                fixes(&mut text, finding);
            }
        }
        for NotSeen { what, why } in &self.not_seen {
            push(&mut text, "seen", &format!("not {what}: {why}"));
        }
        printable(&text)
    }

    /// One line of at most eighty characters.
    pub fn quiet(&self) -> String {
        let line = match self.flows.first() {
            Some(flow) => format!("SEEN {} → {}: {}", flow.source, self.target, flow.words()),
            None => format!("NOTHING of this flow to {} was seen", self.target),
        };
        shorten(&printable(&line).replace('\n', " "), QUIET_WIDTH)
    }
}

impl ObservedFlow {
    fn words(&self) -> String {
        match self.findings.first() {
            Some(finding) => format!("{} ({})", finding.summary, finding_code(finding)),
            None if self.drops.is_empty() => "passed without a drop, as far as the path shows".to_owned(),
            None => "dropped".to_owned(),
        }
    }
}

impl ObservedDrop {
    fn words(&self) -> String {
        let unknown = || "not known".to_owned();
        let device = self.device.as_deref().map_or_else(String::new, |device| format!(" on {device}"));
        let hook =
            self.hook.map_or_else(String::new, |hook| format!(" at netfilter hook {}", hook.chain_name()));
        let pod = if self.inside_a_pod { " inside a pod" } else { "" };
        let symbol = self.symbol.clone().unwrap_or_else(unknown);
        let reason = self.reason.clone().unwrap_or_else(unknown);
        format!("{} in {symbol} ({reason}){hook}{device}{pod}", self.packets)
    }
}

/// What was seen of one sender; `None` where nothing was.
fn observed(facts: &FarEnd, model: &Model<'_>, flow: &Marks, sender: u8) -> Option<ObservedFlow> {
    let case = facts.flow_case(model, flow, Series::Asked.flow(sender))?;
    let source = case.sender.address()?;
    let findings = verdict::of_drops(&case).into_iter().map(|located| located.finding).collect();
    Some(ObservedFlow { source, path: path::path(&case), drops: drops(&case), findings })
}

fn drops(case: &Case<'_>) -> Vec<ObservedDrop> {
    let mut drops: Vec<ObservedDrop> = Vec::new();
    for dropped in &case.trail.drops {
        let new = drop_of(case, dropped);
        match drops.iter_mut().find(|known| ObservedDrop { packets: 1, ..(**known).clone() } == new) {
            Some(known) => known.packets += 1,
            None => drops.push(new),
        }
    }
    drops
}

fn drop_of(case: &Case<'_>, Dropped { direction, drop }: &Dropped<'_>) -> ObservedDrop {
    let inside_a_pod = drop.namespace == DropNamespace::Other;
    ObservedDrop {
        direction: *direction,
        reason: drop.reason.clone(),
        symbol: drop.symbol.clone(),
        hook: drop.hook,
        // A pod's devices have numbers of their own.
        device: drop.link.filter(|_| !inside_a_pod).map(|link| case.link_name(link)),
        inside_a_pod,
        packets: 1,
    }
}
