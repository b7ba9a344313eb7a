//! Whether a packet satisfies one part of a rule.

use super::{Bits, Device, Firewall, Packet, Table, Transport, Truth};
use crate::{
    model::{
        Model,
        routing::{Decision, Flow, look_up},
    },
    sample::{DeviceMatch, End, Field, KeyPart, Member, Membership, RouteKind, RulePart, Side, Verdict},
};

/// `NFPROTO_IPV4`.
const IPV4: u32 = 2;
/// `RTN_*` of `linux/rtnetlink.h`.
const TYPE_UNICAST: u32 = 1;
const TYPE_LOCAL: u32 = 2;
const TYPE_BROADCAST: u32 = 3;
const TYPE_MULTICAST: u32 = 5;

/// A packet in front of a rule of a table.
#[derive(Clone, Copy)]
pub struct Question<'q, 'a> {
    pub model: &'q Model<'q>,
    pub firewall: &'q Firewall<'a>,
    pub packet: &'q Packet<'q>,
    pub mark: Bits,
}

/// What a look-up in a map comes to.
pub enum Found<'a> {
    /// The verdict that it holds for the packet.
    Verdict(&'a Verdict),
    Nothing,
    /// Any of these, or none.
    AnyOf(Vec<&'a Verdict>),
    /// The map was not read.
    Unknown,
}

/// The value of one field.
enum Value<'q> {
    Number(Bits),
    Name(Device<'q>),
}

impl<'a> Question<'_, 'a> {
    /// Whether the packet satisfies a part that asks; parts that do something are always satisfied.
    pub fn answer(&self, table: &Table<'a>, part: &RulePart) -> Truth {
        match part {
            RulePart::Compare(comparison) => self.number(comparison.field).satisfies(comparison),
            RulePart::Device(device) => self.device(device),
            RulePart::Member(membership) => self.is_member(table, membership).inverted(membership.invert),
            RulePart::NotUnderstood(_) => Truth::Undecided,
            RulePart::SetMark { .. }
            | RulePart::LoseMark(_)
            | RulePart::Aside(_)
            | RulePart::Verdict(_)
            | RulePart::VerdictMap(_) => Truth::Yes,
        }
    }

    fn value(&self, field: Field) -> Value<'_> {
        match field {
            Field::InputName => Value::Name(self.packet.input),
            Field::OutputName => Value::Name(self.packet.output),
            field => Value::Number(self.number(field)),
        }
    }

    fn number(&self, field: Field) -> Bits {
        let packet = self.packet;
        let told = |number: Option<u32>| number.map_or(Bits::UNKNOWN, Bits::exactly);
        match field {
            Field::SourceAddress => Bits::exactly(packet.source.to_bits()),
            Field::DestinationAddress => Bits::exactly(packet.destination.to_bits()),
            Field::Protocol => Bits::exactly(u32::from(packet.protocol)),
            Field::SourcePort
            | Field::DestinationPort
            | Field::TcpFlags
            | Field::IcmpType
            | Field::IcmpCode => told(packet.transport.number(field)),
            // Probes are never fragmented.
            Field::LaterFragment => Bits::exactly(0),
            Field::Family => Bits::exactly(IPV4),
            Field::Mark => self.mark,
            Field::ConnectionState => told(packet.connection.map(crate::sample::ConnectionState::bit)),
            Field::InputIndex => packet.input.index(),
            Field::OutputIndex => packet.output.index(),
            Field::AddressType { of, at } => told(self.address_type(of, at)),
            Field::ReversePath { marked, strict } => told(self.reverse_path(marked, strict).map(u32::from)),
            Field::ConnectionStatus | Field::InputName | Field::OutputName => Bits::UNKNOWN,
        }
    }

    fn device(&self, wanted: &DeviceMatch) -> Truth {
        let device = match wanted.side {
            Side::Input => self.packet.input,
            Side::Output => self.packet.output,
        };
        let name = match device {
            Device::Known { name, .. } => name,
            // Whether an absent device differs from every name is for kernels to disagree on.
            Device::Absent if wanted.invert => return Truth::Undecided,
            Device::Absent => return Truth::of(wanted.prefix && wanted.name.is_empty()),
            Device::Unknown => return Truth::Undecided,
        };
        let fits = if wanted.prefix { name.starts_with(&wanted.name) } else { name == wanted.name };
        Truth::of(fits).inverted(wanted.invert)
    }

    /// `inet_dev_addr_type` of `net/ipv4/fib_frontend.c`: what the local table says of an address.
    fn address_type(&self, of: End, at: Option<Side>) -> Option<u32> {
        let address = match of {
            End::Source => self.packet.source,
            End::Destination => self.packet.destination,
        };
        if address.octets()[0] == 0 || address.is_broadcast() {
            return Some(TYPE_BROADCAST);
        }
        if address.is_multicast() {
            return Some(TYPE_MULTICAST);
        }
        if !self.model.tables.has_local() {
            return None;
        }
        let Some(route) = self.model.tables.find_local(address) else { return Some(TYPE_UNICAST) };
        let device = match at {
            None => None,
            Some(side) => {
                let device = if side == Side::Input { self.packet.input } else { self.packet.output };
                match device {
                    Device::Known { index, .. } => Some(index),
                    Device::Absent | Device::Unknown => return None,
                }
            }
        };
        if device.is_some_and(|index| route.hops.first().is_none_or(|hop| hop.link != Some(index))) {
            return Some(TYPE_UNICAST);
        }
        match route.kind {
            RouteKind::Local => Some(TYPE_LOCAL),
            RouteKind::Broadcast => Some(TYPE_BROADCAST),
            RouteKind::Unicast => Some(TYPE_UNICAST),
            RouteKind::Multicast => Some(TYPE_MULTICAST),
            _ => None,
        }
    }

    /// Whether the way back to the source passes (`net/ipv4/netfilter/ipt_rpfilter.c`, `nft_fib_ipv4.c`).
    fn reverse_path(&self, marked: bool, strict: bool) -> Option<bool> {
        let Device::Known { index, name } = self.packet.input else { return None };
        if name == "lo" {
            return Some(true);
        }
        let rules = &self.model.sample.rules;
        if marked && rules.iter().any(|rule| rule.mark_mask & !self.mark.known != 0) {
            return None;
        }
        let mark = if marked { self.mark.value } else { 0 };
        let back = Flow {
            source: Some(self.packet.destination),
            destination: self.packet.source,
            input_link: None,
            mark,
            tos: 0,
        };
        match look_up(self.model, &back) {
            Decision::Route { route, hops } if route.kind == RouteKind::Unicast => {
                Some(!strict || hops.iter().any(|hop| hop.link == Some(index)))
            }
            Decision::Undecided { .. } => None,
            Decision::Route { .. } | Decision::Rule { .. } | Decision::NoRoute => Some(false),
        }
    }

    fn is_member(&self, table: &Table<'a>, membership: &Membership) -> Truth {
        let Some(members) = self.members(table, membership) else { return Truth::Undecided };
        let answers = || members.iter().map(|member| (member, self.fits(membership, member)));
        let undecided = answers().any(|(_, fits)| fits == Truth::Undecided);
        let fitting: Vec<&Member> =
            answers().filter(|(_, fits)| *fits == Truth::Yes).map(|(member, _)| member).collect();
        if fitting.iter().all(|member| !member.excluded) {
            return match (fitting.is_empty(), undecided) {
                (_, true) if answers().any(|(member, fits)| member.excluded && fits != Truth::No) => {
                    Truth::Undecided
                }
                (false, _) => Truth::Yes,
                (true, true) => Truth::Undecided,
                (true, false) => Truth::No,
            };
        }
        // The narrowest network that holds the address decides, as ipsets look for it.
        let narrowest = fitting.iter().min_by_key(|member| width(member));
        match narrowest {
            Some(member) if !undecided && membership.key.len() == 1 => Truth::of(!member.excluded),
            _ => Truth::Undecided,
        }
    }

    /// The verdict that a map holds for the packet.
    pub fn find(&self, table: &Table<'a>, membership: &Membership) -> Found<'a> {
        let Some(members) = self.members(table, membership) else { return Found::Unknown };
        let mut possible = Vec::new();
        for member in members {
            match (self.fits(membership, member), &member.verdict) {
                (Truth::Yes, Some(verdict)) if possible.is_empty() => return Found::Verdict(verdict),
                (Truth::Yes | Truth::Undecided, Some(verdict)) if !possible.contains(&verdict) => {
                    possible.push(verdict);
                }
                (Truth::Yes | Truth::Undecided, None) => return Found::Unknown,
                _ => {}
            }
        }
        if possible.is_empty() { Found::Nothing } else { Found::AnyOf(possible) }
    }

    fn members(&self, table: &Table<'a>, membership: &Membership) -> Option<&'a [Member]> {
        let set = table.set(self.firewall, &membership.set)?;
        Some(set.members.known()?.as_slice())
    }

    fn fits(&self, membership: &Membership, member: &Member) -> Truth {
        if membership.key.len() != member.key.len() {
            return Truth::Undecided;
        }
        let parts = membership.key.iter().zip(&member.key);
        parts.fold(Truth::Yes, |fits, (field, part)| match fits {
            Truth::No => fits,
            _ => fits.and(self.fits_part(*field, part)),
        })
    }

    fn fits_part(&self, field: Field, part: &KeyPart) -> Truth {
        match (self.value(field), part) {
            (Value::Number(bits), KeyPart::Range(from, to)) => bits.within(u32::MAX, (*from, *to)),
            (Value::Name(Device::Known { name, .. }), KeyPart::Name(wanted)) => Truth::of(name == wanted),
            (Value::Name(Device::Absent), KeyPart::Name(wanted)) => Truth::of(wanted.is_empty()),
            _ => Truth::Undecided,
        }
    }
}

fn width(member: &Member) -> u32 {
    match member.key.first() {
        Some(KeyPart::Range(from, to)) => to.wrapping_sub(*from),
        _ => u32::MAX,
    }
}

impl Device<'_> {
    fn index(self) -> Bits {
        match self {
            Self::Known { index, .. } => Bits::exactly(index),
            Self::Absent | Self::Unknown => Bits::UNKNOWN,
        }
    }
}

impl Transport {
    fn number(self, field: Field) -> Option<u32> {
        match (self, field) {
            (Self::Icmp { icmp_type, .. }, Field::IcmpType) => Some(u32::from(icmp_type)),
            (Self::Icmp { code, .. }, Field::IcmpCode) => Some(u32::from(code)),
            (Self::Ports { source, .. }, Field::SourcePort) => source.map(u32::from),
            (Self::Ports { destination, .. }, Field::DestinationPort) => destination.map(u32::from),
            (Self::Ports { tcp_flags, .. }, Field::TcpFlags) => tcp_flags.map(u32::from),
            _ => None,
        }
    }
}
