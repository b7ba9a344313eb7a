//! The tables: which columns each has, and its rows of a history.

use std::{cmp::Ordering, collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;

use super::history::{History, Subject};
use crate::{
    reading::{Count, DropCounts, DropPlace, PeerCounts},
    report::{black_hole::cause_words, text::printable},
    sample::BgpSession,
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Table {
    BlackHoles,
    #[default]
    Peers,
    Blocks,
    Pods,
    Drops,
}

/// One column. Rates are per second; all numbers are segments.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub title: &'static str,
    /// Its width where the screen is narrow; 0 hides it there.
    pub narrow: u16,
    /// Its width where there is room; 0 lets it take what is left.
    pub wide: u16,
}

const fn column(title: &'static str, narrow: u16, wide: u16) -> Column {
    Column { title, narrow, wide }
}

const TREND: Column = column("trend", 10, 30);

const BLACK_HOLES: &[Column] = &[
    column("open for", 8, 8),
    column("cause", 26, 30),
    column("subject", 24, 36),
    column("lost/s", 7, 8),
    column("lost", 9, 12),
    column("summary", 0, 0),
];
const PEERS: &[Column] = &[
    column("peer", 15, 15),
    column("session", 12, 24),
    column("sent/s", 7, 10),
    column("heard/s", 7, 10),
    column("sent", 11, 18),
    column("heard", 11, 18),
    TREND,
];
const BLOCKS: &[Column] = &[
    column("block", 18, 18),
    column("to-tunnel/s", 11, 13),
    column("to-wire/s", 9, 13),
    column("from-wire/s", 11, 13),
    column("from-tunnel/s", 13, 13),
    column("to-wire", 0, 14),
    column("from-wire", 0, 14),
    TREND,
];
const PODS: &[Column] = &[
    column("interface", 15, 15),
    column("from-pod/s", 10, 10),
    column("to-pod/s", 8, 10),
    column("bare/s", 7, 9),
    column("dropped/s", 9, 9),
    column("from-pod", 0, 12),
    column("to-pod", 0, 12),
    column("bare", 0, 10),
    column("dropped", 8, 10),
    TREND,
];
const DROPS: &[Column] = &[
    column("reason", 20, 28),
    column("function", 0, 22),
    column("device", 11, 15),
    column("to block", 18, 18),
    column("where", 0, 18),
    column("lost/s", 7, 8),
    column("lost", 8, 12),
    TREND,
];

/// What stands in one cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Address(Ipv4Addr),
    Block(Option<Ipv4Net>),
    Count(Option<u64>),
    Rate(Option<f64>),
    /// Seconds.
    Age(Option<f64>),
    /// Of the row's subject; the history has it.
    Trend,
}

/// One row, with a value for each column.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub subject: Subject,
    pub values: Vec<Value>,
}

/// By which column a table is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    pub column: usize,
    pub descending: bool,
}

impl Table {
    pub const ALL: [Self; 5] = [Self::BlackHoles, Self::Peers, Self::Blocks, Self::Pods, Self::Drops];

    pub fn title(self) -> &'static str {
        match self {
            Self::BlackHoles => "black holes",
            Self::Peers => "peers",
            Self::Blocks => "blocks",
            Self::Pods => "pods",
            Self::Drops => "drops",
        }
    }

    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::BlackHoles => BLACK_HOLES,
            Self::Peers => PEERS,
            Self::Blocks => BLOCKS,
            Self::Pods => PODS,
            Self::Drops => DROPS,
        }
    }

    /// Black holes from the oldest, all others from the busiest.
    pub fn usual_sort(self) -> Sort {
        let column = match self {
            Self::BlackHoles => 0,
            Self::Peers => 2,
            Self::Blocks | Self::Pods => 1,
            Self::Drops => 5,
        };
        Sort { column, descending: true }
    }

    /// The rows whose text holds `filter`, whatever its case, in order.
    pub fn rows(self, history: &History, filter: &str, sort: Sort) -> Vec<Row> {
        let mut rows = match self {
            Self::BlackHoles => black_holes(history),
            Self::Peers => peers(history),
            Self::Blocks => blocks(history),
            Self::Pods => pods(history),
            Self::Drops => drops(history),
        };
        let filter = filter.to_lowercase();
        rows.retain(|row| row.values.iter().any(|value| value.holds(&filter)));
        rows.sort_by(|one, other| match (one.values.get(sort.column), other.values.get(sort.column)) {
            (Some(one), Some(other)) => one.order(other, sort.descending),
            _ => Ordering::Equal,
        });
        rows
    }
}

impl Value {
    /// Whether a person who looks for this text means it; numbers are not looked for.
    fn holds(&self, filter: &str) -> bool {
        match self {
            Self::Text(text) => text.to_lowercase().contains(filter),
            Self::Address(address) => address.to_string().contains(filter),
            Self::Block(block) => block.is_some_and(|block| block.to_string().contains(filter)),
            _ => false,
        }
    }

    /// What is unknown comes last either way.
    fn order(&self, other: &Self, descending: bool) -> Ordering {
        let directed = |order: Ordering| if descending { order.reverse() } else { order };
        match (self, other) {
            (Self::Text(one), Self::Text(other)) => directed(one.cmp(other)),
            (Self::Address(one), Self::Address(other)) => directed(one.cmp(other)),
            (Self::Block(one), Self::Block(other)) => {
                known_first(*one, *other, |one, other| directed(one.cmp(other)))
            }
            (Self::Count(one), Self::Count(other)) => {
                known_first(*one, *other, |one, other| directed(one.cmp(other)))
            }
            (Self::Rate(one), Self::Rate(other)) | (Self::Age(one), Self::Age(other)) => {
                known_first(*one, *other, |one, other| directed(one.total_cmp(other)))
            }
            _ => Ordering::Equal,
        }
    }
}

fn known_first<T>(one: Option<T>, other: Option<T>, compare: impl Fn(&T, &T) -> Ordering) -> Ordering {
    match (one, other) {
        (Some(one), Some(other)) => compare(&one, &other),
        (one, other) => other.is_some().cmp(&one.is_some()),
    }
}

/// Names come from outside: what would steer the terminal is replaced.
pub fn plain(text: &str) -> String {
    printable(text).replace('\n', "?")
}

fn text(text: &str) -> Value {
    Value::Text(plain(text))
}

fn count(count: Count) -> Value {
    Value::Count(Some(count.segments))
}

fn black_holes(history: &History) -> Vec<Row> {
    let state = history.state();
    let row = |black_hole: &crate::state::BlackHole| {
        let subject = Subject::BlackHole(black_hole.id.clone());
        let age = super::history::seconds_between(&black_hole.opened, &state.time);
        let values = vec![
            Value::Age(age),
            text(&cause_words(black_hole)),
            text(&black_hole.subject.value),
            Value::Rate(history.rates(&subject)[0]),
            Value::Count(Some(black_hole.packets)),
            text(&black_hole.summary),
        ];
        Row { subject, values }
    };
    state.black_holes.iter().map(row).collect()
}

/// Those that are counted, and those that only a BGP session names.
fn peers(history: &History) -> Vec<Row> {
    let state = history.state();
    let counted: BTreeMap<Ipv4Addr, &PeerCounts> =
        state.reading.peers.iter().map(|peer| (peer.peer, peer)).collect();
    let sessions: Option<BTreeMap<Ipv4Addr, &BgpSession>> = state
        .sessions
        .known()
        .map(|sessions| sessions.iter().map(|session| (session.peer, session)).collect());
    let mut addresses: Vec<Ipv4Addr> = counted.keys().copied().collect();
    addresses.extend(sessions.iter().flat_map(BTreeMap::keys).filter(|peer| !counted.contains_key(peer)));
    let row = |peer: Ipv4Addr| {
        let subject = Subject::Peer(peer);
        let [sent_rate, heard_rate, ..] = history.rates(&subject);
        let counts = counted.get(&peer);
        let session = match &sessions {
            Some(sessions) => sessions.get(&peer).map_or("none", |session| session.state.as_str()),
            None => "-",
        };
        let values = vec![
            Value::Address(peer),
            text(session),
            Value::Rate(sent_rate),
            Value::Rate(heard_rate),
            Value::Count(counts.map(|counts| counts.encapsulated.segments)),
            Value::Count(counts.map(|counts| counts.decapsulated.segments)),
            Value::Trend,
        ];
        Row { subject, values }
    };
    addresses.into_iter().map(row).collect()
}

fn blocks(history: &History) -> Vec<Row> {
    let row = |block: &crate::reading::BlockCounts| {
        let subject = Subject::Block(block.block);
        let mut values = vec![Value::Block(Some(block.block))];
        values.extend(history.rates(&subject).map(Value::Rate));
        values.extend([count(block.flow.to_wire), count(block.flow.from_wire), Value::Trend]);
        Row { subject, values }
    };
    history.state().reading.blocks.iter().map(row).collect()
}

fn pods(history: &History) -> Vec<Row> {
    let row = |link: &crate::reading::LinkCounts| {
        let subject = Subject::of_link(link);
        let mut values = vec![text(&link.name)];
        values.extend(history.rates(&subject).map(Value::Rate));
        let counts = [link.from_pod, link.to_pod, link.bare, link.dropped];
        let counted = link.covered_since.is_some();
        values.extend(counts.map(|count| Value::Count(counted.then_some(count.segments))));
        values.push(Value::Trend);
        Row { subject, values }
    };
    history.state().reading.links.iter().map(row).collect()
}

fn drops(history: &History) -> Vec<Row> {
    let row = |drop: &DropCounts| {
        let subject = Subject::of_drop(drop);
        let rate = history.rates(&subject)[0];
        let known = |name: &Option<String>| text(name.as_deref().unwrap_or("unknown"));
        let values = vec![
            known(&drop.reason),
            known(&drop.symbol),
            text(drop.device.as_deref().unwrap_or("-")),
            Value::Block(drop.block),
            text(place_words(drop)),
            Value::Rate(rate),
            count(drop.count),
            Value::Trend,
        ];
        Row { subject, values }
    };
    history.state().reading.drops.iter().map(row).collect()
}

/// In which namespace a packet was dropped.
pub fn place_words(drop: &DropCounts) -> &'static str {
    match (drop.place, drop.encapsulated) {
        (DropPlace::Node, true) => "node, encapsulated",
        (DropPlace::Node, false) => "node",
        (DropPlace::InsideAPod, _) => "inside a pod",
        (DropPlace::Unknown, _) => "unknown namespace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::example;

    fn shown(table: Table, filter: &str, sort: Sort) -> Vec<String> {
        let rows = table.rows(&example::history(), filter, sort);
        rows.iter()
            .map(|row| match &row.values[0] {
                Value::Address(address) => address.to_string(),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn rows_are_sorted_by_any_column_and_the_unknown_comes_last_either_way() {
        let by_rate = |descending| shown(Table::Peers, "", Sort { column: 2, descending });
        assert_eq!(by_rate(true), ["172.30.10.187", "172.30.51.95", "172.30.51.96"]);
        assert_eq!(by_rate(false), ["172.30.51.95", "172.30.10.187", "172.30.51.96"]);
        let by_address = shown(Table::Peers, "", Sort { column: 0, descending: true });
        assert_eq!(by_address, ["172.30.51.96", "172.30.51.95", "172.30.10.187"]);
    }

    #[test]
    fn a_filter_looks_at_every_text_of_a_row_whatever_its_case() {
        assert_eq!(shown(Table::Peers, "51.95", Table::Peers.usual_sort()), ["172.30.51.95"]);
        assert_eq!(shown(Table::Peers, "CONNECT", Table::Peers.usual_sort()), ["172.30.51.96"]);
        assert!(shown(Table::Peers, "no such thing", Table::Peers.usual_sort()).is_empty());
    }

    #[test]
    fn every_row_has_a_value_for_each_column() {
        for table in Table::ALL {
            for row in table.rows(&example::history(), "", table.usual_sort()) {
                assert_eq!(row.values.len(), table.columns().len(), "{table:?}");
            }
            assert!(
                table
                    .columns()
                    .iter()
                    .map(|column| column.narrow + u16::from(column.narrow > 0))
                    .sum::<u16>()
                    <= 81,
                "{table:?}"
            );
        }
    }

    #[test]
    fn a_name_that_would_steer_the_terminal_is_made_plain() {
        assert_eq!(plain("cali\u{1b}[2J\n\u{7f}\u{9b}x"), "cali?[2J???x");
    }
}
