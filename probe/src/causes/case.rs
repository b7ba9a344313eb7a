//! One diagnosis to be judged: what was asked, what the node is like, what was seen.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::{
    Cause,
    trail::{Telling, Trail},
};
use crate::{
    model::Model,
    observation::{ENOUGH_FOR_A_RATE, Handshake, Observation, ProbeOutcome, Series, Traffic},
    report::document::{
        Certainty, Direction, Evidence, EvidenceSource, Finding, Fix, FixKind, Place, Severity, Stage,
        Subject, SubjectKind,
    },
    sample::{Link, Sample},
};

/// Where the packets start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sender {
    /// A pod of this node, behind the device with this index.
    Pod { link: u32, address: Ipv4Addr },
    /// This node itself.
    Host { address: Option<Ipv4Addr> },
    /// A pod of another node, whose traffic is only watched here.
    Remote { address: Ipv4Addr },
}

impl Sender {
    pub fn address(&self) -> Option<Ipv4Addr> {
        match self {
            Self::Pod { address, .. } | Self::Remote { address } => Some(*address),
            Self::Host { address } => *address,
        }
    }

    /// The device by which its packets enter routing; the host's own enter by none.
    pub fn link(&self) -> Option<u32> {
        match self {
            Self::Pod { link, .. } => Some(*link),
            Self::Host { .. } | Self::Remote { .. } => None,
        }
    }
}

/// Everything that a verdict rests on.
pub struct Case<'a> {
    pub before: &'a Sample,
    pub after: &'a Sample,
    pub model: &'a Model<'a>,
    pub node: String,
    pub sender: Sender,
    pub target: Ipv4Addr,
    /// What the probes were made of.
    pub traffic: Traffic,
    pub telling: Telling,
    pub observation: &'a Observation,
    pub trail: Trail<'a>,
    /// The same packets on the node to which they were sent, where that was asked.
    pub far: Option<&'a Case<'a>>,
}

impl<'a> Case<'a> {
    /// The probes of this sender.
    pub fn probes(&self) -> impl Iterator<Item = &'a ProbeOutcome> {
        let telling = self.telling;
        self.observation.probes.iter().filter(move |probe| match telling {
            Telling::Flow(flow) => probe.flow == flow,
            Telling::Pair { .. } => false,
        })
    }

    /// What another series of the same sender's probes shows.
    pub fn of(&self, series: Series) -> Option<Self> {
        let Telling::Flow(sender) = self.telling else { return None };
        let telling = Telling::Flow(series.flow(sender));
        Some(Self {
            before: self.before,
            after: self.after,
            model: self.model,
            node: self.node.clone(),
            sender: self.sender.clone(),
            target: self.target,
            traffic: Traffic::Echo,
            telling,
            observation: self.observation,
            trail: Trail::new(telling, self.observation, &self.before.links),
            far: None,
        })
    }

    /// The traffic in words; what is only watched may be any.
    pub fn traffic_words(&self) -> String {
        match self.telling {
            Telling::Flow(_) => self.traffic.to_string(),
            Telling::Pair { .. } => "TCP or UDP".to_owned(),
        }
    }

    /// Whether the target itself answered by a refusal, or something on the way did.
    pub fn is_refused(&self) -> bool {
        self.probes().any(|probe| probe.refused)
    }

    /// A port of the target that accepted a connection of this sender.
    pub fn accepted_port(&self) -> Option<u16> {
        self.handshakes().find(|handshake| handshake.accepted).map(|handshake| handshake.port)
    }

    /// The ports that were tried in vain.
    pub fn refused_ports(&self) -> Vec<u16> {
        self.handshakes().filter(|handshake| !handshake.accepted).map(|handshake| handshake.port).collect()
    }

    /// The handshakes of this sender.
    pub fn handshakes(&self) -> impl Iterator<Item = &'a Handshake> {
        let telling = self.telling;
        self.observation.handshakes.iter().filter(move |handshake| match telling {
            Telling::Flow(flow) => handshake.flow == flow,
            Telling::Pair { .. } => false,
        })
    }

    pub fn lost(&self) -> usize {
        self.probes().filter(|probe| probe.round_trip_us.is_none()).count()
    }

    /// Whether some probes are lost and some are not, of enough that were not cut short: one of three that were held
    /// up by a slow start is no rate.
    pub fn loses_a_part(&self) -> bool {
        let decided = self.probes().filter(|probe| !probe.undecided).count();
        let answered = self.probes().count() - self.lost();
        answered > 0 && decided > answered && decided >= ENOUGH_FOR_A_RATE
    }

    pub fn link(&self, index: u32) -> Option<&'a Link> {
        self.before.links.iter().find(|link| link.index == index)
    }

    pub fn link_name(&self, index: u32) -> String {
        self.link(index).map_or_else(|| format!("device {index}"), |link| link.name.clone())
    }

    pub fn place(&self, direction: Direction, stage: Stage, device: Option<String>) -> Place {
        Place { node: self.node.clone(), direction: Some(direction), stage, device }
    }

    /// How much a counter of `/proc/net/snmp` or `netstat` rose during the diagnosis.
    pub fn counter_rise(&self, name: &str) -> Option<u64> {
        let before = self.before.counters.get(name)?;
        let after = self.after.counters.get(name)?;
        after.checked_sub(*before)
    }

    /// How much a counter of a device rose during the diagnosis.
    pub fn link_rise(&self, name: &str, counter: impl Fn(&Link) -> u64) -> Option<u64> {
        let find = |sample: &Sample| sample.links.iter().find(|link| link.name == name).map(&counter);
        find(self.after)?.checked_sub(find(self.before)?)
    }

    /// The block that an address is in, as a person would name it.
    pub fn block_of(&self, address: Ipv4Addr) -> Ipv4Net {
        self.model.block_of(address)
    }
}

/// A finding with the place where the packet was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    pub finding: Finding,
    pub place: Place,
}

/// Starts a finding that is proven and critical, as most are that lose a packet.
pub fn finding(
    cause: Cause,
    kind: SubjectKind,
    subject: impl Into<String>,
    summary: impl Into<String>,
) -> Finding {
    Finding {
        cause,
        severity: Severity::Critical,
        certainty: Certainty::Proven,
        subject: Subject { kind, value: subject.into() },
        summary: summary.into(),
        evidence: Vec::new(),
        fix: Vec::new(),
        explained_by: Vec::new(),
    }
}

impl Finding {
    #[must_use]
    pub fn with(mut self, source: EvidenceSource, text: impl Into<String>) -> Self {
        self.evidence.push(Evidence { source, text: text.into() });
        self
    }

    #[must_use]
    pub fn with_all(mut self, evidence: impl IntoIterator<Item = Evidence>) -> Self {
        self.evidence.extend(evidence);
        self
    }

    #[must_use]
    pub fn inferred(mut self) -> Self {
        self.certainty = Certainty::Inferred;
        self
    }

    #[must_use]
    pub fn with_severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    #[must_use]
    pub fn cure(self, on: impl Into<String>, run: impl Into<String>) -> Self {
        self.fix(FixKind::Cure, on, run, true)
    }

    #[must_use]
    pub fn stopgap(self, on: impl Into<String>, run: impl Into<String>) -> Self {
        self.fix(FixKind::Stopgap, on, run, true)
    }

    #[must_use]
    pub fn confirm(self, on: impl Into<String>, run: impl Into<String>) -> Self {
        self.fix(FixKind::Confirm, on, run, false)
    }

    fn fix(mut self, kind: FixKind, on: impl Into<String>, run: impl Into<String>, changes: bool) -> Self {
        self.fix.push(Fix { run: run.into(), on: on.into(), kind, changes });
        self
    }
}
