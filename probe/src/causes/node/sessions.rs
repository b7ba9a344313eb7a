//! BIRD, its sessions, and whether what it learnt stands in the kernel's table.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{
    Review, Topic,
    calico::{self, calico_pods},
    peer_addresses,
};
use crate::{
    causes::{Cause, case::finding, routing::route_words},
    model::{
        Model,
        peers::{Peer, lost_blocks},
    },
    report::document::{Evidence, EvidenceSource, Finding, Severity, SubjectKind},
    sample::{BgpSession, Bird, BirdRoute, PeerKind, ProcessRole, RouteKind},
};

/// `RTPROT_BIRD`.
const PROTOCOL_BIRD: u8 = 12;
/// `RT_TABLE_MAIN`.
const TABLE_MAIN: u32 = 254;

pub fn review(model: &Model<'_>) -> Review {
    let mut review = Review::of(Topic::BgpSessions);
    match model.sample.bird.known() {
        Some(bird) => {
            sessions(model, bird, &mut review);
            installed(model, bird, &mut review);
        }
        None => silent(model, &mut review),
    }
    review
}

/// BIRD leaves its routes behind when it ends (`persist`), so they go on until something changes.
fn silent(model: &Model<'_>, review: &mut Review) {
    let why = model.sample.bird.absent().unwrap_or_default();
    let left = model.sample.routes.iter().filter(|route| route.protocol == PROTOCOL_BIRD).count();
    let processes = model.sample.control_plane.processes.known();
    let runs = processes.map(|all| all.iter().any(|process| process.role == ProcessRole::Bird));
    if runs != Some(false) || left == 0 {
        return review.unseen("BGP sessions", why);
    }
    let summary = format!("BIRD does not run: its {left} routes are what it left and follow no change");
    review.found([finding(Cause::BirdNotRunning, SubjectKind::Node, model.node_name(), summary)
        .with(EvidenceSource::Bird, why)
        .with(EvidenceSource::Route, format!("{left} routes of protocol bird are in the kernel"))
        .confirm("kubectl", calico_pods(model))
        .cure(
            "kubectl",
            format!(
                "kubectl -n kube-system delete pod -l k8s-app=calico-node --field-selector spec.nodeName={}",
                model.node_name()
            ),
        )]);
}

fn sessions(model: &Model<'_>, bird: &Bird, review: &mut Review) {
    let down: Vec<&BgpSession> = bird.sessions.iter().filter(|session| !session.established).collect();
    let established = bird.sessions.len() - down.len();
    review.found(down.iter().map(|session| session_down(model, session, down.len())));
    match bird.sessions.len() {
        0 => review.pass("BIRD has no peers: a cluster of one node, or one without BGP between nodes"),
        all if down.is_empty() => review.pass(format!("{established} of {all} BGP sessions are Established")),
        _ => {}
    }
    if bird.recovering {
        review.unseen(
            "what BIRD will write",
            "it recovers from a restart and writes no route until every peer has answered, at most 240 s",
        );
    }
}

fn session_down(model: &Model<'_>, session: &BgpSession, all_down: usize) -> Finding {
    let peer = Peer::of(model, session.peer);
    let lost = lost_blocks(model, session.peer);
    let state = if session.error.is_empty() {
        session.state.clone()
    } else {
        format!("{} {}", session.state, session.error)
    };
    let costs = match (&lost, peer.blocks.is_empty()) {
        (Some(blocks), _) if !blocks.is_empty() => format!("; this costs {}", block_words(blocks)),
        (_, false) => format!("; its {} still routed as they were before", blocks_are(peer.blocks.len())),
        (Some(_), true) => "; no block of it is missing".to_owned(),
        (None, true) => "; no block of it is routed here".to_owned(),
    };
    let summary =
        format!("the BGP session to {} is down since {} ({state}){costs}", peer.words(), session.since);
    let severity = if peer.blocks.is_empty() && lost.as_ref().is_none_or(|blocks| !blocks.is_empty()) {
        Severity::Critical
    } else {
        Severity::Warning
    };
    let found = finding(Cause::BgpSessionDown, SubjectKind::Peer, session.peer.to_string(), summary)
        .with_severity(severity)
        .with(EvidenceSource::Bird, format!("{} is {state} since {}", session_name(session), session.since));
    let found = lost.iter().flatten().fold(found, |found, block| {
        found.with(EvidenceSource::Route, format!("no route leads to its block {block}"))
    });
    let found =
        found.with_all(logged(model, |text| !session.name.is_empty() && text.contains(&session.name)));
    let found = match all_down {
        1 => found,
        all => found.with(EvidenceSource::Bird, format!("{all} sessions of this node are down")),
    };
    let mut found = found;
    found.explained_by.extend(peer_addresses::unreachable(model, session));
    found.confirm(model.node_name(), format!("ping -c 3 {0}; nc -zv {0} 179", session.peer)).confirm(
        "kubectl",
        "kubectl -n kube-system get pods -l k8s-app=calico-node -o wide   # does it run on that node?",
    )
}

fn session_name(session: &BgpSession) -> String {
    match (&*session.name, session.kind) {
        ("", PeerKind::NodeToNodeMesh) => format!("node-to-node mesh peer {}", session.peer),
        ("", _) => format!("peer {}", session.peer),
        (name, _) => format!("session {name}"),
    }
}

fn block_words(blocks: &[Ipv4Net]) -> String {
    match blocks {
        [one] => format!("1 block ({one})"),
        several => format!("{} blocks", several.len()),
    }
}

fn blocks_are(count: usize) -> String {
    if count == 1 { "1 block is".to_owned() } else { format!("{count} blocks are") }
}

/// What BIRD prefers must stand in the kernel, unless somebody else put a route to the same network there.
fn installed(model: &Model<'_>, bird: &Bird, review: &mut Review) {
    let Some(routes) = bird.routes.known() else {
        return review.unseen("BIRD's routes", bird.routes.absent().unwrap_or_default());
    };
    let learnt = learnt(model, routes);
    if learnt.is_empty() {
        return;
    }
    let before = review.findings.len();
    review.found(learnt.iter().filter_map(|(route, next_hop)| not_installed(model, bird, route, *next_hop)));
    if review.findings.len() == before {
        review.pass(format!("all {} routes that BIRD learnt are in the kernel", learnt.len()));
    }
}

/// Best routes to other nodes' pods, with their next hops.
fn learnt<'a>(model: &Model<'_>, routes: &'a [BirdRoute]) -> Vec<(&'a BirdRoute, Ipv4Addr)> {
    let from_peers = routes.iter().filter(|route| {
        let is_of_peer = ["Mesh_", "Node_", "Global_"].iter().any(|kind| route.protocol.starts_with(kind));
        is_of_peer && (route.best || route.refused) && !route.unreachable
    });
    from_peers
        .filter(|route| model.pool_around(route.destination).is_some())
        .filter_map(|route| Some((route, route.next_hop?)))
        .collect()
}

fn not_installed(model: &Model<'_>, bird: &Bird, learnt: &BirdRoute, next_hop: Ipv4Addr) -> Option<Finding> {
    let destination = learnt.destination;
    let mut there = model
        .sample
        .routes
        .iter()
        .filter(|route| route.table == TABLE_MAIN && route.destination == destination)
        .peekable();
    let by_bird = format!(
        "BIRD has {destination} via {next_hop} from {}{}",
        learnt.protocol,
        if learnt.refused { ", and the kernel refused it" } else { "" }
    );
    if there.peek().is_none() {
        if bird.recovering {
            return None;
        }
        let summary = format!("BIRD has the route to {destination}, the kernel has not");
        return Some(
            finding(Cause::RouteNotInstalled, SubjectKind::Route, destination.to_string(), summary)
                .with(EvidenceSource::Bird, by_bird)
                .with(EvidenceSource::Route, format!("no route to {destination} in the main table"))
                .with_all(logged(model, |text| text.contains("Netlink: ")))
                .confirm(
                    model.node_name(),
                    format!("ip route show exact {destination}; ip -brief link show tunl0"),
                )
                .confirm("kubectl", calico_pods(model)),
        );
    }
    // BIRD compares the device's name alone, so a wrong next hop in the tunnel stays.
    let mut hops =
        there.clone().filter(|route| route.kind == RouteKind::Unicast).flat_map(|route| &route.hops);
    let stale = there.find(|route| route.protocol == PROTOCOL_BIRD && route.kind == RouteKind::Unicast)?;
    if hops.any(|hop| hop.gateway.is_none_or(|other| other == next_hop)) || learnt.refused {
        return None;
    }
    let summary =
        format!("the kernel sends {destination} to another node than {next_hop}, which announces it");
    Some(
        finding(Cause::StaleTunnelRoute, SubjectKind::Route, destination.to_string(), summary)
            .with(EvidenceSource::Route, route_words(model, stale))
            .with(EvidenceSource::Bird, by_bird)
            .cure(
                model.node_name(),
                format!("ip route del {destination} proto bird   # BIRD writes the right one within 2 s"),
            ),
    )
}

/// What Calico's logs say of something, the newest line.
fn logged(model: &Model<'_>, is_wanted: impl Fn(&str) -> bool) -> Option<Evidence> {
    let logs = model.sample.control_plane.logs.known().map_or(&[][..], Vec::as_slice);
    let entries = logs.iter().flat_map(|log| &log.errors).filter(|entry| is_wanted(&entry.text));
    entries.last().map(|entry| Evidence { source: EvidenceSource::File, text: calico::entry_words(entry) })
}
