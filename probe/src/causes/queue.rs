//! Packets that a device's queue drops, or a filter of traffic control in front of it.

use super::{
    Cause,
    case::{Case, Located, finding},
    drop_kind::DropKind,
    neighbour::outer_flow,
    routing::{self, drop_evidence},
    trail::{DeviceRole, Telling},
};
use crate::{
    model::{
        routing::{look_up, output_links},
        underlay,
    },
    observation::DropSighting,
    report::document::{Direction, Evidence, EvidenceSource, Finding, Stage, SubjectKind},
    sample::{Link, LinkStatistics, Queue, Sample},
};

/// Judges a drop at a queue or by a filter.
pub fn dropped(case: &Case<'_>, direction: Direction, drop: &DropSighting) -> Option<Located> {
    let device = case.link(drop.link?)?;
    let risen = rises(case, device);
    if !names_it(drop) && risen.is_empty() {
        return None;
    }
    let summary = match (DropKind::of(drop), drop.reason.as_deref()) {
        (DropKind::Filter, _) => format!("a filter of traffic control on {} drops it", device.name),
        (_, Some("CPU_BACKLOG")) => {
            format!("what {} receives waits for a CPU in vain: its backlog is full", device.name)
        }
        (_, Some("FULL_RING")) => format!("the ring of {} is full", device.name),
        _ => format!("{} of {} drops it", kind_words(&risen), device.name),
    };
    let found = of_device(case, device, summary)
        .with_all(drop_evidence(case, Some(drop)))
        .with_all(queue_evidence(device, &risen))
        .with_all(softnet(case));
    let stage = stage_of(device, is_arriving(drop));
    Some(Located { finding: found, place: case.place(direction, stage, Some(device.name.clone())) })
}

/// Whether the drop reason alone tells that a queue or a filter did it.
fn names_it(drop: &DropSighting) -> bool {
    let reason = drop.reason.as_deref().unwrap_or_default();
    reason.starts_with("QDISC_") || matches!(reason, "TC_INGRESS" | "TC_EGRESS" | "CPU_BACKLOG" | "FULL_RING")
}

/// Judges packets that did not leave by a device, by what its queue counted meanwhile: at least as many as were lost.
pub fn counted(case: &Case<'_>, direction: Direction, lost: usize) -> Option<Located> {
    // How much of watched traffic was lost is not known.
    if let Telling::Pair { .. } = case.telling {
        return None;
    }
    let destination = routing::flow(case, direction, 0)?.destination;
    let flow = match case.model.tunnel_next_hop(destination) {
        Some(node) => outer_flow(node),
        None => routing::flow(case, direction, 0)?,
    };
    let links = output_links(&look_up(case.model, &flow));
    let device = case.link(*links.iter().next().filter(|_| links.len() == 1)?)?;
    let risen = rises(case, device);
    let most = risen.iter().map(|(_, rise)| *rise).max()?;
    if usize::try_from(most).ok()? < lost {
        return None;
    }
    let summary = format!("{} of {} drops it", kind_words(&risen), device.name);
    let found = of_device(case, device, summary).inferred().with_all(queue_evidence(device, &risen));
    let stage = stage_of(device, false);
    Some(Located { finding: found, place: case.place(direction, stage, Some(device.name.clone())) })
}

/// Judges a neighbour that does not answer: nothing at all leaves by the device, so neither does what asks for it.
pub fn lets_nothing_out(case: &Case<'_>, direction: Direction, device: &Link) -> Option<Located> {
    let risen = rises(case, device);
    let (queue, _) = risen.iter().find(|(queue, _)| passed(case, queue) == Some(0))?;
    let summary = format!("the queueing discipline {} of {} drops all that leaves", queue.kind, device.name);
    let found = of_device(case, device, summary).with_all(queue_evidence(device, &risen)).with(
        EvidenceSource::Counter,
        format!("nothing left {} meanwhile, nor asked for a neighbour", device.name),
    );
    Some(Located {
        finding: found,
        place: case.place(direction, stage_of(device, false), Some(device.name.clone())),
    })
}

/// A queue of a device that let nothing by meanwhile and dropped what it got, where packets that entered the device were
/// not answered.
pub fn lets_nothing_by(case: &Case<'_>, device: &Link) -> Option<Located> {
    let risen = rises(case, device);
    let (queue, _) = risen.iter().find(|(queue, _)| passed(case, queue) == Some(0))?;
    let summary = format!("the queueing discipline {} of {} drops all that it gets", queue.kind, device.name);
    let found = of_device(case, device, summary).inferred().with_all(queue_evidence(device, &risen)).with(
        EvidenceSource::Counter,
        format!("{} {:x}: of {} let nothing by meanwhile", queue.kind, queue.handle >> 16, device.name),
    );
    let place = case.place(Direction::Forward, stage_of(device, false), Some(device.name.clone()));
    Some(Located { finding: found, place })
}

/// What this node's devices towards other nodes, and its CPUs, dropped of what they received during the diagnosis. It
/// may have been anybody's.
pub fn missed_arrivals(case: &Case<'_>) -> Vec<Evidence> {
    type Counter = fn(&LinkStatistics) -> u64;
    const COUNTERS: [(&str, Counter); 2] = [
        ("rx_missed_errors", |statistics| statistics.rx_missed_errors),
        ("rx_errors", |statistics| statistics.rx_errors),
    ];
    let devices = underlay::links(case.model).into_iter().filter_map(|index| case.link(index));
    let risen = devices.flat_map(|device| {
        COUNTERS.into_iter().filter_map(|(name, counter)| {
            let rise = case.link_rise(&device.name, |link| counter(&link.statistics))?;
            (rise > 0).then(|| Evidence {
                source: EvidenceSource::Counter,
                text: format!("{name} of {} rose by {rise} meanwhile", device.name),
            })
        })
    });
    risen.chain(softnet(case)).collect()
}

fn of_device(case: &Case<'_>, device: &Link, summary: String) -> Finding {
    let name = &device.name;
    finding(Cause::NicDrops, SubjectKind::Interface, name, summary).confirm(
        &case.node,
        format!(
            "tc -s qdisc show dev {name}; tc filter show dev {name} ingress; tc filter show dev {name} egress"
        ),
    )
}

/// The queues of a device that dropped something meanwhile, and how much.
fn rises<'a>(case: &Case<'a>, device: &Link) -> Vec<(&'a Queue, u32)> {
    queues(case.after)
        .iter()
        .filter(|queue| queue.link == device.index)
        .filter_map(|queue| Some((queue, queue.dropped.wrapping_sub(earlier(case, queue)?.dropped))))
        .filter(|(_, rise)| *rise > 0)
        .collect()
}

/// How many packets left a queue meanwhile.
fn passed(case: &Case<'_>, queue: &Queue) -> Option<u32> {
    Some(queue.passed.wrapping_sub(earlier(case, queue)?.passed))
}

fn queues(sample: &Sample) -> &[Queue] {
    sample.queues.known().map_or(&[][..], Vec::as_slice)
}

/// The same queue before the packets.
fn earlier<'a>(case: &Case<'a>, queue: &Queue) -> Option<&'a Queue> {
    let is_same =
        |other: &&Queue| (other.link, other.handle, &other.kind) == (queue.link, queue.handle, &queue.kind);
    queues(case.before).iter().find(is_same)
}

fn kind_words(risen: &[(&Queue, u32)]) -> String {
    let most = risen.iter().max_by_key(|(_, rise)| *rise);
    most.map_or_else(
        || "the queue".to_owned(),
        |(queue, _)| format!("the queueing discipline {}", queue.kind),
    )
}

fn queue_evidence(device: &Link, risen: &[(&Queue, u32)]) -> Vec<Evidence> {
    let words = |(queue, rise): &(&Queue, u32)| Evidence {
        source: EvidenceSource::Counter,
        text: format!("{} {:x}: of {} dropped {rise} meanwhile", queue.kind, queue.handle >> 16, device.name),
    };
    risen.iter().map(words).collect()
}

fn softnet(case: &Case<'_>) -> Option<Evidence> {
    let dropped = |sample: &Sample| {
        let cpus = sample.tables.softnet.known()?;
        Some(cpus.iter().map(|cpu| cpu.dropped).sum::<u64>())
    };
    let rise = dropped(case.after)?.checked_sub(dropped(case.before)?).filter(|rise| *rise > 0)?;
    let text = format!("softnet_stat: the CPUs' backlogs dropped {rise} meanwhile");
    Some(Evidence { source: EvidenceSource::Counter, text })
}

/// Whether the device was receiving it.
fn is_arriving(drop: &DropSighting) -> bool {
    matches!(drop.reason.as_deref(), Some("TC_INGRESS" | "CPU_BACKLOG"))
        || drop.symbol.as_deref().is_some_and(|symbol| symbol.starts_with("__netif_receive_skb"))
}

fn stage_of(device: &Link, arriving: bool) -> Stage {
    match (DeviceRole::of(device), arriving) {
        (DeviceRole::Pod, _) => Stage::PodLink,
        (DeviceRole::Tunnel, false) => Stage::Tunnel,
        (DeviceRole::Tunnel | DeviceRole::Wire, true) => Stage::Decap,
        (DeviceRole::Wire, false) => Stage::Underlay,
    }
}
