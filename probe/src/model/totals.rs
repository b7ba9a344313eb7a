//! What was counted since the daemon started, as sums that never fall: devices come and go, their counters with
//! them, and a sum over those that are there now would forget what the gone ones carried.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
};

use crate::{
    reading::{DropCounts, DropPlace, LinkCounts, PeerCounts},
    sample::{Link, LinkStatistics},
    state::{PeerTraffic, State},
};

/// Peers that are remembered while nothing names them; beyond that they begin at zero when they come back.
const REMEMBERED_PEERS: usize = 1 << 14;

/// Segments, unless said otherwise.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    pub pods: PodTotals,
    /// Bare packets from pods to a pool, counted while no block's own route was bare.
    pub leaked: u64,
    /// Dropped for want of a route.
    pub without_route: u64,
    /// By reason; absent where the kernel gives none.
    pub drops: BTreeMap<(Option<String>, DropPlace), u64>,
    /// The kernel's own counters of `tunl0`, over all devices that had that name; absent where none had yet.
    pub tunnel: Option<LinkStatistics>,
    peers: HashMap<Ipv4Addr, PeerTraffic>,
    last: Last,
}

/// Over all pod interfaces that there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodTotals {
    /// Whether any of them had its programs; before that nothing from or to pods is known.
    pub covered: bool,
    pub from_pod: u64,
    pub to_pod: u64,
    pub bare: u64,
}

/// The counters as they stood last.
#[derive(Clone, Debug, Default)]
struct Last {
    links: HashMap<u32, LinkCounts>,
    peers: HashMap<Ipv4Addr, (u64, u64)>,
    drops: BTreeMap<(Option<String>, DropPlace), u64>,
    without_route: u64,
    tunnel: Option<(u32, LinkStatistics)>,
}

impl Totals {
    /// Adds what was counted since the state before.
    pub fn advance(&mut self, state: &State) {
        self.add_links(state);
        self.add_drops(&state.reading.drops);
        self.add_peers(state);
        if let Some(tunnel) = state.tunnel.known() {
            self.add_tunnel(tunnel);
        }
    }

    /// What went to and came from each peer that the state names, by address.
    pub fn peers(&self, state: &State) -> Vec<PeerTraffic> {
        state.reading.peers.iter().filter_map(|peer| self.peers.get(&peer.peer)).cloned().collect()
    }

    fn add_links(&mut self, state: &State) {
        let links = &state.reading.links;
        for link in links {
            let before = self.last.links.get(&link.link).filter(|before| before.name == link.name);
            let since = |count: fn(&LinkCounts) -> u64| rise(before.map_or(0, count), count(link));
            self.pods.covered |= link.covered_since.is_some();
            self.pods.from_pod += since(|link| link.from_pod.segments);
            self.pods.to_pod += since(|link| link.to_pod.segments);
            self.pods.bare += since(|link| link.bare.segments);
            if state.bare_blocks == 0 {
                self.leaked += since(|link| link.bare_to_pool.segments);
            }
        }
        self.last.links = links.iter().map(|link| (link.link, link.clone())).collect();
    }

    fn add_drops(&mut self, drops: &[DropCounts]) {
        let mut now = BTreeMap::new();
        for drop in drops {
            *now.entry((drop.reason.clone(), drop.place)).or_default() += drop.count.segments;
        }
        for (key, count) in &now {
            let before = self.last.drops.get(key).copied().unwrap_or(0);
            *self.drops.entry(key.clone()).or_default() += rise(before, *count);
        }
        self.last.drops = now;
        let without_route = drops.iter().filter(|drop| is_without_route(drop));
        let without_route = without_route.map(|drop| drop.count.segments).sum();
        self.without_route += rise(self.last.without_route, without_route);
        self.last.without_route = without_route;
    }

    fn add_peers(&mut self, state: &State) {
        let peers = &state.reading.peers;
        for peer in peers {
            let counts = counts(peer);
            let before = self.last.peers.get(&peer.peer).copied().unwrap_or_default();
            let (sent, heard) = (rise(before.0, counts.0), rise(before.1, counts.1));
            let total = self.peers.entry(peer.peer).or_insert_with(|| PeerTraffic::of(peer.peer));
            total.encapsulated += sent;
            total.decapsulated += heard;
            if sent > 0 {
                total.last_sent = Some(state.reading.time.clone());
            }
            if heard > 0 {
                total.last_heard = Some(state.reading.time.clone());
            }
        }
        self.last.peers = peers.iter().map(|peer| (peer.peer, counts(peer))).collect();
        if self.peers.len() > REMEMBERED_PEERS {
            self.peers.retain(|peer, _| self.last.peers.contains_key(peer));
        }
    }

    fn add_tunnel(&mut self, tunnel: &Link) {
        let before = self.last.tunnel.filter(|(index, _)| *index == tunnel.index);
        let before = before.map_or_else(LinkStatistics::default, |(_, statistics)| statistics);
        let now = tunnel.statistics;
        let total = self.tunnel.get_or_insert_default();
        total.rx_packets += rise(before.rx_packets, now.rx_packets);
        total.tx_packets += rise(before.tx_packets, now.tx_packets);
        total.rx_errors += rise(before.rx_errors, now.rx_errors);
        total.tx_errors += rise(before.tx_errors, now.tx_errors);
        total.rx_dropped += rise(before.rx_dropped, now.rx_dropped);
        total.tx_dropped += rise(before.tx_dropped, now.tx_dropped);
        total.collisions += rise(before.collisions, now.collisions);
        total.tx_carrier_errors += rise(before.tx_carrier_errors, now.tx_carrier_errors);
        self.last.tunnel = Some((tunnel.index, now));
    }
}

/// `ip_error` is where the kernel sends packets that no route covers (`net/ipv4/route.c`); where symbols are hidden
/// the reason tells it, on kernels that give one.
pub fn is_without_route(drop: &DropCounts) -> bool {
    let by_symbol = drop.symbol.as_deref() == Some("ip_error");
    drop.place == DropPlace::Node && (by_symbol || drop.reason.as_deref() == Some("IP_INNOROUTES"))
}

/// A counter that is lower than before has begun anew.
fn rise(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

fn counts(peer: &PeerCounts) -> (u64, u64) {
    (peer.encapsulated.segments, peer.decapsulated.segments)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{reading::Count, sample::Fact};

    fn link(index: u32, name: &str, from_pod: u64) -> LinkCounts {
        let from_pod = Count { segments: from_pod, buffers: from_pod };
        let covered_since = Some("2026-01-01T00:00:00Z".to_owned());
        LinkCounts { link: index, name: name.to_owned(), covered_since, from_pod, ..LinkCounts::default() }
    }

    fn state(links: Vec<LinkCounts>) -> State {
        let mut state = State::default();
        state.reading.links = links;
        state
    }

    #[test]
    fn what_a_deleted_pod_sent_stays_in_the_sum() {
        let mut totals = Totals::default();
        totals.advance(&state(vec![link(4, "cali1", 10), link(5, "cali2", 1)]));
        totals.advance(&state(vec![link(5, "cali2", 3)]));
        assert_eq!(totals.pods.from_pod, 13);
    }

    #[test]
    fn a_device_with_the_index_of_a_deleted_one_begins_at_zero() {
        let mut totals = Totals::default();
        totals.advance(&state(vec![link(4, "cali1", 10)]));
        totals.advance(&state(vec![link(4, "cali9", 12)]));
        assert_eq!(totals.pods.from_pod, 22);
    }

    #[test]
    fn bare_packets_are_no_leaks_while_a_route_is_bare() {
        let bare = |segments, bare_blocks| {
            let mut link = link(4, "cali1", 0);
            link.bare_to_pool.segments = segments;
            State { bare_blocks, ..state(vec![link]) }
        };
        let mut totals = Totals::default();
        totals.advance(&bare(5, 0));
        totals.advance(&bare(50, 1));
        totals.advance(&bare(52, 0));
        assert_eq!(totals.leaked, 7);
    }

    #[test]
    fn a_tunnel_that_is_made_again_goes_on_from_where_the_old_one_ended() {
        let tunnel = |index, rx_packets| {
            let statistics = LinkStatistics { rx_packets, ..LinkStatistics::default() };
            let link = Link { index, name: "tunl0".to_owned(), statistics, ..Link::default() };
            State { tunnel: Fact::Known(link), ..State::default() }
        };
        let mut totals = Totals::default();
        for state in [tunnel(3, 100), State::default(), tunnel(9, 2), tunnel(9, 5)] {
            totals.advance(&state);
        }
        assert_eq!(totals.tunnel.map(|statistics| statistics.rx_packets), Some(105));
    }

    proptest! {
        #[test]
        fn no_sum_ever_falls(readings in prop::collection::vec(
            prop::collection::vec((1u32..4, 0u64..100), 0..4), 0..20)
        ) {
            let mut totals = Totals::default();
            let mut before = 0;
            for links in readings {
                totals.advance(&state(links.iter().map(|(index, count)| link(*index, "cali", *count)).collect()));
                prop_assert!(totals.pods.from_pod >= before);
                before = totals.pods.from_pod;
            }
        }
    }
}
