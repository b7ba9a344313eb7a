//! What the outputs of a place do not show: unknown, and not fine.

use std::net::Ipv4Addr;

use super::{devices::Devices, looks::Look, readings::RouteRow, shape::Output};
use crate::sample::{Hop, Part, Route, RouteKind, Sample};

/// `RT_TABLE_MAIN`.
const TABLE_MAIN: u32 = 254;

/// Enters what the sample does not hold, and which command would show it.
pub fn enter(look: &Look, rows: &[RouteRow], devices: &Devices, sample: &mut Sample) {
    let mut miss = |part: Part, why: &str| drop(sample.missing.insert(part, why.to_owned()));
    let shows =
        |output: Output| look.parts.iter().any(|part| part.output == output && part.reading.is_some());
    if let Some(why) = devices.why_not_all(look) {
        miss(Part::Links, why);
    }
    for (part, why) in devices.missing() {
        miss(part, why);
    }
    if let Some(why) = why_not_all_routes(look, rows) {
        miss(Part::Routes, why);
    }
    if !rows.iter().any(|row| row.names_table && row.route.table != TABLE_MAIN) {
        miss(Part::OtherTables, "they were not shown: ip route show table all");
    }
    if !shows_protocols(rows) {
        miss(Part::RouteProtocols, "they were not shown: ip route prints them, route -n does not");
    }
    if rows.iter().any(|row| row.route.next_hop_id.is_some()) {
        miss(Part::NextHops, "they were not shown: ip nexthop");
    }
    for (part, output, why) in [
        (Part::Rules, Output::Rules, "they were not shown: ip rule"),
        (Part::Neighbours, Output::Neighbours, "they were not shown: ip neigh"),
        (Part::Sysctls, Output::Sysctl, "they were not shown: sysctl net.ipv4"),
    ] {
        if !shows(output) {
            miss(part, why);
        }
    }
}

/// `ip` prints who wrote a route; a table where no row says so had it taken out.
pub fn shows_protocols(rows: &[RouteRow]) -> bool {
    rows.iter().any(|row| row.shows_protocol)
}

/// A table without a default route may be a part of one: it is what people cut, for the address in it or because they
/// show what they find of interest. With one, and with the networks of the routers in it, it is whole.
fn why_not_all_routes(look: &Look, rows: &[RouteRow]) -> Option<&'static str> {
    let outputs = [Output::IpRoute, Output::RouteColumns];
    let mut parts = look.parts.iter().filter(|part| outputs.contains(&part.output)).peekable();
    if parts.peek().is_none() {
        return Some("they were not shown: ip route");
    }
    if parts.clone().all(|part| part.is_narrowed) {
        return Some("only a selection was shown: ip route");
    }
    if parts.any(|part| !part.unreadable.is_empty()) {
        return Some("some rows cannot be read: ip route");
    }
    let main = || {
        rows.iter()
            .map(|row| &row.route)
            .filter(|route| route.table == TABLE_MAIN && route.kind == RouteKind::Unicast)
    };
    let Some(default) = main().find(|route| route.destination.prefix_len() == 0) else {
        let says_nothing = rows.is_empty();
        return (!says_nothing)
            .then_some("rows may have been left out, a default route among them: ip route");
    };
    let mut gateways = default.hops.iter().filter_map(gateway);
    let all = gateways.all(|gateway| main().any(|route| is_connected_to(route, gateway)));
    (!all).then_some("rows were left out, the network of the default route among them: ip route")
}

/// The router that a hop needs a network for.
fn gateway(hop: &Hop) -> Option<Ipv4Addr> {
    hop.gateway.filter(|_| !hop.onlink)
}

fn is_connected_to(route: &Route, gateway: Ipv4Addr) -> bool {
    route.destination.prefix_len() > 0
        && route.destination.contains(&gateway)
        && route.hops.iter().any(|hop| hop.gateway.is_none() && hop.masked_gateway.is_none())
}
