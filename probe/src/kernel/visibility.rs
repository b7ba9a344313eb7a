//! What the running kernel's types let the drop programs see.

use std::collections::HashMap;

use probe_common::{ledger::DropOffsets, trace::Offsets};

use super::btf::Btf;

/// Where the drop programs look for the reason among the tracepoint's arguments.
const REASON_ARGUMENT: u32 = 2;

/// For a kernel without BTF, whose drop programs are not attached.
pub const NO_OFFSETS: Offsets = Offsets {
    head: 0,
    network_header: 0,
    length: 0,
    device: 0,
    socket: 0,
    ingress_link: 0,
    mark: 0,
    device_index: 0,
    device_namespace: 0,
    socket_namespace: 0,
    namespace_inode: 0,
};

/// For a kernel without BTF, whose drop programs are not attached.
pub const NO_DROP_OFFSETS: DropOffsets =
    DropOffsets { data: 0, end: 0, mac_header: 0, protocol: 0, segments: 0, namespace: 0 };

/// Offsets, and the names of the drop reasons.
pub struct Visibility {
    pub offsets: Offsets,
    pub drop_offsets: DropOffsets,
    pub has_reason: bool,
    pub reasons: HashMap<u64, String>,
}

impl Visibility {
    pub fn of_running_kernel() -> anyhow::Result<Self> {
        Self::new(&Btf::of_running_kernel()?)
    }

    fn new(btf: &Btf) -> anyhow::Result<Self> {
        let offsets = Offsets {
            head: btf.offset("sk_buff", "head")?,
            network_header: btf.offset("sk_buff", "network_header")?,
            length: btf.offset("sk_buff", "len")?,
            device: btf.offset("sk_buff", "dev")?,
            socket: btf.offset("sk_buff", "sk")?,
            ingress_link: btf.offset("sk_buff", "skb_iif")?,
            mark: btf.offset("sk_buff", "mark")?,
            device_index: btf.offset("net_device", "ifindex")?,
            device_namespace: btf.offset("net_device", "nd_net.net")?,
            socket_namespace: btf.offset("sock", "__sk_common.skc_net.net")?,
            namespace_inode: btf.offset("net", "ns.inum")?,
        };
        let drop_offsets = DropOffsets {
            data: btf.offset("sk_buff", "data")?,
            end: btf.offset("sk_buff", "end")?,
            mac_header: btf.offset("sk_buff", "mac_header")?,
            protocol: btf.offset("sk_buff", "protocol")?,
            segments: btf.offset("skb_shared_info", "gso_segs")?,
            namespace: 0,
        };
        let has_reason =
            btf.tracepoint_enum_argument("kfree_skb", "skb_drop_reason")? == Some(REASON_ARGUMENT);
        let reasons = btf.enumerators("skb_drop_reason").unwrap_or_default();
        Ok(Self { offsets, drop_offsets, has_reason, reasons })
    }
}
