//! `calicoctl node status` (`calicoctl status` before 1.0): whether Calico runs, and a table of BGP peers.

use super::{
    readings::{Daemon, Unreadable},
    values::{self, Shown},
};
use crate::sample::{BgpSession, Bird, Fact, PeerKind};

/// States of a session that begin the INFO column (bird, `proto/bgp/bgp.c`).
const STATES: [&str; 9] =
    ["Established", "OpenConfirm", "OpenSent", "Connect", "Passive", "Active", "Close", "Idle", "Down"];
const STOPPED: [&str; 3] = [
    "Calico process is not running",
    "The BGP backend process (BIRD) is not running",
    "calico-node container not running",
];
const NO_PEERS: &str = "No IPv4 peers found";
const MOST_SESSIONS: usize = 10_000;

pub fn is_heading(line: &str) -> bool {
    line.trim() == "IPv4 BGP status"
        || line.contains("| PEER ADDRESS |")
        || cells(line).is_some_and(|cells| cells.first() == Some(&"PEER ADDRESS"))
}

pub fn begins(line: &str) -> bool {
    let line = line.trim();
    is_heading(line)
        || line == "Calico process is running."
        || line.starts_with(NO_PEERS)
        || STOPPED.iter().any(|words| line.starts_with(words))
        || (is_border(line) && line.matches('+').count() == 6)
}

pub fn goes_on(line: &str) -> bool {
    let line = line.trim();
    let known = [
        "IPv6 BGP status",
        "No IPv6 peers",
        "IP:",
        "AS Number:",
        "Running felix",
        "calico-node container",
        "Status:",
    ];
    line.is_empty()
        || line.starts_with('|')
        || line.ends_with('|')
        || is_border(line)
        || known.iter().any(|words| line.starts_with(words))
}

fn is_border(line: &str) -> bool {
    line.starts_with("+-") && line.bytes().all(|byte| matches!(byte, b'+' | b'-'))
}

/// Reads the peers; `None` where the output says nothing of them.
pub fn read(lines: &[String]) -> (Option<Daemon>, Vec<Unreadable>) {
    let mut sessions: Vec<BgpSession> = Vec::new();
    let mut unreadable = Vec::new();
    let mut says_something = false;
    for line in joined(lines) {
        let line = line.trim();
        if line.starts_with("IPv6 BGP status") {
            break;
        }
        if let Some(words) = STOPPED.iter().find(|words| line.starts_with(**words)) {
            return (Some(Daemon::NotRunning((*words).to_owned())), unreadable);
        }
        says_something |= line.starts_with(NO_PEERS) || is_heading(line);
        let Some(cells) = cells(line).filter(|_| !is_heading(line)) else { continue };
        match session(&cells) {
            Row::Session(session) if sessions.len() < MOST_SESSIONS => sessions.push(*session),
            Row::Session(_) | Row::Nothing => {}
            Row::Continued(text) => continue_last(&mut sessions, text),
            Row::Masked => unreadable.push(Unreadable::new(line, "the peer's address is masked")),
        }
    }
    says_something |= !sessions.is_empty();
    let bird = Bird {
        version: Fact::Absent("calicoctl does not print it".to_owned()),
        sessions,
        routes: Fact::Absent("calicoctl does not print them".to_owned()),
        ..Bird::default()
    };
    (says_something.then(|| Daemon::Running(Box::new(bird))), unreadable)
}

/// Rows that were wrapped begin with `|` and end without.
fn joined(lines: &[String]) -> Vec<String> {
    let mut rows: Vec<String> = Vec::new();
    for line in lines {
        let line = line.trim();
        match rows
            .last_mut()
            .filter(|row| row.starts_with('|') && !row.ends_with('|') && !line.starts_with(['|', '+']))
        {
            Some(row) => {
                row.push(' ');
                row.push_str(line);
            }
            None => rows.push(line.to_owned()),
        }
    }
    rows
}

fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.trim_end_matches('|');
    let cells: Vec<&str> = inner.split('|').take(8).map(str::trim).collect();
    (cells.len() >= 4).then_some(cells)
}

enum Row<'a> {
    Session(Box<BgpSession>),
    /// The table wraps long cells into a row whose other cells are empty.
    Continued(&'a str),
    Masked,
    Nothing,
}

fn session<'a>(cells: &[&'a str]) -> Row<'a> {
    let [peer, kind, state, since, rest @ ..] = cells else { return Row::Nothing };
    let info = rest.first().copied().unwrap_or_default();
    if peer.is_empty() {
        return Row::Continued(info);
    }
    let peer = match values::address(peer) {
        Some(Shown::Whole(peer)) => peer,
        Some(Shown::Masked(_)) => return Row::Masked,
        None => return Row::Nothing,
    };
    let (bgp_state, error) = state_and_error(info, state);
    Row::Session(Box::new(BgpSession {
        name: String::new(),
        peer,
        kind: match *kind {
            "node-to-node mesh" => PeerKind::NodeToNodeMesh,
            "node specific" => PeerKind::NodeSpecific,
            "global" => PeerKind::Global,
            _ => PeerKind::Other,
        },
        established: bgp_state == "Established",
        state: bgp_state,
        since: (*since).to_owned(),
        error,
        source: None,
        imported: None,
        exported: None,
    }))
}

/// INFO has the session's state and the last error; STATE says `up` of a session that is Established, and of no other.
fn state_and_error(info: &str, state: &str) -> (String, String) {
    let known = STATES.iter().find(|known| info.starts_with(**known));
    match known {
        Some(known) => ((*known).to_owned(), info[known.len()..].trim().to_owned()),
        None if state == "up" => ("Established".to_owned(), info.to_owned()),
        None => (if state.is_empty() { "Down" } else { state }.to_owned(), info.to_owned()),
    }
}

fn continue_last(sessions: &mut [BgpSession], text: &str) {
    if let Some(session) = sessions.last_mut().filter(|_| !text.is_empty()) {
        let gap = if session.error.is_empty() { "" } else { " " };
        session.error = format!("{}{gap}{text}", session.error);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn status(text: &str) -> (Option<Daemon>, Vec<Unreadable>) {
        read(&text.lines().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_table_is_read_also_where_it_is_wrapped() {
        let (daemon, unreadable) = status(
            "\
Calico process is running.

IPv4 BGP status
+---------------+-------------------+-------+------------+-------------+
| PEER ADDRESS  |     PEER TYPE     | STATE |   SINCE    |    INFO     |
+---------------+-------------------+-------+------------+-------------+
| 172.30.51.95  | node-to-node mesh | up    | 2018-03-29 | Established |
| 172.30.10.186 | node-to-node mesh | start | 02:28:44   | Active Socket: Connection |
|               |                   |       |            | refused     |
| 172.30.10.187 | global            | start | 02:28:44   | Passive
 |
| x.x.10.1      | node specific     | up    | 02:28:44   | Established |
+---------------+-------------------+-------+------------+-------------+

IPv6 BGP status
No IPv6 peers found.",
        );
        let Some(Daemon::Running(bird)) = daemon else { panic!("{daemon:?}") };
        let [up, refused, passive] = bird.sessions.as_slice() else { panic!("{bird:#?}") };
        assert!(up.established && up.kind == PeerKind::NodeToNodeMesh && up.error.is_empty());
        assert_eq!(
            (refused.state.as_str(), refused.error.as_str()),
            ("Active", "Socket: Connection refused")
        );
        assert_eq!((passive.state.as_str(), passive.kind), ("Passive", PeerKind::Global));
        assert_eq!(unreadable.len(), 1);
    }

    #[test]
    fn a_daemon_that_is_not_there_is_told_from_one_without_peers() {
        let (stopped, _) = status("Calico process is not running.");
        assert!(matches!(stopped, Some(Daemon::NotRunning(_))));
        let (alone, _) = status("Calico process is running.\n\nIPv4 BGP status\nNo IPv4 peers found.");
        assert!(matches!(alone, Some(Daemon::Running(bird)) if bird.sessions.is_empty()));
        assert_eq!(status("Calico process is running.").0, None);
    }

    proptest! {
        #[test]
        fn any_lines_are_read_without_a_panic(text in "(.{0,40}\n){0,8}", like in "(\\|?( ?[0-9.]{0,12}| up | start | Established | Active é)\\|?){0,30}") {
            let _ = status(&text);
            let _ = status(&like);
        }
    }
}
