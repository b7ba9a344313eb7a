//! The rules that may have dropped a packet: those of its hook that it may have met, and whose counters, where they
//! have one, rose by as many as were lost.

use super::{
    counts::{Counted, counted},
    meeting::{ICMP, Meeting, TCP},
};
use crate::{
    causes::case::Case,
    model::netfilter::{Firewall, Packet, Place, Stop, Transport, Walk},
    report::document::Direction,
    sample::{ConnectionState, RuleSets, Verdict},
};

/// `SYN`, and `SYN` with `ACK`.
const ASKS: u8 = 0x02;
const ANSWERS: u8 = 0x12;

/// A place at which the packet may have been dropped.
#[derive(Clone, Debug)]
pub struct Suspect<'a> {
    pub place: Place<'a>,
    pub verdict: Verdict,
    pub counted: Counted,
    /// States of the connection in which the packet meets it.
    pub states: Vec<ConnectionState>,
    /// Whether the packet meets it in whatever state.
    certain: bool,
}

pub struct Suspects<'a> {
    firewall: Firewall<'a>,
    /// Each place once.
    pub list: Vec<Suspect<'a>>,
    /// What was not seen of the rules, where anything was not.
    pub missed: Option<String>,
}

impl<'a> Suspects<'a> {
    pub fn find(case: &Case<'a>, sets: &'a RuleSets, meeting: &Meeting<'a>) -> Self {
        let firewall = Firewall::new(sets);
        let packet = meeting.packet_before(&firewall);
        let walks: Vec<(ConnectionState, Walk<'a>)> = meeting
            .states
            .iter()
            .map(|state| (*state, walk(case, &firewall, meeting, &packet, *state)))
            .collect();
        let mut list: Vec<Suspect<'a>> = Vec::new();
        for (state, stop) in
            walks.iter().flat_map(|(state, walk)| walk.stops.iter().map(move |s| (*state, s)))
        {
            if stop.mark.may_be(meeting.last_mark) {
                enter(&mut list, stop, state, case);
            }
        }
        list.retain(|suspect| suspect.counted.may_be(meeting.lost));
        for suspect in &mut list {
            suspect.certain &= suspect.states.len() == meeting.states.len();
        }
        let incomplete = walks.iter().any(|(_, walk)| !walk.complete);
        let missed = sets.missed.first().cloned();
        let missed = missed
            .or_else(|| incomplete.then(|| "chains that are too many or too deep to follow".to_owned()));
        Self { firewall, list, missed }
    }

    /// Whether it is beyond doubt that this one of them dropped the packets.
    pub fn is_proven(&self, suspect: &Suspect<'_>) -> bool {
        let alone = self.list.len() == 1 && self.missed.is_none();
        alone && (suspect.certain || suspect.counted.packets().is_some())
    }

    /// Whether packets of TCP may pass where an echo was dropped. A handshake that was tried in vain asks for its own
    /// port, else any port may be open.
    pub fn spares_others(&self, case: &Case<'a>, meeting: &Meeting<'a>, suspect: &Suspect<'_>) -> bool {
        if meeting.packet.protocol != ICMP {
            return false;
        }
        let tried = case.refused_ports();
        let ports: Vec<Option<u16>> =
            if tried.is_empty() { vec![None] } else { tried.into_iter().map(Some).collect() };
        let before = meeting.packet_before(&self.firewall);
        ports.into_iter().any(|port| {
            let transport = match meeting.direction {
                Direction::Forward => {
                    Transport::Ports { source: None, destination: port, tcp_flags: Some(ASKS) }
                }
                Direction::Return => {
                    Transport::Ports { source: port, destination: None, tcp_flags: Some(ANSWERS) }
                }
            };
            let packet = Packet { protocol: TCP, transport, ..before.clone() };
            suspect.states.iter().any(|state| {
                let walk = walk(case, &self.firewall, meeting, &packet, *state);
                walk.passes || !walk.complete
            })
        })
    }
}

fn walk<'a>(
    case: &Case<'_>,
    firewall: &Firewall<'a>,
    meeting: &Meeting<'_>,
    packet: &Packet<'_>,
    state: ConnectionState,
) -> Walk<'a> {
    let packet = Packet { connection: Some(state), ..packet.clone() };
    firewall.walk(case.model, meeting.hook, &packet)
}

fn enter<'a>(list: &mut Vec<Suspect<'a>>, stop: &Stop<'a>, state: ConnectionState, case: &Case<'_>) {
    if let Some(known) = list.iter_mut().find(|suspect| is_same_place(&suspect.place, &stop.place)) {
        known.certain &= stop.certain;
        if !known.states.contains(&state) {
            known.states.push(state);
        }
        return;
    }
    list.push(Suspect {
        place: stop.place,
        verdict: stop.verdict.clone(),
        counted: counted(&stop.place, case.after.rule_sets.known()),
        states: vec![state],
        certain: stop.certain,
    });
}

fn is_same_place(one: &Place<'_>, other: &Place<'_>) -> bool {
    let same_rule = match (one.rule, other.rule) {
        (Some(one), Some(other)) => std::ptr::eq(one, other),
        (None, None) => true,
        _ => false,
    };
    same_rule && std::ptr::eq(one.chain, other.chain)
}
