//! Sets and maps of `nf_tables`, by netlink (`linux/netfilter/nf_tables.h`). Their keys are bytes; what the bytes
//! are is known from the fields that rules look up in them.

use std::{collections::BTreeMap, net::Ipv4Addr, path::Path};

use anyhow::{Context as _, anyhow, bail, ensure};
use ipnet::{Ipv4Net, Ipv4Subnets};

use super::{
    super::raw_netlink::{DUMP, RawNetlink, attribute, attributes, put_attribute, text},
    expressions::{read_number, verdict},
    nf_tables::{SUBSYSTEM, body, is_absent, number, open},
};
use crate::sample::{Fact, Field, KeyPart, Member, RuleSetMembers, Verdict};

const GET_SET: u16 = SUBSYSTEM + 10;
const GET_SET_ELEMENTS: u16 = SUBSYSTEM + 13;
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_LENGTH: u16 = 5;
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const ELEMENT_FLAGS: u16 = 3;
const ELEMENT_KEY_END: u16 = 10;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
/// `NFT_SET_INTERVAL`.
const INTERVAL: u32 = 4;
/// `NFT_SET_ELEM_INTERVAL_END` and `NFT_SET_ELEM_CATCHALL`.
const INTERVAL_END: u32 = 1;
const CATCH_ALL: u32 = 2;
/// Registers are filled in units of these bytes.
const REGISTER: usize = 4;
/// Elements of one set; Calico's largest hold an element for each pod that a policy selects.
const MOST_ELEMENTS: usize = 100_000;
/// `NFPROTO_IPV4`.
const IPV4: u8 = 2;

/// A set as it is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Bytes.
    pub key_length: usize,
    intervals: bool,
}

/// The declared sets of one table, by name.
pub type DeclaredSets = BTreeMap<String, Declared>;

/// One field of a set's key, as it lies in the key's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyField {
    pub field: Field,
    /// Bytes; what follows begins at the next multiple of four.
    pub width: usize,
    pub big_endian: bool,
}

impl KeyField {
    fn is_name(self) -> bool {
        matches!(self.field, Field::InputName | Field::OutputName)
    }
}

/// The sets of a table.
pub fn declared(netlink: &RawNetlink, family: u8, table: &str) -> anyhow::Result<DeclaredSets> {
    let mut request = vec![family, 0, 0, 0];
    put_attribute(&mut request, SET_TABLE, format!("{table}\0").as_bytes())?;
    let answers = match netlink.request(GET_SET, DUMP, &request) {
        Err(error) if is_absent(&error) => return Ok(BTreeMap::new()),
        answers => answers.context("cannot read the sets of nf_tables")?,
    };
    Ok(answers.iter().filter_map(|answer| declaration(body(&answer.payload))).collect())
}

fn declaration(bytes: &[u8]) -> Option<(String, Declared)> {
    let key_length = usize::try_from(number(bytes, SET_KEY_LENGTH)?).ok()?;
    let intervals = number(bytes, SET_FLAGS).unwrap_or_default() & INTERVAL != 0;
    Some((text(attribute(bytes, SET_NAME)?), Declared { key_length, intervals }))
}

/// What the sets hold that rules of a table ask.
pub fn read(
    netlink: &RawNetlink,
    family: u8,
    table: &str,
    declared: &DeclaredSets,
    keys: &BTreeMap<String, Vec<KeyField>>,
) -> Vec<RuleSetMembers> {
    let members = |name: &String, fields: &[KeyField]| {
        let set = declared.get(name).with_context(|| format!("this node has no set {name}"))?;
        let elements = elements(netlink, family, table, name)?;
        read_members(&elements, fields, set.intervals)
    };
    let sets = keys.iter().map(|(name, fields)| RuleSetMembers {
        name: name.clone(),
        members: Fact::from_result(members(name, fields)),
    });
    sets.collect()
}

/// The networks in a set of a table of family `ip`, as Felix keeps them in its nftables mode.
pub fn networks(root: &Path, table: &str, set: &str) -> anyhow::Result<Vec<Ipv4Net>> {
    let Some(netlink) = open(root)? else { bail!("the kernel has no nftables in use") };
    let declared = declared(&netlink, IPV4, table)?;
    let intervals = declared.get(set).with_context(|| format!("there is no set {set}"))?.intervals;
    let key = [KeyField { field: Field::SourceAddress, width: REGISTER, big_endian: true }];
    let members = read_members(&elements(&netlink, IPV4, table, set)?, &key, intervals)?;
    let ranges = members.iter().filter_map(|member| match member.key[..] {
        [KeyPart::Range(from, to)] => Some((Ipv4Addr::from_bits(from), Ipv4Addr::from_bits(to))),
        _ => None,
    });
    Ok(ranges.flat_map(|(from, to)| Ipv4Subnets::new(from, to, 0)).collect())
}

/// One element as the kernel lists it.
#[derive(Clone, Debug, Default)]
struct Element {
    key: Vec<u8>,
    key_end: Option<Vec<u8>>,
    flags: u32,
    verdict: Option<Verdict>,
}

fn elements(netlink: &RawNetlink, family: u8, table: &str, set: &str) -> anyhow::Result<Vec<Element>> {
    let mut request = vec![family, 0, 0, 0];
    put_attribute(&mut request, LIST_TABLE, format!("{table}\0").as_bytes())?;
    put_attribute(&mut request, LIST_SET, format!("{set}\0").as_bytes())?;
    let answers = netlink.request(GET_SET_ELEMENTS, DUMP, &request).context("cannot read its elements")?;
    let mut found = Vec::new();
    for answer in &answers {
        let list = attribute(body(&answer.payload), LIST_ELEMENTS).unwrap_or_default();
        for (_, bytes) in attributes(list) {
            ensure!(found.len() < MOST_ELEMENTS, "{set} has more than {MOST_ELEMENTS} elements");
            found.push(element(bytes).ok_or_else(|| anyhow!("an element of {set} is not understood"))?);
        }
    }
    Ok(found)
}

fn element(bytes: &[u8]) -> Option<Element> {
    let value =
        |kind| attribute(bytes, kind).and_then(|data| attribute(data, DATA_VALUE)).map(<[u8]>::to_vec);
    let flags = number(bytes, ELEMENT_FLAGS).unwrap_or_default();
    let data = attribute(bytes, ELEMENT_DATA).and_then(|data| attribute(data, DATA_VERDICT));
    let verdict = match data {
        Some(data) => Some(verdict(data)?),
        None => None,
    };
    if flags & CATCH_ALL != 0 {
        return None;
    }
    Some(Element { key: value(ELEMENT_KEY)?, key_end: value(ELEMENT_KEY_END), flags, verdict })
}

fn read_members(elements: &[Element], fields: &[KeyField], intervals: bool) -> anyhow::Result<Vec<Member>> {
    match fields {
        [field] if intervals && !field.is_name() => read_intervals(elements, *field),
        _ => elements.iter().map(|element| read_member(element, fields)).collect(),
    }
}

/// An element of a set without intervals, or of one that tells both ends of each.
fn read_member(element: &Element, fields: &[KeyField]) -> anyhow::Result<Member> {
    let end = element.key_end.as_ref().unwrap_or(&element.key);
    let (mut at, mut key) = (0, Vec::new());
    for field in fields {
        let bytes = |of: &[u8]| of.get(at..at + field.width).map(<[u8]>::to_vec);
        let (from, to) = bytes(&element.key).zip(bytes(end)).context("a key is cut off")?;
        if field.is_name() {
            ensure!(from == to, "a range of names is not understood");
            key.push(KeyPart::Name(text(&from)));
        } else {
            let number = |bytes: &[u8]| read_number(bytes, field.big_endian).context("a key is too long");
            key.push(KeyPart::Range(number(&from)?, number(&to)?));
        }
        at += field.width.next_multiple_of(REGISTER);
    }
    Ok(Member { key, excluded: false, verdict: element.verdict.clone() })
}

/// Intervals are told by their first key and, as an element of its own, by the first key behind them.
fn read_intervals(elements: &[Element], field: KeyField) -> anyhow::Result<Vec<Member>> {
    let key = |element: &Element| {
        let bytes = element.key.get(..field.width).context("a key is cut off")?;
        // Intervals are ordered by their bytes, so rules on them bring every number into network byte order.
        read_number(bytes, true).context("a key is too long")
    };
    let mut marks = elements
        .iter()
        .map(|element| Ok((key(element)?, element.flags & INTERVAL_END == 0, element)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    marks.sort_by_key(|(key, begins, _)| (*key, *begins));
    let mut members = Vec::new();
    for (place, (from, begins, element)) in marks.iter().enumerate() {
        if !begins {
            continue;
        }
        let end = marks.get(place + 1).map_or(u32::MAX, |(next, _, _)| next.saturating_sub(1));
        let verdict = element.verdict.clone();
        members.push(Member { key: vec![KeyPart::Range(*from, end)], excluded: false, verdict });
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ADDRESS: KeyField = KeyField { field: Field::SourceAddress, width: 4, big_endian: true };

    fn mark(key: [u8; 4], flags: u32) -> Element {
        Element { key: key.to_vec(), flags, ..Element::default() }
    }

    #[test]
    fn intervals_end_before_the_next_mark() {
        let elements =
            [mark([10, 1, 0, 0], 1), mark([0; 4], 1), mark([10, 0, 0, 0], 0), mark([240, 0, 0, 0], 0)];
        let members = read_members(&elements, &[ADDRESS], true).unwrap();
        let ranges: Vec<_> = members.into_iter().map(|member| member.key).collect();
        assert_eq!(
            ranges,
            [vec![KeyPart::Range(0x0a00_0000, 0x0a00_ffff)], vec![KeyPart::Range(0xf000_0000, u32::MAX)]]
        );
    }

    #[test]
    fn each_field_of_a_key_begins_at_a_register() {
        let port = KeyField { field: Field::DestinationPort, width: 2, big_endian: true };
        let element = Element {
            key: vec![10, 0, 0, 0, 0, 80, 0, 0],
            key_end: Some(vec![10, 0, 0, 255, 0, 90, 0, 0]),
            ..Element::default()
        };
        let members = read_members(&[element], &[ADDRESS, port], true).unwrap();
        assert_eq!(members[0].key, [KeyPart::Range(0x0a00_0000, 0x0a00_00ff), KeyPart::Range(80, 90)]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            keys in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..10), 0u32..4), 0..6),
        ) {
            declaration(&bytes);
            element(&bytes);
            let elements: Vec<Element> =
                keys.into_iter().map(|(key, flags)| Element { key, flags, ..Element::default() }).collect();
            for intervals in [false, true] {
                let _ = read_members(&elements, &[ADDRESS], intervals);
                let _ = read_members(&elements, &[ADDRESS, ADDRESS], intervals);
            }
        }
    }
}
