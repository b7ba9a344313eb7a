//! What cures a drop by a rule: at its owner, because who wrote a rule writes it again.

use std::net::Ipv4Addr;

use super::{
    calico,
    meeting::Meeting,
    owner::{Owner, Tool},
    suspects::Suspect,
    words,
};
use crate::{
    causes::{Cause, case::Case},
    model::netfilter::Place,
    report::document::Finding,
};

/// Adds what shows that the finding holds, and what mends it.
pub fn add(case: &Case<'_>, meeting: &Meeting<'_>, suspect: &Suspect<'_>, found: Finding) -> Finding {
    let found = found.confirm(&case.node, words::shown_by(&suspect.place));
    match found.cause {
        Cause::PolicyDrop => of_policy(found),
        Cause::EndpointNotProgrammed => felix_anew(&case.node, found),
        Cause::IpipNotAllowed if Owner::of(&suspect.place) == Owner::Calico => {
            of_hosts(case, meeting, &suspect.place, found)
        }
        Cause::ConntrackInvalid => of_invalid(case, meeting, found),
        Cause::ForwardPolicyDrop => of_forward_policy(case, &suspect.place, found),
        _ => at_owner(case, meeting.packet.source, &suspect.place, found),
    }
}

fn felix_anew(node: &str, found: Finding) -> Finding {
    found.cure(
        "kubectl",
        format!(
            "kubectl -n kube-system delete pod -l k8s-app=calico-node --field-selector spec.nodeName={node}   # Felix writes its rules again"
        ),
    )
}

fn of_policy(found: Finding) -> Finding {
    found
        .confirm("kubectl", "kubectl get networkpolicy -A; calicoctl get networkpolicy,globalnetworkpolicy -A")
        .cure(
            "kubectl",
            "kubectl -n NAMESPACE edit networkpolicy NAME   # add a rule that allows it, if it is meant to pass",
        )
}

fn of_hosts(case: &Case<'_>, meeting: &Meeting<'_>, place: &Place<'_>, found: Finding) -> Finding {
    let peer = meeting.packet.source;
    let add = match Tool::of(place.table) {
        Tool::Nft => format!(
            "nft add element {} {} cali40all-hosts-net '{{ {peer} }}'",
            words::family(place.table.family),
            place.table.name
        ),
        _ => format!("ipset add cali40all-hosts-net {peer}"),
    };
    let found = found.confirm(
        "kubectl",
        format!("kubectl get nodes -o yaml | grep -w {peer}   # projectcalico.org/IPv4Address of the peer: is it another one?"),
    );
    felix_anew(&case.node, found)
        .stopgap(&case.node, format!("{add}   # Felix removes it within 90 s if it knows no such node"))
}

fn of_invalid(case: &Case<'_>, meeting: &Meeting<'_>, found: Finding) -> Finding {
    let (source, destination) = (meeting.packet.source, meeting.packet.destination);
    found
        .confirm(
            &case.node,
            format!("iptables-save -t raw | grep -E 'NOTRACK|CT '; ip route get {source}   # does the other direction pass this node, tracked?"),
        )
        .cure(
            &case.node,
            format!("conntrack -D -s {destination} -d {source}; conntrack -D -s {source} -d {destination}   # a new flow is tracked anew"),
        )
}

fn of_forward_policy(case: &Case<'_>, place: &Place<'_>, found: Finding) -> Finding {
    let (table, chain) = (&place.table.name, &place.chain.name);
    let accept = match Tool::of(place.table) {
        Tool::Nft => {
            format!("nft chain {} {table} {chain} '{{ policy accept; }}'", words::family(place.table.family))
        }
        tool => format!("{} -t {table} -P {chain} ACCEPT", tool.command()),
    };
    felix_anew(&case.node, found)
        .stopgap(&case.node, format!("{accept}   # stays until docker or firewalld sets it again"))
}

/// The cure by who wrote a rule that is in the way of packets from an address.
pub fn at_owner(case: &Case<'_>, from: Ipv4Addr, place: &Place<'_>, found: Finding) -> Finding {
    let node = &case.node;
    let pool = case.model.pool_of(from).map_or_else(|| from.to_string(), |pool| pool.cidr.to_string());
    match Owner::of(place) {
        Owner::Calico if calico::chain_name(&place.chain.name).starts_with("cali-") => felix_anew(node, found),
        Owner::Firewalld => found.cure(
            node,
            format!("firewall-cmd --permanent --zone=trusted --add-source={pool}; firewall-cmd --reload"),
        ),
        Owner::Ufw => found.cure(node, format!("ufw allow from {pool}; ufw route allow from {pool}")),
        Owner::Docker => {
            let tool = Tool::of(place.table).command();
            found.cure(node, format!("{tool} -I DOCKER-USER -s {pool} -j ACCEPT   # docker leaves this chain alone"))
        }
        Owner::KubeProxy => found.cure(
            "kubectl",
            format!("kubectl -n kube-system delete pod -l k8s-app=kube-proxy --field-selector spec.nodeName={node}   # it writes its rules again"),
        ),
        Owner::PodNetwork(name) => found.cure(
            node,
            format!("{}   # {name} writes it again while it runs here: remove it first", removal(place)),
        ),
        Owner::Unknown | Owner::Calico => found.cure(
            node,
            format!("{}   # and where it is kept, so that it does not come back: /etc/iptables, /etc/nftables.conf, a script", removal(place)),
        ),
    }
}

/// The command that takes a rule out, or lets a policy accept.
fn removal(place: &Place<'_>) -> String {
    let (table, chain) = (&place.table.name, &place.chain.name);
    match (Tool::of(place.table), place.rule) {
        (Tool::Nft, Some(rule)) => format!(
            "nft delete rule {} {table} {chain} handle {}",
            words::family(place.table.family),
            rule.handle.unwrap_or_default()
        ),
        (Tool::Nft, None) => {
            format!("nft chain {} {table} {chain} '{{ policy accept; }}'", words::family(place.table.family))
        }
        (tool, Some(rule)) => format!("{} -t {table} -D {chain} {}", tool.command(), rule.number),
        (tool, None) => format!("{} -t {table} -P {chain} ACCEPT", tool.command()),
    }
}
