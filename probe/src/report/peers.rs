//! The other nodes as a document and as text: the replacement of `calicoctl node status`.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    document::{Finding, Header, Node, NotSeen},
    table::{self, Align},
    text::{QUIET_WIDTH, finding_code, fixes, printable, push, shorten},
};
use crate::{
    model::{
        Model,
        peers::{self, Peer},
    },
    observation::PeerEcho,
    sample::{BgpSession, Fact, NeighbourState, PeerKind},
    state::{PeerTraffic, Traffic},
};

#[derive(Debug, Serialize)]
pub struct PeersDocument {
    #[serde(flatten)]
    pub header: Header,
    pub summary: Summary,
    /// Since when a daemon counts their traffic; `null` where none does. RFC 3339, UTC.
    pub counted_since: Option<String>,
    pub counted_until: Option<String>,
    pub peers: Vec<PeerEntry>,
    pub findings: Vec<Finding>,
    pub not_seen: Vec<NotSeen>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Summary {
    pub peers: usize,
    pub fine: usize,
}

#[derive(Debug, Serialize)]
pub struct PeerEntry {
    pub address: Ipv4Addr,
    /// Where the datastore was shown.
    pub name: Option<String>,
    /// `null` where BIRD was not to be asked, or has no session with this node.
    pub session: Option<SessionEntry>,
    /// Networks that this node's routes lead to it.
    pub blocks: Vec<Ipv4Net>,
    /// Blocks that it has and no route leads to; `null` where nobody says which it has.
    pub lost_blocks: Option<Vec<Ipv4Net>>,
    /// The neighbour entry of its address; `null` behind a router, or before the first packet.
    pub neighbour: Option<NeighbourState>,
    /// Encapsulated packets to and from it, and when; `null` where no daemon counts.
    pub traffic: Option<PeerTraffic>,
    /// The echo request to its tunnel address, where one was sent.
    pub probe: Option<PeerEcho>,
    /// What is wrong with it, in words; empty where nothing is.
    pub wrong: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct SessionEntry {
    pub kind: PeerKind,
    pub established: bool,
    pub state: String,
    pub since: String,
    pub error: String,
}

impl PeersDocument {
    pub fn new(model: &Model<'_>, probes: &[PeerEcho], findings: Vec<Finding>) -> Self {
        let probe_of = |peer: &Peer<'_>| probes.iter().find(|echo| echo.peer == peer.address).copied();
        let peers: Vec<PeerEntry> =
            peers::all(model).iter().map(|peer| entry(model, peer, probe_of(peer))).collect();
        let fine = peers.iter().filter(|peer| peer.wrong.is_empty()).count();
        Self {
            header: Header::new("peers", &model.sample.time, Node::of(model)),
            summary: Summary { peers: peers.len(), fine },
            counted_since: None,
            counted_until: None,
            peers,
            findings,
            not_seen: not_seen(model),
        }
    }

    /// Adds what a daemon counted, or why there is no count.
    pub fn add_traffic(&mut self, traffic: Fact<Traffic>) {
        match traffic {
            Fact::Known(traffic) => {
                self.counted_since = Some(traffic.started);
                self.counted_until = Some(traffic.time);
                for counted in traffic.peers {
                    if let Some(peer) = self.peers.iter_mut().find(|peer| peer.address == counted.peer) {
                        peer.traffic = Some(counted);
                    }
                }
            }
            Fact::Absent(why) => {
                self.not_seen.push(NotSeen { what: "traffic with each peer".to_owned(), why });
            }
        }
    }

    /// Leaves those alone that have something wrong.
    pub fn keep_bad(&mut self) {
        self.peers.retain(|peer| !peer.wrong.is_empty());
    }

    /// The answer, in one line.
    pub fn headline(&self) -> String {
        match self.summary {
            Summary { peers: 0, .. } => "this node knows of no other".to_owned(),
            Summary { peers, fine } => format!("{fine} of {peers} peers fine"),
        }
    }

    pub fn quiet(&self) -> String {
        shorten(&self.headline(), QUIET_WIDTH)
    }

    /// The whole view.
    pub fn text(&self) -> String {
        let mut text = self.headline();
        text.push('\n');
        for finding in &self.findings {
            push(&mut text, "fault", &format!("{} ({})", finding.summary, finding_code(finding)));
            fixes(&mut text, finding);
        }
        if !self.peers.is_empty() {
            text.push('\n');
            for line in table::lines(&self.heading(), self.peers.iter().map(|peer| self.cells(peer))) {
                text.push_str(&line);
                text.push('\n');
            }
        }
        for not_seen in &self.not_seen {
            push(&mut text, "?", &format!("not seen    {}: {}", not_seen.what, not_seen.why));
        }
        printable(&text)
    }

    fn was_probed(&self) -> bool {
        self.peers.iter().any(|peer| peer.probe.is_some())
    }

    fn heading(&self) -> Vec<(&'static str, Align)> {
        let mut heading = vec![
            ("", Align::Left),
            ("PEER", Align::Left),
            ("TYPE", Align::Left),
            ("SESSION", Align::Left),
            ("SINCE", Align::Left),
            ("BLOCKS", Align::Right),
            ("LOST", Align::Right),
            ("NEIGHBOUR", Align::Left),
        ];
        if self.counted_since.is_some() {
            heading.extend([("SENT", Align::Right), ("HEARD", Align::Right), ("LAST HEARD", Align::Left)]);
        }
        if self.was_probed() {
            heading.push(("ECHO", Align::Left));
        }
        heading.push(("", Align::Left));
        heading
    }

    fn cells(&self, peer: &PeerEntry) -> Vec<String> {
        let dash = || "–".to_owned();
        let session = peer.session.as_ref();
        let mut cells = vec![
            if peer.wrong.is_empty() { String::new() } else { "✗".to_owned() },
            peer.name
                .as_ref()
                .map_or_else(|| peer.address.to_string(), |name| format!("{name} {}", peer.address)),
            session.map_or_else(dash, |session| kind_words(session.kind).to_owned()),
            session.map_or_else(dash, |session| session.state.clone()),
            session.map_or_else(dash, |session| session.since.clone()),
            peer.blocks.len().to_string(),
            peer.lost_blocks.as_ref().map_or_else(|| "?".to_owned(), |lost| lost.len().to_string()),
            peer.neighbour.map_or_else(dash, |state| state_word(state).to_owned()),
        ];
        if self.counted_since.is_some() {
            cells.extend(self.traffic_cells(peer.traffic.as_ref()));
        }
        if self.was_probed() {
            cells.push(peer.probe.map_or_else(dash, echo_words));
        }
        cells.push(peer.wrong.join("; "));
        cells
    }

    fn traffic_cells(&self, traffic: Option<&PeerTraffic>) -> [String; 3] {
        let Some(traffic) = traffic else { return ["–", "–", "–"].map(str::to_owned) };
        let now = self.counted_until.as_deref().unwrap_or_default();
        let heard = traffic.last_heard.as_deref();
        let heard = heard.map_or_else(|| "never".to_owned(), |heard| ago(heard, now));
        [traffic.encapsulated.to_string(), traffic.decapsulated.to_string(), heard]
    }
}

/// How long before `now` that was, in the largest whole unit; the time itself where either is unreadable.
fn ago(then: &str, now: &str) -> String {
    let (Ok(then_time), Ok(now)) = (then.parse::<Timestamp>(), now.parse::<Timestamp>()) else {
        return then.to_owned();
    };
    match now.duration_since(then_time).as_secs().max(0) {
        seconds @ 0..60 => format!("{seconds} s ago"),
        seconds @ 60..3600 => format!("{} min ago", seconds / 60),
        seconds @ 3600..86400 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} d ago", seconds / 86400),
    }
}

fn echo_words(echo: PeerEcho) -> String {
    match (echo.rtt_us, echo.certain) {
        (Some(micros), _) => format!("{}.{:03} ms", micros / 1000, micros % 1000),
        (None, true) => "no answer".to_owned(),
        (None, false) => "?".to_owned(),
    }
}

fn entry(model: &Model<'_>, peer: &Peer<'_>, probe: Option<PeerEcho>) -> PeerEntry {
    let sessions = model.sample.bird.known().map_or(&[][..], |bird| bird.sessions.as_slice());
    let session = sessions.iter().find(|session| session.peer == peer.address);
    let lost_blocks = peers::lost_blocks(model, peer.address);
    let neighbour = peer.neighbour.map(|neighbour| neighbour.state);
    let mut wrong = Vec::new();
    if let Some(session) = session.filter(|session| !session.established) {
        wrong.push(format!("BGP {} {}", session.state, session.error).trim_end().to_owned());
    }
    if let Some(lost) = lost_blocks.as_ref().filter(|lost| !lost.is_empty()) {
        let blocks: Vec<String> = lost.iter().map(ToString::to_string).collect();
        wrong.push(format!("no route to {}", blocks.join(", ")));
    }
    if neighbour == Some(NeighbourState::Failed) && !peer.blocks.is_empty() {
        wrong.push("it does not answer ARP".to_owned());
    }
    if probe.is_some_and(|probe| probe.certain && probe.rtt_us.is_none()) {
        wrong.push("its tunnel address does not answer".to_owned());
    }
    PeerEntry {
        address: peer.address,
        name: peer.name.map(str::to_owned),
        session: session.map(SessionEntry::from),
        blocks: peer.blocks.clone(),
        lost_blocks,
        neighbour,
        traffic: None,
        probe,
        wrong,
    }
}

impl From<&BgpSession> for SessionEntry {
    fn from(session: &BgpSession) -> Self {
        Self {
            kind: session.kind,
            established: session.established,
            state: session.state.clone(),
            since: session.since.clone(),
            error: session.error.clone(),
        }
    }
}

fn not_seen(model: &Model<'_>) -> Vec<NotSeen> {
    let mut not_seen = Vec::new();
    let mut add = |what: &str, why: Option<&str>| {
        if let Some(why) = why {
            not_seen.push(NotSeen { what: what.to_owned(), why: why.to_owned() });
        }
    };
    add("BGP sessions", model.sample.bird.absent());
    add("blocks that are lost, and names", model.sample.datastore.absent());
    not_seen
}

fn kind_words(kind: PeerKind) -> &'static str {
    match kind {
        PeerKind::NodeToNodeMesh => "node-to-node mesh",
        PeerKind::NodeSpecific => "node specific",
        PeerKind::Global => "global",
        PeerKind::Other => "other",
    }
}

fn state_word(state: NeighbourState) -> &'static str {
    match state {
        NeighbourState::Reachable => "reachable",
        NeighbourState::Stale => "stale",
        NeighbourState::Delay | NeighbourState::Probe => "asked again",
        NeighbourState::Incomplete => "asked",
        NeighbourState::Failed => "failed",
        NeighbourState::Permanent => "permanent",
        NeighbourState::NoArp => "no ARP",
        NeighbourState::None | NeighbourState::Other(_) => "?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(last: u8) -> PeerEntry {
        PeerEntry {
            address: Ipv4Addr::new(172, 30, 10, last),
            name: None,
            session: None,
            blocks: Vec::new(),
            lost_blocks: None,
            neighbour: None,
            traffic: None,
            probe: None,
            wrong: Vec::new(),
        }
    }

    fn document() -> PeersDocument {
        PeersDocument {
            header: Header::new("peers", "2026-01-01T02:00:00Z", Node::default()),
            summary: Summary { peers: 3, fine: 3 },
            counted_since: None,
            counted_until: None,
            peers: [186, 187, 188].map(entry).into(),
            findings: Vec::new(),
            not_seen: Vec::new(),
        }
    }

    #[test]
    fn a_daemons_counts_stand_beside_their_peers() {
        let counted = |last: u8, heard: Option<&str>| PeerTraffic {
            encapsulated: 12,
            decapsulated: if heard.is_some() { 7 } else { 0 },
            last_heard: heard.map(str::to_owned),
            ..PeerTraffic::of(Ipv4Addr::new(172, 30, 10, last))
        };
        let traffic = Traffic {
            version: "0.1.0".to_owned(),
            schema_version: 1,
            started: "2026-01-01T00:00:00Z".to_owned(),
            time: "2026-01-01T02:00:00Z".to_owned(),
            peers: vec![counted(186, Some("2026-01-01T01:58:30Z")), counted(187, None)],
        };
        let mut document = document();
        document.add_traffic(Fact::Known(traffic));
        insta::assert_snapshot!(document.text());
    }

    #[test]
    fn without_a_daemon_no_column_pretends_to_count() {
        let mut document = document();
        document.add_traffic(Fact::Absent("no daemon runs here: `caliprobe run` counts".to_owned()));
        let text = document.text();
        assert!(!text.contains("SENT") && text.contains("no daemon runs here"), "{text}");
    }
}
