//! The network namespace's own counters, `/proc/net/snmp` and `/proc/net/netstat`.

use std::{collections::BTreeMap, path::Path};

use super::files::read_text;

/// All of them by name, such as `Ip.InAddrErrors` and `TcpExt.IPReversePathFilter`. What cannot be read is absent.
pub fn read(root: &Path) -> BTreeMap<String, u64> {
    // /proc/net is the namespace of the process's first thread; this thread may be in another.
    let folder = root.join("proc/thread-self/net");
    let mut counters = BTreeMap::new();
    for file in ["snmp", "netstat"] {
        if let Ok(text) = read_text(&folder.join(file)) {
            enter(&text, &mut counters);
        }
    }
    counters
}

/// Each group is a line of names and a line of values, both beginning with the group's name.
fn enter(text: &str, counters: &mut BTreeMap<String, u64>) {
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let (Some((group, names)), Some((same, values))) = (names.split_once(':'), values.split_once(':'))
        else {
            return;
        };
        if group != same {
            return;
        }
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            if let Ok(value) = value.parse() {
                counters.insert(format!("{group}.{name}"), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_group_and_name() {
        let mut counters = BTreeMap::new();
        enter("Ip: Forwarding InAddrErrors\nIp: 1 5\nTcp: MaxConn ActiveOpens\nTcp: -1 7\n", &mut counters);
        assert_eq!(counters.get("Ip.InAddrErrors"), Some(&5));
        assert_eq!(counters.get("Tcp.ActiveOpens"), Some(&7));
        assert_eq!(counters.get("Tcp.MaxConn"), None);
    }
}
