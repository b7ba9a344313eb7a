//! What one kind of loss comes to: a packet of it, with all that the kernel told, is a diagnosis of watched traffic.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{Explanation, Key};
use crate::{
    causes::{
        Cause,
        case::{Case, Sender},
        drop_kind::DropKind,
        trail::{Telling, Trail},
        verdict::{self, Judgement},
    },
    diagnosis::{ChosenSender, Question},
    model::{
        Model,
        increments::{Loss, Packet, Way},
        routing::{Flow, look_up, output_links},
    },
    observation::{DropNamespace, DropSighting, Observation, PacketId, PacketKind, Sighting, Traffic},
    reading::{LastBare, LastDropped},
    report::document::{Document, Finding, Place, Subject, SubjectKind, Verdict},
};

/// What a loss is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// No fault of the path: delivered to a socket, sent bare by the block's own route, refused by a policy, meant
    /// for a pod that is gone.
    Lawful,
    BlackHole(Box<Explanation>),
    /// Rules dropped it; which of them takes a look at the packets themselves.
    ByRules,
}

/// Judges a loss by the node as it is.
pub fn judge(model: &Model<'_>, loss: &Loss) -> Judged {
    let Some((observation, source, target)) = observed(model, loss) else { return Judged::Lawful };
    if model.pool_of(target).is_none() {
        return Judged::Lawful;
    }
    if let Way::Bare { link, .. } = loss.way
        && model.is_lawfully_bare(target, link)
    {
        return Judged::Lawful;
    }
    if let [drop] = observation.drops.as_slice() {
        if is_of_an_earlier_route(model, drop, target) {
            return Judged::Lawful;
        }
        match DropKind::of(drop) {
            // A queue that is full for a while tells of congestion.
            DropKind::Socket | DropKind::Queue | DropKind::Filter | DropKind::Other => return Judged::Lawful,
            DropKind::Netfilter(_) => return Judged::ByRules,
            _ => {}
        }
    }
    let telling = Telling::Pair { source, target };
    let case = Case {
        before: model.sample,
        after: model.sample,
        model,
        node: model.node_name(),
        sender: sender(model, source),
        target,
        traffic: Traffic::default(),
        telling,
        observation: &observation,
        trail: Trail::new(telling, &observation, &model.sample.links),
        far: None,
    };
    of_judgement(verdict::judge_traffic(&case), || unexplained(model, loss, target))
}

/// Whether the packet was on its way where the route does not lead any more: those that wait for a neighbour are
/// dropped seconds after they were sent.
fn is_of_an_earlier_route(model: &Model<'_>, drop: &DropSighting, target: Ipv4Addr) -> bool {
    let Some((_, node)) = drop.outer else { return is_by_an_earlier_device(model, drop, target) };
    let block = model.remote_block(target).filter(|block| block.tunnelled);
    block.is_some_and(|block| {
        let mut gateways = block.route.hops.iter().filter_map(|hop| hop.gateway).peekable();
        gateways.peek().is_some() && gateways.all(|gateway| gateway != node)
    })
}

fn is_by_an_earlier_device(model: &Model<'_>, drop: &DropSighting, target: Ipv4Addr) -> bool {
    let Some(link) = drop.link.filter(|_| DropKind::of(drop) == DropKind::Neighbour) else { return false };
    let flow = Flow {
        source: Some(drop.packet.source),
        destination: target,
        input_link: (drop.ingress_link != 0).then_some(drop.ingress_link),
        mark: drop.mark,
        tos: 0,
    };
    let links = output_links(&look_up(model, &flow));
    !links.is_empty() && !links.contains(&link)
}

/// The two addresses of a loss, as a question for a diagnosis that only watches.
pub fn question(model: &Model<'_>, loss: &Loss) -> Question {
    let (source, target) = match loss.last {
        Packet::Dropped(last) => (last.source, last.destination),
        Packet::Bare(last) => (last.source, last.destination),
    };
    Question {
        target,
        traffic: Traffic::default(),
        senders: vec![ChosenSender { sender: sender(model, source), chosen: true }],
    }
}

/// What the document of such a diagnosis says. Without a rule that is proven to have dropped the packets nothing tells
/// a fault from a policy; without any packet nothing is told.
pub fn of_document(document: Document) -> Option<Judged> {
    let Document { verdict, lost_at, findings, path, .. } = document;
    match findings.into_iter().next() {
        Some(finding) if matches!(verdict, Verdict::BlackHole | Verdict::Degraded) => {
            Some(black_hole(finding, lost_at))
        }
        None if path.is_empty() => None,
        _ => Some(Judged::Lawful),
    }
}

fn black_hole(finding: Finding, place: Option<Place>) -> Judged {
    if finding.cause == Cause::NoSuchPod {
        return Judged::Lawful;
    }
    Judged::BlackHole(Box::new(Explanation {
        key: Key { cause: Some(finding.cause), subject: finding.subject.clone() },
        place,
        summary: finding.summary.clone(),
        finding: Some(finding),
    }))
}

fn of_judgement(judgement: Judgement, unexplained: impl FnOnce() -> Subject) -> Judged {
    let Judgement { verdict, lost_at, mut findings, not_seen, .. } = judgement;
    match verdict {
        Verdict::Reachable | Verdict::Denied => Judged::Lawful,
        Verdict::BlackHole | Verdict::Degraded if !findings.is_empty() => {
            black_hole(findings.swap_remove(0), lost_at)
        }
        // What is only inferred of a silent pod, or of what lies beyond this node, is no proof.
        _ if !findings.is_empty() => Judged::Lawful,
        _ => Judged::BlackHole(Box::new(Explanation {
            key: Key { cause: None, subject: unexplained() },
            place: lost_at,
            summary: not_seen.into_iter().next().map(|seen| seen.why).unwrap_or_default(),
            finding: None,
        })),
    }
}

fn unexplained(model: &Model<'_>, loss: &Loss, target: Ipv4Addr) -> Subject {
    let block: Ipv4Net = match &loss.way {
        Way::Dropped { block: Some(block), .. } => *block,
        _ => model.block_of(target),
    };
    Subject { kind: SubjectKind::Block, value: block.to_string() }
}

pub(super) fn sender(model: &Model<'_>, source: Ipv4Addr) -> Sender {
    if source.is_unspecified() {
        return Sender::Host { address: None };
    }
    match model.pod(source) {
        Some(pod) => Sender::Pod { link: pod.link, address: source },
        None if model.is_local(source) => Sender::Host { address: Some(source) },
        None => Sender::Remote { address: source },
    }
}

/// The last packet of a loss as if it had been followed.
fn observed(model: &Model<'_>, loss: &Loss) -> Option<(Observation, Ipv4Addr, Ipv4Addr)> {
    let mut observation = Observation::default();
    match (&loss.way, loss.last) {
        (Way::Dropped { .. }, Packet::Dropped(last)) => {
            let drop = dropped(model, &loss.way, last)?;
            observation.sightings.extend(arrival(&drop));
            observation.drops.push(drop);
            Some((observation, last.source, last.destination))
        }
        (Way::Bare { pod_link, link, .. }, Packet::Bare(last)) => {
            observation.sightings.extend(pod_link.map(|pod| sighting(pod, false, None, last)));
            observation.sightings.push(sighting(*link, true, *pod_link, last));
            Some((observation, last.source, last.destination))
        }
        _ => None,
    }
}

fn dropped(model: &Model<'_>, way: &Way, last: LastDropped) -> Option<DropSighting> {
    let Way::Dropped { reason, symbol, device, ingress_device, .. } = way else { return None };
    let index = |name: &Option<String>| Some(model.link_by_name(name.as_deref()?)?.index);
    Some(DropSighting {
        reason: reason.clone(),
        symbol: symbol.clone(),
        link: index(device),
        ingress_link: index(ingress_device).unwrap_or(0),
        mark: last.mark,
        namespace: DropNamespace::Own,
        hook: None,
        outer: last.outer,
        packet: packet(last.source, last.destination, last.protocol),
        length: 0,
    })
}

/// The device by which a dropped packet came in saw it there.
fn arrival(drop: &DropSighting) -> Option<Sighting> {
    (drop.ingress_link != 0).then_some(Sighting {
        link: drop.ingress_link,
        outgoing: false,
        outer: drop.outer,
        packet: drop.packet,
        mark: None,
        ingress_link: None,
        length: 0,
        checksum: None,
        unfragmentable: false,
    })
}

fn sighting(link: u32, outgoing: bool, ingress_link: Option<u32>, last: LastBare) -> Sighting {
    Sighting {
        link,
        outgoing,
        outer: None,
        packet: packet(last.source, last.destination, 0),
        mark: None,
        ingress_link,
        length: 0,
        checksum: None,
        unfragmentable: false,
    }
}

fn packet(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8) -> PacketId {
    PacketId { source, destination, protocol, kind: PacketKind::Other, flow: 0, sequence: 0, ports: None }
}
