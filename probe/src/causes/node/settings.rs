//! The kernel's settings that forwarding between pods rests on.

use super::{Review, Topic};
use crate::{
    causes::{Cause, case::finding},
    model::{Model, is_pod_link},
    report::document::{EvidenceSource, Finding, SubjectKind},
    sample::{InterfaceSysctls, Link, Part},
};

pub fn review(model: &Model<'_>) -> Review {
    let mut review = Review::of(Topic::Settings);
    let sysctls = &model.sample.sysctls;
    if !model.sample.holds(Part::Sysctls) {
        review.unseen("the kernel's settings", "they were not shown: sysctl net.ipv4");
        return review;
    }
    match sysctls.ip_forward {
        Some(true) => review.pass("net.ipv4.ip_forward is 1"),
        Some(false) => review.found([off(
            model,
            Cause::IpForwardOff,
            "net.ipv4.ip_forward",
            &["net.ipv4.ip_forward".to_owned()],
            "this node forwards nothing",
        )]),
        None => review.unseen("net.ipv4.ip_forward", "it cannot be read"),
    }
    // With the global switch off every device's is, too.
    if sysctls.ip_forward != Some(false) {
        let silent =
            settings(model, "forwarding", |link| needs_forwarding(model, link), |own| own.forwarding);
        review.found(some_off(
            model,
            Cause::IpForwardOff,
            &silent,
            "packets that come in there are not forwarded",
        ));
    }
    let silent = settings(model, "proxy_arp", is_pod_link, |own| own.proxy_arp);
    review.found(some_off(
        model,
        Cause::ProxyArpOff,
        &silent,
        "pods there get no answer for their gateway 169.254.1.1",
    ));
    if review.findings.is_empty() && model.sample.links.iter().any(is_pod_link) {
        review.pass("forwarding and proxy_arp are on where pods need them");
    }
    reverse_path(model, &mut review);
    review
}

fn needs_forwarding(model: &Model<'_>, link: &Link) -> bool {
    let is_tunnel = model.tunnel().is_some_and(|tunnel| tunnel.index == link.index);
    is_pod_link(link) || (is_tunnel && model.needs_tunnel().is_some())
}

/// The names of a setting that is off, for some devices.
fn settings(
    model: &Model<'_>,
    name: &str,
    wanted: impl Fn(&Link) -> bool,
    value: impl Fn(&InterfaceSysctls) -> Option<bool>,
) -> Vec<String> {
    let own = |link: &Link| model.sample.sysctls.interfaces.get(&link.name).and_then(&value);
    let links = model.sample.links.iter().filter(|link| wanted(link) && own(link) == Some(false));
    links.map(|link| format!("net.ipv4.conf.{}.{name}", link.name)).collect()
}

fn some_off(model: &Model<'_>, cause: Cause, off_settings: &[String], meaning: &str) -> Option<Finding> {
    let first = off_settings.first()?;
    Some(off(model, cause, first, off_settings, meaning))
}

fn off(model: &Model<'_>, cause: Cause, subject: &str, all: &[String], meaning: &str) -> Finding {
    let and_more = match all.len() {
        0 | 1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let found = finding(cause, SubjectKind::Sysctl, subject, format!("{subject}{and_more} is 0: {meaning}"));
    let shown = all.iter().take(8);
    let found = shown.fold(found, |found, setting| {
        found
            .with(EvidenceSource::Sysctl, format!("{setting} = 0"))
            .cure(model.node_name(), format!("sysctl -w {setting}=1"))
    });
    found.confirm(model.node_name(), "grep -rn 'ip_forward\\|forwarding\\|proxy_arp' /etc/sysctl.conf /etc/sysctl.d   # what sets it at the next start?")
}

/// Strict validation is lawful where answers come back the way that requests went.
fn reverse_path(model: &Model<'_>, review: &mut Review) {
    let interfaces = &model.sample.sysctls.interfaces;
    let all = interfaces.get("all").and_then(|own| own.rp_filter);
    let Some(tunnel) = model.tunnel() else { return };
    let own = interfaces.get(&tunnel.name).and_then(|own| own.rp_filter);
    let Some(effective) = all.zip(own).map(|(all, own)| all.max(own)) else { return };
    let words = match effective {
        0 => "off",
        1 => "strict",
        _ => "loose",
    };
    review.pass(format!("rp_filter is effectively {words} on tunl0"));
}
