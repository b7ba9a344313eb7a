//! The sessions that `show protocols [all]` prints, by whatever client: each protocol has a row that begins at the
//! margin, and with `all` indented lines of `Key: value` beneath it.

use std::net::Ipv4Addr;

use crate::sample::{BgpSession, Bird, PeerKind};

/// More peers than a full mesh can be run with.
const MOST_SESSIONS: usize = 10_000;

/// Reads the BGP sessions; everything else is passed over.
pub fn parse(text: &str) -> Bird {
    let mut sessions: Vec<BgpSession> = Vec::new();
    let mut is_in_session = false;
    for line in text.lines() {
        if line.starts_with([' ', '\t']) {
            if let Some(session) = sessions.last_mut().filter(|_| is_in_session) {
                detail(session, line.trim());
            }
            continue;
        }
        let session = row(line).filter(|_| sessions.len() < MOST_SESSIONS);
        is_in_session = session.is_some();
        sessions.extend(session);
    }
    // Sessions of IPv6, and of workloads whose names say no address.
    sessions.retain(|session| !session.peer.is_unspecified());
    Bird { sessions, ..Bird::default() }
}

/// `Router ID is …` of `show status`.
pub fn router_id(status: &str) -> Option<Ipv4Addr> {
    status.lines().find_map(|line| line.trim().strip_prefix("Router ID is ")?.trim().parse().ok())
}

/// `name proto table state since info…`.
fn row(line: &str) -> Option<BgpSession> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    if words.next()? != "BGP" {
        return None;
    }
    let _table = words.next()?;
    let _protocol_state = words.next()?;
    let mut since = words.next()?.to_owned();
    let mut rest = words.peekable();
    if let Some(time) = rest.next_if(|word| is_time(word)) {
        since = format!("{since} {time}");
    }
    let state = rest.next().unwrap_or("Down").to_owned();
    Some(BgpSession {
        name: name.to_owned(),
        peer: peer_of(name).unwrap_or(Ipv4Addr::UNSPECIFIED),
        kind: kind_of(name),
        established: state == "Established",
        state,
        since,
        error: rest.collect::<Vec<_>>().join(" "),
        source: None,
        imported: None,
        exported: None,
    })
}

fn is_time(word: &str) -> bool {
    word.contains(':') && word.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.'))
}

fn kind_of(name: &str) -> PeerKind {
    match name.split('_').next() {
        Some("Mesh") => PeerKind::NodeToNodeMesh,
        Some("Node") => PeerKind::NodeSpecific,
        Some("Global") => PeerKind::Global,
        _ => PeerKind::Other,
    }
}

/// confd names a session by its peer: `Mesh_172_30_10_187`, with `_port_N` where it is not the usual one.
fn peer_of(name: &str) -> Option<Ipv4Addr> {
    let octets: Vec<&str> = name.split('_').skip(1).take(4).collect();
    octets.join(".").parse().ok()
}

fn detail(session: &mut BgpSession, line: &str) {
    let Some((key, value)) = line.split_once(':') else { return };
    let value = value.trim();
    match key {
        "Neighbor address" => session.peer = address(value).unwrap_or(session.peer),
        "Source address" => session.source = address(value),
        "BGP state" => value.clone_into(&mut session.state),
        "Last error" if session.error.is_empty() => value.clone_into(&mut session.error),
        "Routes" => {
            session.imported = number_before(value, "imported");
            session.exported = number_before(value, "exported");
        }
        _ => {}
    }
}

/// BIRD appends the interface to link-local ones.
fn address(value: &str) -> Option<Ipv4Addr> {
    value.split(['%', ' ']).next()?.parse().ok()
}

/// `1 imported, 2 exported, 3 preferred`.
fn number_before(value: &str, word: &str) -> Option<u32> {
    let part = value.split(',').find(|part| part.trim().ends_with(word))?;
    part.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHOWN: &str = "\
name     proto    table    state  since       info
static1  Static   master   up     08:00:24    
kernel1  Kernel   master   up     08:00:24    
  Preference:     10
  Routes:         7 imported, 2 exported, 1 preferred
Mesh_172_30_10_187 BGP      master   up     08:00:26    Established   
  Description:    Connection to BGP peer
  Routes:         1 imported, 2 exported, 1 preferred
  BGP state:          Established
    Neighbor address: 172.30.10.187
    Source address:   172.30.10.188
Mesh_172_30_51_95 BGP      master   start  2026-11-22  Active        Socket: Connection refused
  BGP state:          Active
    Neighbor address: 172.30.51.95
Node_172_30_10_1_port_1790 BGP      master   start  08:00:24    Passive       
  BGP state:          Passive
    Neighbor address: 172.30.10.1
  Last error:       Socket: Connection closed
";

    #[test]
    fn sessions_are_read_with_what_is_beneath_them() {
        let bird = parse(SHOWN);
        let [up, refused, passive] = bird.sessions.as_slice() else { panic!("{bird:?}") };
        assert!(up.established && up.kind == PeerKind::NodeToNodeMesh);
        assert_eq!((up.imported, up.exported), (Some(1), Some(2)));
        assert_eq!(up.source, Some(Ipv4Addr::new(172, 30, 10, 188)));
        assert_eq!(
            (refused.state.as_str(), refused.error.as_str()),
            ("Active", "Socket: Connection refused")
        );
        assert_eq!((refused.since.as_str(), refused.peer), ("2026-11-22", Ipv4Addr::new(172, 30, 51, 95)));
        assert_eq!((passive.kind, passive.peer), (PeerKind::NodeSpecific, Ipv4Addr::new(172, 30, 10, 1)));
        assert_eq!(
            (passive.state.as_str(), passive.error.as_str()),
            ("Passive", "Socket: Connection closed")
        );
    }

    #[test]
    fn rows_of_bird_2_are_read_too() {
        let bird =
            parse("Mesh_172_30_10_186 BGP        ---        up     2026-11-22 23:30:12.123  Established   ");
        assert!(bird.sessions[0].established);
        assert_eq!(bird.sessions[0].since, "2026-11-22 23:30:12.123");
    }

    #[test]
    fn the_router_id_is_found_in_the_status() {
        let status = "BIRD 1.6.8\nRouter ID is 172.30.10.188\nCurrent server time is 2026-11-23 08:00:34\n";
        assert_eq!(router_id(status), Some(Ipv4Addr::new(172, 30, 10, 188)));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(.{0,40}\n){0,8}", words in "Mesh_[0-9_]{0,20} BGP( [a-z:,0-9]{0,9}){0,9}") {
            parse(&text);
            parse(&words);
        }
    }
}
