//! The outputs of one place joined into a sample. What none of them shows is entered as missing.

use std::collections::HashSet;

use ipnet::Ipv4Net;
use jiff::Timestamp;

use super::{
    devices::Devices,
    looks::Look,
    missing::{self, shows_protocols},
    readings::{Daemon, Reading, RouteRow, Unreadable},
    shape::Output,
    sysctl,
};
use crate::{
    sample::{
        Address, Bird, ConntrackTable, ControlPlane, FORMAT_VERSION, Fact, FelixSets, HostTables, Neighbour,
        NodeIdentity, Route, RouteKind, Rule, RuleSets, RuleTable, Sample, UnreadableLine,
    },
    sources::sets,
};

/// `RT_TABLE_MAIN`.
const TABLE_MAIN: u32 = 254;
/// `RTPROT_KERNEL`.
const PROTOCOL_KERNEL: u8 = 2;
/// `RTPROT_UNSPEC`.
const PROTOCOL_UNTOLD: u8 = 0;
/// The rules that every kernel begins with.
const FIRST_RULES: [(u32, u32); 3] = [(0, 255), (32766, TABLE_MAIN), (32767, 253)];
/// As many as a person looks at.
const MOST_UNREADABLE: usize = 100;

/// Makes the sample of one look.
pub fn sample(look: &Look) -> Sample {
    let mut sample = Sample {
        format_version: FORMAT_VERSION,
        time: Timestamp::now().to_string(),
        node: identity(look),
        rule_sets: unshown("iptables-save"),
        cni_results: unshown("kubectl get pods -A -o wide"),
        bird: unshown("calicoctl node status"),
        control_plane: control_plane(),
        sets: FelixSets {
            pools: unshown("ipset list"),
            masquerade_pools: unshown("ipset list"),
            hosts: unshown("ipset list"),
        },
        tables: HostTables {
            conntrack: unshown("sysctl net.netfilter"),
            neighbours: unshown("ip neigh"),
            softnet: unshown("cat /proc/net/softnet_stat"),
        },
        datastore: unshown("--facts"),
        unreadable: unreadable(look),
        ..Sample::default()
    };
    let mut devices = Devices::of(readings(look).filter_map(|reading| match reading {
        Reading::Links { entries, .. } => Some(entries.as_slice()),
        _ => None,
    }));
    let rows = route_rows(look);
    sample.routes = rows.iter().map(|row| route(row, &mut devices)).collect();
    if !shows_protocols(&rows) {
        sample.routes.iter_mut().for_each(|route| route.protocol = PROTOCOL_UNTOLD);
    }
    sample.neighbours = neighbours(look, &mut devices);
    enter_facts(look, &mut sample);
    if sample.rules.is_empty() {
        sample.rules = FIRST_RULES.map(|(priority, table)| Rule::for_all(priority, table)).to_vec();
    }
    sample.addresses = devices.addresses();
    enter_sources(&mut sample);
    devices.mark(&mut sample.routes);
    missing::enter(look, &rows, &devices, &mut sample);
    sample.links = devices.links();
    sample
}

fn readings(look: &Look) -> impl Iterator<Item = &Reading> {
    look.parts.iter().filter_map(|part| part.reading.as_ref())
}

fn unshown<T>(command: &str) -> Fact<T> {
    Fact::Absent(format!("it was not shown: {command}"))
}

fn identity(look: &Look) -> NodeIdentity {
    NodeIdentity {
        hostname: look.name.clone(),
        pasted_from: look.place.clone(),
        calico_node_name: unshown("cat /var/lib/calico/nodename"),
        calico_mtu: unshown("cat /var/lib/calico/mtu"),
        ..NodeIdentity::default()
    }
}

fn control_plane() -> ControlPlane {
    ControlPlane {
        processes: unshown("ps -e"),
        felix: unshown("curl -s 127.0.0.1:9099/readiness"),
        cni_networks: unshown("ls /etc/cni/net.d"),
        logs: unshown("kubectl -n kube-system logs CALICO-NODE-POD -c calico-node"),
        configured_hostname: unshown("cat /etc/hostname"),
        hostname_changed: unshown("stat /etc/hostname"),
        node_name_changed: unshown("stat /var/lib/calico/nodename"),
    }
}

fn unreadable(look: &Look) -> Vec<UnreadableLine> {
    let lines = look.parts.iter().flat_map(|part| part.unreadable.iter().map(|line| (part.output, line)));
    let line = |(output, line): (Output, &Unreadable)| UnreadableLine {
        output: output.command().to_owned(),
        text: line.text.clone(),
        why: line.why.to_owned(),
    };
    lines.take(MOST_UNREADABLE).map(line).collect()
}

/// The rows of all outputs. Where `ip route` shows a destination, `route -n` adds nothing to it.
fn route_rows(look: &Look) -> Vec<RouteRow> {
    let of = |wanted: Output| {
        let parts = look.parts.iter().filter(move |part| part.output == wanted);
        parts.filter_map(|part| match &part.reading {
            Some(Reading::Routes(rows)) => Some(rows),
            _ => None,
        })
    };
    let mut rows: Vec<RouteRow> = Vec::new();
    let mut before = HashSet::new();
    for part in of(Output::IpRoute) {
        // `ip route` and `ip route show table all` both print the main table.
        rows.extend(part.iter().filter(|row| !before.contains(&key(&row.route))).cloned());
        before.extend(part.iter().map(|row| key(&row.route)));
    }
    let main = rows.iter().filter(|row| row.route.table == TABLE_MAIN);
    let shown: HashSet<Ipv4Net> = main.map(|row| row.route.destination).collect();
    for part in of(Output::RouteColumns) {
        rows.extend(part.iter().filter(|row| !shown.contains(&row.route.destination)).cloned());
    }
    rows
}

/// What tells routes of one table apart.
fn key(route: &Route) -> (u32, Ipv4Net, u8, u32, RouteKind) {
    (route.table, route.destination, route.tos, route.metric, route.kind)
}

fn route(row: &RouteRow, devices: &mut Devices) -> Route {
    let mut route = row.route.clone();
    for (hop, device) in route.hops.iter_mut().zip(&row.devices) {
        hop.link = device.as_ref().map(|name| devices.index(name));
        if let Some(name) = device {
            devices.learn(name, hop.dead, hop.link_down);
        }
    }
    route
}

fn neighbours(look: &Look, devices: &mut Devices) -> Vec<Neighbour> {
    let rows = readings(look).filter_map(|reading| match reading {
        Reading::Neighbours(rows) => Some(rows),
        _ => None,
    });
    rows.flatten()
        .map(|row| Neighbour {
            link: devices.index(&row.device),
            address: row.address,
            state: row.state,
            hardware_address: row.hardware_address.clone(),
        })
        .collect()
}

fn enter_facts(look: &Look, sample: &mut Sample) {
    let mut tables: Vec<RuleTable> = Vec::new();
    let mut rules: Vec<Rule> = Vec::new();
    for reading in readings(look) {
        match reading {
            Reading::Rules(more) => rules.extend(more.iter().cloned()),
            Reading::RuleSets(more) => tables.extend(more.iter().cloned()),
            Reading::Sysctls(settings) => {
                for (name, value) in settings {
                    enter_setting(sample, name, value);
                }
            }
            Reading::Sets(shown) => {
                for (name, members) in shown {
                    enter_set(&mut sample.sets, name, members);
                }
            }
            Reading::RoutingDaemon(daemon) => enter_daemon(&mut sample.bird, daemon),
            Reading::Routes(_) | Reading::Links { .. } | Reading::Neighbours(_) => {}
        }
    }
    sample.rules = rules;
    if !tables.is_empty() {
        // Whether there are rules of the other kind, iptables-save does not say.
        let missed = vec!["rules that were not pasted".to_owned()];
        sample.rule_sets = Fact::Known(RuleSets { tables, missed, ..RuleSets::default() });
    }
    enter_conntrack(look, sample);
}

/// BIRD's own client says more than `calicoctl`, which prints no names.
fn enter_daemon(bird: &mut Fact<Bird>, daemon: &Daemon) {
    let has_names = |bird: &Bird| bird.sessions.iter().any(|session| !session.name.is_empty());
    match (daemon, bird.known()) {
        (Daemon::Running(_), Some(before)) if has_names(before) => {}
        (Daemon::Running(shown), _) => *bird = Fact::Known((**shown).clone()),
        (Daemon::NotRunning(words), None) => *bird = Fact::Absent(format!("calicoctl says: {words}")),
        (Daemon::NotRunning(_), Some(_)) => {}
    }
}

fn enter_set(felix: &mut FelixSets, name: &str, members: &[Ipv4Net]) {
    let members = || Fact::Known(members.to_vec());
    if sets::POOLS.contains(&name) {
        felix.pools = members();
    } else if name == sets::MASQUERADE_POOLS {
        felix.masquerade_pools = members();
    } else if name == sets::HOSTS {
        felix.hosts = members();
    }
}

fn enter_setting(sample: &mut Sample, name: &str, value: &str) {
    let Ok(number) = value.parse::<u8>() else { return };
    let sysctls = &mut sample.sysctls;
    match name {
        "net.ipv4.ip_forward" => sysctls.ip_forward = Some(number != 0),
        "net.ipv4.fib_multipath_hash_policy" => sysctls.fib_multipath_hash_policy = Some(number),
        other => {
            let Some((device, setting)) = sysctl::of_device(other) else { return };
            let settings = sysctls.interfaces.entry(device).or_default();
            match setting {
                "forwarding" => settings.forwarding = Some(number != 0),
                "rp_filter" => settings.rp_filter = Some(number),
                "proxy_arp" => settings.proxy_arp = Some(number != 0),
                _ => {}
            }
        }
    }
}

fn enter_conntrack(look: &Look, sample: &mut Sample) {
    let settings = readings(look).filter_map(|reading| match reading {
        Reading::Sysctls(settings) => Some(settings),
        _ => None,
    });
    let settings: Vec<&(String, String)> = settings.flatten().collect();
    let value = |wanted: &str| settings.iter().find(|(name, _)| name == wanted)?.1.parse::<u64>().ok();
    let count = value("net.netfilter.nf_conntrack_count");
    let max = value("net.netfilter.nf_conntrack_max").or_else(|| value("net.nf_conntrack_max"));
    if let (Some(count), Some(max)) = (count, max) {
        sample.tables.conntrack = Fact::Known(ConntrackTable { count, max, ..ConntrackTable::default() });
    }
}

/// The kernel takes none but a local address for the source that a route prefers.
fn enter_sources(sample: &mut Sample) {
    let mut found: Vec<Address> = Vec::new();
    for route in sample.routes.iter().filter(|route| route.kind == RouteKind::Unicast) {
        let Some((address, link)) = route.preferred_source.zip(route.hops.first().and_then(|hop| hop.link))
        else {
            continue;
        };
        let is_known = |known: &[Address]| known.iter().any(|other| other.address == address);
        if is_known(&sample.addresses) || is_known(&found) {
            continue;
        }
        let is_its_network = route.protocol == PROTOCOL_KERNEL && route.destination.contains(&address);
        let prefix_length = if is_its_network { route.destination.prefix_len() } else { 32 };
        found.push(Address { link, address, prefix_length, scope: 0 });
    }
    sample.addresses.extend(found);
}
