//! The kernel's tables that traffic of pods needs room in.

use super::{Review, Topic};
use crate::{
    causes::{Cause, case::finding},
    model::Model,
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
    sample::{ConntrackTable, NeighbourTable, Sample},
};

/// From here on a burst fills a table.
const NEARLY_FULL_PERCENT: u64 = 90;

pub fn review(model: &Model<'_>, earlier: Option<&Sample>) -> Review {
    let mut review = Review::of(Topic::Tables);
    let tables = &model.sample.tables;
    match tables.conntrack.known() {
        Some(table) => {
            let before = earlier.and_then(|sample| sample.tables.conntrack.known());
            match conntrack(model, table, before) {
                Some(found) => review.found([found]),
                None => {
                    review
                        .pass(format!("connection tracking holds {} of {} entries", table.count, table.max));
                }
            }
        }
        None => review.unseen("the connection tracking table", tables.conntrack.absent().unwrap_or_default()),
    }
    match tables.neighbours.known() {
        Some(table) => {
            let before = earlier.and_then(|sample| sample.tables.neighbours.known());
            match neighbours(model, table, before) {
                Some(found) => review.found([found]),
                None => review.pass(match table.limit {
                    Some(limit) => format!("the neighbour table holds {} of {limit} entries", table.entries),
                    None => format!("the neighbour table holds {} entries", table.entries),
                }),
            }
        }
        None => review.unseen("the neighbour table", tables.neighbours.absent().unwrap_or_default()),
    }
    review
}

fn is_nearly(count: u64, limit: u64) -> bool {
    limit > 0 && count.saturating_mul(100) >= limit.saturating_mul(NEARLY_FULL_PERCENT)
}

fn percent(count: u64, limit: u64) -> u64 {
    count.saturating_mul(100).checked_div(limit).unwrap_or_default()
}

fn conntrack(model: &Model<'_>, table: &ConntrackTable, before: Option<&ConntrackTable>) -> Option<Finding> {
    if !is_nearly(table.count, table.max) {
        return None;
    }
    let dropped =
        before.and_then(|before| table.drop?.checked_sub(before.drop?)).filter(|dropped| *dropped > 0);
    let is_full = table.count >= table.max || dropped.is_some();
    let summary = if is_full {
        "the connection tracking table is full: packets of new connections are dropped".to_owned()
    } else {
        format!("the connection tracking table is {} % full", percent(table.count, table.max))
    };
    let mut found = finding(Cause::ConntrackFull, SubjectKind::Table, "nf_conntrack", summary)
        .with_severity(if is_full { Severity::Critical } else { Severity::Warning })
        .with(
            EvidenceSource::Sysctl,
            format!("nf_conntrack_count = {}, nf_conntrack_max = {}", table.count, table.max),
        );
    if let Some(dropped) = dropped {
        found = found.with(
            EvidenceSource::Counter,
            format!("{dropped} packets dropped for want of room while this check looked"),
        );
    }
    Some(
        found
            .confirm(
                model.node_name(),
                "conntrack -S; conntrack -L 2>/dev/null | awk '{print $1}' | sort | uniq -c",
            )
            .cure(
                model.node_name(),
                format!("sysctl -w net.netfilter.nf_conntrack_max={}", table.max.saturating_mul(2)),
            ),
    )
}

fn neighbours(model: &Model<'_>, table: &NeighbourTable, before: Option<&NeighbourTable>) -> Option<Finding> {
    let refused = before
        .and_then(|before| table.table_fulls?.checked_sub(before.table_fulls?))
        .filter(|refused| *refused > 0);
    let nearly = table.limit.filter(|limit| is_nearly(table.entries, *limit));
    if refused.is_none() && nearly.is_none() {
        return None;
    }
    let is_full = refused.is_some() || table.limit.is_some_and(|limit| table.entries >= limit);
    let summary = match (is_full, nearly) {
        (false, Some(limit)) => format!("the neighbour table is {} % full", percent(table.entries, limit)),
        _ => "the neighbour table is full: pods and nodes that are new to it are not reached".to_owned(),
    };
    let mut found = finding(Cause::NeighbourTableFull, SubjectKind::Table, "arp_cache", summary)
        .with_severity(if is_full { Severity::Critical } else { Severity::Warning })
        .with(EvidenceSource::Counter, format!("{} neighbour entries", table.entries));
    if let Some(limit) = table.limit {
        found = found.with(EvidenceSource::Sysctl, format!("net.ipv4.neigh.default.gc_thresh3 = {limit}"));
    }
    if let Some(refused) = refused {
        found =
            found.with(EvidenceSource::Counter, format!("{refused} entries refused while this check looked"));
    }
    let twice = table.limit.unwrap_or(1024).saturating_mul(2);
    Some(found.cure(
        model.node_name(),
        format!(
            "sysctl -w net.ipv4.neigh.default.gc_thresh3={twice} net.ipv4.neigh.default.gc_thresh2={}",
            twice / 2
        ),
    ))
}
