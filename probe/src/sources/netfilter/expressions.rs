//! The expressions of `nf_tables` rules (`linux/netfilter/nf_tables.h`). A rule is a small program: expressions
//! load fields of the packet into registers, change them, and compare them. Here each register holds what was
//! loaded into it, and a comparison becomes a part of the rule.

use std::collections::BTreeMap;

use super::{
    super::raw_netlink::{attribute, attributes, text},
    ipsets::Ipsets,
    nf_sets::{DeclaredSets, KeyField},
    nf_tables::{number, wide_number},
    xtables::{add_match, add_target},
};
use crate::sample::{
    Comparison, DeviceMatch, End, Field, Membership, NetfilterRule, RulePart, SetName, Side, Verdict,
};

const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
/// The verdict register.
const NO_REGISTER: u32 = 0;
const REGISTERS: usize = 16;
/// Bytes of the smallest register.
const REGISTER: usize = 4;
const DEVICE_NAME: usize = 16;

/// A number in a register: `((field >> shift) & width's bits & mask) ^ xor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Number {
    field: Field,
    /// Bytes that were loaded.
    width: usize,
    /// Bits of the field behind the loaded ones.
    shift: u32,
    mask: u32,
    xor: u32,
    big_endian: bool,
}

impl Number {
    fn host(field: Field) -> Self {
        Self { field, width: 4, shift: 0, mask: u32::MAX, xor: 0, big_endian: cfg!(target_endian = "big") }
    }

    fn network(field: Field, width: usize, shift: u32) -> Self {
        Self { field, width, shift, mask: u32::MAX, xor: 0, big_endian: true }
    }

    fn bits(&self) -> u32 {
        match self.width {
            1 => 0xff,
            2 => 0xffff,
            3 => 0x00ff_ffff,
            _ => u32::MAX,
        }
    }

    fn key_field(&self) -> Option<KeyField> {
        let whole = self.shift == 0 && self.mask & self.bits() == self.bits() && self.xor == 0;
        whole.then_some(KeyField { field: self.field, width: self.width, big_endian: self.big_endian })
    }

    fn read(&self, bytes: &[u8]) -> Option<u32> {
        read_number(bytes.get(..self.width)?, self.big_endian)
    }

    /// Whether the register has this value.
    fn equals(&self, value: u32, invert: bool) -> Comparison {
        let value = (value ^ self.xor) << self.shift;
        let mask = (self.mask & self.bits()) << self.shift;
        Comparison { field: self.field, mask, ranges: vec![(value, value)], invert }
    }

    /// Whether the register lies between two values; decided for whole fields alone.
    fn between(&self, from: u32, to: u32, invert: bool) -> Option<Comparison> {
        self.key_field()?;
        Some(Comparison { field: self.field, mask: self.bits(), ranges: vec![(from, to)], invert })
    }
}

/// A number of at most four bytes.
pub fn read_number(bytes: &[u8], big_endian: bool) -> Option<u32> {
    let fold = |number: u32, byte: &u8| number << 8 | u32::from(*byte);
    match (bytes.len(), big_endian) {
        (1..=4, true) => Some(bytes.iter().fold(0, fold)),
        (1..=4, false) => Some(bytes.iter().rev().fold(0, fold)),
        _ => None,
    }
}

/// What a register holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Loaded {
    /// Neighbouring fields, one behind the other, as a load of both ports gives them.
    Numbers(Vec<Number>),
    Name(Side),
    Constant(Vec<u8>),
    /// By the name of the expression that loaded it.
    Unknown(String),
}

/// Reads the rules of one table.
pub struct Decoder<'a> {
    ipsets: &'a Ipsets,
    sets: &'a DeclaredSets,
    registers: [Option<Loaded>; REGISTERS],
    /// The protocol that an earlier part of the rule demands: ports and ICMP types are at the same place.
    protocol: Option<u32>,
    /// How the sets that rules ask are keyed.
    keys: BTreeMap<String, Vec<KeyField>>,
}

impl<'a> Decoder<'a> {
    pub fn new(ipsets: &'a Ipsets, sets: &'a DeclaredSets) -> Self {
        Self { ipsets, sets, registers: Default::default(), protocol: None, keys: BTreeMap::new() }
    }

    /// The sets that the rules so far ask, and the fields of their keys.
    pub fn keys(&self) -> &BTreeMap<String, Vec<KeyField>> {
        &self.keys
    }

    /// Adds the parts that a list of expressions comes to.
    pub fn add(&mut self, list: &[u8], rule: &mut NetfilterRule) {
        self.registers = Default::default();
        self.protocol = None;
        for (_, expression) in attributes(list).filter(|(kind, _)| *kind == LIST_ELEMENT) {
            let name = attribute(expression, EXPRESSION_NAME).map(text).unwrap_or_default();
            let data = attribute(expression, EXPRESSION_DATA).unwrap_or_default();
            if self.add_one(&name, data, rule).is_none() {
                self.give_up(&name, rule);
            }
        }
    }

    /// What an expression does that is not understood may be anything, to any register.
    fn give_up(&mut self, name: &str, rule: &mut NetfilterRule) {
        self.registers.fill(Some(Loaded::Unknown(name.to_owned())));
        rule.parts.push(RulePart::NotUnderstood(name.to_owned()));
    }

    fn add_one(&mut self, name: &str, data: &[u8], rule: &mut NetfilterRule) -> Option<()> {
        let part = match name {
            "counter" => {
                rule.packets = wide_number(data, 2);
                return Some(());
            }
            "match" => {
                let (name, revision, info) = extension(data)?;
                add_match(rule, &name, revision, info, self.ipsets);
                return Some(());
            }
            "target" => {
                let (name, revision, info) = extension(data)?;
                add_target(rule, &name, revision, info);
                return Some(());
            }
            "payload" => return self.payload(data),
            "meta" => return self.meta(data, rule),
            "ct" => return self.connection(data, rule),
            "fib" => return self.route(data),
            "bitwise" => return self.bitwise(data),
            "byteorder" => return self.byte_order(data),
            "immediate" => return self.immediate(data, rule),
            "cmp" => return self.compare(data, rule),
            "range" => return self.range(data, rule),
            "lookup" => return self.look_up(data, rule),
            "log" | "notrack" | "dup" | "flow_offload" | "last" => RulePart::Aside(name.to_owned()),
            "objref" => object(data)?,
            "reject" => RulePart::Verdict(Verdict::Reject),
            "queue" => RulePart::Verdict(Verdict::Queue),
            "nat" | "masq" | "redir" => RulePart::Verdict(Verdict::Rewrite(name.to_owned())),
            "synproxy" => RulePart::Verdict(Verdict::Other(name.to_owned())),
            _ => return None,
        };
        rule.parts.push(part);
        Some(())
    }

    fn load(&mut self, register: u32, loaded: Loaded) -> Option<()> {
        *self.registers.get_mut(slot(register)?)? = Some(loaded);
        Some(())
    }

    fn loaded(&self, register: u32) -> Option<&Loaded> {
        self.registers.get(slot(register)?)?.as_ref()
    }

    fn load_number(&mut self, data: &[u8], number_field: Number) -> Option<()> {
        self.load(number(data, 1)?, Loaded::Numbers(vec![number_field]))
    }

    /// Bytes of the packet's headers. Writing to them (`SREG`) is not understood.
    fn payload(&mut self, data: &[u8]) -> Option<()> {
        const REGISTER: u16 = 1;
        const BASE: u16 = 2;
        const OFFSET: u16 = 3;
        const LENGTH: u16 = 4;
        let register = number(data, REGISTER)?;
        let length = usize::try_from(number(data, LENGTH)?).ok()?;
        let offset = usize::try_from(number(data, OFFSET)?).ok()?;
        let numbers = header_fields(number(data, BASE)?, offset, length, self.protocol);
        let loaded = numbers.map_or_else(|| Loaded::Unknown("payload".to_owned()), Loaded::Numbers);
        self.load(register, loaded)
    }

    fn meta(&mut self, data: &[u8], rule: &mut NetfilterRule) -> Option<()> {
        const KEY: u16 = 2;
        const SOURCE_REGISTER: u16 = 3;
        const MARK: u32 = 3;
        let key = number(data, KEY)?;
        if let Some(register) = number(data, SOURCE_REGISTER) {
            let part = if key == MARK { self.set_mark(register) } else { RulePart::Aside("meta".to_owned()) };
            rule.parts.push(part);
            return Some(());
        }
        let register = number(data, 1)?;
        match key {
            MARK => self.load_number(data, Number::host(Field::Mark)),
            4 => self.load_number(data, Number::host(Field::InputIndex)),
            5 => self.load_number(data, Number::host(Field::OutputIndex)),
            6 => self.load(register, Loaded::Name(Side::Input)),
            7 => self.load(register, Loaded::Name(Side::Output)),
            15 => self.load_number(data, Number { width: 1, ..Number::host(Field::Family) }),
            16 => self.load_number(data, Number { width: 1, ..Number::host(Field::Protocol) }),
            _ => self.load(register, Loaded::Unknown("meta".to_owned())),
        }
    }

    /// What `meta mark set` with a register's value does.
    fn set_mark(&self, register: u32) -> RulePart {
        match self.loaded(register) {
            Some(Loaded::Constant(value)) => {
                read_number(value.get(..REGISTER).unwrap_or_default(), cfg!(target_endian = "big"))
                    .map_or(RulePart::LoseMark(u32::MAX), |xor| RulePart::SetMark { keep: 0, xor })
            }
            Some(Loaded::Numbers(numbers)) => match numbers[..] {
                [Number { field: Field::Mark, shift: 0, mask, xor, .. }] => {
                    RulePart::SetMark { keep: mask, xor }
                }
                _ => RulePart::LoseMark(u32::MAX),
            },
            _ => RulePart::LoseMark(u32::MAX),
        }
    }

    fn connection(&mut self, data: &[u8], rule: &mut NetfilterRule) -> Option<()> {
        const KEY: u16 = 2;
        const SOURCE_REGISTER: u16 = 4;
        if attribute(data, SOURCE_REGISTER).is_some() {
            rule.parts.push(RulePart::Aside("ct".to_owned()));
            return Some(());
        }
        match number(data, KEY)? {
            0 => self.load_number(data, Number::host(Field::ConnectionState)),
            2 => self.load_number(data, Number::host(Field::ConnectionStatus)),
            _ => self.load(number(data, 1)?, Loaded::Unknown("ct".to_owned())),
        }
    }

    /// What the routes say of the packet's addresses.
    fn route(&mut self, data: &[u8]) -> Option<()> {
        const RESULT: u16 = 2;
        const FLAGS: u16 = 3;
        const OUTPUT_INDEX: u32 = 1;
        const ADDRESS_TYPE: u32 = 3;
        const SOURCE: u32 = 1;
        const MARKED: u32 = 4;
        const AT_INPUT: u32 = 8;
        const AT_OUTPUT: u32 = 16;
        const PRESENT: u32 = 32;
        let (flags, result) = (number(data, FLAGS)?, number(data, RESULT)?);
        let of = if flags & SOURCE == 0 { End::Destination } else { End::Source };
        let at = match (flags & AT_INPUT != 0, flags & AT_OUTPUT != 0) {
            (true, _) => Some(Side::Input),
            (_, true) => Some(Side::Output),
            _ => None,
        };
        let field = match result {
            ADDRESS_TYPE => Field::AddressType { of, at },
            OUTPUT_INDEX if of == End::Source && at != Some(Side::Output) => {
                Field::ReversePath { marked: flags & MARKED != 0, strict: at.is_some() }
            }
            _ => return self.load(number(data, 1)?, Loaded::Unknown("fib".to_owned())),
        };
        // With this flag the result is a truth value of one byte.
        let width = if flags & PRESENT == 0 { 4 } else { 1 };
        self.load_number(data, Number { width, ..Number::host(field) })
    }

    fn bitwise(&mut self, data: &[u8]) -> Option<()> {
        const TO: u16 = 2;
        const MASK: u16 = 4;
        const XOR: u16 = 5;
        let (from, to) = (number(data, 1)?, number(data, TO)?);
        let value = |kind| attribute(attribute(data, kind)?, DATA_VALUE);
        let changed = match (self.loaded(from), value(MASK), value(XOR)) {
            (Some(Loaded::Numbers(numbers)), Some(mask), Some(xor)) => match numbers[..] {
                [loaded] => loaded.read(mask).zip(loaded.read(xor)).map(|(mask, xor)| Number {
                    mask: loaded.mask & mask,
                    xor: (loaded.xor & mask) ^ xor,
                    ..loaded
                }),
                _ => None,
            },
            _ => None,
        };
        let loaded = changed
            .map_or_else(|| Loaded::Unknown("bitwise".to_owned()), |number| Loaded::Numbers(vec![number]));
        self.load(to, loaded)
    }

    /// Swaps a number's bytes, as rules on ranges of numbers in host byte order do.
    fn byte_order(&mut self, data: &[u8]) -> Option<()> {
        const TO: u16 = 2;
        const LENGTH: u16 = 4;
        const SIZE: u16 = 5;
        let (from, to) = (number(data, 1)?, number(data, TO)?);
        let swapped = match (self.loaded(from), number(data, LENGTH)?, number(data, SIZE)?) {
            (Some(Loaded::Numbers(numbers)), length, size) if length == size => match numbers[..] {
                [loaded] if u32::try_from(loaded.width) == Ok(length) => {
                    Some(Number { big_endian: !loaded.big_endian, ..loaded })
                }
                _ => None,
            },
            _ => None,
        };
        let loaded = swapped
            .map_or_else(|| Loaded::Unknown("byteorder".to_owned()), |number| Loaded::Numbers(vec![number]));
        self.load(to, loaded)
    }

    fn immediate(&mut self, data: &[u8], rule: &mut NetfilterRule) -> Option<()> {
        const VALUE: u16 = 2;
        let register = number(data, 1)?;
        let value = attribute(data, VALUE)?;
        if register == NO_REGISTER {
            rule.parts.push(RulePart::Verdict(verdict(attribute(value, DATA_VERDICT)?)?));
            return Some(());
        }
        self.load(register, Loaded::Constant(attribute(value, DATA_VALUE)?.to_vec()))
    }

    fn compare(&mut self, data: &[u8], rule: &mut NetfilterRule) -> Option<()> {
        const OPERATOR: u16 = 2;
        const VALUE: u16 = 3;
        let operator = number(data, OPERATOR)?;
        let value = attribute(attribute(data, VALUE)?, DATA_VALUE)?;
        let loaded = self.loaded(number(data, 1)?)?.clone();
        let parts = match &loaded {
            Loaded::Numbers(numbers) => compare_numbers(numbers, operator, value),
            Loaded::Name(side) => compare_name(*side, operator, value).map(|part| vec![part]),
            Loaded::Constant(_) | Loaded::Unknown(_) => None,
        };
        let Some(parts) = parts else {
            let name = if let Loaded::Unknown(name) = loaded { name } else { "cmp".to_owned() };
            rule.parts.push(RulePart::NotUnderstood(name));
            return Some(());
        };
        for part in &parts {
            if let RulePart::Compare(Comparison { field: Field::Protocol, ranges, invert: false, .. }) = part
                && let [(from, to)] = ranges[..]
                && from == to
            {
                self.protocol = Some(from);
            }
        }
        rule.parts.extend(parts);
        Some(())
    }

    fn range(&mut self, data: &[u8], rule: &mut NetfilterRule) -> Option<()> {
        const OPERATOR: u16 = 2;
        const FROM: u16 = 3;
        const TO: u16 = 4;
        const OUTSIDE: u32 = 1;
        let invert = number(data, OPERATOR)? == OUTSIDE;
        let value = |kind| attribute(attribute(data, kind)?, DATA_VALUE);
        let Loaded::Numbers(numbers) = self.loaded(number(data, 1)?)? else { return None };
        let [loaded] = numbers[..] else { return None };
        let (from, to) = (loaded.read(value(FROM)?)?, loaded.read(value(TO)?)?);
        rule.parts.push(RulePart::Compare(loaded.between(from, to, invert)?));
        Some(())
    }

    fn look_up(&mut self, data: &[u8], rule: &mut NetfilterRule) -> Option<()> {
        const SET: u16 = 1;
        const REGISTER: u16 = 2;
        const TO: u16 = 3;
        const FLAGS: u16 = 5;
        const INVERT: u32 = 1;
        let name = text(attribute(data, SET)?);
        let target = number(data, TO);
        if let Some(register) = target.filter(|register| *register != NO_REGISTER) {
            // A map that gives a value rather than a verdict; the rule ends where it has none.
            self.load(register, Loaded::Unknown("map".to_owned()))?;
            rule.parts.push(RulePart::NotUnderstood(format!("map {name}")));
            return Some(());
        }
        let length = self.sets.get(&name).map(|set| set.key_length);
        let register = number(data, REGISTER)?;
        let Some(fields) = length.and_then(|length| self.key_at(register, length)) else {
            let what = format!("set {name}");
            let part = RulePart::NotUnderstood(what.clone());
            rule.parts.push(part);
            if target.is_some() {
                rule.parts.push(RulePart::Verdict(Verdict::Other(what)));
            }
            return Some(());
        };
        let key = fields.iter().map(|field| field.field).collect();
        let invert = number(data, FLAGS).unwrap_or_default() & INVERT != 0;
        let membership = Membership { set: SetName::Table(name.clone()), key, invert };
        self.keys.entry(name).or_insert(fields);
        rule.parts.push(match target {
            Some(_) => RulePart::VerdictMap(membership),
            None => RulePart::Member(membership),
        });
        Some(())
    }

    /// The fields in the registers from one on that make up a key of this many bytes.
    fn key_at(&self, register: u32, length: usize) -> Option<Vec<KeyField>> {
        let first = slot(register)?;
        let mut fields = Vec::new();
        let mut slot = first;
        while (slot - first) * REGISTER < length {
            let width = match self.registers.get(slot)?.as_ref()? {
                Loaded::Numbers(numbers) => {
                    if numbers.len() > 1 && numbers.iter().any(|number| number.width != REGISTER) {
                        return None;
                    }
                    fields.extend(numbers.iter().map(Number::key_field).collect::<Option<Vec<_>>>()?);
                    numbers.iter().map(|number| number.width).sum()
                }
                Loaded::Name(side) => {
                    let field = if *side == Side::Input { Field::InputName } else { Field::OutputName };
                    fields.push(KeyField { field, width: DEVICE_NAME, big_endian: false });
                    DEVICE_NAME
                }
                Loaded::Constant(_) | Loaded::Unknown(_) => return None,
            };
            slot += width.div_ceil(REGISTER);
        }
        (!fields.is_empty()).then_some(fields)
    }
}

/// Where a register begins, in units of four bytes: `NFT_REG_1` to `4` have sixteen bytes each.
fn slot(register: u32) -> Option<usize> {
    let slot = match register {
        1..=4 => (register - 1) * 4,
        8..=23 => register - 8,
        _ => return None,
    };
    usize::try_from(slot).ok()
}

/// The fields that bytes of a header hold; `None` for bytes that are not evaluated.
fn header_fields(base: u32, offset: usize, length: usize, protocol: Option<u32>) -> Option<Vec<Number>> {
    const NETWORK: u32 = 1;
    const TRANSPORT: u32 = 2;
    const ICMP: u32 = 1;
    const TCP: u32 = 6;
    /// Places and lengths of the fields.
    const IPV4: [(Field, usize, usize); 3] =
        [(Field::Protocol, 9, 1), (Field::SourceAddress, 12, 4), (Field::DestinationAddress, 16, 4)];
    const ICMP_HEADER: [(Field, usize, usize); 2] = [(Field::IcmpType, 0, 1), (Field::IcmpCode, 1, 1)];
    const PORTS: [(Field, usize, usize); 2] = [(Field::SourcePort, 0, 2), (Field::DestinationPort, 2, 2)];
    const TCP_HEADER: [(Field, usize, usize); 3] = [PORTS[0], PORTS[1], (Field::TcpFlags, 13, 1)];
    let fields: &[_] = match (base, protocol) {
        (NETWORK, _) => &IPV4,
        (TRANSPORT, Some(ICMP)) => &ICMP_HEADER,
        (TRANSPORT, Some(TCP)) => &TCP_HEADER,
        (TRANSPORT, _) => &PORTS,
        _ => return None,
    };
    let end = offset.checked_add(length)?;
    let (mut at, mut numbers) = (offset, Vec::new());
    while at < end {
        let (field, start, size) =
            fields.iter().find(|(_, start, size)| (*start..start + size).contains(&at))?;
        let width = (start + size).min(end) - at;
        let behind = start + size - at - width;
        numbers.push(Number::network(*field, width, u32::try_from(behind * 8).ok()?));
        at += width;
    }
    Some(numbers)
}

/// `NFT_CMP_*` of one number, or of several of which all must be equal.
fn compare_numbers(numbers: &[Number], operator: u32, value: &[u8]) -> Option<Vec<RulePart>> {
    let mut rest = value;
    let mut parts = Vec::new();
    for number in numbers {
        let wanted = number.read(rest)?;
        rest = &rest[number.width..];
        // A way back by one device alone, by its index, is more than the check's outcome tells.
        if matches!(number.field, Field::ReversePath { .. }) && number.width > 1 && wanted != 0 {
            return None;
        }
        let comparison = match operator {
            0 => number.equals(wanted, false),
            1 if numbers.len() == 1 => number.equals(wanted, true),
            _ if numbers.len() > 1 => return None,
            2 => number.between(0, wanted.checked_sub(1)?, false)?,
            3 => number.between(0, wanted, false)?,
            4 => number.between(wanted.checked_add(1)?, u32::MAX, false)?,
            5 => number.between(wanted, u32::MAX, false)?,
            _ => return None,
        };
        parts.push(RulePart::Compare(comparison));
    }
    (!parts.is_empty()).then_some(parts)
}

/// A name with its terminating zero is a whole one; without, it is what names begin with.
fn compare_name(side: Side, operator: u32, value: &[u8]) -> Option<RulePart> {
    let invert = match operator {
        0 => false,
        1 => true,
        _ => return None,
    };
    let prefix = value.len() < DEVICE_NAME && !value.contains(&0);
    Some(RulePart::Device(DeviceMatch { side, name: text(value), prefix, invert }))
}

/// `NFT_RETURN` and its neighbours. `NFT_CONTINUE`, which goes on with the rule, is not understood: nobody writes it
/// but as an entry of a map.
pub fn verdict(bytes: &[u8]) -> Option<Verdict> {
    let chain = || attribute(bytes, VERDICT_CHAIN).map(text);
    Some(match number(bytes, VERDICT_CODE)?.cast_signed() {
        0 => Verdict::Drop,
        1 => Verdict::Accept,
        -3 => Verdict::Jump(chain()?),
        -4 => Verdict::Goto(chain()?),
        -5 => Verdict::Return,
        // The number of the queue is in the upper half.
        code if code & 0xff == 3 => Verdict::Queue,
        _ => return None,
    })
}

/// Name, revision and information of a match or target of `x_tables`.
fn extension(data: &[u8]) -> Option<(String, u8, &[u8])> {
    let revision = u8::try_from(number(data, 2)?).ok()?;
    Some((text(attribute(data, 1)?), revision, attribute(data, 3)?))
}

/// A reference to a named object: a counter does nothing, others may end the rule.
fn object(data: &[u8]) -> Option<RulePart> {
    const COUNTER: u32 = 1;
    match number(data, 1) {
        Some(COUNTER) => Some(RulePart::Aside("counter".to_owned())),
        _ => None,
    }
}

/// The comment in a rule's user data: entries of type, length and value, as libnftnl writes them.
pub fn comment(bytes: &[u8]) -> Option<String> {
    const COMMENT: u8 = 0;
    let mut rest = bytes;
    while let [kind, length, values @ ..] = rest {
        let value = values.get(..usize::from(*length))?;
        if *kind == COMMENT {
            return Some(text(value));
        }
        rest = &values[value.len()..];
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::super::raw_netlink::put_attribute, *};

    fn put(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, value) in attributes {
            put_attribute(&mut bytes, *kind, value).unwrap();
        }
        bytes
    }

    fn expression(name: &str, data: &[(u16, &[u8])]) -> Vec<u8> {
        put(&[(LIST_ELEMENT, &put(&[(EXPRESSION_NAME, name.as_bytes()), (EXPRESSION_DATA, &put(data))]))])
    }

    fn value(bytes: &[u8]) -> Vec<u8> {
        put(&[(DATA_VALUE, bytes)])
    }

    fn be(number: u32) -> [u8; 4] {
        number.to_be_bytes()
    }

    fn parts(expressions: &[Vec<u8>]) -> Vec<RulePart> {
        let mut rule = NetfilterRule::default();
        let (ipsets, sets) = (Ipsets::none(), DeclaredSets::new());
        Decoder::new(&ipsets, &sets).add(&expressions.concat(), &mut rule);
        rule.parts
    }

    fn load(base: u32, offset: u32, length: u32) -> Vec<u8> {
        expression("payload", &[(1, &be(1)), (2, &be(base)), (3, &be(offset)), (4, &be(length))])
    }

    fn equals(bytes: &[u8]) -> Vec<u8> {
        expression("cmp", &[(1, &be(1)), (2, &be(0)), (3, &value(bytes))])
    }

    #[test]
    fn a_network_of_whole_bytes_is_a_masked_address() {
        let part = parts(&[load(1, 12, 2), equals(&[10, 200])]);
        assert_eq!(
            part,
            [RulePart::Compare(Comparison {
                field: Field::SourceAddress,
                mask: 0xffff_0000,
                ranges: vec![(0x0ac8_0000, 0x0ac8_0000)],
                invert: false
            })]
        );
    }

    #[test]
    fn two_fields_loaded_at_once_are_two_comparisons() {
        let found = parts(&[load(1, 12, 8), equals(&[1, 2, 3, 4, 5, 6, 7, 8])]);
        assert_eq!(
            found,
            [
                RulePart::Compare(Comparison::equals(Field::SourceAddress, 0x0102_0304)),
                RulePart::Compare(Comparison::equals(Field::DestinationAddress, 0x0506_0708)),
            ]
        );
        let unequal = expression("cmp", &[(1, &be(1)), (2, &be(1)), (3, &value(&[1, 2, 3, 4, 5, 6, 7, 8]))]);
        assert_eq!(parts(&[load(1, 12, 8), unequal]), [RulePart::NotUnderstood("cmp".into())]);
    }

    #[test]
    fn what_a_transport_header_holds_is_for_its_protocol_to_say() {
        let protocol = expression("meta", &[(1, &be(1)), (2, &be(16))]);
        let first = |found: Vec<RulePart>| match found.last() {
            Some(RulePart::Compare(comparison)) => comparison.field,
            other => panic!("{other:?}"),
        };
        assert_eq!(first(parts(&[protocol, equals(&[1]), load(2, 0, 1), equals(&[8])])), Field::IcmpType);
        assert_eq!(first(parts(&[load(2, 2, 2), equals(&[0, 80])])), Field::DestinationPort);
    }

    #[test]
    fn what_is_not_understood_poisons_the_registers() {
        let found = parts(&[load(1, 12, 4), expression("numgen", &[]), equals(&[1, 2, 3, 4])]);
        let unknown = RulePart::NotUnderstood("numgen".into());
        assert_eq!(found, [unknown.clone(), unknown]);
    }

    #[test]
    fn marks_are_set_in_part() {
        let mark = expression("meta", &[(1, &be(1)), (2, &be(3))]);
        let bitwise = expression(
            "bitwise",
            &[
                (1, &be(1)),
                (2, &be(1)),
                (4, &value(&0xfffe_ffffu32.to_ne_bytes())),
                (5, &value(&0x0001_0000u32.to_ne_bytes())),
            ],
        );
        let set = expression("meta", &[(2, &be(3)), (3, &be(1))]);
        assert_eq!(parts(&[mark, bitwise, set]), [RulePart::SetMark { keep: 0xfffe_ffff, xor: 0x0001_0000 }]);
    }

    const NAMES: [&str; 13] = [
        "payload",
        "meta",
        "ct",
        "fib",
        "bitwise",
        "byteorder",
        "immediate",
        "cmp",
        "range",
        "lookup",
        "match",
        "target",
        "objref",
    ];

    proptest! {
        #[test]
        fn any_program_is_read_without_a_panic(
            program in prop::collection::vec(
                (
                    prop::sample::select(&NAMES[..]),
                    prop::collection::vec((1u16..7, prop_oneof![
                        (0u32..24).prop_map(|number| number.to_be_bytes().to_vec()),
                        prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| put(&[(DATA_VALUE, &bytes)])),
                        prop::collection::vec(any::<u8>(), 0..40),
                    ]), 0..6),
                ),
                0..12,
            ),
            user_data in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let program: Vec<Vec<u8>> = program
                .iter()
                .map(|(name, data)| {
                    let data: Vec<(u16, &[u8])> = data.iter().map(|(kind, value)| (*kind, &value[..])).collect();
                    expression(name, &data)
                })
                .collect();
            parts(&program);
            comment(&user_data);
        }
    }
}
