//! The ledger as a person reads it.

use std::fmt::{Display, Write as _};

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets::NOTHING};

use serde::Serialize;

use super::document::Node;
use crate::{
    reading::{BlockCounts, Count, DropCounts, DropPlace, Flow, LinkCounts, NodeCounts, PeerCounts, Reading},
    sources::traffic_control::{Filter, Way},
    state::{BlackHole, State},
};

/// One reading as a line of JSON.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    schema_version: u32,
    command: &'static str,
    version: &'a str,
    time: &'a str,
    node: LineNode<'a>,
    links: &'a [LinkCounts],
    blocks: &'a [BlockCounts],
    peers: &'a [PeerCounts],
    drops: &'a [DropCounts],
    drops_counted: bool,
    black_holes: &'a [BlackHole],
    limits: &'a [String],
}

/// Who the node is, as in every document, and what it counted as a whole.
#[derive(Debug, Serialize)]
struct LineNode<'a> {
    #[serde(flatten)]
    identity: &'a Node,
    #[serde(flatten)]
    counts: &'a NodeCounts,
}

impl<'a> Line<'a> {
    pub fn of(state: &'a State) -> Self {
        let reading = &state.reading;
        Self {
            schema_version: state.schema_version,
            command: "run",
            version: &state.version,
            time: &state.time,
            node: LineNode { identity: &state.node, counts: &reading.node },
            links: &reading.links,
            blocks: &reading.blocks,
            peers: &reading.peers,
            drops: &reading.drops,
            drops_counted: reading.drops_counted,
            black_holes: &state.black_holes,
            limits: &reading.limits,
        }
    }
}

/// The whole ledger: totals, pods, blocks, peers, drops, and what is not in it.
pub fn text(reading: &Reading) -> String {
    let mut text = String::new();
    let node = &reading.node;
    let _ = writeln!(
        text,
        "node   to-tunnel {}   to-wire {}   from-wire {}   from-tunnel {}   (segments)",
        node.flow.to_tunnel.segments,
        node.flow.to_wire.segments,
        node.flow.from_wire.segments,
        node.flow.from_tunnel.segments
    );
    let rest = [
        ("the host's own, bare to a pool", node.host_bare.buffers),
        ("IPIP routed for others", node.transit.buffers),
        ("outer fragments", node.outer_fragments),
        ("truncated", node.truncated),
        ("drops without room", node.drops_without_room),
    ];
    for (what, count) in rest.into_iter().filter(|(_, count)| *count > 0) {
        let _ = writeln!(text, "       {what}: {count}");
    }
    section(&mut text, &pods(reading));
    section(&mut text, &blocks(reading));
    section(&mut text, &peers(reading));
    section(&mut text, &drops(reading));
    for limit in &reading.limits {
        let _ = writeln!(text, "note   {limit}");
    }
    text
}

fn section(text: &mut String, table: &Table) {
    if table.row_count() > 0 {
        let _ = writeln!(text, "\n{}", table.trim_fmt());
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    table
}

fn number(value: impl Display) -> Cell {
    Cell::new(value.to_string()).set_alignment(CellAlignment::Right)
}

fn pods(reading: &Reading) -> Table {
    let mut table = table(&[
        "pod interface",
        "from-pod",
        "encapsulated",
        "same-node",
        "bare",
        "dropped",
        "remainder",
        "to-pod",
    ]);
    for link in &reading.links {
        let counts = [link.from_pod, link.encapsulated, link.same_node, link.bare, link.dropped];
        let mut row = vec![Cell::new(&link.name)];
        row.extend(counts.iter().map(|count| number(count.segments)));
        row.extend([number(link.remainder()), number(link.to_pod.segments)]);
        table.add_row(row);
    }
    table
}

fn blocks(reading: &Reading) -> Table {
    let mut table = table(&["block", "to-tunnel", "to-wire", "from-wire", "from-tunnel"]);
    for block in reading.blocks.iter().filter(|block| block.flow != Flow::default()) {
        let flow = block.flow;
        let mut row = vec![Cell::new(block.block)];
        let counts: [Count; 4] = [flow.to_tunnel, flow.to_wire, flow.from_wire, flow.from_tunnel];
        row.extend(counts.iter().map(|count| number(count.segments)));
        table.add_row(row);
    }
    table
}

fn peers(reading: &Reading) -> Table {
    let mut table = table(&["peer", "encapsulated to it", "decapsulated from it"]);
    for peer in &reading.peers {
        table.add_row(vec![
            Cell::new(peer.peer),
            number(peer.encapsulated.segments),
            number(peer.decapsulated.segments),
        ]);
    }
    table
}

fn drops(reading: &Reading) -> Table {
    let mut table = table(&["drops", "reason", "function", "device", "came in by", "to block", "where"]);
    for drop in &reading.drops {
        let known = |value: &Option<String>| Cell::new(value.as_deref().unwrap_or("unknown"));
        let place = match (drop.place, drop.encapsulated) {
            (DropPlace::Node, true) => "node, encapsulated",
            (DropPlace::Node, false) => "node",
            (DropPlace::InsideAPod, _) => "inside a pod",
            (DropPlace::Unknown, _) => "unknown namespace",
        };
        let or_none = |value: &Option<String>| Cell::new(value.as_deref().unwrap_or("-"));
        table.add_row(vec![
            number(drop.count.segments),
            known(&drop.reason),
            known(&drop.symbol),
            or_none(&drop.device),
            or_none(&drop.ingress_device),
            Cell::new(drop.block.map_or_else(|| "-".to_owned(), |block| block.to_string())),
            Cell::new(place),
        ]);
    }
    table
}

/// One filter of ours in words.
pub fn filter_words(filter: &Filter) -> String {
    let way = match filter.way {
        Way::Ingress => "ingress",
        Way::Egress => "egress",
    };
    format!(
        "{} at {way} of device {}, preference {}, handle {:#x}",
        filter.name.as_deref().unwrap_or("a filter"),
        filter.link,
        filter.preference,
        filter.handle
    )
}
