//! `ip rule`: `PRIORITY: [not] from … lookup TABLE` (iproute2, `ip/iprule.c`).

use ipnet::Ipv4Net;

use super::{
    ip_route,
    readings::Unreadable,
    values::{self, Shown},
};
use crate::sample::{Rule, RuleAction};

pub fn begins(line: &str) -> bool {
    split(line).is_some()
}

fn split(line: &str) -> Option<(u32, &str)> {
    let (priority, rest) = line.trim_start().split_once(':')?;
    let rest = rest.trim();
    (rest.starts_with("from ") || rest.starts_with("not ")).then_some(())?;
    Some((priority.parse().ok()?, rest))
}

/// Reads the rules in their order.
pub fn read(lines: &[String]) -> (Vec<Rule>, Vec<Unreadable>) {
    let mut rules = Vec::new();
    let mut unreadable = Vec::new();
    for line in lines {
        match split(line).map(|(priority, rest)| rule(priority, rest)) {
            Some(Ok(rule)) => rules.push(rule),
            Some(Err(why)) => unreadable.push(Unreadable::new(line, why)),
            None => {}
        }
    }
    (rules, unreadable)
}

fn rule(priority: u32, text: &str) -> Result<Rule, &'static str> {
    let mut rule = Rule { action: RuleAction::Nop, ..Rule::for_all(priority, 0) };
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "not" => rule.invert = true,
            "nop" => rule.action = RuleAction::Nop,
            "blackhole" => rule.action = RuleAction::Blackhole,
            "unreachable" => rule.action = RuleAction::Unreachable,
            "prohibit" => rule.action = RuleAction::Prohibit,
            "[detached]" | "[unresolved]" => {}
            _ => {
                let value = words.next().ok_or("it ends in the middle")?;
                take(&mut rule, word, value)?;
            }
        }
    }
    Ok(rule)
}

fn take(rule: &mut Rule, word: &str, value: &str) -> Result<(), &'static str> {
    let number = || value.parse().map_err(|_| "a number is none");
    match word {
        "from" => rule.source = network(value)?,
        "to" => rule.destination = network(value)?,
        "iif" => rule.input_interface = Some(value.to_owned()),
        "oif" => rule.output_interface = Some(value.to_owned()),
        "lookup" | "table" => rule.action = RuleAction::LookUp(ip_route::table(value)),
        "goto" => rule.action = RuleAction::Goto(number()?),
        "fwmark" => (rule.mark, rule.mark_mask) = mark(value).ok_or("its mark is none")?,
        "tos" | "dsfield" => {
            rule.tos =
                u8::from_str_radix(value.trim_start_matches("0x"), 16).map_err(|_| "its tos is none")?;
        }
        "suppress_prefixlength" => rule.suppress_prefix_length = Some(number()?),
        "proto" | "protocol" => {}
        other => rule.unsupported.push(other.chars().take(20).collect()),
    }
    Ok(())
}

fn network(value: &str) -> Result<Option<Ipv4Net>, &'static str> {
    match (value, values::network(value)) {
        ("all", _) => Ok(None),
        (_, Some(Shown::Whole(network))) => Ok(Some(network)),
        _ => Err("its network is masked"),
    }
}

/// `0x10000/0x10000`; without a mask all bits count.
fn mark(value: &str) -> Option<(u32, u32)> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    match value.split_once('/') {
        Some((mark, bits)) => Some((number(mark)?, number(bits)?)),
        None => Some((number(value)?, u32::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rules_are_read_as_ip_prints_them() {
        let text = "0:\tfrom all lookup local\n100: not from 10.0.0.0/8 fwmark 0x10000/0x10000 iif cali1 lookup 100\n200: from all uidrange 0-99 lookup main\n300: from x.x.0.1 lookup 7\n32766: from all lookup main suppress_prefixlength 0";
        let (rules, unreadable) = read(&text.lines().map(str::to_owned).collect::<Vec<_>>());
        let [local, marked, by_user, main] = rules.as_slice() else { panic!("{rules:#?}") };
        assert_eq!((local.priority, local.action), (0, RuleAction::LookUp(255)));
        assert!(marked.invert && marked.mark == 0x10000 && marked.action == RuleAction::LookUp(100));
        assert_eq!(by_user.unsupported, ["uidrange"]);
        assert_eq!(main.suppress_prefix_length, Some(0));
        assert_eq!(unreadable.len(), 1);
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_a_panic(line in any::<String>(), like in "[0-9]{1,6}: from( [a-z0-9./x]{1,10}){0,6}") {
            let _ = read(&[line, like]);
        }
    }
}
