//! The kernel's own look-up, asked when the probes were through, against ours of the routes before them. It
//! confirms; it never convicts, because it answers alike for different causes (EINVAL for a blackhole and a martian,
//! EHOSTUNREACH for forwarding off and an unreachable route). A disagreement ends the judgement.

use std::net::Ipv4Addr;

use super::{case::Case, routing, trail::Telling};
use crate::{
    model::routing::{Decision, look_up},
    report::document::Direction,
    sample::RouteKind,
};

/// What the two look-ups come to together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// The kernel was not asked, or its answer says nothing about ours.
    Unknown,
    /// In words.
    Confirmed(String),
    /// In words.
    Contradicted(String),
}

/// Compares them for the packets on their way to the target.
pub fn compare(case: &Case<'_>) -> Agreement {
    let Telling::Flow(flow_number) = case.telling else { return Agreement::Unknown };
    let answers = &case.observation.kernel_routes;
    let Some(answer) = answers.iter().find(|answer| answer.flow == flow_number) else {
        return Agreement::Unknown;
    };
    let Some(flow) = routing::flow(case, Direction::Forward, 0) else { return Agreement::Unknown };
    match (look_up(case.model, &flow), &answer.answer) {
        (Decision::Route { route, hops }, Ok((link, gateway))) if route.kind == RouteKind::Unicast => {
            let words = way(case, *link, *gateway);
            if hops.iter().any(|hop| hop.link == *link && hop.gateway == *gateway) {
                Agreement::Confirmed(format!("the kernel's own look-up says the same: {words}"))
            } else {
                Agreement::Contradicted(format!(
                    "routes read before the probes say {}, the kernel says {words}: they change, or mark and source decide",
                    routing::route_words(case.model, route)
                ))
            }
        }
        (Decision::Route { route, .. }, Ok((link, gateway))) if refuses(route.kind) => {
            Agreement::Contradicted(format!(
                "routes read before the probes say {}, the kernel says {}: they change, or mark and source decide",
                routing::route_words(case.model, route),
                way(case, *link, *gateway)
            ))
        }
        (Decision::NoRoute, Ok((link, gateway))) => Agreement::Contradicted(format!(
            "routes read before the probes have none for {}, the kernel says {}: they change, or mark and source decide",
            case.target,
            way(case, *link, *gateway)
        )),
        (Decision::NoRoute, Err(error)) => {
            Agreement::Confirmed(format!("the kernel's own look-up finds none either: {error}"))
        }
        (Decision::Route { route, .. }, Err(error)) if refuses(route.kind) => {
            Agreement::Confirmed(format!("the kernel's own look-up refuses it too: {error}"))
        }
        _ => Agreement::Unknown,
    }
}

fn refuses(kind: RouteKind) -> bool {
    matches!(kind, RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit)
}

fn way(case: &Case<'_>, link: Option<u32>, gateway: Option<Ipv4Addr>) -> String {
    let device = link.map_or_else(|| "no device".to_owned(), |link| format!("dev {}", case.link_name(link)));
    gateway.map_or_else(|| device.clone(), |gateway| format!("via {gateway} {device}"))
}
