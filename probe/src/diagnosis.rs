//! One diagnosis: the question, what was read and seen, and the documents that these come to. Serialisable, so that
//! a diagnosis of one machine is judged again on another.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::{
    causes::{
        both_ends,
        case::{Case, Sender},
        netfilter, node, path,
        trail::{Telling, Trail},
        verdict::{self, Judgement},
    },
    model::Model,
    observation::{Observation, Series, ToldDrop, Traffic},
    probing::marks::Marks,
    report::document::{
        self, Direction, Document, Evidence, EvidenceSource, Header, NotSeen, Probes, SourceKind, Target,
        Verdict,
    },
    sample::{Fact, Sample},
};

/// What is to be diagnosed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    pub target: Ipv4Addr,
    /// The first is the one that the verdict is about.
    pub senders: Vec<ChosenSender>,
    /// What the probes were made of.
    #[serde(default)]
    pub traffic: Traffic,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChosenSender {
    pub sender: Sender,
    /// Whether the probe chose it, rather than the caller.
    pub chosen: bool,
}

impl Question {
    /// The pods' devices whose traffic tells something about this question.
    pub fn pod_links(&self, model: &Model<'_>) -> Vec<u32> {
        let senders = self.senders.iter().filter_map(|chosen| chosen.sender.link());
        senders.chain(model.pod(self.target).map(|pod| pod.link)).collect()
    }
}

/// All that its verdicts rest on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// Whether nothing was sent.
    pub passive: bool,
    pub question: Question,
    pub before: Sample,
    pub after: Sample,
    pub observed: Observation,
    /// What the target's node saw of the probes, or why it could not be asked; `None` where nobody wanted that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub far: Option<Fact<FarEnd>>,
}

/// The same probes on another node, as `caliprobe observe` saw them there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FarEnd {
    pub before: Sample,
    pub after: Sample,
    pub observed: Observation,
}

impl FarEnd {
    /// What of it is for another node: no line of a log, nothing of the datastore, and of its rules only what its own
    /// verdicts say.
    #[must_use]
    pub fn without_rules(mut self, flow: &Marks) -> Self {
        self.observed.told = self.told(flow);
        for sample in [&mut self.before, &mut self.after] {
            sample.rule_sets =
                Fact::Absent("its rules are not shown to other nodes (--remote-rules)".to_owned());
        }
        self.without_texts()
    }

    /// What of it is for another node that may see its rules.
    #[must_use]
    pub fn without_texts(mut self) -> Self {
        for sample in [&mut self.before, &mut self.after] {
            sample.control_plane.logs = Fact::Absent("logs are not shown to other nodes".to_owned());
            sample.datastore = Fact::Absent("the datastore is not shown to other nodes".to_owned());
        }
        self
    }

    fn told(&self, flow: &Marks) -> Vec<ToldDrop> {
        let model = Model::new(&self.before);
        let mut told = Vec::new();
        for sender in 0..Series::SENDERS {
            let asked = Series::Asked.flow(sender);
            if let Some(case) = self.flow_case(&model, flow, asked) {
                told.extend(netfilter::told(&case, asked));
            }
        }
        told
    }

    /// What it shows by itself of the packets of one flow; `None` where none was seen.
    pub fn flow_case<'a>(&'a self, model: &'a Model<'a>, marks: &Marks, flow: u8) -> Option<Case<'a>> {
        let question = (marks.target, marks.traffic, Telling::Flow(flow));
        let unknown = self.case(model, &self.observed, Ipv4Addr::UNSPECIFIED, question);
        let dropped = || unknown.trail.drops.first().map(|dropped| dropped.drop.packet.source);
        let source = unknown.trail.source().or_else(dropped)?;
        Some(self.case(model, &self.observed, source, question))
    }

    /// What it shows of one flow whose packets come from `source`.
    pub fn case<'a>(
        &'a self,
        model: &'a Model<'a>,
        observation: &'a Observation,
        source: Ipv4Addr,
        question: (Ipv4Addr, Traffic, Telling),
    ) -> Case<'a> {
        let (target, traffic, telling) = question;
        Case {
            before: &self.before,
            after: &self.after,
            model,
            node: model.node_name(),
            sender: Sender::Remote { address: source },
            target,
            traffic,
            telling,
            observation,
            trail: Trail::new(telling, observation, &self.before.links),
            far: None,
        }
    }
}

/// The far end, made ready to be judged with what only the sender knows: which probes there were, and their answers.
struct FarView<'a> {
    end: &'a FarEnd,
    model: Model<'a>,
    observed: Observation,
}

impl<'a> FarView<'a> {
    fn of(end: &'a FarEnd, near: &Observation) -> Self {
        let FarEnd { before, observed, .. } = end;
        let observed = Observation {
            probes: near.probes.clone(),
            handshakes: near.handshakes.clone(),
            kernel_routes: Vec::new(),
            ..observed.clone()
        };
        Self { end, model: Model::new(before), observed }
    }

    /// The case of the same sender; `None` where none of its packets was seen anywhere.
    fn case(&self, near: &Case<'_>) -> Option<Case<'_>> {
        let there = Trail::new(near.telling, &self.observed, &self.end.before.links);
        let source = there.source().or_else(|| near.trail.source()).or_else(|| near.sender.address())?;
        let question = (near.target, near.traffic, near.telling);
        let mut case = self.end.case(&self.model, &self.observed, source, question);
        if case.node == near.node {
            case.node =
                self.model.own_address().map_or_else(|| "the other node".to_owned(), |a| a.to_string());
        }
        Some(case)
    }
}

impl Diagnosis {
    /// One document, or two where the chosen pod and the host fare differently.
    pub fn documents(&self) -> Vec<Document> {
        let model = Model::new(&self.before);
        let far = self.far.as_ref().and_then(Fact::known).map(|end| FarView::of(end, &self.observed));
        let mut documents: Vec<Document> = (0u8..)
            .zip(&self.question.senders)
            .map(|(flow, chosen)| self.document(&model, far.as_ref(), flow, chosen))
            .collect();
        if let [first, second] = documents.as_slice()
            && first.verdict == second.verdict
            && first.findings.first().map(|finding| finding.cause)
                == second.findings.first().map(|finding| finding.cause)
        {
            documents.truncate(1);
        }
        documents
    }

    fn document(
        &self,
        model: &Model<'_>,
        far: Option<&FarView<'_>>,
        flow: u8,
        chosen: &ChosenSender,
    ) -> Document {
        let telling = match (self.passive, chosen.sender.address()) {
            (true, Some(source)) => Telling::Pair { source, target: self.question.target },
            _ => Telling::Flow(flow),
        };
        let near = Case {
            before: &self.before,
            after: &self.after,
            model,
            node: model.node_name(),
            sender: chosen.sender.clone(),
            target: self.question.target,
            traffic: self.question.traffic,
            telling,
            observation: &self.observed,
            trail: Trail::new(telling, &self.observed, &self.before.links),
            far: None,
        };
        let there = far.and_then(|far| far.case(&near));
        let stranger = there.as_ref().and_then(|there| both_ends::stranger(&near, there));
        let case = Case { far: there.as_ref().filter(|_| stranger.is_none()), ..near };
        let judgement = if self.passive { verdict::judge_traffic(&case) } else { verdict::judge(&case) };
        let mut judgement = self.judged_by_what_was_there_after(&case, &judgement).unwrap_or(judgement);
        verdict::admit_partial_loss(&case, &mut judgement);
        let judged_there =
            case.far.filter(|far| judgement.lost_at.as_ref().is_some_and(|at| at.node == far.node));
        let owner = judged_there.map_or(model, |far| far.model);
        let reasons = node::reasons(owner);
        for finding in &mut judgement.findings {
            node::explain(owner, finding, &reasons);
        }
        let unasked = self.far.as_ref().and_then(|far| far.absent().map(str::to_owned)).or(stranger);
        let not_seen = unasked.map(|why| NotSeen { what: document::FAR_NODE.to_owned(), why });
        judgement.not_seen.extend(not_seen);
        compose(&case, chosen, judgement)
    }

    /// Packets that were lost in a way that the state before them does not explain, while others were answered, may
    /// have met a change. The state after them then tells which.
    fn judged_by_what_was_there_after(&self, case: &Case<'_>, first: &Judgement) -> Option<Judgement> {
        let answered = case.lost() < case.probes().count();
        if self.passive || !answered || first.verdict != Verdict::Unknown || !first.findings.is_empty() {
            return None;
        }
        // Pods are looked into once.
        let after = Sample { pod_interfaces: self.before.pod_interfaces.clone(), ..self.after.clone() };
        let model = Model::new(&after);
        let later = Case {
            before: &after,
            after: &after,
            model: &model,
            node: case.node.clone(),
            sender: case.sender.clone(),
            target: case.target,
            traffic: case.traffic,
            telling: case.telling,
            observation: case.observation,
            trail: Trail::new(case.telling, case.observation, &after.links),
            far: case.far,
        };
        let mut judgement = verdict::judge(&later);
        for finding in &mut judgement.findings {
            finding.evidence.push(Evidence {
                source: EvidenceSource::Probe,
                text: "it was so after the probes, not before them: it changed meanwhile".to_owned(),
            });
        }
        (!judgement.findings.is_empty()).then_some(judgement)
    }
}

fn compose(case: &Case<'_>, chosen: &ChosenSender, judgement: Judgement) -> Document {
    Document {
        header: Header::new("diagnose", &case.before.time, document::Node::of(case.model)),
        far_node: case
            .far
            .map(|far| document::Node { name: far.node.clone(), ..document::Node::of(far.model) }),
        verdict: judgement.verdict,
        target: Target { address: case.target, pod: case.model.pod_name(case.target) },
        source: source(case, chosen),
        lost_at: judgement.lost_at,
        probes: probes(case),
        handshakes: case.handshakes().map(document::Handshake::from).collect(),
        findings: judgement.findings,
        path: path::path(case),
        not_seen: judgement.not_seen,
        next: judgement.next,
    }
}

fn source(case: &Case<'_>, chosen: &ChosenSender) -> document::Source {
    let kind = match chosen.sender {
        Sender::Pod { .. } | Sender::Remote { .. } => SourceKind::Pod,
        Sender::Host { .. } => SourceKind::Host,
    };
    let seen: Option<Ipv4Addr> = case
        .trail
        .steps
        .iter()
        .filter(|step| step.direction == Direction::Forward)
        .find_map(|step| step.seen.first())
        .map(|sighting| sighting.packet.source);
    document::Source {
        kind,
        address: chosen.sender.address().or(seen),
        interface: chosen.sender.link().map(|link| case.link_name(link)),
        chosen: chosen.chosen,
    }
}

fn probes(case: &Case<'_>) -> Probes {
    let mut times: Vec<u64> = case.probes().filter_map(|probe| probe.round_trip_us).collect();
    times.sort_unstable();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Probes {
        protocol: case.traffic.into(),
        port: case.traffic.port(),
        sent: count(case.probes().count()),
        answered: count(times.len()),
        refused: count(case.probes().filter(|probe| probe.refused).count()),
        source_ports: case.probes().filter_map(|probe| probe.source_port).collect(),
        rtt_us: times.get(times.len() / 2).copied(),
    }
}
