//! A silent peer judged: connections to its pods that nothing answered, what the peer itself answered, and the node as
//! it was meanwhile. One end cannot see more; what it cannot tell is no black hole.

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use super::{Explanation, Heard, Key, Silent, judging::sender};
use crate::{
    causes::{
        Cause, beyond,
        case::{Case, Located, finding},
        misdirected,
        neighbour::outer_flow,
        queue,
        trail::{Telling, Trail},
    },
    model::{
        Model,
        increments::{Loss, Way},
        routing::{look_up, output_links},
    },
    observation::{Greeting, Observation, Opening, PacketId, PacketKind, Sighting, Traffic, Unanswered},
    report::document::{EvidenceSource, Place, Severity, Stage, SubjectKind},
    sample::{BgpSession, Fact, NeighbourState, Sample},
};

/// A neighbour that is reachable has answered within this time: at most one and a half times
/// `net.ipv4.neigh.default.base_reachable_time_ms`, 30 s unless somebody changed it, and some.
const NEIGHBOUR_ANSWERED: Duration = Duration::from_mins(1);
/// A session that is Established has heard the peer within this time: BIRD's hold time is four minutes.
const SESSION_HEARD: Duration = Duration::from_mins(5);
/// Addresses of a peer that must be silent: that one pod does not answer says nothing of the way to it.
const SILENT_ADDRESSES: usize = 2;

/// What was seen of silent peers within a second.
pub struct Look<'a> {
    pub before: &'a Sample,
    pub after: &'a Sample,
    /// What was unanswered at the beginning, and still was at the end.
    pub unanswered: &'a [Unanswered],
    pub greetings: &'a [Greeting],
    pub sessions: &'a Fact<Vec<BgpSession>>,
}

/// Whether packets for an address go to a peer.
pub fn leads_to(model: &Model<'_>, target: Ipv4Addr, peer: Ipv4Addr) -> bool {
    model.tunnel_next_hops(target).contains(&peer) || model.bare_next_hop(target) == Some(peer)
}

/// The peer to which a packet left bare by its block's own route, where others of that subnet are sent to through the
/// tunnel: whether it arrives only the answers tell.
pub fn bare_peer(model: &Model<'_>, loss: &Loss) -> Option<Ipv4Addr> {
    let Way::Bare { link, destination, .. } = loss.way else { return None };
    let wanted = model.is_lawfully_bare(destination, link)
        && misdirected::is_bare_beside_tunnelled(model, destination);
    model.bare_next_hop(destination).filter(|_| wanted)
}

/// Judges a peer that has been silent for a while.
pub fn judge_silence(model: &Model<'_>, look: &Look<'_>, silent: Silent, silent_for: Duration) -> Heard {
    let greeting = look.greetings.iter().find(|greeting| greeting.peer == silent.peer);
    if greeting.is_some_and(|greeting| greeting.tunnel_end.is_some_and(|(_, answers)| answers)) {
        return Heard::Answers;
    }
    let to_it = |one: &&Unanswered| {
        leads_to(model, one.target, silent.peer)
            && model.pool_of(one.target).is_some()
            && one.last_sent <= silent_for
    };
    let unanswered: Vec<&Unanswered> = look.unanswered.iter().filter(to_it).collect();
    let Some(first) = unanswered.iter().min_by_key(|one| one.last_sent) else { return Heard::Unknown };
    let silence = Silence { model, look, silent, silent_for, greeting, unanswered: &unanswered };
    silence.judge(first).map_or(Heard::Unknown, |located| Heard::Lost(Box::new(explanation(located))))
}

struct Silence<'a> {
    model: &'a Model<'a>,
    look: &'a Look<'a>,
    silent: Silent,
    silent_for: Duration,
    greeting: Option<&'a Greeting>,
    unanswered: &'a [&'a Unanswered],
}

impl Silence<'_> {
    fn judge(&self, first: &Unanswered) -> Option<Located> {
        let wire = self.wire();
        let observation = self.observation(first, wire);
        let telling = Telling::Pair { source: first.source, target: first.target };
        let case = Case {
            before: self.look.before,
            after: self.look.after,
            model: self.model,
            node: self.model.node_name(),
            sender: sender(self.model, first.sender),
            target: first.target,
            traffic: Traffic::default(),
            telling,
            observation: &observation,
            trail: Trail::new(telling, &observation, &self.look.before.links),
            far: None,
        };
        let device = wire.and_then(|wire| case.link(wire));
        let located = device
            .and_then(|device| queue::lets_nothing_by(&case, device))
            .or_else(|| self.unreachable())
            .unwrap_or_else(|| beyond::this_node(&case));
        let alive = self.sign_of_life();
        let is_proof = match located.finding.cause {
            Cause::SnatOnPodTraffic => false,
            Cause::LostInUnderlay => alive.is_some() && self.addresses().len() >= SILENT_ADDRESSES,
            _ => true,
        };
        is_proof.then(|| self.with_evidence(located, first, alive))
    }

    /// The device by which packets leave for the peer.
    fn wire(&self) -> Option<u32> {
        output_links(&look_up(self.model, &outer_flow(self.silent.peer))).first().copied()
    }

    /// The connections between the two addresses of the first, as they left, and the errors that came for them.
    fn observation(&self, first: &Unanswered, wire: Option<u32>) -> Observation {
        let mut observation = Observation::default();
        let tunnel = self.model.tunnel().map(|tunnel| tunnel.index);
        let tunnelled = self.model.tunnel_next_hop(first.target).is_some();
        let own = self.model.own_address();
        let outer = own.filter(|_| tunnelled).map(|own| (own, self.silent.peer));
        let mut enter = |link: u32, outer, outgoing, packet| {
            observation.sightings.push(Sighting {
                link,
                outgoing,
                outer,
                packet,
                mark: None,
                ingress_link: None,
                length: 0,
                checksum: None,
                unfragmentable: false,
            });
        };
        let same = |one: &&&Unanswered| (one.source, one.target) == (first.source, first.target);
        for one in self.unanswered.iter().filter(same) {
            if let Some(tunnel) = tunnel.filter(|_| tunnelled) {
                enter(tunnel, None, true, packet(one));
            }
            if let Some(wire) = wire {
                enter(wire, outer, true, packet(one));
            }
        }
        let errors = self.greeting.iter().flat_map(|greeting| &greeting.errors);
        for ((from, icmp_type, code), wire) in errors.zip(wire.into_iter().cycle()) {
            let kind = PacketKind::IcmpError { icmp_type: *icmp_type, code: *code, told_mtu: None };
            let own = own.unwrap_or(Ipv4Addr::UNSPECIFIED);
            enter(wire, None, false, identity(*from, own, 1, kind));
        }
        observation
    }

    /// A router says that nobody is where the peer should be.
    fn unreachable(&self) -> Option<Located> {
        let peer = self.silent.peer;
        let says_so =
            |(from, icmp_type, code): &&(Ipv4Addr, u8, u8)| *from != peer && *icmp_type == 3 && *code <= 1;
        let (from, _, code) = self.greeting?.errors.iter().find(says_so)?;
        let summary = format!("beyond this node: {from} does not reach {peer}");
        let found = finding(Cause::StaleTunnelRoute, SubjectKind::Peer, peer.to_string(), summary)
            .inferred()
            .with(EvidenceSource::Probe, format!("{from} answered with ICMP type 3 code {code}"))
            .confirm("kubectl", "kubectl get nodes -o wide   # is there still a node with this address?");
        let place = Place { node: peer.to_string(), direction: None, stage: Stage::Underlay, device: None };
        Some(Located { finding: found, place })
    }

    /// What shows that the peer itself is there. Only then is what pods sent to it lost on its way.
    fn sign_of_life(&self) -> Option<(EvidenceSource, String)> {
        let peer = self.silent.peer;
        if let Some(greeting) = self.greeting {
            if greeting.node {
                return Some((EvidenceSource::Probe, format!("{peer} itself answered an echo request")));
            }
            if let Some((_, icmp_type, code)) = greeting.errors.iter().find(|(from, ..)| *from == peer) {
                let text = format!("{peer} answered with ICMP type {icmp_type} code {code}");
                return Some((EvidenceSource::Probe, text));
            }
        }
        let seconds = self.silent_for.as_secs();
        let is_reachable = |state| matches!(state, NeighbourState::Reachable);
        let mut neighbours = self.look.after.neighbours.iter();
        if self.silent_for >= NEIGHBOUR_ANSWERED
            && neighbours.any(|entry| entry.address == peer && is_reachable(entry.state))
        {
            let text = format!("{peer} is reachable as a neighbour, after {seconds} s of silence");
            return Some((EvidenceSource::Neighbour, text));
        }
        let mut sessions = self.look.sessions.known().into_iter().flatten();
        (self.silent_for >= SESSION_HEARD
            && sessions.any(|session| session.peer == peer && session.established))
        .then(|| (EvidenceSource::Bird, format!("its BGP session stands, after {seconds} s of silence")))
    }

    /// The peer's addresses that did not answer.
    fn addresses(&self) -> BTreeSet<Ipv4Addr> {
        let targets = self.unanswered.iter().map(|one| one.target);
        targets.chain(self.silent_end()).collect()
    }

    fn silent_end(&self) -> Option<Ipv4Addr> {
        let (address, answers) = self.greeting?.tunnel_end?;
        (!answers).then_some(address)
    }

    fn with_evidence(
        &self,
        located: Located,
        first: &Unanswered,
        alive: Option<(EvidenceSource, String)>,
    ) -> Located {
        let Silent { peer, sent, .. } = self.silent;
        let seconds = self.silent_for.as_secs();
        let how = match first.opening {
            Opening::Tcp { ports: (_, port) } => format!("a SYN to port {port}"),
            Opening::Echo { .. } => "an echo request".to_owned(),
        };
        let count = self.unanswered.len();
        let more = if count > 1 { format!(", as {} more", count - 1) } else { String::new() };
        let mut found = located
            .finding
            .with(
                EvidenceSource::Counter,
                format!("{sent} left for {peer} in the {seconds} s since it was heard last"),
            )
            .with(
                EvidenceSource::Probe,
                format!("{how} from {} to {} was not answered{more}", first.sender, first.target),
            );
        if let Some(address) = self.silent_end() {
            let text = format!("{address}, most likely its end of the tunnel, answered no echo request");
            found = found.with(EvidenceSource::Probe, text);
        }
        if let Some((source, text)) = alive {
            found = found.with(source, text);
        }
        Located { finding: found, ..located }
    }
}

fn packet(one: &Unanswered) -> PacketId {
    let (protocol, kind) = match one.opening {
        Opening::Tcp { .. } => (6, PacketKind::TcpSyn),
        Opening::Echo { .. } => (1, PacketKind::EchoRequest),
    };
    identity(one.source, one.target, protocol, kind)
}

fn identity(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, kind: PacketKind) -> PacketId {
    PacketId { source, destination, protocol, kind, flow: 0, sequence: 0, ports: None }
}

fn explanation(located: Located) -> Explanation {
    let Located { mut finding, place } = located;
    // Pods' packets are lost, and not those of a diagnosis.
    finding.severity = Severity::Critical;
    Explanation {
        key: Key { cause: Some(finding.cause), subject: finding.subject.clone() },
        place: Some(place),
        summary: finding.summary.clone(),
        finding: Some(finding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Address, Hop, Link, Neighbour, Route, Rule};

    const PEER: Ipv4Addr = Ipv4Addr::new(172, 30, 10, 187);
    const POD: Ipv4Addr = Ipv4Addr::new(10, 200, 55, 237);
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 200, 153, 70);
    const TUNNEL_END: Ipv4Addr = Ipv4Addr::new(10, 200, 153, 64);

    fn node() -> Sample {
        let link = |index, name: &str| Link { index, name: name.to_owned(), up: true, ..Link::default() };
        let route = |destination: &str, gateway, link| Route {
            destination: destination.parse().unwrap(),
            table: 254,
            protocol: 12,
            hops: vec![Hop { gateway, link: Some(link), onlink: true, ..Hop::default() }],
            ..Route::default()
        };
        Sample {
            links: vec![link(1, "tunl0"), link(2, "eth0"), link(7, "cali7")],
            addresses: vec![Address {
                link: 2,
                address: [172, 30, 10, 188].into(),
                prefix_length: 24,
                scope: 0,
            }],
            routes: vec![
                route("172.30.10.0/24", None, 2),
                route("10.200.153.64/26", Some(PEER), 1),
                route(&format!("{POD}/32"), None, 7),
            ],
            rules: vec![Rule::for_all(32766, 254)],
            given_pools: "10.200.0.0/16".parse().into_iter().collect(),
            ..Sample::default()
        }
    }

    fn unanswered(target: Ipv4Addr) -> Unanswered {
        let opening = Opening::Tcp { ports: (40_000, 80) };
        Unanswered { sender: POD, source: POD, target, opening, last_sent: Duration::from_secs(1) }
    }

    fn greeting(node: bool, tunnel_end: bool, errors: &[(Ipv4Addr, u8, u8)]) -> Greeting {
        let tunnel_end = Some((TUNNEL_END, tunnel_end));
        Greeting { peer: PEER, node, tunnel_end, errors: errors.to_vec() }
    }

    fn judged(
        sample: &Sample,
        unanswered: &[Unanswered],
        greetings: &[Greeting],
        seconds: u64,
    ) -> Result<Cause, Heard> {
        let sessions = Fact::Absent(String::new());
        let look = Look { before: sample, after: sample, unanswered, greetings, sessions: &sessions };
        let silent = Silent { peer: PEER, since: Duration::ZERO, sent: 5 };
        let heard = judge_silence(&Model::new(sample), &look, silent, Duration::from_secs(seconds));
        match heard {
            Heard::Lost(explanation) => Ok(explanation.key.cause.unwrap()),
            other => Err(other),
        }
    }

    #[test]
    fn a_node_that_is_there_and_silent_behind_the_tunnel_is_lost_in_the_underlay() {
        let asked = [unanswered(SERVER)];
        assert_eq!(judged(&node(), &asked, &[greeting(true, false, &[])], 4), Ok(Cause::LostInUnderlay));
    }

    #[test]
    fn nothing_is_told_of_one_that_answers_or_is_away_or_was_asked_nothing() {
        let (asked, sample) = ([unanswered(SERVER)], node());
        assert_eq!(judged(&sample, &asked, &[greeting(true, true, &[])], 4), Err(Heard::Answers));
        assert_eq!(judged(&sample, &asked, &[greeting(false, false, &[])], 4), Err(Heard::Unknown));
        assert_eq!(judged(&sample, &[], &[greeting(true, false, &[])], 4), Err(Heard::Unknown));
    }

    #[test]
    fn what_was_sent_before_the_silence_began_does_not_count() {
        let asked = [Unanswered { last_sent: Duration::from_secs(20), ..unanswered(SERVER) }];
        assert_eq!(judged(&node(), &asked, &[greeting(true, false, &[])], 4), Err(Heard::Unknown));
    }

    #[test]
    fn its_own_refusal_is_a_tunnel_that_is_down_and_a_routers_is_a_node_that_is_gone() {
        let (asked, router) = ([unanswered(SERVER)], Ipv4Addr::new(172, 30, 10, 254));
        let refused = greeting(true, false, &[(PEER, 3, 3)]);
        assert_eq!(judged(&node(), &asked, &[refused], 4), Ok(Cause::TunnelDown));
        let unreached = greeting(false, false, &[(router, 3, 1)]);
        assert_eq!(judged(&node(), &asked, &[unreached], 4), Ok(Cause::StaleTunnelRoute));
    }

    #[test]
    fn where_nobody_may_be_asked_a_neighbour_and_two_silent_pods_tell_after_a_minute() {
        let mut sample = node();
        let (one, two) = (unanswered(SERVER), unanswered(Ipv4Addr::new(10, 200, 153, 71)));
        assert_eq!(judged(&sample, &[one, two], &[], 70), Err(Heard::Unknown));
        let state = NeighbourState::Reachable;
        sample.neighbours.push(Neighbour { link: 2, address: PEER, state, hardware_address: None });
        assert_eq!(judged(&sample, &[one, two], &[], 70), Ok(Cause::LostInUnderlay));
        assert_eq!(judged(&sample, &[one, two], &[], 4), Err(Heard::Unknown));
        assert_eq!(judged(&sample, &[one], &[], 70), Err(Heard::Unknown));
    }
}
