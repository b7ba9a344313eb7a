//! The finding for a rule or policy that dropped packets: what it means, and what shows it.

use super::{
    calico::{self, Meaning},
    counts::Counted,
    cures,
    meeting::{IPIP, Meeting},
    owner::{Owner, Tool},
    suspects::{Suspect, Suspects},
    words,
};
use crate::{
    causes::{
        Cause,
        case::{self, Case},
        routing::drop_evidence,
    },
    model::netfilter::Device,
    observation::DropSighting,
    report::document::{EvidenceSource, Finding, SubjectKind},
    sample::{NetfilterHook, Verdict},
};

/// Felix' set of all nodes' addresses, as ipset and, in its nftables mode, as a set of the table `calico`.
const HOSTS: &str = "cali40all-hosts-net";

/// Makes the finding for the only suspect.
pub fn finding(
    case: &Case<'_>,
    meeting: &Meeting<'_>,
    suspects: &Suspects<'_>,
    suspect: &Suspect<'_>,
    drop: &DropSighting,
) -> Finding {
    let meaning = meaning(meeting, suspect);
    let (kind, subject) = subject(meeting, suspect, meaning.cause);
    let mut found = case::finding(meaning.cause, kind, subject, meaning.words)
        .with_all(drop_evidence(case, Some(drop)))
        .with(EvidenceSource::Rule, words::whole(&suspect.place))
        .with(EvidenceSource::Rule, counted(meeting, suspect));
    if meaning.cause == Cause::IpipNotAllowed {
        found = with_hosts(case, meeting, suspect, found);
    }
    if let Some(missed) = &suspects.missed {
        found = found.with(EvidenceSource::Rule, format!("not seen: {missed}"));
    }
    if !suspects.is_proven(suspect) {
        found = found.inferred();
    }
    cures::add(case, meeting, suspect, found)
}

fn meaning(meeting: &Meeting<'_>, suspect: &Suspect<'_>) -> Meaning {
    let place = &suspect.place;
    if let Some(meaning) = calico::meaning(place) {
        return meaning;
    }
    let drops = if suspect.verdict == Verdict::Reject { "rejects" } else { "drops" };
    let tunnelled = meeting.packet.protocol == IPIP
        && matches!(meeting.hook, NetfilterHook::Input | NetfilterHook::Prerouting);
    let (cause, words) = match place.rule {
        None => {
            let cause = match meeting.hook {
                NetfilterHook::Forward => Cause::ForwardPolicyDrop,
                _ if tunnelled => Cause::IpipNotAllowed,
                _ => Cause::NetfilterDrop,
            };
            let chain = &place.chain.name;
            let table = words::table(place.table);
            (cause, format!("the policy of chain {chain} ({table}) drops what no rule accepted"))
        }
        Some(rule) if calico::asks_for_invalid(rule) => (
            Cause::ConntrackInvalid,
            format!("connection tracking holds it for invalid, and {} drops such", words::short(place)),
        ),
        Some(_) if tunnelled => {
            (Cause::IpipNotAllowed, format!("{} {drops} encapsulated packets", words::short(place)))
        }
        Some(_) => (Cause::NetfilterDrop, format!("{} {drops} it", words::short(place))),
    };
    Meaning { cause, words }
}

fn subject(meeting: &Meeting<'_>, suspect: &Suspect<'_>, cause: Cause) -> (SubjectKind, String) {
    let place = &suspect.place;
    match cause {
        Cause::IpipNotAllowed => (SubjectKind::Peer, meeting.packet.source.to_string()),
        Cause::EndpointNotProgrammed => {
            let to_pod = calico::chain_name(&place.chain.name).starts_with("cali-to-");
            let device = if to_pod { meeting.packet.output } else { meeting.packet.input };
            match device {
                Device::Known { name, .. } => (SubjectKind::Interface, name.to_owned()),
                Device::Absent | Device::Unknown => (SubjectKind::Chain, chain(suspect)),
            }
        }
        _ => (SubjectKind::Chain, chain(suspect)),
    }
}

fn chain(suspect: &Suspect<'_>) -> String {
    format!("{} {}", suspect.place.table.name, suspect.place.chain.name)
}

fn counted(meeting: &Meeting<'_>, suspect: &Suspect<'_>) -> String {
    let hook = meeting.hook.chain_name();
    match suspect.counted {
        Counted::Packets(packets) => {
            format!("it counted {packets} packets meanwhile; no other rule of {hook} that these may meet did")
        }
        Counted::Nothing => {
            format!("it does not count; of {hook}'s rules these packets may be dropped by it alone")
        }
        Counted::Unknown => {
            format!("its counter was set back; of {hook}'s rules these may be dropped by it alone")
        }
    }
}

/// What Felix' set of hosts has to do with it.
fn with_hosts(case: &Case<'_>, meeting: &Meeting<'_>, suspect: &Suspect<'_>, found: Finding) -> Finding {
    let peer = meeting.packet.source;
    if Owner::of(&suspect.place) != Owner::Calico {
        return found;
    }
    let Some(hosts) = case.before.sets.hosts.known() else { return found };
    let text = if hosts.iter().any(|host| host.contains(&peer)) {
        format!("{HOSTS} holds {peer}, yet {} is no address of this node's own", meeting.packet.destination)
    } else {
        format!("{HOSTS} does not hold {peer}; it has {} others", hosts.len())
    };
    let source = if Tool::of(suspect.place.table) == Tool::Nft { "nft set" } else { "ipset" };
    found.with(EvidenceSource::Rule, format!("{source} {text}"))
}
