//! What the readers of outputs hand on: devices by their names, because most outputs know no index.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::Ipv4Net;

use crate::sample::{Bird, Link, NeighbourState, Part, Route, Rule, RuleTable};

/// Something that was recognised and could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub text: String,
    pub why: &'static str,
}

impl Unreadable {
    /// No longer than a person reads.
    const LONGEST: usize = 120;

    pub fn new(text: &str, why: &'static str) -> Self {
        let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        Self { text: text.chars().take(Self::LONGEST).collect(), why }
    }
}

/// A route whose hops name no device by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRow {
    pub route: Route,
    /// Names of the devices, one for each hop.
    pub devices: Vec<Option<String>>,
    pub shows_protocol: bool,
    pub names_table: bool,
}

impl RouteRow {
    pub fn new(route: Route) -> Self {
        Self { route, devices: Vec::new(), shows_protocol: false, names_table: false }
    }
}

/// What an output says of one device; the rest is as for a device in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkEntry {
    /// Its index is 0, and its MTU, where the output does not print them.
    pub link: Link,
    /// What of a device the output shows: states, kinds, statistics, addresses.
    pub shows: BTreeSet<Part>,
    /// Name of the bridge or bond that it is a port of.
    pub master: Option<String>,
    /// Name of the lower device, where it is in the same namespace.
    pub lower: Option<String>,
    /// Address, prefix length, scope.
    pub addresses: Vec<(Ipv4Addr, u8, u8)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighbourRow {
    pub device: String,
    pub address: Ipv4Addr,
    pub state: NeighbourState,
    pub hardware_address: Option<String>,
}

/// One output, read.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    Routes(Vec<RouteRow>),
    Links {
        entries: Vec<LinkEntry>,
        shows_those_that_are_down: bool,
    },
    Neighbours(Vec<NeighbourRow>),
    Rules(Vec<Rule>),
    /// Names and values.
    Sysctls(Vec<(String, String)>),
    /// Tables of netfilter.
    RuleSets(Vec<RuleTable>),
    Sets(Vec<(String, Vec<Ipv4Net>)>),
    RoutingDaemon(Daemon),
}

/// What `calicoctl` or BIRD's client say of the routing daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Daemon {
    Running(Box<Bird>),
    /// In its words.
    NotRunning(String),
}

impl Reading {
    /// Whether an output was recognised that shows nothing.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Routes(rows) => rows.is_empty(),
            Self::Links { entries, .. } => entries.is_empty(),
            Self::Neighbours(rows) => rows.is_empty(),
            Self::Rules(rules) => rules.is_empty(),
            Self::Sysctls(settings) => settings.is_empty(),
            Self::RuleSets(tables) => tables.is_empty(),
            Self::Sets(sets) => sets.is_empty(),
            Self::RoutingDaemon(_) => false,
        }
    }
}
