//! Twelve hours of a node's ordinary life, a reading a second: pods come and go, routes are written anew, neighbours
//! and servers are away. None of it is a black hole.

use std::{net::Ipv4Addr, time::Duration};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{Change, Examples, Judged, Look, Openings, Silences, judge, judge_silence};
use crate::{
    model::{
        Model,
        increments::{Loss, Packet, Way},
    },
    observation::{Greeting, Opening, Unanswered},
    reading::{LastBare, LastDropped, PeerCounts, PeerWay, Reading},
    sample::{Address, Fact, Hop, Link, Route, RouteKind, Rule, Sample},
};

const HOURS: u64 = 12;
const TUNNEL: u32 = 1;
const UPLINK: u32 = 2;
/// Devices from here on are pods'.
const PODS: u32 = 10;
const OWN_BLOCK: [u8; 3] = [10, 200, 55];
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 200, 153, 70);
const OTHER_NODE: Ipv4Addr = Ipv4Addr::new(172, 30, 10, 187);

/// A node as it is, and what it lost since the reading before.
struct Node {
    sample: Sample,
    losses: Vec<Loss>,
}

impl Node {
    fn new() -> Self {
        let link = |index, name: &str| Link { index, name: name.to_owned(), up: true, ..Link::default() };
        let mut node = Self {
            sample: Sample {
                links: vec![link(TUNNEL, "tunl0"), link(UPLINK, "eth0")],
                addresses: vec![Address {
                    link: UPLINK,
                    address: Ipv4Addr::new(172, 30, 10, 188),
                    prefix_length: 24,
                    scope: 0,
                }],
                routes: vec![
                    route("0.0.0.0/0", RouteKind::Unicast, Some(Ipv4Addr::new(172, 30, 10, 254)), UPLINK),
                    route("172.30.10.0/24", RouteKind::Unicast, None, UPLINK),
                    route("10.200.55.0/26", RouteKind::Blackhole, None, 0),
                    route("10.200.153.64/26", RouteKind::Unicast, Some(OTHER_NODE), TUNNEL),
                ],
                rules: vec![Rule::for_all(32766, 254)],
                given_pools: "10.200.0.0/16".parse().into_iter().collect(),
                ..Sample::default()
            },
            losses: Vec::new(),
        };
        for number in 0..30 {
            node.begin(number);
        }
        node
    }

    fn begin(&mut self, number: u8) {
        let index = PODS + u32::from(number);
        let name = format!("cali{number}");
        self.sample.links.push(Link { index, name, up: true, ..Link::default() });
        self.sample.routes.push(route(&format!("{}/32", pod(number)), RouteKind::Unicast, None, index));
    }

    fn end(&mut self, number: u8) {
        let network = Ipv4Net::from(pod(number));
        self.sample.links.retain(|link| link.index != PODS + u32::from(number));
        self.sample.routes.retain(|route| route.destination != network);
    }

    fn lose(&mut self, reason: &str, symbol: &str, device: &str, destination: Ipv4Addr, packets: u64) {
        let way = Way::Dropped {
            reason: Some(reason.to_owned()),
            symbol: Some(symbol.to_owned()),
            device: Some(device.to_owned()),
            ingress_device: Some(device.to_owned()),
            block: None,
            encapsulated: false,
        };
        let last = LastDropped { source: SERVER, destination, outer: None, mark: 0, protocol: 6 };
        self.losses.push(Loss { way, packets, last: Packet::Dropped(last) });
    }

    fn leak(&mut self, number: u8, packets: u64) {
        let (pod_link, destination) = (Some(PODS + u32::from(number)), SERVER);
        let way = Way::Bare { pod_link, link: UPLINK, destination };
        let last = LastBare { source: pod(number), destination, link: UPLINK };
        self.losses.push(Loss { way, packets, last: Packet::Bare(last) });
    }
}

fn pod(number: u8) -> Ipv4Addr {
    let [a, b, c] = OWN_BLOCK;
    Ipv4Addr::new(a, b, c, number + 1)
}

fn route(destination: &str, kind: RouteKind, gateway: Option<Ipv4Addr>, link: u32) -> Route {
    let hop = Hop { gateway, link: (link != 0).then_some(link), onlink: gateway.is_some(), ..Hop::default() };
    Route {
        destination: destination.parse().unwrap(),
        kind,
        table: 254,
        protocol: 12,
        scope: 0,
        metric: 0,
        tos: 0,
        preferred_source: None,
        mtu: None,
        next_hop_id: None,
        hops: if link == 0 { Vec::new() } else { vec![hop] },
    }
}

/// What opens and closes while readings come in.
#[derive(Default)]
struct Watcher {
    examples: Examples,
    openings: Openings,
}

impl Watcher {
    fn read(&mut self, second: u64, node: &Node) -> Vec<Change> {
        let model = Model::new(&node.sample);
        let judged = node.losses.iter().map(|loss| (judge(&model, loss), loss));
        let found = judged.filter_map(|(judged, loss)| match judged {
            Judged::BlackHole(explanation) => Some((*explanation, loss)),
            Judged::Lawful | Judged::ByRules => None,
        });
        let seen = self.examples.seen(&model, found.collect());
        let now = Duration::from_secs(second);
        let changes = self.openings.advance(now, Timestamp::UNIX_EPOCH, &seen, &mut || second.to_string());
        self.examples.keep_known(&self.openings);
        changes
    }
}

#[test]
fn twelve_hours_of_it_open_no_black_hole() {
    let mut chance = StdRng::seed_from_u64(4);
    let mut node = Node::new();
    let mut watcher = Watcher::default();
    // A pod that is away, and until when.
    let mut away: Option<(u8, u64)> = None;
    for second in 0..HOURS * 3600 {
        node.losses.clear();
        match away {
            Some((number, end)) if second >= end => {
                node.begin(number);
                away = None;
            }
            // Others go on sending to it.
            Some((number, _)) => {
                let packets = chance.random_range(0..200);
                node.lose("NOT_SPECIFIED", "ip_error", "tunl0", pod(number), packets);
            }
            None if chance.random_ratio(1, 20) => {
                let number = chance.random_range(0..30);
                node.end(number);
                node.lose("NEIGH_FAILED", "neigh_invalidate", "eth0", pod(number), 3);
                away = Some((number, second + chance.random_range(1..30)));
            }
            None => {}
        }
        // BIRD writes a route anew: it is gone for a moment, and back when the ledger is read.
        if second % 300 == 17 {
            node.leak(29, chance.random_range(1..50));
        }
        let noise: [(&str, &str, Ipv4Addr); 5] = [
            ("NO_SOCKET", "tcp_v4_rcv", pod(1)),
            ("TCP_RESET", "tcp_v4_do_rcv", SERVER),
            ("QDISC_DROP", "__dev_queue_xmit", SERVER),
            ("NEIGH_FAILED", "arp_error_report", Ipv4Addr::new(172, 30, 10, 99)),
            ("NOT_SPECIFIED", "ip_error", Ipv4Addr::new(192, 0, 2, 1)),
        ];
        for (reason, symbol, destination) in noise {
            if chance.random_ratio(1, 4) {
                node.lose(reason, symbol, "eth0", destination, chance.random_range(1..100));
            }
        }
        assert_eq!(watcher.read(second, &node), [], "after {second} s");
    }
}

/// The same eyes see what is one.
#[test]
fn a_block_that_loses_its_route_for_good_opens_one() {
    let mut node = Node::new();
    node.sample
        .routes
        .retain(|route| !route.destination.contains(&SERVER) || route.destination.prefix_len() == 0);
    node.leak(3, 10);
    assert_eq!(Watcher::default().read(0, &node).len(), 1);
}

/// What another node is like for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Talks,
    Idle,
    /// Gets datagrams and sends none.
    Listens,
    /// Nobody of those that are asked is there, or wants to answer.
    Ignores,
    /// The same, and this process may ask nobody itself.
    IgnoresOneUnasked,
    /// Shut down, or not yet up again.
    Away,
    /// What is encapsulated for it is lost. No ordinary life.
    Unreached,
}

/// Another node, and what is heard of it.
struct Neighbour {
    manner: Manner,
    before: Reading,
    sent: u64,
    heard: u64,
    silences: Silences,
    openings: Openings,
}

impl Neighbour {
    fn new(manner: Manner) -> Self {
        let (silences, openings) = (Silences::default(), Openings::default());
        Self { manner, before: Reading::default(), sent: 0, heard: 0, silences, openings }
    }

    fn read(&mut self, second: u64, node: &Node, chance: &mut StdRng) -> Vec<Change> {
        let now = Duration::from_secs(second);
        if self.manner != Manner::Idle {
            self.sent += chance.random_range(0..20);
        }
        if self.manner == Manner::Talks {
            self.heard += chance.random_range(0..20);
        }
        let way = |segments| PeerWay { segments, ..PeerWay::default() };
        let peer =
            PeerCounts { peer: OTHER_NODE, encapsulated: way(self.sent), decapsulated: way(self.heard) };
        let reading = Reading { peers: vec![peer], ..Reading::default() };
        self.silences.read(now, &self.before, &reading, &[]);
        self.before = reading;
        for silent in self.silences.due(now) {
            let (unanswered, greetings) = (self.unanswered(chance), self.greetings());
            let look = Look {
                before: &node.sample,
                after: &node.sample,
                unanswered: &unanswered,
                greetings: &greetings,
                sessions: &Fact::Absent(String::new()),
            };
            let heard =
                judge_silence(&Model::new(&node.sample), &look, silent, now.saturating_sub(silent.since));
            self.silences.judged(now, now, silent.peer, heard);
        }
        let seen = self.silences.seen();
        self.openings.advance(now, Timestamp::UNIX_EPOCH, &seen, &mut || second.to_string())
    }

    fn unanswered(&self, chance: &mut StdRng) -> Vec<Unanswered> {
        let asked = match self.manner {
            Manner::Talks | Manner::Idle | Manner::Listens => 0,
            Manner::IgnoresOneUnasked => 1,
            Manner::Ignores | Manner::Away | Manner::Unreached => chance.random_range(1..50),
        };
        let one = |number: u8| Unanswered {
            sender: pod(number % 30),
            source: pod(number % 30),
            target: Ipv4Addr::from(u32::from(SERVER) + u32::from(number % 50)),
            opening: Opening::Tcp { ports: (40_000 + u16::from(number), 80) },
            last_sent: Duration::from_secs(1),
        };
        (0..asked).map(one).collect()
    }

    fn greetings(&self) -> Vec<Greeting> {
        if self.manner == Manner::IgnoresOneUnasked {
            return Vec::new();
        }
        let (node, through_tunnel) = (self.manner != Manner::Away, self.manner == Manner::Ignores);
        let tunnel_end = Some((Ipv4Addr::new(10, 200, 153, 64), through_tunnel));
        vec![Greeting { peer: OTHER_NODE, node, tunnel_end, errors: Vec::new() }]
    }
}

#[test]
fn twelve_hours_of_other_nodes_silences_open_no_black_hole() {
    const MANNERS: [Manner; 6] = [
        Manner::Talks,
        Manner::Idle,
        Manner::Listens,
        Manner::Ignores,
        Manner::IgnoresOneUnasked,
        Manner::Away,
    ];
    let mut chance = StdRng::seed_from_u64(7);
    let node = Node::new();
    let mut other = Neighbour::new(Manner::Talks);
    let mut until = 0;
    for second in 0..HOURS * 3600 {
        if second >= until {
            until = second + chance.random_range(1..200);
            other.manner = MANNERS[chance.random_range(0..MANNERS.len())];
        }
        assert_eq!(other.read(second, &node, &mut chance), [], "after {second} s, {:?}", other.manner);
    }
}

#[test]
fn a_node_that_is_there_and_that_nothing_reaches_opens_one_and_closes_it_once_it_is_heard() {
    let mut chance = StdRng::seed_from_u64(7);
    let node = Node::new();
    let mut other = Neighbour::new(Manner::Talks);
    let mut changes = |other: &mut Neighbour, seconds: std::ops::Range<u64>| -> Vec<u64> {
        seconds.filter(|second| !other.read(*second, &node, &mut chance).is_empty()).collect()
    };
    assert_eq!(changes(&mut other, 0..10), [0; 0]);
    other.manner = Manner::Unreached;
    let opened = changes(&mut other, 10..80);
    assert!(matches!(opened.as_slice(), [second] if *second < 20), "{opened:?}");
    other.manner = Manner::Talks;
    assert_eq!(changes(&mut other, 80..120).len(), 1);
}
