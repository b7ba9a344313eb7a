//! `ifconfig` of net-tools, in the shape of 1.60 (`Link encap:`) and in that of 2.x (`flags=4163<UP,…>`). Without `-a`
//! it prints those devices alone that are up.

use std::net::Ipv4Addr;

use super::{readings::LinkEntry, values::prefix_length};
use crate::sample::{Link, LinkStatistics, Part};

/// `ARPHRD_*`, by the names of both shapes.
const LINK_LAYERS: [(&str, u16); 8] = [
    ("Ethernet", 1),
    ("Local Loopback", 772),
    ("IPIP Tunnel", 768),
    ("ether", 1),
    ("loop", 772),
    ("tunnel", 768),
    ("IPv6-in-IPv4", 776),
    ("UNSPEC", 0),
];

pub fn begins(line: &str) -> bool {
    head(line).is_some()
}

/// Blank lines stand between devices; all others are indented, unless the indentation was lost.
pub fn goes_on(line: &str) -> bool {
    let text = line.trim_start();
    let begins = [
        "inet",
        "UP ",
        "BROADCAST",
        "RX ",
        "TX ",
        "collisions:",
        "ether ",
        "loop ",
        "tunnel ",
        "device ",
        "Interrupt:",
        "unspec ",
        "Mask:",
        "HWaddr",
    ];
    text.is_empty() || begins.iter().any(|begin| text.starts_with(begin)) || text.len() < line.len()
}

/// Reads the devices.
pub fn read(lines: &[String]) -> Vec<LinkEntry> {
    let mut entries: Vec<LinkEntry> = Vec::new();
    for line in lines {
        if let Some(entry) = head(line) {
            entries.push(entry);
        } else if let Some(entry) = entries.last_mut() {
            beneath(entry, line.trim());
        }
    }
    // An alias such as `eth0:1` is an address of `eth0`, not a device.
    let (aliases, mut devices): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|entry| entry.link.name.contains(':'));
    for alias in aliases {
        let name = alias.link.name.split(':').next().unwrap_or_default();
        if let Some(device) = devices.iter_mut().find(|device| device.link.name == name) {
            device.addresses.extend(alias.addresses);
        }
    }
    devices
}

fn head(line: &str) -> Option<LinkEntry> {
    let (name, rest) = line.trim_start().split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    if let Some(layer) = rest.strip_prefix("Link encap:") {
        return (!name.is_empty()).then(|| old_head(name, layer));
    }
    let name = name.strip_suffix(':')?;
    let (_, flags) = rest.strip_prefix("flags=")?.split_once('<')?;
    let (flags, rest) = flags.split_once('>')?;
    let mut entry = device(name);
    set_flags(&mut entry, |flag| flags.split(',').any(|other| other == flag));
    let mut words = rest.split_whitespace().skip_while(|word| *word != "mtu");
    entry.link.mtu = words.nth(1).and_then(|word| word.parse().ok()).unwrap_or_default();
    Some(entry)
}

fn old_head(name: &str, layer: &str) -> LinkEntry {
    let mut entry = device(name);
    let known = LINK_LAYERS.iter().find(|(words, _)| layer.starts_with(words));
    entry.link.link_layer_type = known.map_or(0, |(_, number)| *number);
    let address = layer.split("HWaddr").nth(1).map(str::trim).filter(|word| word.contains(':'));
    entry.link.hardware_address = address.map(str::to_owned);
    entry
}

fn device(name: &str) -> LinkEntry {
    let link = Link { name: name.to_owned(), up: true, carrier: true, ..Link::default() };
    LinkEntry { link, shows: [Part::Addresses].into(), ..LinkEntry::default() }
}

/// `RUNNING` says that there is a carrier.
fn set_flags(entry: &mut LinkEntry, has: impl Fn(&str) -> bool) {
    entry.shows.insert(Part::LinkStates);
    entry.link.up = has("UP");
    entry.link.running = has("RUNNING");
    entry.link.carrier = entry.link.up && entry.link.running;
}

fn beneath(entry: &mut LinkEntry, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["inet", "addr:", ..] | ["inet6", ..] => {}
        ["inet", rest @ ..] => entry.addresses.extend(inet(rest)),
        [layer @ ("ether" | "loop" | "tunnel"), rest @ ..] => {
            let known = LINK_LAYERS.iter().find(|(word, _)| word == layer);
            entry.link.link_layer_type = known.map_or(0, |(_, number)| *number);
            let address = rest.first().filter(|word| word.contains(':'));
            entry.link.hardware_address = address.map(|word| (*word).to_owned());
        }
        ["RX" | "TX", ..] => count(entry, &words),
        [first, ..] if first.starts_with("collisions:") => count(entry, &words),
        _ if words.iter().any(|word| word.starts_with("MTU:")) => {
            set_flags(entry, |flag| words.contains(&flag));
            entry.link.mtu =
                words.iter().find_map(|word| word.strip_prefix("MTU:")?.parse().ok()).unwrap_or_default();
        }
        _ => {}
    }
}

/// `addr:10.0.0.5 Bcast:… Mask:…`, `10.0.0.5 netmask … broadcast …`.
fn inet(words: &[&str]) -> Option<(Ipv4Addr, u8, u8)> {
    let address = words.first()?;
    let address: Ipv4Addr = address.strip_prefix("addr:").unwrap_or(address).parse().ok()?;
    let old = words.iter().find_map(|word| word.strip_prefix("Mask:"));
    let new = || words.iter().skip_while(|word| **word != "netmask").nth(1).copied();
    let length = old.or_else(new).and_then(mask).unwrap_or(32);
    let scope = if address.is_loopback() { 254 } else { 0 };
    Some((address, length, scope))
}

/// In dotted form, or in hexadecimal as BSD has it.
fn mask(word: &str) -> Option<u8> {
    let mask = match word.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok().map(Ipv4Addr::from)?,
        None => word.parse().ok()?,
    };
    prefix_length(mask)
}

/// `RX packets:7 errors:0 dropped:2 …` and `RX packets 7  bytes 558 (558.0 B)`, `RX errors 0  dropped 2 …`.
fn count(entry: &mut LinkEntry, words: &[&str]) {
    let is_sent = words.first() == Some(&"TX");
    let mut way = words.first().copied().unwrap_or_default();
    let mut name = "";
    for word in words {
        if matches!(*word, "RX" | "TX") {
            way = word;
            continue;
        }
        let (key, value) = match word.split_once(':') {
            Some((key, value)) => (key, value.parse().ok()),
            None => (name, word.parse::<u64>().ok()),
        };
        if let Some(value) = value {
            set(&mut entry.link.statistics, way == "TX" || (is_sent && way != "RX"), key, value);
            entry.shows.insert(Part::LinkStatistics);
        }
        name = word;
    }
}

fn set(statistics: &mut LinkStatistics, is_sent: bool, key: &str, value: u64) {
    let field = match (is_sent, key) {
        (false, "packets") => &mut statistics.rx_packets,
        (false, "bytes") => &mut statistics.rx_bytes,
        (false, "errors") => &mut statistics.rx_errors,
        (false, "dropped") => &mut statistics.rx_dropped,
        (true, "packets") => &mut statistics.tx_packets,
        (true, "bytes") => &mut statistics.tx_bytes,
        (true, "errors") => &mut statistics.tx_errors,
        (true, "dropped") => &mut statistics.tx_dropped,
        (true, "carrier") => &mut statistics.tx_carrier_errors,
        (_, "collisions") => &mut statistics.collisions,
        _ => return,
    };
    *field = value;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(text: &str) -> Vec<LinkEntry> {
        read(&text.lines().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn both_shapes_say_the_same() {
        let old = entries(
            "\
tunl0     Link encap:IPIP Tunnel  HWaddr
          inet addr:10.200.153.0  Mask:255.255.255.255
          UP RUNNING NOARP  MTU:1440  Metric:1
          RX packets:12 errors:1 dropped:2 overruns:0 frame:0
          TX packets:13 errors:3 dropped:4 overruns:0 carrier:5
          collisions:6 txqueuelen:0
          RX bytes:1000 (1.0 KB)  TX bytes:2000 (2.0 KB)
",
        );
        let new = entries(
            "\
tunl0: flags=193<UP,RUNNING,NOARP>  mtu 1440
        inet 10.200.153.0  netmask 255.255.255.255
        tunnel   txqueuelen 1000  (IPIP Tunnel)
        RX packets 12  bytes 1000 (1000.0 B)
        RX errors 1  dropped 2  overruns 0  frame 0
        TX packets 13  bytes 2000 (2000.0 B)
        TX errors 3  dropped 4 overruns 0  carrier 5  collisions 6
",
        );
        assert_eq!(old, new);
        let [tunnel] = old.as_slice() else { panic!("{old:#?}") };
        assert_eq!(tunnel.addresses, [(Ipv4Addr::new(10, 200, 153, 0), 32, 0)]);
        assert_eq!((tunnel.link.link_layer_type, tunnel.link.mtu, tunnel.link.running), (768, 1440, true));
        let LinkStatistics {
            rx_packets, rx_bytes, rx_dropped, tx_bytes, tx_carrier_errors, collisions, ..
        } = tunnel.link.statistics;
        assert_eq!((rx_packets, rx_bytes, rx_dropped, tx_bytes), (12, 1000, 2, 2000));
        assert_eq!((tx_carrier_errors, collisions), (5, 6));
    }

    #[test]
    fn a_bridge_without_ports_does_not_run() {
        let idle = entries(
            "\
br-1691e1aaa0bf Link encap:Ethernet  HWaddr 02:42:9d:6e:51:7a
          inet addr:172.18.0.1  Bcast:0.0.0.0  Mask:255.255.0.0
          UP BROADCAST MULTICAST  MTU:1500  Metric:1

eth0:1    Link encap:Ethernet  HWaddr 00:50:56:81:47:25
          inet addr:10.0.0.6  Mask:255.255.255.0
",
        );
        let [bridge] = idle.as_slice() else { panic!("{idle:#?}") };
        assert!(bridge.link.up && !bridge.link.carrier && !bridge.shows.contains(&Part::LinkStatistics));
        assert_eq!(bridge.link.hardware_address.as_deref(), Some("02:42:9d:6e:51:7a"));
        assert_eq!(bridge.addresses, [(Ipv4Addr::new(172, 18, 0, 1), 16, 0)]);
    }

    proptest! {
        #[test]
        fn any_lines_are_read_without_a_panic(
            text in "(.{0,60}\n){0,8}",
            like in "([a-z0-9]{1,15}(: flags=[0-9]{1,4}<[A-Z,]{0,12}> |  Link encap:)[a-zA-Z :]{0,20}\n( +(inet|RX|TX|ether) [a-z0-9.: ]{0,30}\n){0,4}){0,4}",
        ) {
            let _ = entries(&text);
            let _ = entries(&like);
        }
    }
}
