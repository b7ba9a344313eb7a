//! What Calico's own chains and rules are, by the names and comments that Felix gives them (felix/rules/*.go).

use super::owner::Owner;
use crate::{
    causes::Cause,
    model::netfilter::Place,
    sample::{Field, NetfilterRule, RulePart},
};

/// What a drop by one of Calico's rules means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    pub cause: Cause,
    /// One sentence without a full stop.
    pub words: String,
}

/// The chain's name as Felix has it: in its nftables mode the names begin with the table's.
pub fn chain_name(name: &str) -> &str {
    const LAYERS: [&str; 4] = ["filter-", "raw-", "mangle-", "nat-"];
    let rest = LAYERS.iter().find_map(|layer| name.strip_prefix(layer));
    rest.filter(|rest| rest.starts_with("cali-")).unwrap_or(name)
}

/// What a comment says besides Felix' hash.
pub fn remarks(rule: &NetfilterRule) -> impl Iterator<Item = &str> {
    rule.comments.iter().filter_map(|comment| match comment.strip_prefix("cali:") {
        // `cali:HASH; text` in nftables mode.
        Some(rest) => rest.split_once("; ").map(|(_, text)| text),
        None => Some(comment.as_str()),
    })
}

/// What it means that a packet was dropped here; `None` for what is not Calico's.
pub fn meaning(place: &Place<'_>) -> Option<Meaning> {
    let chain = chain_name(&place.chain.name);
    let rule = place.rule?;
    if Owner::of(place) != Owner::Calico {
        return None;
    }
    let says = |text: &str| remarks(rule).any(|remark| remark.contains(text));
    let (cause, words) = if says("Unknown interface") {
        let words =
            "Felix has no chains for the pod's interface, so every packet of it is dropped".to_owned();
        (Cause::EndpointNotProgrammed, words)
    } else if says("IPIP packets from non-Calico hosts") {
        (
            Cause::IpipNotAllowed,
            "encapsulated packets of this peer are dropped as those of a stranger".to_owned(),
        )
    } else if says("Endpoint admin disabled") {
        (
            Cause::NetfilterDrop,
            format!("the endpoint of {} is disabled by its administrator", endpoint(chain)),
        )
    } else if says("encapped packets originating in workloads") {
        (Cause::NetfilterDrop, "pods may not send encapsulated packets of their own".to_owned())
    } else if asks_for_invalid(rule) {
        (
            Cause::ConntrackInvalid,
            "connection tracking holds the packet for invalid, and Felix' rule drops such".to_owned(),
        )
    } else if asks_reverse_path(rule) {
        (
            Cause::NetfilterDrop,
            "Felix' reverse-path rule drops packets whose source does not belong behind the interface"
                .to_owned(),
        )
    } else if let Some(policy) = policy(place) {
        (Cause::PolicyDrop, format!("{policy} denies it"))
    } else if says("no policies passed packet") {
        (Cause::PolicyDrop, format!("no policy {} allows it", of_endpoint(chain)))
    } else if says("no profiles matched") {
        (Cause::PolicyDrop, format!("no profile {} allows it", of_endpoint(chain)))
    } else if says("DefaultEndpointToHostAction") {
        (Cause::NetfilterDrop, "Felix' DefaultEndpointToHostAction keeps pods from their node".to_owned())
    } else if chain == "cali-cidr-block" {
        (Cause::NetfilterDrop, "it is for an address of a Service that no Service has".to_owned())
    } else {
        (Cause::NetfilterDrop, format!("a rule in Calico's chain {} drops it", place.chain.name))
    };
    Some(Meaning { cause, words })
}

/// Whether a rule asks for packets that connection tracking holds for invalid, and for nothing less.
pub fn asks_for_invalid(rule: &NetfilterRule) -> bool {
    rule.parts.iter().any(|part| match part {
        RulePart::Compare(comparison) => {
            comparison.field == Field::ConnectionState && comparison.mask == 1 && comparison.invert
        }
        _ => false,
    })
}

fn asks_reverse_path(rule: &NetfilterRule) -> bool {
    rule.parts.iter().any(|part| match part {
        RulePart::Compare(comparison) => matches!(comparison.field, Field::ReversePath { .. }),
        _ => false,
    })
}

/// The device of the chain of a pod, or of a host endpoint.
fn endpoint(chain: &str) -> &str {
    const PREFIXES: [&str; 6] = ["cali-tw-", "cali-fw-", "cali-th-", "cali-fh-", "cali-thfw-", "cali-fhfw-"];
    PREFIXES.iter().find_map(|prefix| chain.strip_prefix(prefix)).unwrap_or(chain)
}

fn of_endpoint(chain: &str) -> String {
    let way = if chain.starts_with("cali-t") { "to" } else { "from" };
    format!("for traffic {way} {}", endpoint(chain))
}

/// The policy or profile that a chain is, by its first comment or, where that is absent, by its name.
fn policy(place: &Place<'_>) -> Option<String> {
    const KINDS: [(&str, &str); 8] = [
        ("cali-pi-", "policy"),
        ("cali-po-", "policy"),
        ("cali-pri-", "profile"),
        ("cali-pro-", "profile"),
        ("cali-gi-", "a policy of group"),
        ("cali-go-", "a policy of group"),
        ("cali-pgi-", "a policy of group"),
        ("cali-pgo-", "a policy of group"),
    ];
    let chain = chain_name(&place.chain.name);
    let (suffix, kind) = KINDS.iter().find_map(|(prefix, kind)| Some((chain.strip_prefix(prefix)?, kind)))?;
    let told = place.chain.rules.iter().flat_map(remarks).find_map(named_by_comment);
    Some(told.unwrap_or_else(|| format!("{kind} {suffix}")))
}

/// `Policy default/deny ingress`, `Profile kns.default egress`; newer releases begin with the kind of resource.
fn named_by_comment(comment: &str) -> Option<String> {
    let named = comment.strip_suffix(" ingress").or_else(|| comment.strip_suffix(" egress"))?;
    let (kind, name) = named.split_once(' ')?;
    let kind = match kind {
        "Policy" => "policy",
        "Profile" => "profile",
        other => other,
    };
    Some(format!("{kind} {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{RuleChain, RuleFamily, RuleSetBackend, RuleTable, Verdict};

    fn meaning_of(chain: &str, head: &str, comment: &str) -> Meaning {
        let rule = |comment: &str, verdict| NetfilterRule {
            comments: vec!["cali:0123456789abcdef".to_owned(), comment.to_owned()],
            parts: vec![RulePart::Verdict(verdict)],
            ..NetfilterRule::default()
        };
        let chain = RuleChain {
            name: chain.to_owned(),
            base: None,
            rules: vec![rule(head, Verdict::Return), rule(comment, Verdict::Drop)],
        };
        let table = RuleTable {
            backend: RuleSetBackend::Legacy,
            family: RuleFamily::Ip,
            name: "filter".to_owned(),
            chains: Vec::new(),
            sets: Vec::new(),
        };
        meaning(&Place { table: &table, chain: &chain, rule: chain.rules.last() }).unwrap()
    }

    #[test]
    fn a_policy_is_named_as_its_comment_names_it_or_else_by_its_chain() {
        for (chain, head, words) in [
            ("cali-pi-_abc", "Policy default/deny ingress", "policy default/deny denies it"),
            ("cali-pi-default.deny", "", "policy default.deny denies it"),
            (
                "filter-cali-pi-knp/default/x",
                "NetworkPolicy default/x ingress",
                "NetworkPolicy default/x denies it",
            ),
        ] {
            let found = meaning_of(chain, head, "");
            assert_eq!((found.cause, found.words.as_str()), (Cause::PolicyDrop, words));
        }
    }

    #[test]
    fn the_ends_of_chains_are_known_by_their_comments() {
        for (chain, comment, cause) in [
            ("cali-to-wl-dispatch", "Unknown interface", Cause::EndpointNotProgrammed),
            ("cali-from-wl-dispatch-1", "Unknown interface", Cause::EndpointNotProgrammed),
            ("cali-tw-cali1", "End of tier default. Drop if no policies passed packet", Cause::PolicyDrop),
            ("cali-fw-cali1", "Drop if no profiles matched", Cause::PolicyDrop),
            ("cali-INPUT", "Drop IPIP packets from non-Calico hosts", Cause::IpipNotAllowed),
            ("cali-cidr-block", "", Cause::NetfilterDrop),
        ] {
            assert_eq!(meaning_of(chain, "", comment).cause, cause, "{chain}");
        }
    }
}
