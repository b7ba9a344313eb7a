//! Interfaces of pods that are gone. What looks so may as well be a pod that lost its route, or one that is just being
//! made: without all the proof it stays.

use super::{
    Outcome,
    devices::{Stale, idle, routes_to, stays, take_away},
    evidence, kept, subject,
};
use crate::{
    causes::{route_table::leftovers::is_leftover, routing::route_words},
    model::{Model, is_pod_link},
    report::document::{EvidenceSource, SubjectKind},
    sample::{Fact, Link, ProcessRole},
};

/// A pod that is being made has an interface before it has a process, for as long as its network takes.
const OLD_ENOUGH: u64 = 10 * 60;

pub fn judge(model: &Model<'_>, earlier: Option<&Model<'_>>) -> Vec<Outcome> {
    let devices = model.sample.links.iter().filter(|link| is_pod_link(link) && looks_stale(model, link));
    devices.map(|link| outcome(model, earlier, link)).collect()
}

/// No process is behind it, or nobody could look and no route leads there.
fn looks_stale(model: &Model<'_>, link: &Link) -> bool {
    match model.sample.pod_interfaces.iter().find(|pod| pod.link == link.index) {
        Some(pod) => pod.inhabited == Some(false),
        None => routes_to(model, link).is_empty(),
    }
}

fn outcome(model: &Model<'_>, earlier: Option<&Model<'_>>, link: &Link) -> Outcome {
    let name = &link.name;
    if link.kind.as_deref() != Some("veth") {
        return Err(stays(link, "it is no veth, so it is no pod's"));
    }
    if !is_leftover(model, link) {
        let command = format!("calicoctl get workloadendpoint -A -o wide | grep {name}");
        return Err(kept(subject(SubjectKind::Interface, name), unproven(model, link), Some(command)));
    }
    let routes = routes_to(model, link);
    if let Some(route) = routes.first().filter(|_| felix_runs(model) != Some(false)) {
        let why = format!("Felix keeps {}: Calico still has a pod there", route_words(model, route));
        let command = format!("calicoctl get workloadendpoint -A -o wide | grep {name}");
        return Err(kept(subject(SubjectKind::Interface, name), why, Some(command)));
    }
    let age = old_enough(model, link)?;
    let silent = idle(model, earlier, link)?;
    take_away(
        model,
        &Stale {
            link,
            why: format!("{name} is a leftover: the pod behind it is gone, its network namespace is not"),
            proof: vec![
                evidence(
                    EvidenceSource::Link,
                    format!("no process is in the network namespace behind {name}"),
                ),
                evidence(
                    EvidenceSource::File,
                    format!("no result in the container runtime's cache names {name}"),
                ),
                evidence(EvidenceSource::File, format!("{name} is there for {age} s at least")),
                silent,
            ],
            risk: format!(
                "were a pod behind {name} after all, it would lose its network until it is made anew"
            ),
        },
    )
}

fn unproven(model: &Model<'_>, link: &Link) -> String {
    let pods = &model.sample.pod_interfaces;
    let named = |results: &Vec<crate::sample::CniResult>| {
        results.iter().any(|result| result.host_interface.as_ref() == Some(&link.name))
    };
    match &model.sample.cni_results {
        _ if !pods.iter().any(|pod| pod.link == link.index) => {
            "nobody could look behind it: a pod that lost its route, or a leftover".to_owned()
        }
        Fact::Absent(why) => format!("whether the container runtime still has its pod is not known: {why}"),
        Fact::Known(results) if named(results) => {
            "no process is behind it, yet the container runtime's cache names it: the pod may be restarting"
                .to_owned()
        }
        Fact::Known(_) => {
            "no process of any pod is seen from here, so none behind it tells nothing".to_owned()
        }
    }
}

/// Whether Felix, which removes routes of pods that it does not know, is at work; `None` where that is not seen.
fn felix_runs(model: &Model<'_>) -> Option<bool> {
    let control_plane = &model.sample.control_plane;
    let processes = control_plane.processes.known()?;
    Some(processes.iter().any(|process| process.role == ProcessRole::Felix))
}

fn old_enough(model: &Model<'_>, link: &Link) -> Result<u64, crate::plan::Kept> {
    let ages = match &model.sample.surroundings {
        Fact::Known(surroundings) => &surroundings.ages,
        Fact::Absent(why) => return Err(stays(link, format!("its age is not known: {why}"))),
    };
    match ages.get(&link.index) {
        Some(age) if *age >= OLD_ENOUGH => Ok(*age),
        Some(age) => Err(stays(
            link,
            format!(
                "it is known to exist for {age} s only, and a pod that starts looks the same: ask again after {} minutes",
                OLD_ENOUGH / 60
            ),
        )),
        None => Err(stays(link, "since when it exists is not known, and a pod that starts looks the same")),
    }
}
