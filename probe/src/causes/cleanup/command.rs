//! The `ip` commands that do what steps do. A route is named with all that the kernel matches on deletion
//! (`fib_table_delete`), so that no other one goes instead.

use std::fmt::Write as _;

use crate::{
    causes::routing::kind_word,
    model::rows::TABLE_MAIN,
    sample::{Link, Route, RouteKind},
};

pub fn delete_route(route: &Route, devices: &[Option<String>]) -> String {
    let mut words = String::from("ip route del ");
    if route.kind != RouteKind::Unicast {
        let _ = write!(words, "{} ", kind_word(route.kind));
    }
    if route.destination.prefix_len() == 32 {
        let _ = write!(words, "{}", route.destination.addr());
    } else {
        let _ = write!(words, "{}", route.destination);
    }
    if route.tos != 0 {
        let _ = write!(words, " tos {:#x}", route.tos);
    }
    for (place, hop) in route.hops.iter().enumerate() {
        if route.hops.len() > 1 {
            words.push_str(" nexthop");
        }
        if let Some(gateway) = hop.gateway {
            let _ = write!(words, " via {gateway}");
        }
        if let Some(Some(device)) = devices.get(place) {
            let _ = write!(words, " dev {}", quoted(device));
        }
        if hop.onlink {
            words.push_str(" onlink");
        }
        if route.hops.len() > 1 {
            let _ = write!(words, " weight {}", hop.weight);
        }
    }
    if route.table != TABLE_MAIN {
        let _ = write!(words, " table {}", route.table);
    }
    let _ = write!(words, " proto {}", protocol(route.protocol));
    match route.scope {
        0 => {}
        253 => words.push_str(" scope link"),
        254 => words.push_str(" scope host"),
        other => {
            let _ = write!(words, " scope {other}");
        }
    }
    if let Some(source) = route.preferred_source {
        let _ = write!(words, " src {source}");
    }
    if route.metric != 0 {
        let _ = write!(words, " metric {}", route.metric);
    }
    if let Some(mtu) = route.mtu {
        let _ = write!(words, " mtu {mtu}");
    }
    words
}

pub fn set_down(link: &Link) -> String {
    format!("ip link set dev {} down", quoted(&link.name))
}

pub fn delete_link(link: &Link) -> String {
    format!("ip link del dev {}", quoted(&link.name))
}

fn protocol(number: u8) -> String {
    match number {
        2 => "kernel".to_owned(),
        3 => "boot".to_owned(),
        4 => "static".to_owned(),
        12 => "bird".to_owned(),
        other => other.to_string(),
    }
}

/// A device's name may hold what a shell takes for its own.
fn quoted(name: &str) -> String {
    shlex::try_quote(name).map_or_else(|_| "?".to_owned(), Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Hop;

    #[test]
    fn a_route_is_named_with_all_that_it_has() {
        let route = Route {
            destination: "172.18.0.0/16".parse().unwrap(),
            table: 100,
            protocol: 2,
            scope: 253,
            metric: 7,
            tos: 16,
            mtu: Some(1400),
            preferred_source: Some([172, 18, 0, 1].into()),
            hops: vec![Hop { link: Some(5), weight: 1, ..Hop::default() }],
            ..Route::default()
        };
        assert_eq!(
            delete_route(&route, &[Some("br-1d6d3edc38f7".to_owned())]),
            "ip route del 172.18.0.0/16 tos 0x10 dev br-1d6d3edc38f7 table 100 proto kernel scope link \
             src 172.18.0.1 metric 7 mtu 1400"
        );
        let blackhole = Route {
            destination: "10.200.55.192/26".parse().unwrap(),
            kind: RouteKind::Blackhole,
            table: TABLE_MAIN,
            protocol: 4,
            ..Route::default()
        };
        assert_eq!(delete_route(&blackhole, &[]), "ip route del blackhole 10.200.55.192/26 proto static");
    }

    #[test]
    fn a_name_cannot_leave_its_place() {
        let link = Link { name: "cali1;reboot".to_owned(), ..Link::default() };
        assert_eq!(delete_link(&link), "ip link del dev 'cali1;reboot'");
    }
}
