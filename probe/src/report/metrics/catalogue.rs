//! Every metric: its name, what it says, its labels, and when it has no series. Names are a contract.

use super::{
    Facts,
    encoding::Family,
    series::{self, Series},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Never falls while the daemon runs.
    Counter,
    Gauge,
    /// Always 1; its labels tell.
    Info,
}

pub(super) struct Metric {
    /// As its series are named.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// One sentence.
    pub(super) help: &'static str,
    /// Each with its meaning.
    pub(super) labels: &'static [(&'static str, &'static str)],
    /// When it has no series though the page is served; empty where that is never.
    pub(super) absent: &'static str,
    /// The most series of it on a bounded page, where there may be any number.
    pub(super) most: Option<usize>,
    pub(super) series: fn(&Facts<'_>) -> Vec<Series>,
}

impl Metric {
    const fn new(
        name: &'static str,
        kind: Kind,
        help: &'static str,
        series: fn(&Facts<'_>) -> Vec<Series>,
    ) -> Self {
        Self { name, kind, help, labels: &[], absent: "", most: None, series }
    }

    const fn with(self, labels: &'static [(&'static str, &'static str)]) -> Self {
        Self { labels, ..self }
    }

    const fn absent(self, when: &'static str) -> Self {
        Self { absent: when, ..self }
    }

    const fn at_most(self, most: usize) -> Self {
        Self { most: Some(most), ..self }
    }

    pub(super) fn family(&'static self, facts: &Facts<'_>) -> Family {
        Family { metric: self, series: (self.series)(facts) }
    }

    /// The name without what OpenMetrics adds for the kind.
    pub(super) fn family_name(&self) -> &'static str {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge => "",
            Kind::Info => "_info",
        };
        self.name.strip_suffix(suffix).unwrap_or(self.name)
    }
}

impl std::fmt::Debug for Metric {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

const NO_TUNNEL: &str = "there was no tunl0 yet";
const NO_BIRD: &str = "BIRD could not be asked";
const CROSS_SUBNET: &str =
    "a route of this node sends a block bare by intent (CrossSubnet): then bare packets prove nothing";

/// `/metrics`.
pub(super) const NODE: &[Metric] = &[
    Metric::new("caliprobe_build_info", Kind::Info, "The version of caliprobe that runs", series::build)
        .with(&[("version", "of caliprobe")]),
    Metric::new("caliprobe_node_info", Kind::Info, "Which node this is", series::node).with(&[
        ("node", "its name"),
        ("address", "the address that its peers know it by; empty where no route or set tells"),
    ]),
    Metric::new(
        "caliprobe_start_time_seconds",
        Kind::Gauge,
        "When the daemon started, in seconds since 1970: all counters began at zero then",
        series::start_time,
    ),
    Metric::new(
        "caliprobe_reading_time_seconds",
        Kind::Gauge,
        "When the ledger was read last, in seconds since 1970",
        series::reading_time,
    ),
    Metric::new(
        "caliprobe_packets_total",
        Kind::Counter,
        "Segments of pod traffic at each place that they pass",
        series::packets,
    )
    .with(&[(
        "point",
        "from-pod, to-tunnel, to-wire, from-wire, from-tunnel, to-pod, or bare: from pods, and out of the node \
         without encapsulation",
    )])
    .absent("no pod interface has its programs: from-pod and to-pod"),
    Metric::new(
        "caliprobe_unrouted_packets_total",
        Kind::Counter,
        "Segments that no route covered: dropped for want of one, or leaked",
        series::unrouted,
    )
    .absent("drops or the functions that drop cannot be told, or a route of this node sends a block bare by intent"),
    Metric::new(
        "caliprobe_leaked_packets_total",
        Kind::Counter,
        "Segments from pods to a pod pool that left the node without encapsulation",
        series::leaked,
    )
    .absent(CROSS_SUBNET),
    Metric::new(
        "caliprobe_transit_packets_total",
        Kind::Counter,
        "Encapsulated segments that this node routes for others",
        series::transit,
    ),
    Metric::new(
        "caliprobe_outer_fragments_total",
        Kind::Counter,
        "Fragments of encapsulated packets at the wire",
        series::outer_fragments,
    ),
    Metric::new(
        "caliprobe_truncated_packets_total",
        Kind::Counter,
        "IPv4 packets too short for their own header",
        series::truncated,
    ),
    Metric::new(
        "caliprobe_drops_without_room_total",
        Kind::Counter,
        "Drops that no longer fitted into the kernel's table and are in no caliprobe_drops_total",
        series::drops_without_room,
    )
    .absent("drops are not counted: the kernel has no BTF"),
    Metric::new("caliprobe_black_holes_open", Kind::Gauge, "Black holes that are open now", series::black_holes),
    Metric::new("caliprobe_bgp_sessions", Kind::Gauge, "BGP sessions that BIRD has", series::sessions).absent(NO_BIRD),
    Metric::new(
        "caliprobe_bgp_sessions_established",
        Kind::Gauge,
        "BGP sessions that are established",
        series::established_sessions,
    )
    .absent(NO_BIRD),
    Metric::new("caliprobe_tunnel_up", Kind::Gauge, "Whether tunl0 is up (1) or down (0)", series::tunnel_up)
        .absent("there is no tunl0"),
    Metric::new(
        "caliprobe_tunnel_received_packets_total",
        Kind::Counter,
        "Socket buffers that tunl0 received, by the kernel's own count",
        |facts| series::tunnel(facts, |statistics| statistics.rx_packets),
    )
    .absent(NO_TUNNEL),
    Metric::new(
        "caliprobe_tunnel_transmitted_packets_total",
        Kind::Counter,
        "Socket buffers that tunl0 transmitted, by the kernel's own count",
        |facts| series::tunnel(facts, |statistics| statistics.tx_packets),
    )
    .absent(NO_TUNNEL),
    Metric::new(
        "caliprobe_tunnel_receive_errors_total",
        Kind::Counter,
        "Receive errors of tunl0, by the kernel's own count",
        |facts| series::tunnel(facts, |statistics| statistics.rx_errors),
    )
    .absent(NO_TUNNEL),
    Metric::new(
        "caliprobe_tunnel_transmit_errors_total",
        Kind::Counter,
        "Transmit errors of tunl0, by the kernel's own count",
        |facts| series::tunnel(facts, |statistics| statistics.tx_errors),
    )
    .absent(NO_TUNNEL),
    Metric::new(
        "caliprobe_tunnel_receive_drops_total",
        Kind::Counter,
        "Received packets that tunl0 dropped, by the kernel's own count",
        |facts| series::tunnel(facts, |statistics| statistics.rx_dropped),
    )
    .absent(NO_TUNNEL),
    Metric::new(
        "caliprobe_tunnel_transmit_drops_total",
        Kind::Counter,
        "Packets that tunl0 dropped before it transmitted them, by the kernel's own count",
        |facts| series::tunnel(facts, |statistics| statistics.tx_dropped),
    )
    .absent(NO_TUNNEL),
    Metric::new(
        "caliprobe_tunnel_no_route_packets_total",
        Kind::Counter,
        "Packets in tunl0 whose outer destination had no route (tx_carrier_errors)",
        |facts| series::tunnel(facts, |statistics| statistics.tx_carrier_errors),
    )
    .absent(NO_TUNNEL),
    Metric::new(
        "caliprobe_tunnel_loop_packets_total",
        Kind::Counter,
        "Packets in tunl0 whose outer destination was tunl0 itself (collisions)",
        |facts| series::tunnel(facts, |statistics| statistics.collisions),
    )
    .absent(NO_TUNNEL),
    Metric::new("caliprobe_devices_covered", Kind::Gauge, "Devices that have their programs", series::covered),
    Metric::new("caliprobe_devices_pending", Kind::Gauge, "Devices that wait for their programs", series::pending),
    Metric::new(
        "caliprobe_devices_refused",
        Kind::Gauge,
        "Devices that took no programs: what passes them is not counted",
        series::refused,
    ),
    Metric::new(
        "caliprobe_change_overruns_total",
        Kind::Counter,
        "How often the kernel lost notifications of changes, so that everything was read again",
        series::overruns,
    ),
    Metric::new(
        "caliprobe_failed_reads_total",
        Kind::Counter,
        "How often the node's network state could not be read",
        series::failed_reads,
    ),
    Metric::new(
        "caliprobe_lost_events_total",
        Kind::Counter,
        "Events that found no room in the journal on disk",
        series::lost_events,
    ),
    Metric::new(
        "caliprobe_table_entries",
        Kind::Gauge,
        "Entries in use of each table that is shared with the kernel programs",
        series::table_entries,
    )
    .with(&[("table", "its name")]),
    Metric::new(
        "caliprobe_table_capacity",
        Kind::Gauge,
        "Entries that each of these tables has room for",
        series::table_capacity,
    )
    .with(&[("table", "its name")]),
    Metric::new(
        "caliprobe_ledger_read_seconds",
        Kind::Gauge,
        "How long reading the ledger took last",
        series::ledger_read,
    ),
    Metric::new(
        "caliprobe_scrape_duration_seconds",
        Kind::Gauge,
        "How long it took to write each page last",
        series::scrape,
    )
    .with(&[("page", "metrics or peers")])
    .absent("that page was not asked for yet"),
    // From here on each has its share of the page; the one whose labels may be longest comes last.
    Metric::new(
        "caliprobe_bgp_session_up",
        Kind::Gauge,
        "Whether BIRD's session with a peer is established (1) or not (0)",
        series::session,
    )
    .with(&[("peer", "its address")])
    .absent(NO_BIRD)
    .at_most(400),
    Metric::new(
        "caliprobe_drops_total",
        Kind::Counter,
        "Segments of pod traffic that the kernel freed as drops",
        series::drops,
    )
    .with(&[
        ("reason", "enum skb_drop_reason by name, or unknown where the kernel gives none"),
        ("place", "node, inside-a-pod, or unknown where the packet told no network namespace"),
    ])
    .absent("none was dropped for that reason yet, or drops are not counted: the kernel has no BTF")
    .at_most(300),
    Metric::new(
        "caliprobe_black_hole_open",
        Kind::Gauge,
        "How many black holes of this cause and subject are open",
        series::black_hole,
    )
    .with(&[
        ("cause", "the code of the cause, or unknown where packets are lost and nothing proves why"),
        ("subject", "what it is about: a block, a pod, a peer, a device"),
    ])
    .absent("none is open: caliprobe_black_holes_open is 0 then")
    .at_most(200),
];

/// Beside the others on `/metrics`, which it tells of.
pub(super) static CUT_SERIES: Metric = Metric::new(
    "caliprobe_cut_series",
    Kind::Gauge,
    "Series that this page left out to stay within its bounds; those that tell most are kept",
    |_| Vec::new(),
)
.with(&[("metric", "whose series they are")]);

/// `/metrics/peers`.
pub(super) const PEERS: &[Metric] = &[
    Metric::new(
        "caliprobe_peer_encapsulated_packets_total",
        Kind::Counter,
        "Segments that left by the wire encapsulated to a peer's address",
        series::peers_encapsulated,
    )
    .with(&[("peer", "its address")]),
    Metric::new(
        "caliprobe_peer_decapsulated_packets_total",
        Kind::Counter,
        "Segments that came in by the wire encapsulated from a peer's address, before the tunnel takes them",
        series::peers_decapsulated,
    )
    .with(&[("peer", "its address")]),
];
