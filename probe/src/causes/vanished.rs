//! Packets that came to a place of this node and not to the next, with no drop seen: where drops are not visible,
//! what routes, counters and neighbours prove must do.

use super::{
    case::{Case, Located},
    neighbour, netfilter, queue, reverse_path, routing, tunnel,
    verdict::Ending,
};
use crate::{
    model::routing::{Decision, look_up},
    report::document::{Certainty, Direction, Finding, Stage},
    sample::NetfilterHook,
};

/// Between the device by which it came in and any by which it could leave.
pub(super) fn in_routing(case: &Case<'_>, direction: Direction, lost: usize) -> Ending {
    if let Some(located) = routing::refused(case, direction, None) {
        return Ending::Located(inferred(located));
    }
    let counted = reverse_path::counted(case, direction);
    let known = counted
        .or_else(|| neighbour::unanswered(case, direction))
        .or_else(|| queue::counted(case, direction, lost))
        .or_else(|| netfilter::out_of_sight(case, direction));
    if let Some(located) = known {
        return Ending::Located(located);
    }
    let what = match routing::flow(case, direction, 0).map(|flow| look_up(case.model, &flow)) {
        Some(Decision::Route { route, .. }) => {
            format!("the route is {}, and no drop was seen", routing::route_words(case.model, route))
        }
        Some(Decision::Undecided { why }) => format!("the look-up is undecided: {why}"),
        Some(Decision::Rule { .. }) => "a routing rule refuses it".to_owned(),
        Some(Decision::NoRoute) | None => "no drop was seen".to_owned(),
    };
    let what = what + &netfilter::risen(case, &[NetfilterHook::Prerouting, NetfilterHook::Forward]);
    Ending::Unknown { place: Some(case.place(direction, Stage::Routing, None)), seen: what }
}

fn inferred(located: Located) -> Located {
    Located { finding: Finding { certainty: Certainty::Inferred, ..located.finding }, ..located }
}

/// Between `tunl0` and a NIC.
pub(super) fn in_tunnel(case: &Case<'_>, direction: Direction, lost: usize) -> Ending {
    let known = tunnel::entry(case, direction, None)
        .or_else(|| neighbour::next_hop_unanswered(case, direction))
        .or_else(|| queue::counted(case, direction, lost));
    if let Some(located) = known {
        return Ending::Located(located);
    }
    Ending::Unknown {
        place: Some(case.place(direction, Stage::Tunnel, Some(tunnel::TUNNEL.to_owned()))),
        seen: "it entered tunl0, did not leave by a NIC, and no drop was seen".to_owned()
            + &netfilter::risen(case, &[NetfilterHook::Output, NetfilterHook::Postrouting]),
    }
}

/// Between a NIC and `tunl0`.
pub(super) fn at_decapsulation(case: &Case<'_>, direction: Direction) -> Ending {
    match tunnel::down_for_arrivals(case, direction) {
        Some(located) => Ending::Located(located),
        None => Ending::Unknown {
            place: Some(case.place(direction, Stage::Decap, None)),
            seen: "it arrived encapsulated, tunl0 did not give it out, and no drop was seen".to_owned()
                + &netfilter::risen(case, &[NetfilterHook::Prerouting, NetfilterHook::Input]),
        },
    }
}
