//! What was lost between two readings of the ledger: by which function, where, on the way to which block.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;

use crate::reading::{DropCounts, DropPlace, LastBare, LastDropped, Reading};

/// Packets that are told apart by how they were lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    Dropped {
        reason: Option<String>,
        symbol: Option<String>,
        device: Option<String>,
        ingress_device: Option<String>,
        block: Option<Ipv4Net>,
        encapsulated: bool,
    },
    /// Left bare for a pool, from a pod or, without one, from the node itself.
    Bare { pod_link: Option<u32>, link: u32, destination: Ipv4Addr },
}

/// The last packet that was lost in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    Dropped(LastDropped),
    Bare(LastBare),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    pub way: Way,
    /// Segments.
    pub packets: u64,
    pub last: Packet,
}

/// What rose from one reading to the next, on this node itself, with a packet to show for it. What pods' own
/// namespaces drop is not lost on the way, and what nobody can tell the namespace of is blamed on nobody.
pub fn losses(before: &Reading, now: &Reading) -> Vec<Loss> {
    let mut losses = drops(before, now);
    losses.extend(bare(before, now));
    losses
}

fn drops(before: &Reading, now: &Reading) -> Vec<Loss> {
    let earlier = by_way(&before.drops);
    let rises = by_way(&now.drops).into_iter().filter_map(|(way, (count, last))| {
        let before = earlier.get(&way).map_or(0, |(count, _)| *count);
        let packets = rise(before, count);
        Some(Loss { way, packets, last: Packet::Dropped(last?) }).filter(|loss| loss.packets > 0)
    });
    rises.collect()
}

/// One function may have several places that drop, and each of them a count of its own.
fn by_way(drops: &[DropCounts]) -> BTreeMap<Way, (u64, Option<LastDropped>)> {
    let mut ways: BTreeMap<Way, (u64, Option<LastDropped>)> = BTreeMap::new();
    for drop in drops.iter().filter(|drop| drop.place == DropPlace::Node) {
        let way = Way::Dropped {
            reason: drop.reason.clone(),
            symbol: drop.symbol.clone(),
            device: drop.device.clone(),
            ingress_device: drop.ingress_device.clone(),
            block: drop.block,
            encapsulated: drop.encapsulated,
        };
        let entry = ways.entry(way).or_default();
        entry.0 += drop.count.segments;
        entry.1 = entry.1.or(drop.last);
    }
    ways
}

fn bare(before: &Reading, now: &Reading) -> Vec<Loss> {
    let host = rise(before.node.host_bare.segments, now.node.host_bare.segments);
    let mut found: Vec<(u64, Option<u32>, Option<LastBare>)> = vec![(host, None, now.last_host_bare)];
    for link in &now.links {
        let earlier = before.links.iter().find(|other| other.link == link.link && other.name == link.name);
        let packets = rise(earlier.map_or(0, |link| link.bare_to_pool.segments), link.bare_to_pool.segments);
        found.push((packets, Some(link.link), link.last_bare));
    }
    let losses =
        found.into_iter().filter(|(packets, ..)| *packets > 0).filter_map(|(packets, pod_link, last)| {
            let last = last?;
            let way = Way::Bare { pod_link, link: last.link, destination: last.destination };
            Some(Loss { way, packets, last: Packet::Bare(last) })
        });
    losses.collect()
}

/// A counter that is lower than before has begun anew.
fn rise(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::reading::{Count, LinkCounts};

    const LAST: LastDropped = LastDropped {
        source: Ipv4Addr::new(10, 200, 55, 1),
        destination: Ipv4Addr::new(10, 200, 153, 70),
        outer: None,
        mark: 0,
        protocol: 1,
    };

    fn dropped(place: DropPlace, symbol: &str, segments: u64) -> DropCounts {
        DropCounts {
            reason: None,
            symbol: Some(symbol.to_owned()),
            place,
            device: None,
            ingress_device: None,
            block: None,
            encapsulated: false,
            count: Count { segments, buffers: segments },
            last: Some(LAST),
        }
    }

    #[test]
    fn only_this_nodes_own_drops_are_losses() {
        let mut now = Reading::default();
        for place in [DropPlace::Node, DropPlace::InsideAPod, DropPlace::Unknown] {
            now.drops.push(dropped(place, "ip_error", 4));
        }
        let found: Vec<u64> = losses(&Reading::default(), &now).iter().map(|loss| loss.packets).collect();
        assert_eq!(found, [4]);
    }

    #[test]
    fn bare_packets_to_a_pool_are_told_by_pod_and_destination() {
        let last = LastBare { source: LAST.source, destination: LAST.destination, link: 2 };
        let link = LinkCounts {
            link: 7,
            name: "cali7".to_owned(),
            bare_to_pool: Count { segments: 5, buffers: 5 },
            last_bare: Some(last),
            ..LinkCounts::default()
        };
        let now = Reading { links: vec![link], ..Reading::default() };
        let found = losses(&Reading::default(), &now);
        let way = Way::Bare { pod_link: Some(7), link: 2, destination: LAST.destination };
        assert_eq!(found, [Loss { way, packets: 5, last: Packet::Bare(last) }]);
        assert!(losses(&now, &now).is_empty());
    }

    proptest! {
        /// Whatever the counters do, no packet is told twice, and none of a growing counter is left out.
        #[test]
        fn growing_counters_add_up(steps in prop::collection::vec(0_u64..1000, 1..20)) {
            let (mut before, mut counter, mut told) = (Reading::default(), 0, 0);
            for step in &steps {
                counter += step;
                let now = Reading {
                    drops: vec![dropped(DropPlace::Node, "a", counter), dropped(DropPlace::Node, "a", counter)],
                    ..Reading::default()
                };
                told += losses(&before, &now).iter().map(|loss| loss.packets).sum::<u64>();
                before = now;
            }
            prop_assert_eq!(told, 2 * counter);
        }
    }
}
