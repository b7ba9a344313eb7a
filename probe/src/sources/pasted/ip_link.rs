//! `ip addr` and `ip link`, also with `-d`, `-s`, `-o` and `-br`: a head line for each device, then lines that belong
//! to it (iproute2, `ip/ipaddress.c`).

use std::net::Ipv4Addr;

use super::readings::LinkEntry;
use crate::sample::{Link, LinkStatistics, Part};

/// `ARPHRD_*` of `linux/if_arp.h`, by the names of `ip`.
const LINK_LAYERS: [(&str, u16); 5] =
    [("link/ether", 1), ("link/loopback", 772), ("link/ipip", 768), ("link/none", 65534), ("link/sit", 776)];
/// Kinds that `-d` prints at the beginning of a line.
const KINDS: [&str; 14] = [
    "veth",
    "bridge",
    "ipip",
    "vxlan",
    "vlan",
    "bond",
    "dummy",
    "macvlan",
    "ipvlan",
    "tun",
    "wireguard",
    "gre",
    "ifb",
    "vrf",
];
/// Words that begin the lines beneath a head line.
const BENEATH: [&str; 12] = [
    "link/",
    "inet",
    "inet6",
    "valid_lft",
    "RX:",
    "TX:",
    "altname",
    "alias",
    "brd",
    "RX",
    "TX",
    "bridge_slave",
];
/// `state` of a line of `-br`.
const STATES: [&str; 6] = ["UP", "DOWN", "UNKNOWN", "LOWERLAYERDOWN", "NOTPRESENT", "DORMANT"];

pub fn begins(line: &str) -> bool {
    head(line).is_some() || one_line(line).is_some() || brief(line).is_some()
}

pub fn goes_on(line: &str) -> bool {
    let Some(first) = line.split_whitespace().next() else { return true };
    let is_count = line.split_whitespace().all(|word| word.bytes().all(|byte| byte.is_ascii_digit()));
    BENEATH.iter().any(|begin| first.starts_with(begin))
        || KINDS.contains(&first)
        || is_count
        || line.starts_with([' ', '\t'])
}

/// Reads the devices.
pub fn read(lines: &[String]) -> Vec<LinkEntry> {
    let mut entries: Vec<LinkEntry> = Vec::new();
    let mut counts = Counts::None;
    for line in lines {
        if let Some(entry) = head(line) {
            entries.push(entry);
            counts = Counts::None;
        } else if let Some(entry) = one_line(line).or_else(|| brief(line)) {
            match entries.last_mut().filter(|last| last.link.name == entry.link.name) {
                Some(last) => last.addresses.extend(entry.addresses),
                None => entries.push(entry),
            }
        } else if let Some(entry) = entries.last_mut() {
            counts = beneath(entry, line.trim(), counts);
        }
    }
    // A form that shows something of one device shows it of every one that has it.
    for part in [Part::Addresses, Part::LinkKinds] {
        if entries.iter().any(|entry| entry.shows.contains(&part)) {
            for entry in &mut entries {
                entry.shows.insert(part);
            }
        }
    }
    entries
}

/// `2: eth0@if3: <FLAGS> mtu 1500 qdisc … master br0 state UP …`
fn head(line: &str) -> Option<LinkEntry> {
    let (index, rest) = line.trim_start().split_once(": ")?;
    let index = index.parse().ok()?;
    let (name, rest) = rest.split_once(": ")?;
    let (flags, rest) = rest.trim_start().strip_prefix('<')?.split_once('>')?;
    let (name, lower) = name.split_once('@').map_or((name, None), |(name, lower)| (name, Some(lower)));
    if name.is_empty() || name.contains(char::is_whitespace) {
        return None;
    }
    let mut entry = named(name, Some(index));
    entry.lower = lower.filter(|lower| *lower != "NONE" && !is_index(lower)).map(str::to_owned);
    entry.link.lower = lower.and_then(|lower| lower.strip_prefix("if")).and_then(|index| index.parse().ok());
    let mut state = None;
    let mut words = rest.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "mtu" => {
                entry.link.mtu = words.next().and_then(|word| word.parse().ok()).unwrap_or_default();
            }
            "master" => entry.master = words.next().map(str::to_owned),
            "state" => state = words.next(),
            "link-netnsid" => entry.link.peer_namespace = words.next().and_then(|word| word.parse().ok()),
            _ => {}
        }
    }
    set_state(&mut entry, flags, state);
    Some(entry)
}

fn is_index(lower: &str) -> bool {
    lower.strip_prefix("if").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A device of which nothing is known but its name counts as one in order.
fn named(name: &str, index: Option<u32>) -> LinkEntry {
    let link = Link {
        index: index.unwrap_or_default(),
        name: name.to_owned(),
        up: true,
        carrier: true,
        ..Link::default()
    };
    LinkEntry { link, ..LinkEntry::default() }
}

/// The kernel says DOWN of every device that is not set up, and `ip` adds NO-CARRIER to one that is and does not run.
fn set_state(entry: &mut LinkEntry, flags: &str, state: Option<&str>) {
    let has = |flag: &str| flags.split(',').any(|other| other == flag);
    let says_nothing = flags.is_empty() && state.is_none_or(|state| state == "UNKNOWN");
    if !says_nothing {
        entry.shows.insert(Part::LinkStates);
    }
    let is_down = state.map_or(!has("UP") && !flags.is_empty(), |state| state == "DOWN" && !has("UP"));
    entry.link.up = !is_down;
    entry.link.carrier =
        !is_down && !has("NO-CARRIER") && !matches!(state, Some("DOWN" | "LOWERLAYERDOWN" | "NOTPRESENT"));
    entry.link.running = !says_nothing && entry.link.carrier;
    if has("LOOPBACK") {
        entry.link.link_layer_type = 772;
    }
}

/// `2: eth0    inet 10.0.0.5/24 brd … scope global eth0\       valid_lft …`, of `-o`.
fn one_line(line: &str) -> Option<LinkEntry> {
    let (index, rest) = line.trim_start().split_once(": ")?;
    let mut words = rest.split_whitespace();
    let (name, family) = (words.next()?, words.next()?);
    if !matches!(family, "inet" | "inet6") {
        return None;
    }
    let mut entry = named(name, Some(index.parse().ok()?));
    entry.shows.insert(Part::Addresses);
    entry.addresses.extend(inet(rest.get(rest.find(family)?..)?));
    Some(entry)
}

/// `eth0@if3   UP   10.0.0.5/24 fe80::1/64` and `eth0   UP   02:… <FLAGS>`, of `-br`.
fn brief(line: &str) -> Option<LinkEntry> {
    let mut words = line.split_whitespace();
    let (name, state) = (words.next()?, words.next()?);
    if !STATES.contains(&state) || name.ends_with(':') {
        return None;
    }
    let rest: Vec<&str> = words.collect();
    if rest.is_empty() && !name.contains('@') {
        return None;
    }
    let mut entry = named(name.split('@').next()?, None);
    let is_rest =
        |word: &str| word.contains(['/', ':', '<', '.']) || matches!(word, "peer" | "metric" | "NONE");
    if !rest.iter().all(|word| is_rest(word)) {
        return None;
    }
    let flags = rest.iter().find_map(|word| word.strip_prefix('<')?.strip_suffix('>'));
    set_state(&mut entry, flags.unwrap_or_default(), Some(state));
    if flags.is_none() {
        entry.shows.insert(Part::Addresses);
        entry.addresses =
            rest.iter().filter_map(|word| network(word)).map(|(at, length)| (at, length, 0)).collect();
    }
    Some(entry)
}

/// Which counters the next line of numbers is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counts {
    None,
    Received,
    Sent,
    /// Of errors, which `-s -s` adds.
    Errors,
}

fn beneath(entry: &mut LinkEntry, line: &str, counts: Counts) -> Counts {
    let mut words = line.split_whitespace();
    let Some(first) = words.next() else { return Counts::None };
    if first.starts_with("link/") {
        entry.link.link_layer_type =
            LINK_LAYERS.iter().find(|(name, _)| *name == first).map_or(0, |(_, number)| *number);
        let address = words.next().filter(|word| word.contains(':'));
        entry.link.hardware_address = address.map(str::to_owned);
        let mut rest = words.skip_while(|word| *word != "link-netnsid");
        entry.link.peer_namespace =
            rest.nth(1).and_then(|word| word.parse().ok()).or(entry.link.peer_namespace);
        return Counts::None;
    }
    if first == "inet" {
        entry.shows.insert(Part::Addresses);
        entry.addresses.extend(inet(line));
        return Counts::None;
    }
    if KINDS.contains(&first) {
        entry.shows.insert(Part::LinkKinds);
        entry.link.kind = Some(first.to_owned());
        return Counts::None;
    }
    match first {
        "RX:" => Counts::Received,
        "TX:" => Counts::Sent,
        "RX" | "TX" => Counts::Errors,
        number if number.bytes().all(|byte| byte.is_ascii_digit()) => {
            let numbers: Vec<u64> =
                line.split_whitespace().map(|word| word.parse().unwrap_or(u64::MAX)).collect();
            count(entry, &numbers, counts);
            Counts::None
        }
        _ => Counts::None,
    }
}

/// Bytes, packets, errors, dropped, and then of what was received those missed, of what was sent carrier errors and
/// collisions. The first column after `dropped` is `overrun` before iproute2 5.x and `missed` since.
fn count(entry: &mut LinkEntry, numbers: &[u64], counts: Counts) {
    let [bytes, packets, errors, dropped, fifth, sixth, ..] = *numbers else { return };
    let statistics = entry.link.statistics;
    entry.link.statistics = match counts {
        Counts::Received => LinkStatistics {
            rx_bytes: bytes,
            rx_packets: packets,
            rx_errors: errors,
            rx_dropped: dropped,
            rx_missed_errors: fifth,
            ..statistics
        },
        Counts::Sent => LinkStatistics {
            tx_bytes: bytes,
            tx_packets: packets,
            tx_errors: errors,
            tx_dropped: dropped,
            tx_carrier_errors: fifth,
            collisions: sixth,
            ..statistics
        },
        Counts::None | Counts::Errors => return,
    };
    entry.shows.insert(Part::LinkStatistics);
}

/// `inet 10.0.0.5/24 brd … scope global eth0`; with a peer the second address is the network.
fn inet(line: &str) -> Option<(Ipv4Addr, u8, u8)> {
    let mut words = line.split_whitespace().skip(1);
    let (address, length) = network(words.next()?)?;
    let mut length = length;
    while let Some(word) = words.next() {
        match word {
            "peer" => length = words.next().and_then(network).map_or(length, |(_, length)| length),
            "scope" => return Some((address, length, scope(words.next()))),
            _ => {}
        }
    }
    Some((address, length, 0))
}

fn scope(word: Option<&str>) -> u8 {
    match word {
        Some("link") => 253,
        Some("host") => 254,
        _ => 0,
    }
}

/// An address without a length has all 32 bits, as `ip` prints those of point-to-point devices.
fn network(word: &str) -> Option<(Ipv4Addr, u8)> {
    match word.split_once('/') {
        Some((address, length)) => {
            Some((address.parse().ok()?, length.parse().ok().filter(|length| *length <= 32)?))
        }
        None => Some((word.parse().ok()?, 32)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(text: &str) -> Vec<LinkEntry> {
        read(&text.lines().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn devices_are_read_as_ip_prints_them() {
        let entries = entries(
            "\
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
    inet 127.0.0.1/8 scope host lo
       valid_lft forever preferred_lft forever
2: eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc mq state UP group default qlen 1000
    link/ether 00:50:56:81:47:25 brd ff:ff:ff:ff:ff:ff
    inet 172.30.10.187/24 brd 172.30.10.255 scope global eth0
    RX: bytes  packets  errors  dropped overrun mcast
    514474513  1183502  0       3980    0       0
    TX: bytes  packets  errors  dropped carrier collsns
    19733780   218160   0       0       4       2
5: br-1691e1aaa0bf: <NO-CARRIER,BROADCAST,MULTICAST,UP> mtu 1500 qdisc noqueue state DOWN
    link/ether 02:42:9d:6e:51:7a brd ff:ff:ff:ff:ff:ff promiscuity 0
    bridge forward_delay 1500 hello_time 200
    inet 172.18.0.1/16 scope global br-1691e1aaa0bf
7: tunl0@NONE: <NOARP> mtu 1480 qdisc noop state DOWN
    link/ipip 0.0.0.0 brd 0.0.0.0
9: cali980e384bbd4@if3: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1440 master cni0 state UP
    link/ether ee:ee:ee:ee:ee:ee brd ff:ff:ff:ff:ff:ff link-netnsid 4
10: eth1: <> mtu 1500 state UNKNOWN
    inet 10.0.0.5",
        );
        let [lo, eth0, bridge, tunnel, pod, untold] = entries.as_slice() else { panic!("{entries:#?}") };
        assert_eq!(lo.addresses, [(Ipv4Addr::LOCALHOST, 8, 254)]);
        assert_eq!((eth0.link.statistics.rx_packets, eth0.link.statistics.tx_bytes), (1_183_502, 19_733_780));
        assert_eq!((eth0.link.statistics.tx_carrier_errors, eth0.link.statistics.collisions), (4, 2));
        assert!(bridge.link.up && !bridge.link.carrier && bridge.shows.contains(&Part::LinkKinds));
        assert_eq!(bridge.link.kind.as_deref(), Some("bridge"));
        assert!(!tunnel.link.up && tunnel.link.link_layer_type == 768 && tunnel.lower.is_none());
        assert_eq!(
            (pod.link.lower, pod.link.peer_namespace, pod.master.as_deref()),
            (Some(3), Some(4), Some("cni0"))
        );
        assert!(
            untold.link.up
                && !untold.shows.contains(&Part::LinkStates)
                && untold.addresses == [(Ipv4Addr::new(10, 0, 0, 5), 32, 0)]
        );
    }

    #[test]
    fn the_short_forms_are_read_too() {
        let brief = entries(
            "lo UNKNOWN 127.0.0.1/8 ::1/128\neth0@if9 UP 10.0.0.5/24\ntunl0@NONE DOWN \neth1 DOWN 02:00:00:00:00:01 <NO-CARRIER,BROADCAST,UP>",
        );
        assert_eq!(brief[1].addresses, [(Ipv4Addr::new(10, 0, 0, 5), 24, 0)]);
        assert!(!brief[2].link.up && brief[3].link.up && !brief[3].link.carrier);
        let one =
            entries("2: eth0    inet 10.0.0.5/24 brd 10.0.0.255 scope global eth0\\       valid_lft forever");
        assert_eq!(one[0].addresses, [(Ipv4Addr::new(10, 0, 0, 5), 24, 0)]);
    }

    #[test]
    fn a_device_that_is_down_is_not_taken_for_one_without_a_carrier() {
        let states = |text: &str| entries(text).into_iter().map(|it| (it.link.up, it.link.carrier)).next();
        assert_eq!(states("4: tunl0@NONE: <NOARP,UP,LOWER_UP> mtu 1440 state UNKNOWN"), Some((true, true)));
        assert_eq!(states("4: eth0: <UP> mtu 1500 state UP"), Some((true, true)));
        assert_eq!(states("4: eth0: <BROADCAST,MULTICAST> mtu 1500 state DOWN"), Some((false, false)));
        assert_eq!(states("4: cali1@if2: <BROADCAST,UP> mtu 1500 state LOWERLAYERDOWN"), Some((true, false)));
        assert_eq!(states("4: eth0: <BROADCAST,MULTICAST> mtu 1500"), Some((false, false)));
    }

    proptest! {
        #[test]
        fn any_lines_are_read_without_a_panic(
            text in "(.{0,60}\n){0,8}",
            like in "([0-9]{1,3}: [a-z0-9@-]{1,15}: <[A-Z,_-]{0,20}> (mtu|state|master) ?[A-Z0-9]{0,6}\n( *(inet|link/ether|RX:|TX:|RX|bridge|[0-9]+) [0-9./ a-z:]{0,30}\n){0,4}){0,4}",
        ) {
            let _ = entries(&text);
            let _ = entries(&like);
        }
    }
}
