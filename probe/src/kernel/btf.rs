//! The running kernel's types (Documentation/bpf/btf.rst): member offsets, enumerators, tracepoint arguments.
//! A small reader, because Rust programs have no CO-RE and the loader's own reader does not tell members.

use std::{collections::HashMap, fs, path::Path};

use anyhow::{Context as _, bail, ensure};
use bytes::Buf as _;

/// Where the kernel keeps its own types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;
/// Modifiers and nested members that are followed; real types need a handful.
const DEEPEST: u32 = 32;

const KIND_PTR: u8 = 2;
const KIND_ARRAY: u8 = 3;
const KIND_STRUCT: u8 = 4;
const KIND_UNION: u8 = 5;
const KIND_ENUM: u8 = 6;
const KIND_TYPEDEF: u8 = 8;
const KIND_VOLATILE: u8 = 9;
const KIND_CONST: u8 = 10;
const KIND_RESTRICT: u8 = 11;
const KIND_FUNC_PROTO: u8 = 13;
const KIND_TYPE_TAG: u8 = 18;
const KIND_ENUM64: u8 = 19;

/// One type: its header and where its own data lies.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: u8,
    members: u16,
    /// Members have a bit-field size beside their offset.
    bit_fields: bool,
    /// The size, or the type that this one refers to.
    size_or_reference: u32,
    data: usize,
}

/// A parsed set of types.
pub struct Btf {
    bytes: Vec<u8>,
    strings: usize,
    /// Index 0 is type 1.
    types: Vec<Type>,
    by_name: HashMap<String, Vec<u32>>,
}

impl Btf {
    pub fn of_running_kernel() -> anyhow::Result<Self> {
        let bytes = fs::read(Path::new(VMLINUX)).with_context(|| format!("cannot read {VMLINUX}"))?;
        Self::parse(bytes).with_context(|| format!("cannot understand {VMLINUX}"))
    }

    pub fn parse(bytes: Vec<u8>) -> anyhow::Result<Self> {
        ensure!(bytes.len() >= HEADER, "it is too short");
        let mut header = &bytes[..HEADER];
        ensure!(header.get_u16_ne() == MAGIC, "it does not begin as BTF");
        header.advance(2);
        let header_length = header.get_u32_ne() as usize;
        let (type_offset, type_length) = (header.get_u32_ne() as usize, header.get_u32_ne() as usize);
        let string_offset = header.get_u32_ne() as usize;
        let start = header_length.checked_add(type_offset).context("its header is wrong")?;
        let end = start
            .checked_add(type_length)
            .filter(|end| *end <= bytes.len())
            .context("its types are cut off")?;
        let strings = header_length.checked_add(string_offset).context("its header is wrong")?;
        let mut btf = Self { bytes, strings, types: Vec::new(), by_name: HashMap::new() };
        btf.read_types(start, end)?;
        Ok(btf)
    }

    fn read_types(&mut self, start: usize, end: usize) -> anyhow::Result<()> {
        let mut at = start;
        while at < end {
            let mut header =
                self.bytes.get(at..end).filter(|rest| rest.len() >= 12).context("a type is cut off")?;
            let name = header.get_u32_ne();
            let info = header.get_u32_ne();
            let size_or_reference = header.get_u32_ne();
            let kind = u8::try_from(info >> 24 & 0x1f)?;
            let members = u16::try_from(info & 0xffff)?;
            let data = at + 12;
            let entry = Type { name, kind, members, bit_fields: info >> 31 != 0, size_or_reference, data };
            at = data + data_length(kind, members)?;
            self.types.push(entry);
            if matches!(kind, KIND_STRUCT | KIND_ENUM | KIND_ENUM64 | KIND_TYPEDEF) && name != 0 {
                let id = u32::try_from(self.types.len())?;
                let name = self.string(name).to_owned();
                self.by_name.entry(name).or_default().push(id);
            }
        }
        Ok(())
    }

    fn string(&self, offset: u32) -> &str {
        let bytes = self.bytes.get(self.strings + offset as usize..).unwrap_or_default();
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(0);
        std::str::from_utf8(&bytes[..end]).unwrap_or_default()
    }

    fn get(&self, id: u32) -> Option<Type> {
        self.types.get((id as usize).checked_sub(1)?).copied()
    }

    fn named(&self, name: &str, kinds: &[u8]) -> Option<Type> {
        let ids = self.by_name.get(name)?;
        ids.iter().filter_map(|id| self.get(*id)).find(|found| kinds.contains(&found.kind))
    }

    /// Where a member lies in a struct, in bytes; `path` may lead through nested structs: `__sk_common.skc_net`.
    pub fn offset(&self, structure: &str, path: &str) -> anyhow::Result<u32> {
        let mut current = self
            .named(structure, &[KIND_STRUCT])
            .with_context(|| format!("this kernel's BTF has no struct {structure}"))?;
        let mut bits = 0;
        for name in path.split('.') {
            let (offset, member) = self
                .member(current, name, DEEPEST)
                .with_context(|| format!("this kernel's struct {structure} has no member {path}"))?;
            bits += offset;
            current = member;
        }
        ensure!(bits % 8 == 0, "{structure}.{path} is a bit field");
        Ok(bits / 8)
    }

    /// A member by name, also of anonymous structs and unions inside; its offset in bits and its type.
    fn member(&self, structure: Type, name: &str, depth: u32) -> Option<(u32, Type)> {
        let depth = depth.checked_sub(1)?;
        for index in 0..usize::from(structure.members) {
            let mut raw = self.bytes.get(structure.data + index * 12..)?.get(..12)?;
            let (member_name, member_type, offset) = (raw.get_u32_ne(), raw.get_u32_ne(), raw.get_u32_ne());
            let offset = if structure.bit_fields { offset & 0x00ff_ffff } else { offset };
            let found = self.resolve(member_type, DEEPEST);
            if member_name == 0 {
                let Some(nested) = found.filter(|found| matches!(found.kind, KIND_STRUCT | KIND_UNION))
                else {
                    continue;
                };
                if let Some((inner, member)) = self.member(nested, name, depth) {
                    return Some((offset + inner, member));
                }
            } else if self.string(member_name) == name {
                return Some((offset, found?));
            }
        }
        None
    }

    /// A type without typedefs and modifiers.
    fn resolve(&self, id: u32, depth: u32) -> Option<Type> {
        let found = self.get(id)?;
        match found.kind {
            KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                self.resolve(found.size_or_reference, depth.checked_sub(1)?)
            }
            _ => Some(found),
        }
    }

    /// The enumerators of an enum, by value.
    pub fn enumerators(&self, name: &str) -> Option<HashMap<u64, String>> {
        let found = self.named(name, &[KIND_ENUM, KIND_ENUM64])?;
        let size = if found.kind == KIND_ENUM { 8 } else { 12 };
        (0..usize::from(found.members))
            .map(|index| {
                let mut raw = self.bytes.get(found.data + index * size..)?.get(..size)?;
                let name = raw.get_u32_ne();
                let low = u64::from(raw.get_u32_ne());
                let high = if size == 12 { u64::from(raw.get_u32_ne()) } else { 0 };
                Some((high << 32 | low, self.string(name).to_owned()))
            })
            .collect()
    }

    /// The position of the argument of an enum type among a tracepoint's arguments; `None` where it has none.
    pub fn tracepoint_enum_argument(
        &self,
        tracepoint: &str,
        enumeration: &str,
    ) -> anyhow::Result<Option<u32>> {
        let name = format!("btf_trace_{tracepoint}");
        let alias =
            self.named(&name, &[KIND_TYPEDEF]).with_context(|| format!("this kernel's BTF has no {name}"))?;
        let pointer = self.resolve(alias.size_or_reference, DEEPEST).filter(|found| found.kind == KIND_PTR);
        let function = pointer.and_then(|pointer| self.resolve(pointer.size_or_reference, DEEPEST));
        let Some(function) = function.filter(|found| found.kind == KIND_FUNC_PROTO) else {
            bail!("{name} is no function");
        };
        for index in 0..usize::from(function.members) {
            let Some(mut raw) = self.bytes.get(function.data + index * 8 + 4..).filter(|raw| raw.len() >= 4)
            else {
                bail!("the arguments of {name} are cut off");
            };
            let argument = self.resolve(raw.get_u32_ne(), DEEPEST);
            let is_enum = argument.is_some_and(|found| {
                matches!(found.kind, KIND_ENUM | KIND_ENUM64) && self.string(found.name) == enumeration
            });
            if is_enum {
                // The first argument of the function is the tracepoint's own data, which programs do not see.
                return Ok(u32::try_from(index)?.checked_sub(1));
            }
        }
        Ok(None)
    }
}

/// Bytes that follow a type's header.
fn data_length(kind: u8, members: u16) -> anyhow::Result<usize> {
    let members = usize::from(members);
    Ok(match kind {
        1 | 14 | 17 => 4,
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | 15 | KIND_ENUM64 => members * 12,
        KIND_ENUM | KIND_FUNC_PROTO => members * 8,
        KIND_PTR | 7..=12 | 16 | KIND_TYPE_TAG => 0,
        unknown => bail!("it has a type of the unknown kind {unknown}"),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn running() -> Option<Btf> {
        if !Path::new(VMLINUX).exists() {
            eprintln!("SKIPPED: this kernel has no BTF");
            return None;
        }
        Some(Btf::of_running_kernel().expect("the kernel's own BTF is understood"))
    }

    #[test]
    fn the_running_kernel_tells_members_also_of_anonymous_parts() {
        let Some(btf) = running() else { return };
        // `dev` is inside an anonymous struct inside an anonymous union; two pointers come before it.
        assert_eq!(btf.offset("sk_buff", "dev").unwrap(), 16);
        assert!(btf.offset("sock", "__sk_common.skc_net.net").unwrap() > 0);
        assert!(btf.offset("sk_buff", "no_such_member").is_err());
        assert!(btf.offset("no_such_struct", "x").is_err());
    }

    #[test]
    fn drop_reasons_are_named_where_the_kernel_has_them() {
        let Some(btf) = running() else { return };
        let argument = btf.tracepoint_enum_argument("kfree_skb", "skb_drop_reason").unwrap();
        let names = btf.enumerators("skb_drop_reason");
        assert_eq!(argument.is_some(), names.is_some());
        if let Some(names) = names {
            assert!(names.values().any(|name| name == "SKB_DROP_REASON_NETFILTER_DROP"));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if bytes.len() >= HEADER {
                bytes[..2].copy_from_slice(&MAGIC.to_ne_bytes());
                bytes[4..8].copy_from_slice(&u32::try_from(HEADER).unwrap().to_ne_bytes());
                bytes[8..12].copy_from_slice(&0u32.to_ne_bytes());
                let rest = u32::try_from(bytes.len() - HEADER).unwrap();
                bytes[12..16].copy_from_slice(&rest.to_ne_bytes());
                bytes[16..20].copy_from_slice(&0u32.to_ne_bytes());
            }
            if let Ok(btf) = Btf::parse(bytes) {
                let names: Vec<String> = btf.by_name.keys().cloned().collect();
                for name in names {
                    let _ = btf.offset(&name, "a.b");
                    let _ = btf.enumerators(&name);
                }
            }
        }
    }
}
