//! All that is known of one thing, as lines.

use std::{fmt::Write as _, net::Ipv4Addr};

use super::{
    history::{History, Subject},
    tables::{place_words, plain},
    view::Topic,
    words::{age, rate},
};
use crate::{
    reading::{DropCounts, Flow, LinkCounts, PeerWay},
    report::{black_hole, text::printable},
    sample::Fact,
    state::State,
};

const HELP: &str = "\
tab, ← →       the next table; black holes are one of them
↑ ↓, j k       a row up or down; page up, page down, home, end
enter          look into the row: evidence, and the commands to type
/              filter the table; enter keeps the filter, esc takes it away
s              sort by the next column
r              reverse the order
space          pause what is shown; counting goes on
i              the node: what is counted, what is not, and why
?              this help
esc            back, and at the tables the end
q, ctrl-c      the end

Rates are packets (segments) a second between the last two readings; - is
unknown, which is not zero. Totals count from when the daemon started.
A trend shows the last 30 readings, each bar against the highest of its row.";

/// The lines about a topic, none longer than `width` characters.
pub fn lines(history: &History, topic: &Topic, width: usize) -> Vec<String> {
    let text = match topic {
        Topic::Help => HELP.to_owned(),
        Topic::Node => node(history.state()),
        Topic::Subject(subject) => about(history, subject),
    };
    printable(&text).lines().flat_map(|line| wrap(line, width)).collect()
}

/// What a detail is called.
pub fn title(topic: &Topic) -> String {
    match topic {
        Topic::Help => "help".to_owned(),
        Topic::Node => "this node".to_owned(),
        Topic::Subject(Subject::BlackHole(_)) => "black hole".to_owned(),
        Topic::Subject(Subject::Peer(peer)) => format!("peer {peer}"),
        Topic::Subject(Subject::Block(block)) => format!("block {block}"),
        Topic::Subject(Subject::Pod(_, name)) => format!("pod interface {}", plain(name)),
        Topic::Subject(Subject::Drop(_)) => "drops".to_owned(),
    }
}

/// Cut where it must be: a command is typed as it stands, without breaks at words that look like its own.
fn wrap(line: &str, width: usize) -> Vec<String> {
    let characters: Vec<char> = line.chars().collect();
    if characters.is_empty() {
        return vec![String::new()];
    }
    characters.chunks(width.max(1)).map(|part| part.iter().collect()).collect()
}

fn about(history: &History, subject: &Subject) -> String {
    let state = history.state();
    let reading = &state.reading;
    let known = match subject {
        Subject::BlackHole(id) => {
            let black_hole = state.black_holes.iter().find(|black_hole| black_hole.id == *id);
            black_hole.map(black_hole::text)
        }
        Subject::Peer(peer) => Some(of_peer(history, *peer)),
        Subject::Block(block) => {
            let counts = reading.blocks.iter().find(|counts| counts.block == *block);
            counts.map(|counts| of_flow(&counts.flow, history, subject))
        }
        Subject::Pod(..) => {
            let link = reading.links.iter().find(|link| Subject::of_link(link) == *subject);
            link.map(|link| of_link(link, history, subject))
        }
        Subject::Drop(_) => {
            let drop = reading.drops.iter().find(|drop| Subject::of_drop(drop) == *subject);
            drop.map(|drop| of_drop(drop, history, subject))
        }
    };
    known.unwrap_or_else(|| gone(subject).to_owned())
}

fn gone(subject: &Subject) -> &'static str {
    match subject {
        Subject::BlackHole(_) => "It is no longer open; `caliprobe events --since 1h` has it.",
        _ => "The last reading has it no longer.",
    }
}

fn of_peer(history: &History, peer: Ipv4Addr) -> String {
    let state = history.state();
    let [sent_rate, heard_rate, ..] = history.rates(&Subject::Peer(peer));
    let mut text = String::new();
    match state.reading.peers.iter().find(|counts| counts.peer == peer) {
        Some(counts) => {
            way(&mut text, "sent", &counts.encapsulated, sent_rate);
            way(&mut text, "heard", &counts.decapsulated, heard_rate);
        }
        None => text.push_str("traffic    not counted: no route or set names this node\n"),
    }
    text.push('\n');
    match &state.sessions {
        Fact::Absent(why) => line(&mut text, "session", &format!("not seen: {why}")),
        Fact::Known(sessions) => match sessions.iter().find(|session| session.peer == peer) {
            None => line(&mut text, "session", "BIRD has none with it"),
            Some(session) => {
                line(
                    &mut text,
                    "session",
                    &format!("{} {} since {}", session.name, session.state, session.since),
                );
                let routes =
                    |count: Option<u32>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
                let (imported, exported) = (routes(session.imported), routes(session.exported));
                line(&mut text, "routes", &format!("{imported} imported, {exported} exported"));
                if !session.error.is_empty() {
                    line(&mut text, "error", &session.error);
                }
            }
        },
    }
    let _ = writeln!(text, "\nWhat is wrong with it, if anything is: caliprobe peers --probe");
    text
}

fn way(text: &mut String, label: &str, way: &PeerWay, now: Option<f64>) {
    let PeerWay { segments, buffers, bytes, fragments } = way;
    line(text, label, &format!("{} packets/s", rate(now)));
    line(text, "", &format!("{segments} packets in {buffers} buffers, {bytes} bytes, {fragments} fragments"));
}

fn of_flow(flow: &Flow, history: &History, subject: &Subject) -> String {
    let mut text = String::new();
    let points = [
        ("to-tunnel", flow.to_tunnel),
        ("to-wire", flow.to_wire),
        ("from-wire", flow.from_wire),
        ("from-tunnel", flow.from_tunnel),
    ];
    for ((label, count), now) in points.into_iter().zip(history.rates(subject)) {
        line(&mut text, label, &counted(count.segments, Some(rate(now))));
    }
    text
}

fn of_link(link: &LinkCounts, history: &History, subject: &Subject) -> String {
    let mut text = String::new();
    let Some(since) = &link.covered_since else {
        line(&mut text, "counted", "not yet: it has no programs");
        return text;
    };
    line(&mut text, "counted", &format!("since {since}"));
    let [from_pod, to_pod, bare, dropped] = history.rates(subject).map(|now| Some(rate(now)));
    let counts = [
        ("from-pod", link.from_pod, from_pod),
        ("encapsulated", link.encapsulated, None),
        ("same-node", link.same_node, None),
        ("bare", link.bare, bare),
        ("  to a pool", link.bare_to_pool, None),
        ("dropped", link.dropped, dropped),
        ("to-pod", link.to_pod, to_pod),
    ];
    for (label, count, now) in counts {
        line(&mut text, label, &counted(count.segments, now));
    }
    line(
        &mut text,
        "remainder",
        &format!("{} packets from the pod have none of these outcomes", link.remainder()),
    );
    if let Some(last) = &link.last_bare {
        line(&mut text, "last bare", &format!("{} → {}", last.source, last.destination));
    }
    text
}

fn of_drop(drop: &DropCounts, history: &History, subject: &Subject) -> String {
    let mut text = String::new();
    let known = |name: &Option<String>| name.clone().unwrap_or_else(|| "unknown".to_owned());
    let named = |name: &Option<String>| name.clone().unwrap_or_else(|| "none".to_owned());
    line(&mut text, "lost", &counted(drop.count.segments, Some(rate(history.rates(subject)[0]))));
    line(&mut text, "reason", &known(&drop.reason));
    line(&mut text, "function", &known(&drop.symbol));
    line(&mut text, "where", place_words(drop));
    line(&mut text, "device", &named(&drop.device));
    line(&mut text, "came in by", &named(&drop.ingress_device));
    line(
        &mut text,
        "to block",
        &drop.block.map_or_else(|| "none of a pool".to_owned(), |block| block.to_string()),
    );
    if let Some(last) = &drop.last {
        let protocol = last.protocol;
        line(&mut text, "last", &format!("{} → {}, protocol {protocol}", last.source, last.destination));
        if let Some((source, destination)) = last.outer {
            line(&mut text, "", &format!("encapsulated {source} → {destination}"));
        }
        let _ = writeln!(
            text,
            "\nFollow one packet of it: caliprobe diagnose {} --from {} --passive",
            last.destination, last.source
        );
    }
    text
}

/// What is counted, what is not, and how the probe fares.
fn node(state: &State) -> String {
    let mut text = String::new();
    let (node, health) = (&state.node, &state.health);
    line(&mut text, "node", &format!("{}, Linux {}, caliprobe {}", node.name, node.kernel, state.version));
    let ran = age(super::history::seconds_between(&state.started, &state.time));
    line(&mut text, "counting", &format!("since {} ({ran})", state.started));
    line(&mut text, "read", &format!("{}, which took {} µs", state.time, health.read_us));
    let means = health.attached_by.as_deref().unwrap_or("nothing yet");
    line(&mut text, "programs", &format!("{} devices by {means}, {} wait", health.covered, health.pending));
    for (device, why) in &health.refused {
        line(&mut text, "refused", &format!("{device}: {why}"));
    }
    line(&mut text, "overruns", &health.overruns.to_string());
    line(&mut text, "failed", &format!("{} reads of the node", health.failed_reads));
    line(&mut text, "lost", &format!("{} events without room on disk", health.lost_events));
    for table in &health.tables {
        line(&mut text, "table", &format!("{}: {} of {}", table.name, table.used, table.capacity));
    }
    match &state.tunnel {
        Fact::Known(tunnel) => {
            let up = if tunnel.up { "up" } else { "down" };
            let counts = &tunnel.statistics;
            line(
                &mut text,
                "tunl0",
                &format!("{up}, {} packets out, {} in", counts.tx_packets, counts.rx_packets),
            );
            line(
                &mut text,
                "",
                &format!("{} tx errors, {} carrier", counts.tx_errors, counts.tx_carrier_errors),
            );
        }
        Fact::Absent(why) => line(&mut text, "tunl0", &format!("not seen: {why}")),
    }
    if let Fact::Absent(why) = &state.sessions {
        line(&mut text, "sessions", &format!("not seen: {why}"));
    }
    for limit in &state.reading.limits {
        line(&mut text, "not seen", limit);
    }
    text
}

fn line(text: &mut String, label: &str, value: &str) {
    let _ = writeln!(text, "{label:<12} {value}");
}

fn counted(segments: u64, now: Option<String>) -> String {
    let now = now.map_or_else(String::new, |now| format!(", {now}/s"));
    format!("{segments} packets{now}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::example;

    #[test]
    fn a_black_hole_is_shown_with_its_evidence_and_the_commands_to_type() {
        let history = example::history();
        let subject = Subject::BlackHole(example::state(0).black_holes[0].id.clone());
        insta::assert_snapshot!(lines(&history, &Topic::Subject(subject), 78).join("\n"));
    }

    #[test]
    fn a_peer_is_shown_with_all_its_figures() {
        let subject = Subject::Peer(Ipv4Addr::new(172, 30, 10, 187));
        insta::assert_snapshot!(lines(&example::history(), &Topic::Subject(subject), 78).join("\n"));
    }

    #[test]
    fn what_closed_meanwhile_is_said_to_be_gone() {
        let text = lines(&example::history(), &Topic::Subject(Subject::BlackHole("?".to_owned())), 78);
        assert!(text[0].contains("no longer open"), "{text:?}");
    }

    #[test]
    fn no_line_is_longer_than_the_screen_is_wide() {
        let history = example::history();
        for width in [1, 20, 78] {
            for topic in [Topic::Help, Topic::Node] {
                let lines = lines(&history, &topic, width);
                assert!(lines.iter().all(|line| line.chars().count() <= width), "{lines:?}");
            }
        }
    }
}
