//! A connection tracking table without room: packets of new connections are dropped before any rule sees them
//! (`net/netfilter/nf_conntrack_core.c`).

use super::{meeting::Meeting, suspects::Suspects};
use crate::{
    causes::{
        Cause,
        case::{Case, finding},
        routing::drop_evidence,
    },
    observation::DropSighting,
    report::document::{EvidenceSource, Finding, SubjectKind},
    sample::NetfilterHook,
};

/// Judges a drop that no rule can have made.
pub fn judge(
    case: &Case<'_>,
    meeting: &Meeting<'_>,
    suspects: &Suspects<'_>,
    drop: &DropSighting,
) -> Option<Finding> {
    if !matches!(meeting.hook, NetfilterHook::Prerouting | NetfilterHook::Output) || suspects.missed.is_some()
    {
        return None;
    }
    let after = case.after.tables.conntrack.known()?;
    let before = case.before.tables.conntrack.known()?;
    let refused = before.drop.zip(after.drop).and_then(|(before, after)| after.checked_sub(before));
    let full = before.max > 0 && before.count >= before.max;
    if !full && refused.is_none_or(|refused| refused < meeting.lost) {
        return None;
    }
    let summary = "the connection tracking table is full: packets of new connections are dropped";
    let mut found = finding(Cause::ConntrackFull, SubjectKind::Table, "nf_conntrack", summary)
        .with(
            EvidenceSource::Sysctl,
            format!("nf_conntrack_count = {}, nf_conntrack_max = {}", before.count, before.max),
        )
        .with_all(drop_evidence(case, Some(drop)))
        .with(EvidenceSource::Rule, format!("no rule of {} counted them", meeting.hook.chain_name()));
    match refused {
        Some(refused) if refused > 0 => {
            found = found.with(
                EvidenceSource::Counter,
                format!("{refused} packets dropped for want of room meanwhile (/proc/net/stat/nf_conntrack)"),
            );
        }
        _ => found = found.inferred(),
    }
    Some(
        found
            .confirm(&case.node, "conntrack -S; conntrack -L 2>/dev/null | awk '{print $1}' | sort | uniq -c")
            .cure(
                &case.node,
                format!("sysctl -w net.netfilter.nf_conntrack_max={}", before.max.saturating_mul(2)),
            ),
    )
}
