//! What Prometheus scraped over an hour of a cluster that never was, for promtool's rule tests: a sample every 30
//! seconds, and a fault from the half hour on.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Samples before the fault, and from then on.
pub const BEFORE: usize = 60;
pub const AFTER: usize = 60;

/// When something is looked at, in minutes.
pub const FAULT: u32 = 30;

/// Packets a sample, before the fault and after it; `None` where nothing is scraped any more.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub before: u32,
    pub after: Option<u32>,
}

impl Rate {
    pub const fn steady(packets: u32) -> Self {
        Self { before: packets, after: Some(packets) }
    }

    /// As promtool writes a counter.
    fn values(self) -> String {
        let Self { before, after } = self;
        let total = before as usize * BEFORE;
        match after {
            Some(after) => format!("0+{before}x{} {}+{after}x{AFTER}", BEFORE - 1, total),
            None => format!("0+{before}x{} stale", BEFORE - 1),
        }
    }
}

/// Series by their names; a later one takes the place of an earlier one.
#[derive(Clone, Debug, Default)]
pub struct History(BTreeMap<String, String>);

impl History {
    /// Nodes of these numbers, all of which send to all others and hear what was sent.
    pub fn mesh(nodes: &[u32]) -> Self {
        let mut history = Self::default();
        for node in nodes {
            history.node(*node, Some(1));
            for peer in nodes.iter().filter(|peer| *peer != node) {
                history.pair(*node, *peer, Rate::steady(100), Rate::steady(100));
                history.session(*node, *peer, Some(1));
            }
        }
        history
    }

    pub fn set(&mut self, series: impl Into<String>, values: impl Into<String>) {
        self.0.insert(series.into(), values.into());
    }

    /// What a node says of itself; after the fault its targets are up, down (0), or gone.
    pub fn node(&mut self, node: u32, up: Option<u8>) {
        let instance = instance(node);
        let rest = |value: &str| match up {
            Some(1) => format!("{value}x{}", BEFORE + AFTER),
            _ => format!("{value}x{} stale", BEFORE - 1),
        };
        let address = address(node);
        self.set(
            format!("caliprobe_node_info{{{instance},node=\"node-{node}\",address=\"{address}\"}}"),
            rest("1+0"),
        );
        self.set(format!("caliprobe_start_time_seconds{{{instance}}}"), rest("1000+0"));
        self.set(format!("caliprobe_reading_time_seconds{{{instance}}}"), rest("1000+30"));
        self.set(format!("caliprobe_devices_refused{{{instance}}}"), rest("0+0"));
        let after = up.map_or("stale".to_owned(), |up| format!("{up}+0x{AFTER}"));
        self.set(format!("up{{{instance},job=\"caliprobe\"}}"), format!("1+0x{} {after}", BEFORE - 1));
    }

    /// What one node sent to another by its own count, and what of it the other has by its own.
    pub fn pair(&mut self, source: u32, destination: u32, sent: Rate, received: Rate) {
        let series = |what, node, peer| {
            format!(
                "caliprobe_peer_{what}_packets_total{{{},job=\"caliprobe-peers\",peer=\"{}\"}}",
                instance(node),
                address(peer)
            )
        };
        self.set(series("encapsulated", source, destination), sent.values());
        self.set(series("decapsulated", destination, source), received.values());
    }

    /// Whether a BGP session is up after the fault.
    pub fn session(&mut self, node: u32, peer: u32, after: Option<u8>) {
        let after = after.map_or("stale".to_owned(), |up| format!("{up}+0x{AFTER}"));
        let name = format!("caliprobe_bgp_session_up{{{},peer=\"{}\"}}", instance(node), address(peer));
        self.set(name, format!("1+0x{} {after}", BEFORE - 1));
    }

    /// Black holes of one cause and subject that are open on a node, sample by sample.
    pub fn black_hole(&mut self, node: u32, subject: &str, values: &str) {
        let labels = format!("{},cause=\"block-route-missing\",subject=\"{subject}\"", instance(node));
        self.set(format!("caliprobe_black_hole_open{{{labels}}}"), values);
    }

    /// Nobody hears a node or is heard by it any more, and its targets are down.
    pub fn kill(&mut self, dead: u32, others: &[u32]) {
        self.node(dead, Some(0));
        for other in others {
            let silent = Rate { before: 100, after: None };
            self.pair(dead, *other, silent, Rate { before: 100, after: Some(0) });
            self.pair(*other, dead, Rate::steady(100), silent);
            self.session(dead, *other, None);
            self.session(*other, dead, Some(0));
        }
    }

    pub fn series(&self) -> Vec<Value> {
        self.0.iter().map(|(series, values)| json!({ "series": series, "values": values })).collect()
    }
}

pub fn address(node: u32) -> String {
    format!("172.30.{}.{}", node / 250, node % 250 + 1)
}

fn instance(node: u32) -> String {
    format!("instance=\"{}:10475\"", address(node))
}
