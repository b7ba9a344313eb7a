//! Rules as the programs print them that wrote them, as far as their parts are understood.

use std::{fmt::Write as _, net::Ipv4Addr};

use super::owner::Tool;
use crate::{
    model::netfilter::Place,
    sample::{
        Comparison, DeviceMatch, End, Field, Membership, NetfilterRule, RuleFamily, RulePart, RuleTable,
        SetName, Side, Verdict,
    },
};

const PROTOCOLS: [(u32, &str); 5] = [(1, "icmp"), (4, "ipencap"), (6, "tcp"), (17, "udp"), (50, "esp")];
const STATES: [(u32, &str); 5] =
    [(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")];
const ADDRESS_TYPES: [(u32, &str); 4] = [(1, "unicast"), (2, "local"), (3, "broadcast"), (5, "multicast")];

/// A place with everything that finds it again: `rule 2 of chain INPUT in iptables-legacy table filter (-p icmp -j
/// DROP)`.
pub fn whole(place: &Place<'_>) -> String {
    match place.rule {
        Some(rule) => format!("{} ({})", short(place), text(Tool::of(place.table), rule)),
        None => short(place),
    }
}

/// The same without the rule's text.
pub fn short(place: &Place<'_>) -> String {
    let tool = Tool::of(place.table);
    let which = match (place.rule, tool) {
        (None, _) => "the policy".to_owned(),
        (Some(rule), Tool::Nft) => format!("the rule with handle {}", rule.handle.unwrap_or_default()),
        (Some(rule), _) => format!("rule {}", rule.number),
    };
    format!("{which} of chain {} in {}", place.chain.name, table(place.table))
}

/// A table by the program that shows it and by its name.
pub fn table(table: &RuleTable) -> String {
    let tool = Tool::of(table);
    match tool {
        Tool::Nft => format!("nft table {} {}", family(table.family), table.name),
        _ => format!("{} table {}", tool.command(), table.name),
    }
}

pub fn family(family: RuleFamily) -> &'static str {
    match family {
        RuleFamily::Ip => "ip",
        RuleFamily::Inet => "inet",
    }
}

/// The command that prints a chain with its counters.
pub fn shown_by(place: &Place<'_>) -> String {
    let chain = &place.chain.name;
    match Tool::of(place.table) {
        Tool::Nft => format!("nft -a list chain {} {} {chain}", family(place.table.family), place.table.name),
        tool => format!("{} -t {} -L {chain} -v -n --line-numbers", tool.command(), place.table.name),
    }
}

/// A rule's text, without its counter.
pub fn text(tool: Tool, rule: &NetfilterRule) -> String {
    let mut words = Vec::new();
    let mut protocol = None;
    for part in &rule.parts {
        if let RulePart::Compare(Comparison { field: Field::Protocol, ranges, .. }) = part {
            protocol = ranges.first().map(|(number, _)| *number);
        }
        words.extend(match tool {
            Tool::Nft => nft_part(part, protocol),
            Tool::IptablesLegacy | Tool::IptablesNft => iptables_part(part),
        });
    }
    for comment in &rule.comments {
        let comment = comment.escape_debug();
        words.push(match tool {
            Tool::Nft => format!("comment \"{comment}\""),
            _ => format!("-m comment --comment \"{comment}\""),
        });
    }
    words.join(" ")
}

fn named(names: &[(u32, &str)], number: u32) -> String {
    names
        .iter()
        .find(|(other, _)| *other == number)
        .map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

fn bits(names: &[(u32, &str)], mask: u32) -> String {
    let set: Vec<&str> = names.iter().filter(|(bit, _)| mask & bit != 0).map(|(_, name)| *name).collect();
    set.join(",")
}

fn ranges(comparison: &Comparison, number: impl Fn(u32) -> String, between: &str) -> String {
    let words = comparison.ranges.iter().map(|(from, to)| {
        if from == to { number(*from) } else { format!("{}{between}{}", number(*from), number(*to)) }
    });
    words.collect::<Vec<_>>().join(",")
}

/// `10.0.0.0/8`, as far as the mask is a prefix.
fn network(comparison: &Comparison) -> String {
    let address = comparison.ranges.first().map_or(0, |(from, _)| *from);
    let address = Ipv4Addr::from_bits(address);
    match (comparison.mask, comparison.mask.leading_ones(), comparison.ranges.first()) {
        (_, _, Some((from, to))) if from != to => {
            ranges(comparison, |number| Ipv4Addr::from_bits(number).to_string(), "-")
        }
        (u32::MAX, _, _) => address.to_string(),
        (mask, ones, _) if mask.count_ones() == ones => format!("{address}/{ones}"),
        (mask, _, _) => format!("{address}/{}", Ipv4Addr::from_bits(mask)),
    }
}

fn iptables_part(part: &RulePart) -> Option<String> {
    let not = |invert: bool| if invert { "! " } else { "" };
    Some(match part {
        RulePart::Compare(comparison) => iptables_comparison(comparison),
        RulePart::Device(DeviceMatch { side, name, prefix, invert }) => {
            let option = if *side == Side::Input { "-i" } else { "-o" };
            format!("{}{option} {name}{}", not(*invert), if *prefix { "+" } else { "" })
        }
        RulePart::Member(Membership { set, key, invert }) => {
            let directions: Vec<&str> = key
                .iter()
                .filter(|field| **field != Field::Protocol)
                .map(|field| match field {
                    Field::SourceAddress | Field::SourcePort => "src",
                    _ => "dst",
                })
                .collect();
            format!("-m set {}--match-set {} {}", not(*invert), set_name(set), directions.join(","))
        }
        RulePart::NotUnderstood(name) => format!("-m {name} …"),
        RulePart::SetMark { keep, xor } => format!("-j MARK --set-xmark {xor:#x}/{:#x}", !keep),
        RulePart::LoseMark(_) => "-j CONNMARK …".to_owned(),
        RulePart::Aside(name) => format!("-j {name}"),
        RulePart::Verdict(Verdict::Goto(chain)) => format!("-g {chain}"),
        RulePart::Verdict(verdict) => format!("-j {}", iptables_verdict(verdict)),
        RulePart::VerdictMap(_) => return None,
    })
}

fn iptables_verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "ACCEPT".to_owned(),
        Verdict::Drop => "DROP".to_owned(),
        Verdict::Reject => "REJECT".to_owned(),
        Verdict::Return => "RETURN".to_owned(),
        Verdict::Queue => "NFQUEUE".to_owned(),
        Verdict::Jump(name) | Verdict::Goto(name) | Verdict::Rewrite(name) | Verdict::Other(name) => {
            name.clone()
        }
    }
}

fn iptables_comparison(comparison: &Comparison) -> String {
    let mut inverted = comparison.invert;
    let mask = comparison.mask;
    let plain = |number: u32| number.to_string();
    let (before, option, value) = match comparison.field {
        Field::SourceAddress => ("", "-s", network(comparison)),
        Field::DestinationAddress => ("", "-d", network(comparison)),
        Field::Protocol => ("", "-p", ranges(comparison, |number| named(&PROTOCOLS, number), ":")),
        Field::SourcePort => ("", "--sport", ranges(comparison, plain, ":")),
        Field::DestinationPort => ("", "--dport", ranges(comparison, plain, ":")),
        Field::IcmpType => ("", "--icmp-type", ranges(comparison, plain, ":")),
        Field::IcmpCode => ("", "--icmp-code", ranges(comparison, plain, ":")),
        Field::TcpFlags => {
            ("", "--tcp-flags", format!("{mask:#x} {}", ranges(comparison, |n| format!("{n:#x}"), ":")))
        }
        Field::Mark => {
            ("-m mark ", "--mark", format!("{}/{mask:#x}", ranges(comparison, |n| format!("{n:#x}"), ":")))
        }
        Field::ConnectionState => {
            // It is asked for as "not none of these".
            inverted = !inverted;
            ("-m conntrack ", "--ctstate", bits(&STATES, mask).to_uppercase())
        }
        Field::ConnectionStatus => {
            inverted = !inverted;
            ("-m conntrack ", "--ctstate", bits(&[(1 << 4, "SNAT"), (1 << 5, "DNAT")], mask))
        }
        Field::AddressType { of, .. } => {
            let option = if of == End::Source { "--src-type" } else { "--dst-type" };
            let types = ranges(comparison, |number| named(&ADDRESS_TYPES, number).to_uppercase(), ":");
            ("-m addrtype ", option, types)
        }
        Field::ReversePath { marked, strict } => {
            let invert = if inverted { " --invert" } else { "" };
            let options = [(!strict, " --loose"), (marked, " --validmark")];
            let options: String = options.iter().filter(|(is, _)| *is).map(|(_, option)| *option).collect();
            return format!("-m rpfilter{options}{invert}");
        }
        Field::LaterFragment => ("", "-f", String::new()),
        Field::Family | Field::InputIndex | Field::OutputIndex | Field::InputName | Field::OutputName => {
            return String::new();
        }
    };
    let not = if inverted { "! " } else { "" };
    format!("{before}{not}{option} {value}").trim_end().to_owned()
}

fn nft_part(part: &RulePart, protocol: Option<u32>) -> Option<String> {
    let not = |invert: bool| if invert { "!= " } else { "" };
    Some(match part {
        RulePart::Compare(comparison) => return nft_comparison(comparison, protocol),
        RulePart::Device(DeviceMatch { side, name, prefix, invert }) => {
            let field = if *side == Side::Input { "iifname" } else { "oifname" };
            format!("{field} {}\"{name}{}\"", not(*invert), if *prefix { "*" } else { "" })
        }
        RulePart::Member(Membership { set, key, invert }) => {
            format!("{} {}@{}", nft_key(key), not(*invert), set_name(set))
        }
        RulePart::VerdictMap(Membership { set, key, .. }) => {
            format!("{} vmap @{}", nft_key(key), set_name(set))
        }
        RulePart::NotUnderstood(name) => format!("{name} …"),
        RulePart::SetMark { keep, xor } => format!("meta mark set meta mark & {keep:#010x} ^ {xor:#010x}"),
        RulePart::LoseMark(_) => "meta mark set …".to_owned(),
        RulePart::Aside(name) => name.clone(),
        RulePart::Verdict(verdict) => match verdict {
            Verdict::Accept => "accept".to_owned(),
            Verdict::Drop => "drop".to_owned(),
            Verdict::Reject => "reject".to_owned(),
            Verdict::Return => "return".to_owned(),
            Verdict::Queue => "queue".to_owned(),
            Verdict::Jump(chain) => format!("jump {chain}"),
            Verdict::Goto(chain) => format!("goto {chain}"),
            Verdict::Rewrite(name) | Verdict::Other(name) => name.clone(),
        },
    })
}

fn nft_comparison(comparison: &Comparison, protocol: Option<u32>) -> Option<String> {
    let mut inverted = comparison.invert;
    let mask = comparison.mask;
    let transport = match protocol {
        Some(6) => "tcp",
        Some(17) => "udp",
        _ => "th",
    };
    let plain = |number: u32| number.to_string();
    let (field, value) = match comparison.field {
        Field::SourceAddress => ("ip saddr".to_owned(), network(comparison)),
        Field::DestinationAddress => ("ip daddr".to_owned(), network(comparison)),
        Field::Protocol => {
            ("meta l4proto".to_owned(), ranges(comparison, |number| named(&PROTOCOLS, number), "-"))
        }
        Field::SourcePort => (format!("{transport} sport"), ranges(comparison, plain, "-")),
        Field::DestinationPort => (format!("{transport} dport"), ranges(comparison, plain, "-")),
        Field::IcmpType => ("icmp type".to_owned(), ranges(comparison, plain, "-")),
        Field::IcmpCode => ("icmp code".to_owned(), ranges(comparison, plain, "-")),
        Field::TcpFlags => (format!("tcp flags & {mask:#x}"), ranges(comparison, |n| format!("{n:#x}"), "-")),
        Field::Mark => {
            (format!("meta mark & {mask:#010x}"), ranges(comparison, |n| format!("{n:#010x}"), "-"))
        }
        Field::ConnectionState => {
            inverted = !inverted;
            ("ct state".to_owned(), bits(&STATES, mask))
        }
        Field::ConnectionStatus => {
            inverted = !inverted;
            ("ct status".to_owned(), bits(&[(1 << 4, "snat"), (1 << 5, "dnat")], mask))
        }
        Field::AddressType { of, .. } => {
            let end = if of == End::Source { "saddr" } else { "daddr" };
            (format!("fib {end} type"), ranges(comparison, |number| named(&ADDRESS_TYPES, number), "-"))
        }
        Field::ReversePath { marked, strict } => {
            let passes = comparison.ranges == [(1, 1)];
            let outcome = if passes == inverted { "missing" } else { "exists" };
            inverted = false;
            let by_mark = if marked { " . mark" } else { "" };
            let by_device = if strict { " . iif" } else { "" };
            (format!("fib saddr{by_mark}{by_device} oif"), outcome.to_owned())
        }
        Field::InputIndex => ("iif".to_owned(), ranges(comparison, plain, "-")),
        Field::OutputIndex => ("oif".to_owned(), ranges(comparison, plain, "-")),
        Field::LaterFragment => ("ip frag-off".to_owned(), "…".to_owned()),
        // IPv4 is what all of this is about.
        Field::Family | Field::InputName | Field::OutputName => return None,
    };
    let mut text = field;
    let _ = write!(text, " {}{value}", if inverted { "!= " } else { "" });
    Some(text)
}

fn nft_key(key: &[Field]) -> String {
    let words = key.iter().map(|field| match field {
        Field::SourceAddress => "ip saddr",
        Field::DestinationAddress => "ip daddr",
        Field::Protocol => "meta l4proto",
        Field::SourcePort => "th sport",
        Field::DestinationPort => "th dport",
        Field::IcmpType => "icmp type",
        Field::Mark => "meta mark",
        Field::ConnectionState => "ct state",
        Field::InputName => "iifname",
        Field::OutputName => "oifname",
        Field::InputIndex => "iif",
        Field::OutputIndex => "oif",
        _ => "…",
    });
    words.collect::<Vec<_>>().join(" . ")
}

fn set_name(set: &SetName) -> &str {
    match set {
        SetName::Ipset(name) | SetName::Table(name) => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> NetfilterRule {
        let compare = |field, mask, value, invert| {
            RulePart::Compare(Comparison { field, mask, ranges: vec![(value, value)], invert })
        };
        NetfilterRule {
            number: 2,
            handle: Some(7),
            comments: vec!["no \"thanks\"".to_owned()],
            parts: vec![
                compare(Field::SourceAddress, 0xffff_0000, 0x0ac8_0000, true),
                compare(Field::Protocol, u32::MAX, 6, false),
                compare(Field::DestinationPort, u32::MAX, 80, false),
                RulePart::Compare(Comparison::any_bit(Field::ConnectionState, 3)),
                RulePart::Device(DeviceMatch {
                    side: Side::Input,
                    name: "cali".into(),
                    prefix: true,
                    invert: false,
                }),
                RulePart::Verdict(Verdict::Drop),
            ],
            ..NetfilterRule::default()
        }
    }

    #[test]
    fn a_rule_reads_as_its_program_prints_it() {
        assert_eq!(
            text(Tool::IptablesLegacy, &rule()),
            "! -s 10.200.0.0/16 -p tcp --dport 80 -m conntrack --ctstate INVALID,ESTABLISHED -i cali+ -j DROP \
             -m comment --comment \"no \\\"thanks\\\"\""
        );
        assert_eq!(
            text(Tool::Nft, &rule()),
            "ip saddr != 10.200.0.0/16 meta l4proto tcp tcp dport 80 ct state invalid,established iifname \
             \"cali*\" drop comment \"no \\\"thanks\\\"\""
        );
    }
}
