//! The reverse-path filter: packets whose source this node would answer by another device, or not at all
//! (`__fib_validate_source`).

use super::{
    Cause,
    case::{Case, Located, finding},
    conflict,
    routing::{self, drop_evidence, refuses, route_words},
};
use crate::{
    model::routing::{Decision, Flow, look_up},
    observation::DropSighting,
    report::document::{Direction, EvidenceSource, Stage, SubjectKind},
    sample::Link,
};

/// `LINUX_MIB_IPRPFILTER`.
const FILTERED: &str = "TcpExt.IPReversePathFilter";

/// Judges a drop by the reverse-path filter.
pub fn dropped(case: &Case<'_>, direction: Direction, drop: &DropSighting) -> Option<Located> {
    if let Some(located) = conflict::of_source(case, direction, drop) {
        return Some(located);
    }
    let input = case.link(drop.link.or(Some(drop.ingress_link))?)?;
    match drop.reason.as_deref() {
        Some("IP_RPFILTER") => {}
        None if filter_of(case, input).is_some() => {}
        _ => return None,
    }
    let packet = Flow {
        source: Some(drop.packet.source),
        destination: drop.packet.destination,
        input_link: Some(input.index),
        mark: drop.mark,
        tos: 0,
    };
    filtered(case, direction, input, &packet, Some(drop))
}

/// Judges a packet that came in and did not leave, by the filter's own counter: it rose, and the filter had to
/// refuse this packet.
pub fn counted(case: &Case<'_>, direction: Direction) -> Option<Located> {
    let flow = routing::flow(case, direction, 0)?;
    let input = case.link(flow.input_link?)?;
    let strict = filter_of(case, input)? == 1;
    let rise = case.counter_rise(FILTERED).filter(|rise| *rise > 0)?;
    let refuses = match look_up(case.model, &way_back(&flow)?) {
        Decision::Route { route, .. } if refuses(route.kind) => true,
        Decision::Route { hops, .. } => strict && hops.iter().all(|hop| hop.link != Some(input.index)),
        Decision::NoRoute => true,
        Decision::Rule { .. } | Decision::Undecided { .. } => false,
    };
    let located = refuses.then(|| filtered(case, direction, input, &flow, None)).flatten()?;
    let every = usize::try_from(rise).is_ok_and(|rise| rise >= case.lost());
    Some(if every { located } else { Located { finding: located.finding.inferred(), ..located } })
}

/// The effective mode: 1 strict, 2 loose; `None` where it is off or not known.
fn filter_of(case: &Case<'_>, input: &Link) -> Option<u8> {
    setting_of(case, "all").max(setting_of(case, &input.name)).filter(|mode| *mode != 0)
}

fn setting_of(case: &Case<'_>, interface: &str) -> Option<u8> {
    case.before.sysctls.interfaces.get(interface).and_then(|values| values.rp_filter)
}

fn way_back(flow: &Flow) -> Option<Flow> {
    Some(Flow {
        source: Some(flow.destination),
        destination: flow.source?,
        input_link: None,
        mark: 0,
        tos: 0,
    })
}

fn filtered(
    case: &Case<'_>,
    direction: Direction,
    input: &Link,
    packet: &Flow,
    drop: Option<&DropSighting>,
) -> Option<Located> {
    let source = packet.source?;
    let mode = match filter_of(case, input) {
        Some(1) => "strict",
        Some(2) => "loose",
        _ => "on",
    };
    let setting = format!("net.ipv4.conf.{}.rp_filter", input.name);
    let way_back = match look_up(case.model, &way_back(packet)?) {
        Decision::Route { route, .. } => {
            format!("the way back to {source} is {}", route_words(case.model, route))
        }
        Decision::NoRoute => format!("there is no way back to {source}"),
        Decision::Rule { .. } => format!("a rule refuses the way back to {source}"),
        Decision::Undecided { why } => format!("the way back to {source} is undecided: {why}"),
    };
    let mut finding = finding(
        Cause::RpFilter,
        SubjectKind::Sysctl,
        &setting,
        format!("the {mode} reverse-path filter of {} drops packets from {source}", input.name),
    );
    for name in ["all", input.name.as_str()] {
        if let Some(value) = setting_of(case, name) {
            finding =
                finding.with(EvidenceSource::Sysctl, format!("net.ipv4.conf.{name}.rp_filter = {value}"));
        }
    }
    finding = finding.with(EvidenceSource::Route, way_back).with_all(drop_evidence(case, drop));
    if let Some(rise) = case.counter_rise(FILTERED).filter(|rise| *rise > 0) {
        finding = finding.with(EvidenceSource::Counter, format!("{FILTERED} rose by {rise}"));
    }
    let everywhere = setting_of(case, "all") >= setting_of(case, &input.name);
    let culprit = if everywhere { "all" } else { input.name.as_str() };
    let finding = finding
        .confirm(&case.node, format!("ip route get {source}   # must leave by {}", input.name))
        .cure(&case.node, format!("sysctl -w net.ipv4.conf.{culprit}.rp_filter=0"));
    Some(Located { finding, place: case.place(direction, Stage::Routing, Some(input.name.clone())) })
}
