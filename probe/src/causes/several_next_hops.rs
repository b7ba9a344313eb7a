//! A block that the tunnel shares out among several nodes, of which this pair of addresses met one that took its
//! packets. The others' share is not lost by chance: the same pairs of addresses meet them each time.

use std::net::Ipv4Addr;

use super::{
    case::{Case, Located},
    neighbour::outer_flow,
    route_table::blocks,
    routing::neighbour_state,
};
use crate::{
    model::routing::{Decision, look_up},
    report::document::{Direction, EvidenceSource, Finding, Point, Severity, Stage},
    sample::{Hop, NeighbourState, Route},
};

/// Judges answered probes: that another next hop is dead is proven, and which share it takes is computed.
pub fn partly_dead(case: &Case<'_>) -> Option<Located> {
    let (found, route) = shared_out(case)?;
    let dead: Vec<(&Hop, Dead)> = route.hops.iter().filter_map(|hop| Some((hop, dead(case, hop)?))).collect();
    let (_, first) = dead.first()?;
    let weight = |hops: &mut dyn Iterator<Item = &Hop>| hops.map(|hop| u32::from(hop.weight)).sum::<u32>();
    let all = weight(&mut route.hops.iter());
    let lost = weight(&mut dead.iter().map(|(hop, _)| *hop));
    let percent = match (lost * 100).checked_div(all)? {
        0 => "less than 1".to_owned(),
        percent => format!("about {percent}"),
    };
    let share = format!(
        "computed, not measured: {percent} % of the pairs of addresses, by the weights of the next hops ({lost} of {all})"
    );
    let found = dead.iter().fold(found, |found, (_, dead)| found.with(dead.source, dead.text.clone()));
    let place = case.place(Direction::Forward, first.stage, first.device.clone());
    Some(Located { finding: found.with(EvidenceSource::Route, share), place })
}

/// The same where nothing shows that another next hop is dead: only one of them can be the block's owner.
pub fn all_alive(case: &Case<'_>) -> Option<Finding> {
    let (found, _) = shared_out(case)?;
    Some(found.inferred().with_severity(Severity::Warning))
}

/// The finding of the target's route, if it has several next hops, and that route.
fn shared_out<'a>(case: &Case<'a>) -> Option<(Finding, &'a Route)> {
    let route = case.model.remote_block(case.target).filter(|block| block.tunnelled)?.route;
    let found = blocks::shared_out(case.model, route)?;
    let taken = case.trail.at(Direction::Forward, Point::ToWire).flat_map(|step| &step.seen);
    let mut nodes: Vec<Ipv4Addr> = taken.filter_map(|sighting| Some(sighting.outer?.1)).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let found = nodes.iter().fold(found, |found, node| {
        found.with(EvidenceSource::Probe, format!("this pair of addresses takes {node}, which answers"))
    });
    Some((found, route))
}

/// Why nothing passes by a next hop.
struct Dead {
    source: EvidenceSource,
    text: String,
    stage: Stage,
    device: Option<String>,
}

fn dead(case: &Case<'_>, hop: &Hop) -> Option<Dead> {
    let node = hop.gateway?;
    let Decision::Route { hops, .. } = look_up(case.model, &outer_flow(node)) else {
        let text = format!("no route leads to next hop {node}");
        return Some(Dead { source: EvidenceSource::Route, text, stage: Stage::Tunnel, device: None });
    };
    let first = hops.first()?;
    let (link, asked) = (first.link?, first.gateway.unwrap_or(node));
    let answers =
        case.observation.next_hop_echoes.iter().any(|echo| echo.peer == node && echo.rtt_us.is_some());
    let failed = neighbour_state(case, link, asked) == Some(NeighbourState::Failed);
    if answers || !failed {
        return None;
    }
    let device = case.link_name(link);
    let text = if asked == node {
        format!("next hop {node} does not answer ARP on {device}")
    } else {
        format!("router {asked} on the way to next hop {node} does not answer ARP on {device}")
    };
    Some(Dead { source: EvidenceSource::Neighbour, text, stage: Stage::Neighbour, device: Some(device) })
}
