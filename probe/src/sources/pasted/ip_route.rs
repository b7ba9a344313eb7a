//! `ip route`: a type where it is not unicast, the destination, then words and their values; next hops of a multipath
//! route follow on lines of their own (iproute2, `ip/iproute.c`).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{
    readings::{RouteRow, Unreadable},
    values::{self, Shown},
};
use crate::sample::{Hop, Route, RouteKind};

/// `RT_TABLE_MAIN`.
const MAIN: u32 = 254;
/// `RTPROT_BOOT`, which `ip` does not print.
const BOOT: u8 = 3;
/// More next hops than any underlay has.
const MOST_HOPS: usize = 256;

/// Words of a route, each with a value.
const WITH_VALUE: [&str; 24] = [
    "via", "dev", "proto", "scope", "src", "metric", "table", "mtu", "advmss", "weight", "tos", "dsfield",
    "nhid", "realm", "realms", "window", "rtt", "initcwnd", "initrwnd", "congctl", "hoplimit", "expires",
    "pref", "error",
];
/// Words that stand for themselves.
const FLAGS: [&str; 12] = [
    "onlink",
    "linkdown",
    "dead",
    "pervasive",
    "offload",
    "rt_offload",
    "trap",
    "rt_trap",
    "unresolved",
    "cache",
    "nexthop",
    "lock",
];

fn kind(word: &str) -> Option<RouteKind> {
    Some(match word {
        "unicast" => RouteKind::Unicast,
        "local" => RouteKind::Local,
        "broadcast" => RouteKind::Broadcast,
        "anycast" => RouteKind::Anycast,
        "multicast" => RouteKind::Multicast,
        "blackhole" => RouteKind::Blackhole,
        "unreachable" => RouteKind::Unreachable,
        "prohibit" => RouteKind::Prohibit,
        "throw" => RouteKind::Throw,
        "nat" => RouteKind::Nat,
        _ => return None,
    })
}

fn is_word(word: &str) -> bool {
    WITH_VALUE.contains(&word) || FLAGS.contains(&word)
}

pub fn begins(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let Some(first) = words.next() else { return false };
    let typed = kind(first).is_some();
    let Some(destination) = (if typed { words.next() } else { Some(first) }) else { return false };
    if !is_destination(destination) {
        return false;
    }
    match words.next() {
        None => typed,
        Some(word) => is_word(word),
    }
}

/// Of IPv6 too, whose rows are passed over.
fn is_destination(word: &str) -> bool {
    word == "default" || values::network(word).is_some() || word.contains("::")
}

/// The lines of next hops, and what a terminal or a mail wrapped.
pub fn goes_on(line: &str) -> bool {
    let is_scope = |word: &str| matches!(word, "link" | "host" | "global");
    line.split_whitespace().next().is_some_and(|word| is_word(word) || is_scope(word))
}

/// Reads the rows; those of IPv6 are passed over.
pub fn read(lines: &[String]) -> (Vec<RouteRow>, Vec<Unreadable>) {
    let mut rows = Vec::new();
    let mut unreadable = Vec::new();
    for text in joined(lines) {
        match row(&text) {
            Read::Row(row) => rows.push(*row),
            Read::Unreadable(why) => unreadable.push(Unreadable::new(&text, why)),
            Read::NotIpv4 => {}
        }
    }
    (rows, unreadable)
}

/// Each row with the lines that belong to it.
fn joined(lines: &[String]) -> Vec<String> {
    let mut rows: Vec<String> = Vec::new();
    for line in lines {
        match rows.last_mut().filter(|_| !begins(line)) {
            Some(row) => {
                row.push(' ');
                row.push_str(line.trim());
            }
            None => rows.push(line.trim().to_owned()),
        }
    }
    rows
}

enum Read {
    Row(Box<RouteRow>),
    Unreadable(&'static str),
    NotIpv4,
}

fn row(text: &str) -> Read {
    let mut words = text.split_whitespace().peekable();
    let kind = words.next_if(|word| kind(word).is_some()).and_then(kind).unwrap_or_default();
    let destination = match words.next() {
        Some("default") => Ipv4Net::default(),
        Some(word) if word.contains("::") => return Read::NotIpv4,
        Some(word) => match values::network(word) {
            Some(Shown::Whole(network)) => network,
            Some(Shown::Masked(_)) => return Read::Unreadable("its destination is masked"),
            None => return Read::Unreadable("it names no destination"),
        },
        None => return Read::Unreadable("it names no destination"),
    };
    let route = Route { destination, kind, table: MAIN, protocol: BOOT, ..Route::default() };
    let mut reader = RowReader { row: RouteRow::new(route), hop: None, is_ipv4: true, is_answer: false };
    while let Some(word) = words.next() {
        let value = words.peek().copied();
        if reader.takes(word, value) {
            words.next();
        }
    }
    reader.finish()
}

struct RowReader {
    row: RouteRow,
    /// The next hop that is being read, and its device.
    hop: Option<(Hop, Option<String>)>,
    is_ipv4: bool,
    /// `ip route get` answers with a row that ends so.
    is_answer: bool,
}

impl RowReader {
    /// Reads a word; whether it took the value after it.
    fn takes(&mut self, word: &str, value: Option<&str>) -> bool {
        let Some(value) = value.filter(|_| WITH_VALUE.contains(&word) || word == "uid") else {
            self.flag(word);
            return false;
        };
        let number = || value.parse::<u32>().ok();
        let route = &mut self.row.route;
        match word {
            "via" => self.gateway(value),
            "dev" => self.hop().1 = Some(value.to_owned()),
            "weight" => self.hop().0.weight = value.parse().unwrap_or(1),
            "proto" => {
                self.row.shows_protocol = true;
                self.row.route.protocol = protocol(value);
            }
            "scope" => route.scope = scope(value),
            "src" => route.preferred_source = values::address(value).and_then(Shown::whole),
            "metric" => route.metric = number().unwrap_or_default(),
            "table" => {
                self.row.names_table = true;
                route.table = table(value);
            }
            "mtu" if value == "lock" => {}
            "mtu" => route.mtu = number(),
            "tos" | "dsfield" => route.tos = tos(value),
            "nhid" => route.next_hop_id = number(),
            // Only routes of IPv6 print these.
            "pref" | "error" => self.is_ipv4 = false,
            "uid" => self.is_answer = true,
            _ => {}
        }
        true
    }

    fn flag(&mut self, word: &str) {
        match word {
            "nexthop" => self.end_hop(),
            "onlink" => self.hop().0.onlink = true,
            "linkdown" => self.hop().0.link_down = true,
            "dead" => self.hop().0.dead = true,
            "cache" => self.is_answer = true,
            _ => {}
        }
    }

    fn gateway(&mut self, value: &str) {
        if value.contains(':') || value == "inet6" {
            self.is_ipv4 = false;
            return;
        }
        let hop = &mut self.hop().0;
        match value.parse::<Ipv4Addr>() {
            Ok(gateway) => hop.gateway = Some(gateway),
            Err(_) => hop.masked_gateway = Some(value.to_owned()),
        }
    }

    fn hop(&mut self) -> &mut (Hop, Option<String>) {
        self.hop.get_or_insert_with(|| (Hop { weight: 1, ..Hop::default() }, None))
    }

    fn end_hop(&mut self) {
        if let Some((hop, device)) = self.hop.take().filter(|_| self.row.route.hops.len() < MOST_HOPS) {
            self.row.route.hops.push(hop);
            self.row.devices.push(device);
        }
    }

    fn finish(mut self) -> Read {
        let drops =
            !matches!(self.row.route.kind, RouteKind::Unicast | RouteKind::Local | RouteKind::Broadcast);
        if drops {
            self.hop = None;
        }
        self.end_hop();
        if !self.is_ipv4 || self.is_answer {
            return Read::NotIpv4;
        }
        if self.row.route.hops.is_empty() && !drops && self.row.route.next_hop_id.is_none() {
            return Read::Unreadable("it leads nowhere");
        }
        Read::Row(Box::new(self.row))
    }
}

/// `rt_protos` of iproute2, with the names that Calico's routes have.
fn protocol(word: &str) -> u8 {
    match word {
        "unspec" => 0,
        "redirect" => 1,
        "kernel" => 2,
        "boot" => BOOT,
        "static" => 4,
        "gated" => 8,
        "ra" => 9,
        "mrt" => 10,
        "zebra" => 11,
        "bird" => 12,
        "dnrouted" => 13,
        "xorp" => 14,
        "ntk" => 15,
        "dhcp" => 16,
        "keepalived" => 18,
        "babel" => 42,
        "felix" | "calico" => 80,
        "bgp" => 186,
        "isis" => 187,
        "ospf" => 188,
        "rip" => 189,
        "eigrp" => 192,
        number => number.parse().unwrap_or_default(),
    }
}

fn scope(word: &str) -> u8 {
    match word {
        "global" | "universe" => 0,
        "site" => 200,
        "link" => 253,
        "host" => 254,
        "nowhere" => 255,
        number => number.parse().unwrap_or_default(),
    }
}

pub(super) fn table(word: &str) -> u32 {
    match word {
        "main" => MAIN,
        "local" => 255,
        "default" => 253,
        // The tables that have other names are known on that machine alone; they are kept apart by any number.
        name => name.parse().unwrap_or_else(|_| named_table(name)),
    }
}

fn named_table(name: &str) -> u32 {
    let hash = |hash: u32, byte: u8| hash.wrapping_mul(16_777_619) ^ u32::from(byte);
    name.bytes().fold(2_166_136_261, hash) | 1 << 31
}

fn tos(word: &str) -> u8 {
    u8::from_str_radix(word.trim_start_matches("0x"), 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(text: &str) -> (Vec<RouteRow>, Vec<Unreadable>) {
        read(&text.lines().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn rows_are_read_as_ip_prints_them() {
        let (rows, unreadable) = rows(
            "\
default via 172.30.10.254 dev eth0 proto dhcp metric 100
blackhole 10.200.55.192/26  proto bird
10.200.55.237 dev calia45f40cd54e scope link
10.200.153.64/26 via 172.30.10.187 dev tunl0 proto bird onlink
10.200.168.128/26 via x.x.0.1 dev tunl0 proto 80 onlink mtu 1480
172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1 linkdown
10.9.0.0/24 proto static
\tnexthop via 10.0.0.1 dev eth0 weight 1
\tnexthop via 10.0.0.2 dev eth1 weight 2 dead
local 10.0.0.5 dev eth0 table local proto kernel scope host src 10.0.0.5
default via fe80::1 dev eth0 proto ra metric 100 pref medium
unreachable default dev lo proto kernel metric 4294967295 error -101
blackhole x.y.z.0/23 proto bird",
        );
        assert_eq!(unreadable.len(), 1);
        let [default, own, pod, block, masked, docker, multipath, local] = rows.as_slice() else {
            panic!("{rows:#?}")
        };
        assert_eq!((default.route.protocol, default.route.metric), (16, 100));
        assert_eq!((own.route.kind, own.route.protocol, own.route.hops.len()), (RouteKind::Blackhole, 12, 0));
        assert_eq!((pod.route.scope, pod.devices[0].as_deref()), (253, Some("calia45f40cd54e")));
        assert!(
            block.route.hops[0].onlink
                && block.route.hops[0].gateway == Some(Ipv4Addr::new(172, 30, 10, 187))
        );
        assert_eq!(masked.route.hops[0].masked_gateway.as_deref(), Some("x.x.0.1"));
        assert_eq!((masked.route.protocol, masked.route.mtu), (80, Some(1480)));
        assert!(docker.route.hops[0].link_down);
        assert_eq!(multipath.route.hops.len(), 2);
        assert!(multipath.route.hops[1].dead && multipath.route.hops[1].weight == 2);
        assert_eq!((local.route.table, local.route.kind), (255, RouteKind::Local));
    }

    #[test]
    fn wrapped_rows_are_joined() {
        let (rows, _) = rows(
            "10.244.1.0/26 via 10.0.0.2 dev tunl0\nproto bird onlink\n10.0.0.0/24 dev eth0 proto kernel scope\nlink src 10.0.0.5",
        );
        assert!(rows[0].route.hops[0].onlink && rows[0].route.protocol == 12);
        assert_eq!(rows[1].route.preferred_source, Some(Ipv4Addr::new(10, 0, 0, 5)));
    }

    #[test]
    fn what_only_looks_like_a_row_begins_nothing() {
        for line in ["10.0.0.1 node1", "default", "local time is", "10.0.0.5 is down", "", "dev eth0"] {
            assert!(!begins(line), "{line}");
        }
        assert!(rows("10.0.0.9 via 10.0.0.1 dev eth0 src 10.0.0.5 uid 0\n    cache").0.is_empty());
    }

    proptest! {
        #[test]
        fn any_rows_are_read_without_a_panic(
            text in "(.{0,60}\n){0,6}",
            like in "((blackhole |local |)(10\\.[0-9x]{1,3}\\.0\\.0(/[0-9]{1,2})?|default)( (via|dev|proto|metric|nexthop|onlink|weight|tos|table|mtu|scope) ?[0-9a-z.]{0,8}){0,6}\n){0,6}",
        ) {
            let _ = rows(&text);
            let (rows, _) = rows(&like);
            for row in rows {
                prop_assert_eq!(row.devices.len(), row.route.hops.len());
            }
        }
    }
}
