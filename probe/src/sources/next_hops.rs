//! Next-hop objects (`ip nexthop`, `linux/nexthop.h`), which routes may name in place of hops of their own.

use std::{collections::HashMap, net::Ipv4Addr};

use anyhow::Context as _;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::raw_netlink::{DUMP, RawNetlink, attribute};
use crate::sample::{Hop, NextHop, Route, RouteKind};

const RTM_NEWNEXTHOP: u16 = 104;
const RTM_GETNEXTHOP: u16 = 106;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
/// `struct nhmsg`.
const HEADER: usize = 8;
/// `struct nexthop_grp`: the id, the weight less one, and padding.
const MEMBER: usize = 8;
/// Flags of a hop (`RTNH_F_*`, linux/rtnetlink.h).
const DEAD: u32 = 1;
const ONLINK: u32 = 4;
const LINK_DOWN: u32 = 16;

/// All of them; none on kernels before 5.3, which do not know them.
pub fn read() -> anyhow::Result<Vec<NextHop>> {
    let netlink = RawNetlink::open(NETLINK_ROUTE)?;
    let answer = match netlink.request(RTM_GETNEXTHOP, DUMP, &[0; HEADER]) {
        Ok(answer) => answer,
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(error).context("cannot read the next-hop objects"),
    };
    let next_hops = answer.iter().filter(|message| message.kind == RTM_NEWNEXTHOP);
    Ok(next_hops.filter_map(|message| parse(&message.payload)).collect())
}

fn parse(payload: &[u8]) -> Option<NextHop> {
    let flags = number(payload.get(4..HEADER)?)?;
    let attributes = payload.get(HEADER..)?;
    let gateway = attribute(attributes, NHA_GATEWAY).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    let group = attribute(attributes, NHA_GROUP).unwrap_or_default();
    Some(NextHop {
        id: number(attribute(attributes, NHA_ID)?)?,
        blackhole: attribute(attributes, NHA_BLACKHOLE).is_some(),
        hop: Hop {
            gateway: gateway.map(Ipv4Addr::from),
            masked_gateway: None,
            link: attribute(attributes, NHA_OIF).and_then(number),
            onlink: flags & ONLINK != 0,
            dead: flags & DEAD != 0,
            link_down: flags & LINK_DOWN != 0,
            weight: 1,
        },
        group: group
            .chunks_exact(MEMBER)
            .filter_map(|member| Some((number(&member[..4])?, u16::from(member[4]) + 1)))
            .collect(),
    })
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.first_chunk()?))
}

/// Gives routes that only name an object the hops of that object: with `net.ipv4.nexthop_compat_mode` off the
/// kernel does not repeat them.
pub fn fill(routes: &mut [Route], next_hops: &[NextHop]) {
    let by_id: HashMap<u32, &NextHop> = next_hops.iter().map(|next_hop| (next_hop.id, next_hop)).collect();
    for route in routes.iter_mut().filter(|route| route.hops.is_empty()) {
        let Some(next_hop) = route.next_hop_id.and_then(|id| by_id.get(&id)) else { continue };
        if next_hop.blackhole {
            route.kind = RouteKind::Blackhole;
        } else if next_hop.group.is_empty() {
            route.hops.push(next_hop.hop.clone());
        } else {
            // Groups hold no groups (net/ipv4/nexthop.c).
            let members = next_hop.group.iter();
            let hops = members.filter_map(|(id, weight)| {
                let member = by_id.get(id)?;
                Some(Hop { weight: *weight, ..member.hop.clone() })
            });
            route.hops.extend(hops);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sources::raw_netlink::put_attribute;

    fn message(flags: u32, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut payload = vec![2, 0, 0, 0];
        payload.extend(flags.to_ne_bytes());
        for (kind, value) in attributes {
            put_attribute(&mut payload, *kind, value).unwrap();
        }
        payload
    }

    fn route(next_hop_id: u32) -> Route {
        Route {
            destination: "10.200.153.64/26".parse().unwrap(),
            table: 254,
            protocol: 12,
            next_hop_id: Some(next_hop_id),
            ..Route::default()
        }
    }

    #[test]
    fn a_route_gets_the_hops_of_the_object_that_it_names() {
        let one = parse(&message(
            ONLINK,
            &[
                (NHA_ID, &7u32.to_ne_bytes()),
                (NHA_OIF, &3u32.to_ne_bytes()),
                (NHA_GATEWAY, &[172, 30, 10, 187]),
            ],
        ))
        .unwrap();
        let mut member = 7u32.to_ne_bytes().to_vec();
        member.extend([1, 0, 0, 0]);
        let group = parse(&message(0, &[(NHA_ID, &9u32.to_ne_bytes()), (NHA_GROUP, &member)])).unwrap();
        let hole = parse(&message(0, &[(NHA_ID, &8u32.to_ne_bytes()), (NHA_BLACKHOLE, &[])])).unwrap();
        let mut routes = [route(7), route(9), route(8), route(1)];
        fill(&mut routes, &[one, group, hole]);
        assert_eq!(routes[0].hops[0].gateway, Some(Ipv4Addr::new(172, 30, 10, 187)));
        assert!(routes[0].hops[0].onlink);
        assert_eq!((routes[1].hops[0].link, routes[1].hops[0].weight), (Some(3), 2));
        assert_eq!(routes[2].kind, RouteKind::Blackhole);
        assert!(routes[3].hops.is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
