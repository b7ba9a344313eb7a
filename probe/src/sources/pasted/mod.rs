//! What people paste: outputs of the usual commands, recognised by their shape, made into samples. What they do not
//! show is missing, not fine.

mod devices;
mod ifconfig;
mod ip_link;
mod ip_route;
mod ip_rule;
mod ipset;
mod iptables_rule;
mod iptables_save;
mod looks;
mod missing;
mod neighbours;
mod node;
mod node_status;
mod prompt;
mod readings;
mod route_columns;
mod routing_daemon;
mod shape;
mod sysctl;
mod text;
mod values;

use crate::sample::Sample;
use looks::Part;
use readings::{Reading, Unreadable};
use shape::{Output, Section};

/// What is accepted, as a person would name it.
pub const ACCEPTED: &str = "outputs of ip route, route -n, ip addr, ip -s link, ifconfig, ip neigh, arp -n, ip rule, \
     sysctl, iptables-save, ipset list, calicoctl node status, birdcl show protocols";

/// A text, and where it lay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The folder, one for each node; or the file where there is none.
    pub place: String,
    pub file: String,
    pub text: String,
}

/// Makes samples out of texts: one for each place, or each machine that prompts name, and for each moment at which
/// the same was shown again. A place without any output comes to none.
pub fn read(texts: &[Text]) -> Vec<Sample> {
    let parts: Vec<Part> = texts.iter().flat_map(parts_of).collect();
    looks::separate(parts).iter().map(node::sample).collect()
}

fn parts_of(text: &Text) -> Vec<Part> {
    let sections = shape::sections(&text.text);
    sections.iter().filter_map(|section| part(text, section)).collect()
}

fn part(text: &Text, section: &Section) -> Option<Part> {
    let (reading, unreadable) = reading(section);
    let reading = reading.filter(|reading| !reading.is_empty() || section.lines.is_empty());
    if reading.is_none() && unreadable.is_empty() {
        return None;
    }
    Some(Part {
        place: section.place.clone().unwrap_or_else(|| text.place.clone()),
        file: text.file.clone(),
        output: section.output,
        is_narrowed: section.is_narrowed,
        reading,
        unreadable,
    })
}

fn reading(section: &Section) -> (Option<Reading>, Vec<Unreadable>) {
    let lines = &section.lines;
    let plain = |reading| (Some(reading), Vec::new());
    match section.output {
        Output::IpRoute => {
            let (rows, unreadable) = ip_route::read(lines);
            (Some(Reading::Routes(rows)), unreadable)
        }
        Output::RouteColumns => {
            let (rows, unreadable) = route_columns::read(lines);
            (Some(Reading::Routes(rows)), unreadable)
        }
        Output::IpLink => {
            plain(Reading::Links { entries: ip_link::read(lines), shows_those_that_are_down: true })
        }
        Output::Ifconfig => {
            let entries = ifconfig::read(lines);
            let shows_those_that_are_down = entries.iter().any(|entry| !entry.link.up);
            plain(Reading::Links { entries, shows_those_that_are_down })
        }
        Output::Neighbours => plain(Reading::Neighbours(neighbours::read(lines))),
        Output::Rules => {
            let (rules, unreadable) = ip_rule::read(lines);
            (Some(Reading::Rules(rules)), unreadable)
        }
        Output::Sysctl => plain(Reading::Sysctls(sysctl::read(lines))),
        Output::IptablesSave => plain(Reading::RuleSets(iptables_save::read(lines))),
        Output::Ipset => plain(Reading::Sets(ipset::read(lines))),
        Output::NodeStatus => {
            let (daemon, unreadable) = node_status::read(lines);
            (daemon.map(Reading::RoutingDaemon), unreadable)
        }
        Output::RoutingDaemon => (routing_daemon::read(lines).map(Reading::RoutingDaemon), Vec::new()),
    }
}
