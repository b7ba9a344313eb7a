//! `ip neigh`, `arp -n` and `arp -a`.

use std::net::Ipv4Addr;

use super::readings::NeighbourRow;
use crate::sample::NeighbourState;

pub fn begins(line: &str) -> bool {
    is_heading(line) || row(line).is_some()
}

/// Of `arp -n`.
fn is_heading(line: &str) -> bool {
    let mut words = line.split_whitespace();
    words.next() == Some("Address") && words.next() == Some("HWtype")
}

/// Reads the rows; masked ones tell nothing.
pub fn read(lines: &[String]) -> Vec<NeighbourRow> {
    lines.iter().filter_map(|line| row(line)).collect()
}

fn row(line: &str) -> Option<NeighbourRow> {
    let words: Vec<&str> = line.split_whitespace().take(16).collect();
    by_ip(&words).or_else(|| by_arp(&words)).or_else(|| by_arp_as_bsd(&words))
}

/// `10.0.0.1 dev eth0 lladdr 02:… [router] REACHABLE`
fn by_ip(words: &[&str]) -> Option<NeighbourRow> {
    let [address, "dev", device, .., state] = *words else { return None };
    Some(NeighbourRow {
        device: device.to_owned(),
        address: address.parse().ok()?,
        state: state_of(state)?,
        hardware_address: words
            .iter()
            .skip_while(|word| **word != "lladdr")
            .nth(1)
            .map(|word| (*word).to_owned()),
    })
}

fn state_of(word: &str) -> Option<NeighbourState> {
    Some(match word {
        "NONE" => NeighbourState::None,
        "INCOMPLETE" => NeighbourState::Incomplete,
        "REACHABLE" => NeighbourState::Reachable,
        "STALE" => NeighbourState::Stale,
        "DELAY" => NeighbourState::Delay,
        "PROBE" => NeighbourState::Probe,
        "FAILED" => NeighbourState::Failed,
        "NOARP" => NeighbourState::NoArp,
        "PERMANENT" => NeighbourState::Permanent,
        _ => return None,
    })
}

/// `10.0.0.1   ether   02:…   C   eth0`, `10.0.0.9   (incomplete)   eth0`
fn by_arp(words: &[&str]) -> Option<NeighbourRow> {
    let address: Ipv4Addr = words.first()?.parse().ok()?;
    let device = words.last()?;
    match *words.get(1)? {
        "(incomplete)" if words.len() == 3 => Some(unanswered(address, device)),
        "ether" if words.len() >= 5 => {
            Some(answered(address, device, words.get(2)?, words.get(3)?.contains('M')))
        }
        _ => None,
    }
}

/// `? (10.0.0.1) at 02:… [ether] [PERM] on eth0`, `? (10.0.0.9) at <incomplete> on eth0`
fn by_arp_as_bsd(words: &[&str]) -> Option<NeighbourRow> {
    let [_, address, "at", hardware_address, .., "on", device] = *words else { return None };
    let address = address.strip_prefix('(')?.strip_suffix(')')?.parse().ok()?;
    if hardware_address == "<incomplete>" {
        return Some(unanswered(address, device));
    }
    Some(answered(address, device, hardware_address, words.contains(&"PERM") || words.contains(&"[PERM]")))
}

/// The entry waits for an answer, or has given up: `arp` does not tell which.
fn unanswered(address: Ipv4Addr, device: &str) -> NeighbourRow {
    NeighbourRow {
        device: device.to_owned(),
        address,
        state: NeighbourState::Incomplete,
        hardware_address: None,
    }
}

/// There has been an answer; whether it is fresh `arp` does not tell.
fn answered(address: Ipv4Addr, device: &str, hardware_address: &str, is_permanent: bool) -> NeighbourRow {
    let state = if is_permanent { NeighbourState::Permanent } else { NeighbourState::Stale };
    let hardware_address = Some(hardware_address.to_owned()).filter(|text| text.contains(':'));
    NeighbourRow { device: device.to_owned(), address, state, hardware_address }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn states(text: &str) -> Vec<(String, NeighbourState, bool)> {
        let rows = read(&text.lines().map(str::to_owned).collect::<Vec<_>>());
        rows.into_iter().map(|row| (row.device, row.state, row.hardware_address.is_some())).collect()
    }

    #[test]
    fn all_three_shapes_are_read() {
        let on = |state, known| ("eth0".to_owned(), state, known);
        assert_eq!(
            states("10.0.0.1 dev eth0 lladdr 02:00:00:00:00:01 router REACHABLE\n10.0.0.9 dev eth0  FAILED"),
            [on(NeighbourState::Reachable, true), on(NeighbourState::Failed, false)]
        );
        assert_eq!(
            states(
                "Address   HWtype  HWaddress  Flags Mask  Iface\n10.0.0.1  ether   02:00:00:00:00:01   C   eth0\n10.0.0.9   (incomplete)    eth0"
            ),
            [on(NeighbourState::Stale, true), on(NeighbourState::Incomplete, false)]
        );
        assert_eq!(
            states(
                "? (10.0.0.1) at 02:00:00:00:00:01 [ether] on eth0\ngateway (10.0.0.9) at <incomplete> on eth0"
            ),
            [on(NeighbourState::Stale, true), on(NeighbourState::Incomplete, false)]
        );
    }

    #[test]
    fn routes_are_no_neighbours() {
        for line in
            ["10.0.0.1 dev eth0 scope link", "10.0.0.0/24 dev eth0 proto kernel FAILED", "", "Address"]
        {
            assert!(!begins(line), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_a_panic(line in any::<String>(), words in "10\\.0\\.0\\.[0-9]{1,3}( (dev|eth0|lladdr|at|on|ether|FAILED|C)){0,7}") {
            begins(&line);
            begins(&words);
        }
    }
}
