//! One rule as `iptables-save` prints it. An option that is not known makes the rule undecided.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::sample::{
    Comparison, ConnectionState, DeviceMatch, End, Field, Membership, NetfilterRule, RulePart, SetName, Side,
    Verdict,
};

const PROTOCOLS: [(&str, u32); 7] =
    [("icmp", 1), ("ipencap", 4), ("ipv4", 4), ("tcp", 6), ("udp", 17), ("esp", 50), ("sctp", 132)];
/// Names of `-m addrtype`, as the kernel numbers the types of routes.
const ADDRESS_TYPES: [(&str, u32); 4] = [("UNICAST", 1), ("LOCAL", 2), ("BROADCAST", 3), ("MULTICAST", 5)];

/// Reads what stands behind `-A CHAIN`.
pub fn read(text: &str) -> NetfilterRule {
    let mut rule = NetfilterRule::default();
    let words = words(text);
    let mut rest = words.as_slice();
    let mut invert = false;
    while let Some((option, behind)) = rest.split_first() {
        if option == "!" {
            (invert, rest) = (true, behind);
            continue;
        }
        let values = behind.iter().take_while(|word| !word.starts_with("--") && !is_short(word)).count();
        let (values, next) = behind.split_at(values.min(2));
        enter(&mut rule, option, values, invert);
        // A set's name and its directions, or a list and the `!` of what follows.
        invert = values.last().is_some_and(|value| value == "!");
        rest = next;
    }
    rule
}

fn is_short(word: &str) -> bool {
    word.len() == 2 && word.starts_with('-')
}

/// Words between blanks; those in quotation marks hold blanks themselves.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' if quoted => word.get_or_insert_default().extend(characters.next()),
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            blank if blank.is_whitespace() && !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

fn enter(rule: &mut NetfilterRule, option: &str, values: &[String], invert: bool) {
    let value = values.first().map_or("", String::as_str);
    let part = match option {
        // What a match asks is said by its own options.
        "-m" => return rule.parts.extend(silent_match(value)),
        "--comment" => return rule.comments.push(value.to_owned()),
        "--reject-with" | "--random-fully" | "--to-destination" | "--to-source" | "--to-ports" => return,
        "--set-xmark" | "--set-mark" => return set_mark(rule, value),
        "-j" => verdict(value),
        "-g" => Some(RulePart::Verdict(Verdict::Goto(value.to_owned()))),
        "-s" => network(Field::SourceAddress, value, invert),
        "-d" => network(Field::DestinationAddress, value, invert),
        "-p" => protocol(value, invert),
        "-i" => Some(device(Side::Input, value, invert)),
        "-o" => Some(device(Side::Output, value, invert)),
        "--mark" => mark(value, invert),
        "--ctstate" | "--state" => states(value, invert),
        "--dport" | "--dports" | "--destination-ports" => ports(Field::DestinationPort, value, invert),
        "--sport" | "--sports" | "--source-ports" => ports(Field::SourcePort, value, invert),
        "--src-type" => address_type(End::Source, value, invert),
        "--dst-type" => address_type(End::Destination, value, invert),
        "--match-set" => set(value, values.get(1).map_or("", String::as_str), invert),
        _ => None,
    };
    rule.parts
        .push(part.unwrap_or_else(|| RulePart::NotUnderstood(option.trim_start_matches('-').to_owned())));
}

/// Matches that ask something without any option of their own are not understood.
fn silent_match(name: &str) -> Option<RulePart> {
    const SPEAKING: [&str; 10] =
        ["comment", "mark", "conntrack", "state", "set", "addrtype", "multiport", "tcp", "udp", "icmp"];
    (!SPEAKING.contains(&name)).then(|| RulePart::NotUnderstood(name.to_owned()))
}

fn compare(field: Field, mask: u32, ranges: Vec<(u32, u32)>, invert: bool) -> RulePart {
    RulePart::Compare(Comparison { field, mask, ranges, invert })
}

fn network(field: Field, text: &str, invert: bool) -> Option<RulePart> {
    let network: Ipv4Net = text.parse().or_else(|_| text.parse::<Ipv4Addr>().map(Ipv4Net::from)).ok()?;
    let value = network.network().to_bits();
    Some(compare(field, network.netmask().to_bits(), vec![(value, value)], invert))
}

fn protocol(text: &str, invert: bool) -> Option<RulePart> {
    let named = PROTOCOLS.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    let number = named.or_else(|| text.parse().ok())?;
    Some(compare(Field::Protocol, u32::MAX, vec![(number, number)], invert))
}

fn device(side: Side, text: &str, invert: bool) -> RulePart {
    let (name, prefix) = text.strip_suffix('+').map_or((text, false), |name| (name, true));
    RulePart::Device(DeviceMatch { side, name: name.to_owned(), prefix, invert })
}

/// A number in decimal or, with `0x`, in hexadecimal digits.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `VALUE` or `VALUE/MASK`.
fn masked(text: &str) -> Option<(u32, u32)> {
    match text.split_once('/') {
        Some((value, mask)) => Some((number(value)?, number(mask)?)),
        None => Some((number(text)?, u32::MAX)),
    }
}

fn mark(text: &str, invert: bool) -> Option<RulePart> {
    let (value, mask) = masked(text)?;
    Some(compare(Field::Mark, mask, vec![(value, value)], invert))
}

/// Stands behind `-j MARK`, which is replaced by what it sets.
fn set_mark(rule: &mut NetfilterRule, text: &str) {
    if matches!(rule.parts.last(), Some(RulePart::LoseMark(_))) {
        rule.parts.pop();
    }
    rule.parts.push(
        masked(text)
            .map_or(RulePart::LoseMark(u32::MAX), |(xor, mask)| RulePart::SetMark { keep: !mask, xor }),
    );
}

fn states(text: &str, invert: bool) -> Option<RulePart> {
    let bit = |name: &str| {
        Some(match name {
            "INVALID" => ConnectionState::Invalid.bit(),
            "ESTABLISHED" => ConnectionState::Established.bit(),
            "RELATED" => ConnectionState::Related.bit(),
            "NEW" => ConnectionState::New.bit(),
            "UNTRACKED" => ConnectionState::Untracked.bit(),
            _ => return None,
        })
    };
    let bits = text.split(',').map(bit).try_fold(0, |all, bit| Some(all | bit?))?;
    let mut comparison = Comparison::any_bit(Field::ConnectionState, bits);
    comparison.invert ^= invert;
    Some(RulePart::Compare(comparison))
}

fn ports(field: Field, text: &str, invert: bool) -> Option<RulePart> {
    let port = |text: &str| text.parse::<u16>().ok().map(u32::from);
    let range = |text: &str| match text.split_once(':') {
        Some((from, to)) => Some((port(from)?, port(to)?)),
        None => Some((port(text)?, port(text)?)),
    };
    Some(compare(field, u32::MAX, text.split(',').map(range).collect::<Option<_>>()?, invert))
}

fn address_type(of: End, text: &str, invert: bool) -> Option<RulePart> {
    let number =
        |name: &str| ADDRESS_TYPES.iter().find(|(other, _)| *other == name).map(|(_, number)| *number);
    let ranges = text.split(',').map(|name| number(name).map(|number| (number, number)));
    Some(compare(Field::AddressType { of, at: None }, u32::MAX, ranges.collect::<Option<_>>()?, invert))
}

fn set(name: &str, directions: &str, invert: bool) -> Option<RulePart> {
    let key = match directions {
        "src" => Field::SourceAddress,
        "dst" => Field::DestinationAddress,
        _ => return None,
    };
    let set = SetName::Ipset(name.to_owned());
    Some(RulePart::Member(Membership { set, key: vec![key], invert }))
}

fn verdict(target: &str) -> Option<RulePart> {
    Some(match target {
        "ACCEPT" => RulePart::Verdict(Verdict::Accept),
        "DROP" => RulePart::Verdict(Verdict::Drop),
        "REJECT" => RulePart::Verdict(Verdict::Reject),
        "RETURN" => RulePart::Verdict(Verdict::Return),
        "NFQUEUE" | "QUEUE" => RulePart::Verdict(Verdict::Queue),
        "MASQUERADE" | "SNAT" | "DNAT" | "REDIRECT" | "NETMAP" => {
            RulePart::Verdict(Verdict::Rewrite(target.to_owned()))
        }
        "MARK" | "CONNMARK" => RulePart::LoseMark(u32::MAX),
        "LOG" | "NFLOG" | "CT" | "NOTRACK" | "TCPMSS" | "CHECKSUM" | "TRACE" => {
            RulePart::Aside(target.to_owned())
        }
        "" => return None,
        // Targets are written in capitals; where a chain is, it is found, and where not, the walk is not complete.
        chain => RulePart::Verdict(Verdict::Jump(chain.to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_parts_of_a_rule_are_read_in_their_order() {
        let rule = read(
            "-s 10.0.0.0/8 ! -i cali+ -p tcp -m comment --comment \"cali:x\" -m comment --comment \"a \\\"b\\\"\" \
             -m mark ! --mark 0x1/0x3 -m multiport --dports 80,90:99 -m set --match-set hosts src -j DROP",
        );
        assert_eq!(rule.comments, ["cali:x", "a \"b\""]);
        let address = 0x0a00_0000;
        assert_eq!(
            rule.parts,
            [
                compare(Field::SourceAddress, 0xff00_0000, vec![(address, address)], false),
                device(Side::Input, "cali+", true),
                compare(Field::Protocol, u32::MAX, vec![(6, 6)], false),
                compare(Field::Mark, 3, vec![(1, 1)], true),
                compare(Field::DestinationPort, u32::MAX, vec![(80, 80), (90, 99)], false),
                set("hosts", "src", false).unwrap(),
                RulePart::Verdict(Verdict::Drop),
            ]
        );
    }

    #[test]
    fn what_is_not_known_makes_the_rule_undecided() {
        let rule = read("-m recent --rcheck -m hashlimit --hashlimit-upto 5/sec -j ACCEPT");
        assert!(rule.parts.contains(&RulePart::NotUnderstood("recent".into())));
        assert!(rule.parts.contains(&RulePart::NotUnderstood("hashlimit-upto".into())));
    }

    #[test]
    fn a_mark_is_set_by_what_stands_behind_its_target() {
        let rule = read("-j MARK --set-xmark 0x10000/0x30000");
        assert_eq!(rule.parts, [RulePart::SetMark { keep: !0x3_0000, xor: 0x1_0000 }]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,80}", like in "((-[sdipojgm]|--[a-z-]{3,12}|!|[a-zA-Z0-9./:,\"\\\\+]{0,12}) ){0,12}") {
            read(&text);
            read(&like);
        }
    }
}
