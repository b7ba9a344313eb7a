//! Matches and targets of `x_tables`: the same structures in the entries of `ip_tables` and in the `match` and
//! `target` expressions by which `iptables-nft` hands them to `nf_tables`. Numbers are in host byte order unless a
//! field says otherwise (`linux/netfilter/xt_*.h`).

use super::ipsets::Ipsets;
use crate::sample::{
    Comparison, ConnectionState, End, Field, Membership, NetfilterRule, RulePart, SetName, Side, Verdict,
};

/// Bytes of one structure; whatever lies beyond its end is not there.
#[derive(Clone, Copy)]
pub struct Blob<'a>(pub &'a [u8]);

impl Blob<'_> {
    pub fn byte(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    pub fn half(self, at: usize) -> Option<u16> {
        Some(u16::from_ne_bytes(*self.0.get(at..)?.first_chunk()?))
    }

    pub fn word(self, at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(*self.0.get(at..)?.first_chunk()?))
    }

    /// Text up to its terminating zero, in at most this many bytes.
    pub fn text(self, at: usize, length: usize) -> Option<String> {
        let field = self.0.get(at..)?;
        let field = &field[..length.min(field.len())];
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
        Some(String::from_utf8_lossy(&field[..end]).into_owned())
    }
}

/// Adds a match to a rule; one that is not understood is added by its name.
pub fn add_match(rule: &mut NetfilterRule, name: &str, revision: u8, info: &[u8], ipsets: &Ipsets) {
    let info = Blob(info);
    if name == "comment" {
        rule.comments.extend(info.text(0, 256));
        return;
    }
    let parts = match (name, revision) {
        ("tcp", 0) => tcp(info),
        ("udp", 0) => udp(info),
        ("icmp", 0) => icmp(info),
        ("multiport", 1) => multiport(info),
        ("mark", 1) => mark(info),
        ("conntrack", 1..=3) => conntrack(info, revision),
        ("state", 0) => state(info),
        ("addrtype", 1) => address_type(info),
        ("rpfilter", 0) => reverse_path(info),
        ("physdev", _) => physical_device(info),
        ("set", 1..=4) => set(info, revision, ipsets),
        _ => None,
    };
    match parts {
        Some(parts) => rule.parts.extend(parts),
        None => rule.parts.push(RulePart::NotUnderstood(name.to_owned())),
    }
}

/// Adds a target that is not the standard one (a verdict or a jump).
pub fn add_target(rule: &mut NetfilterRule, name: &str, revision: u8, info: &[u8]) {
    let info = Blob(info);
    let part = match name {
        "REJECT" => RulePart::Verdict(Verdict::Reject),
        "MARK" if revision == 2 => set_mark(info).unwrap_or(RulePart::LoseMark(u32::MAX)),
        "MARK" => RulePart::LoseMark(u32::MAX),
        "CONNMARK" => connection_mark(info, revision),
        "NFQUEUE" => RulePart::Verdict(Verdict::Queue),
        "MASQUERADE" | "SNAT" | "DNAT" | "REDIRECT" | "NETMAP" => {
            RulePart::Verdict(Verdict::Rewrite(name.to_owned()))
        }
        "LOG" | "NFLOG" | "ULOG" | "CT" | "NOTRACK" | "TCPMSS" | "TTL" | "TOS" | "DSCP" | "ECN"
        | "CHECKSUM" | "TRACE" | "SET" | "TEE" | "CLASSIFY" | "AUDIT" | "IDLETIMER" | "SECMARK"
        | "CONNSECMARK" | "RATEEST" | "TCPOPTSTRIP" | "LED" => RulePart::Aside(name.to_owned()),
        other => RulePart::Verdict(Verdict::Other(other.to_owned())),
    };
    rule.parts.push(part);
}

fn compare(field: Field, ranges: Vec<(u32, u32)>, invert: bool) -> RulePart {
    RulePart::Compare(Comparison { field, mask: u32::MAX, ranges, invert })
}

/// Asks for a range of ports, unless it holds every one.
fn add_ports(parts: &mut Vec<RulePart>, field: Field, info: Blob<'_>, at: usize, invert: bool) -> Option<()> {
    let (from, to) = (u32::from(info.half(at)?), u32::from(info.half(at + 2)?));
    if from != 0 || to != u32::from(u16::MAX) || invert {
        parts.push(compare(field, vec![(from, to)], invert));
    }
    Some(())
}

/// `struct xt_tcp`.
fn tcp(info: Blob<'_>) -> Option<Vec<RulePart>> {
    let inverted = info.byte(11)?;
    let mut parts = Vec::new();
    add_ports(&mut parts, Field::SourcePort, info, 0, inverted & 1 != 0)?;
    add_ports(&mut parts, Field::DestinationPort, info, 4, inverted & 2 != 0)?;
    let (option, mask, wanted) = (info.byte(8)?, info.byte(9)?, info.byte(10)?);
    if option != 0 {
        parts.push(RulePart::NotUnderstood("tcp --tcp-option".to_owned()));
    }
    if mask != 0 {
        parts.push(RulePart::Compare(Comparison {
            field: Field::TcpFlags,
            mask: u32::from(mask),
            ranges: vec![(u32::from(wanted), u32::from(wanted))],
            invert: inverted & 4 != 0,
        }));
    }
    Some(parts)
}

/// `struct xt_udp`.
fn udp(info: Blob<'_>) -> Option<Vec<RulePart>> {
    let inverted = info.byte(8)?;
    let mut parts = Vec::new();
    add_ports(&mut parts, Field::SourcePort, info, 0, inverted & 1 != 0)?;
    add_ports(&mut parts, Field::DestinationPort, info, 4, inverted & 2 != 0)?;
    Some(parts)
}

/// `struct ipt_icmp`: a type, 255 for any, and a range of codes.
fn icmp(info: Blob<'_>) -> Option<Vec<RulePart>> {
    let (kind, from, to) = (u32::from(info.byte(0)?), u32::from(info.byte(1)?), u32::from(info.byte(2)?));
    let inverted = info.byte(3)? & 1 != 0;
    if kind == 255 {
        return (!inverted).then(Vec::new);
    }
    let of_type = compare(Field::IcmpType, vec![(kind, kind)], inverted);
    match (from, to) {
        (0, 255) => Some(vec![of_type]),
        // The opposite of a conjunction is not a list of parts.
        _ if inverted => None,
        _ => Some(vec![of_type, compare(Field::IcmpCode, vec![(from, to)], false)]),
    }
}

/// `struct xt_multiport_v1`: up to 15 ports; where a flag is set, this and the next are the ends of a range.
fn multiport(info: Blob<'_>) -> Option<Vec<RulePart>> {
    const PORTS: usize = 15;
    let field = match info.byte(0)? {
        0 => Field::SourcePort,
        1 => Field::DestinationPort,
        _ => return None,
    };
    let count = usize::from(info.byte(1)?).min(PORTS);
    let port = |index: usize| info.half(2 + 2 * index).map(u32::from);
    let mut ranges = Vec::new();
    let mut index = 0;
    while index < count {
        let from = port(index)?;
        if info.byte(2 + 2 * PORTS + index)? != 0 && index + 1 < count {
            index += 1;
        }
        ranges.push((from, port(index)?));
        index += 1;
    }
    Some(vec![compare(field, ranges, info.byte(2 + 3 * PORTS)? != 0)])
}

/// `struct xt_mark_mtinfo1`.
fn mark(info: Blob<'_>) -> Option<Vec<RulePart>> {
    let (value, mask) = (info.word(0)?, info.word(4)?);
    let invert = info.byte(8)? != 0;
    Some(vec![RulePart::Compare(Comparison {
        field: Field::Mark,
        mask,
        ranges: vec![(value, value)],
        invert,
    })])
}

/// `struct xt_conntrack_mtinfo1` to `3`, as far as they ask for the state alone.
fn conntrack(info: Blob<'_>, revision: u8) -> Option<Vec<RulePart>> {
    const FLAGS: usize = 146;
    /// `XT_CONNTRACK_STATE`, with or without `XT_CONNTRACK_STATE_ALIAS`.
    const STATE: u16 = 1;
    const STATE_ALIAS: u16 = 1 << 13;
    let (asked, inverted) = (info.half(FLAGS)?, info.half(FLAGS + 2)?);
    if asked & !STATE_ALIAS != STATE {
        return None;
    }
    let mask = match revision {
        1 => u32::from(info.byte(FLAGS + 4)?),
        _ => u32::from(info.half(FLAGS + 4)?),
    };
    states(mask, inverted & STATE != 0)
}

/// `struct xt_state_info`.
fn state(info: Blob<'_>) -> Option<Vec<RulePart>> {
    states(info.word(0)?, false)
}

/// `XT_CONNTRACK_STATE_*`: the four lowest are as `nf_tables` has them; three more say whether addresses were
/// rewritten, and that the packet is not tracked.
fn states(mask: u32, invert: bool) -> Option<Vec<RulePart>> {
    const TRACKED: u32 = 0xf;
    const SOURCE_REWRITTEN: u32 = 1 << 6;
    const DESTINATION_REWRITTEN: u32 = 1 << 7;
    const UNTRACKED: u32 = 1 << 8;
    /// `IPS_SRC_NAT` and `IPS_DST_NAT`.
    const STATUS: [(u32, u32); 2] = [(SOURCE_REWRITTEN, 1 << 4), (DESTINATION_REWRITTEN, 1 << 5)];
    let untracked = if mask & UNTRACKED == 0 { 0 } else { ConnectionState::Untracked.bit() };
    let state = (mask & TRACKED) | untracked;
    let status: u32 = STATUS.iter().filter(|(bit, _)| mask & bit != 0).map(|(_, status)| status).sum();
    let mut comparison = match (state, status) {
        (_, 0) => Comparison::any_bit(Field::ConnectionState, state),
        (0, _) => Comparison::any_bit(Field::ConnectionStatus, status),
        // Either of two fields is not a list of parts.
        _ => return None,
    };
    comparison.invert ^= invert;
    Some(vec![RulePart::Compare(comparison)])
}

/// `struct xt_addrtype_info_v1`: sets of `RTN_*`, one bit for each.
fn address_type(info: Blob<'_>) -> Option<Vec<RulePart>> {
    const INVERT_SOURCE: u32 = 1;
    const INVERT_DESTINATION: u32 = 2;
    const AT_INPUT: u32 = 4;
    const AT_OUTPUT: u32 = 8;
    let flags = info.word(4)?;
    let at = match (flags & AT_INPUT != 0, flags & AT_OUTPUT != 0) {
        (true, _) => Some(Side::Input),
        (_, true) => Some(Side::Output),
        _ => None,
    };
    let of = |of, types: u16, invert: u32| {
        let ranges = (0..16).filter(|bit| types & (1 << bit) != 0).map(|bit| (bit, bit)).collect();
        (types != 0).then(|| compare(Field::AddressType { of, at }, ranges, flags & invert != 0))
    };
    let source = of(End::Source, info.half(0)?, INVERT_SOURCE);
    Some(source.into_iter().chain(of(End::Destination, info.half(2)?, INVERT_DESTINATION)).collect())
}

/// `struct xt_rpfilter_info`.
fn reverse_path(info: Blob<'_>) -> Option<Vec<RulePart>> {
    const LOOSE: u8 = 1;
    const MARKED: u8 = 2;
    const ACCEPT_LOCAL: u8 = 4;
    const INVERT: u8 = 8;
    let flags = info.byte(0)?;
    if flags & ACCEPT_LOCAL != 0 {
        return None;
    }
    let field = Field::ReversePath { marked: flags & MARKED != 0, strict: flags & LOOSE == 0 };
    Some(vec![compare(field, vec![(1, 1)], flags & INVERT != 0)])
}

/// `struct xt_physdev_info`. A packet that crosses no bridge has no physical device; then only options that are
/// inverted hold (`net/netfilter/xt_physdev.c`). Pods' devices and `tunl0` are ports of none.
fn physical_device(info: Blob<'_>) -> Option<Vec<RulePart>> {
    let (inverted, asked) = (info.byte(64)?, info.byte(65)?);
    if asked & !inverted == 0 {
        return Some(Vec::new());
    }
    None
}

/// `struct xt_set_info`, which the information of each revision but the first begins with. Later ones may ask for
/// the members' counters too.
fn set(info: Blob<'_>, revision: u8, ipsets: &Ipsets) -> Option<Vec<RulePart>> {
    const INVERT: u8 = 1;
    const RETURN_NO_MATCH: u8 = 1 << 7;
    let counters: &[usize] = match revision {
        3 => &[8, 24],
        4 => &[16, 32],
        _ => &[],
    };
    let (index, dimensions, flags) = (info.half(0)?, info.byte(2)?, info.byte(3)?);
    if flags & RETURN_NO_MATCH != 0 || counters.iter().any(|at| info.byte(*at) != Some(0)) {
        return None;
    }
    let set = ipsets.header(index)?;
    // The lowest bit of the flags inverts; then comes one for each dimension.
    let key = set.key(usize::from(dimensions), |dimension| (flags >> 1) & (1 << dimension.min(7)) != 0)?;
    let membership = Membership { set: SetName::Ipset(set.name.clone()), key, invert: flags & INVERT != 0 };
    Some(vec![RulePart::Member(membership)])
}

/// `struct xt_mark_tginfo2`.
fn set_mark(info: Blob<'_>) -> Option<RulePart> {
    Some(RulePart::SetMark { xor: info.word(0)?, keep: !info.word(4)? })
}

/// `struct xt_connmark_tginfo1` and `2`: only restoring the connection's mark changes the packet's.
fn connection_mark(info: Blob<'_>, revision: u8) -> RulePart {
    const RESTORE: u8 = 2;
    let mode = info.byte(if revision == 1 { 12 } else { 14 });
    match (mode, info.word(8)) {
        (Some(RESTORE), Some(bits)) => RulePart::LoseMark(bits),
        (Some(mode), Some(_)) if mode < RESTORE => RulePart::Aside("CONNMARK".to_owned()),
        _ => RulePart::LoseMark(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts_of(name: &str, revision: u8, info: &[u8]) -> Vec<RulePart> {
        let mut rule = NetfilterRule::default();
        add_match(&mut rule, name, revision, info, &Ipsets::none());
        rule.parts
    }

    #[test]
    fn ranges_of_ports_are_read_to_the_last() {
        let mut info = vec![1, 3];
        for port in [80u16, 1000, 2000] {
            info.extend(port.to_ne_bytes());
        }
        info.resize(2 + 30, 0);
        info.extend([0, 1, 0]);
        info.resize(48, 0);
        let ranges = vec![(80, 80), (1000, 2000)];
        assert_eq!(
            parts_of("multiport", 1, &info),
            [RulePart::Compare(Comparison {
                field: Field::DestinationPort,
                mask: u32::MAX,
                ranges,
                invert: false
            })]
        );
    }

    #[test]
    fn a_state_and_a_rewritten_address_together_are_not_decided() {
        assert_eq!(parts_of("state", 0, &0x42u32.to_ne_bytes()), [RulePart::NotUnderstood("state".into())]);
        assert_eq!(
            parts_of("state", 0, &0x101u32.to_ne_bytes()),
            [RulePart::Compare(Comparison::any_bit(Field::ConnectionState, 65))]
        );
    }

    #[test]
    fn restoring_a_connections_mark_makes_the_packets_unknown() {
        let mut rule = NetfilterRule::default();
        let info: Vec<u8> = [0u32, u32::MAX, 0xff00, 2].into_iter().flat_map(u32::to_ne_bytes).collect();
        add_target(&mut rule, "CONNMARK", 1, &info);
        assert_eq!(rule.parts, [RulePart::LoseMark(0xff00)]);
    }

    const NAMES: [&str; 12] = [
        "comment",
        "tcp",
        "udp",
        "icmp",
        "multiport",
        "mark",
        "conntrack",
        "state",
        "addrtype",
        "rpfilter",
        "physdev",
        "set",
    ];

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(
            name in prop::sample::select(&NAMES[..]),
            target in prop::sample::select(&["MARK", "CONNMARK", "REJECT", "LOG", "X"][..]),
            revision in 0u8..5,
            info in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut rule = NetfilterRule::default();
            add_match(&mut rule, name, revision, &info, &Ipsets::none());
            add_target(&mut rule, target, revision, &info);
            prop_assert!(rule.parts.len() <= 5);
        }
    }
}
