//! Packets that a rule or a policy of a netfilter hook dropped. The hook is proven by the drop's kernel stack.

use super::{
    Cause,
    case::{Case, Located, finding},
    drop_kind::describe,
    routing::drop_evidence,
};
use crate::{
    observation::DropSighting,
    report::document::{Direction, EvidenceSource, Stage, SubjectKind},
    sample::{BaseChain, NetfilterHook, RuleSetBackend},
};

/// Judges a drop at a hook: a policy's is proven by its counter; a rule's is not judged.
pub fn dropped(
    case: &Case<'_>,
    direction: Direction,
    hook: Option<NetfilterHook>,
    drop: &DropSighting,
) -> Option<Located> {
    let device = drop.link.map(|link| case.link_name(link));
    let place = case.place(direction, Stage::Netfilter, device);
    if let Some(chain) = hook.and_then(|hook| policy_that_dropped(case, hook)) {
        return Some(Located { finding: policy(case, chain, drop), place });
    }
    None
}

/// What can be said of a drop by a rule: it may be one that refuses ICMP alone, as policies do.
pub fn refused_by_a_rule(case: &Case<'_>, hook: Option<NetfilterHook>, drop: &DropSighting) -> String {
    let hook = hook.map_or_else(
        || "a netfilter hook".to_owned(),
        |hook| format!("netfilter hook {}", hook.chain_name()),
    );
    format!(
        "a rule of {hook} drops these ICMP probes ({}); it may let other traffic pass: on {}, look for rules whose \
         counters rise with `iptables-save -c` and `nft list ruleset`",
        describe(drop),
        case.node
    )
}

/// The only dropping policy of the hook, if it counted at least the lost probes meanwhile.
fn policy_that_dropped<'a>(case: &'a Case<'_>, hook: NetfilterHook) -> Option<&'a BaseChain> {
    let mut dropping = chains(case.before).iter().filter(|chain| chain.hook == hook && chain.policy_drops);
    let chain = dropping.next()?;
    if dropping.next().is_some() {
        return None;
    }
    let after = chains(case.after).iter().find(|other| same_chain(chain, other))?;
    let rise = after.policy_packets?.checked_sub(chain.policy_packets?)?;
    (rise >= case.lost() as u64 && rise > 0).then_some(chain)
}

fn chains(sample: &crate::sample::Sample) -> &[BaseChain] {
    sample.base_chains.known().map_or(&[], Vec::as_slice)
}

fn same_chain(one: &BaseChain, other: &BaseChain) -> bool {
    one.backend == other.backend
        && one.table == other.table
        && one.chain == other.chain
        && one.hook == other.hook
}

fn policy(case: &Case<'_>, chain: &BaseChain, drop: &DropSighting) -> crate::report::document::Finding {
    let tool = match chain.backend {
        RuleSetBackend::Legacy => "iptables-legacy",
        RuleSetBackend::NfTables => "iptables-nft",
    };
    let code = match chain.hook {
        NetfilterHook::Forward => Cause::ForwardPolicyDrop,
        _ => Cause::NetfilterDrop,
    };
    let counted = chains(case.after)
        .iter()
        .find(|other| same_chain(chain, other))
        .and_then(|after| Some(after.policy_packets? - chain.policy_packets?));
    let mut found = finding(
        code,
        SubjectKind::Chain,
        format!("{} {}", chain.table, chain.chain),
        format!(
            "the policy of chain {} ({} table {}) drops what no rule accepted",
            chain.chain, tool, chain.table
        ),
    )
    .with_all(drop_evidence(case, Some(drop)));
    if let Some(counted) = counted {
        found = found.with(
            EvidenceSource::Rule,
            format!("policy DROP of {} counted {counted} packets meanwhile", chain.chain),
        );
    }
    found
        .confirm(&case.node, format!("{tool} -t {} -L {} -v -n   # are cali-FORWARD and Calico's last ACCEPT there?", chain.table, chain.chain))
        .cure(
            "kubectl",
            format!(
                "kubectl -n kube-system delete pod -l k8s-app=calico-node --field-selector spec.nodeName={}   # Felix writes its rules again",
                case.node
            ),
        )
        .stopgap(&case.node, format!("{tool} -t {} -P {} ACCEPT   # stays until docker or firewalld sets it again", chain.table, chain.chain))
}
