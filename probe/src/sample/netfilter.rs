//! Rule sets of netfilter, as `ip_tables` and `nf_tables` hold them. Both kinds of rules come to the same form: a
//! list of parts, each of which asks something of a packet or does something to it.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::Fact;

/// Which kernel interface holds a rule set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleSetBackend {
    /// `ip_tables`, as `iptables-legacy` writes it.
    Legacy,
    /// `nf_tables`, as `iptables-nft` and `nft` write it.
    NfTables,
}

/// Families of tables that IPv4 packets meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleFamily {
    Ip,
    /// IPv4 and IPv6 together; `nf_tables` alone has it.
    Inet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetfilterHook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

impl NetfilterHook {
    /// In the order of their numbers, `NF_INET_*`.
    pub const ALL: [Self; 5] =
        [Self::Prerouting, Self::Input, Self::Forward, Self::Output, Self::Postrouting];

    /// The name that iptables gives to the hook's chain.
    pub fn chain_name(self) -> &'static str {
        match self {
            Self::Prerouting => "PREROUTING",
            Self::Input => "INPUT",
            Self::Forward => "FORWARD",
            Self::Output => "OUTPUT",
            Self::Postrouting => "POSTROUTING",
        }
    }

    /// `NF_IP_PRI_*` of the tables that iptables knows.
    pub fn priority_in(self, table: &str) -> i32 {
        match (table, self) {
            ("raw", _) => -300,
            ("mangle", _) => -150,
            ("nat", Self::Prerouting | Self::Output) => -100,
            ("nat", _) => 100,
            ("security", _) => 50,
            _ => 0,
        }
    }
}

/// Every rule that IPv4 packets of a network namespace may meet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSets {
    pub tables: Vec<RuleTable>,
    /// The ipsets that rules of any table name.
    pub ipsets: Vec<RuleSetMembers>,
    /// What of them was not read, and why: a rule that is not here may be the one that drops.
    pub missed: Vec<String>,
    /// Tables and chains that may drop packets where no hook of IPv4 is: where they enter a device, or cross a
    /// bridge. They are not evaluated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleTable {
    pub backend: RuleSetBackend,
    pub family: RuleFamily,
    pub name: String,
    pub chains: Vec<RuleChain>,
    /// The sets and maps of an `nf_tables` table, the nameless ones (`__set0`) among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<RuleSetMembers>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleChain {
    pub name: String,
    /// Where the chain hangs on a hook; the others are entered by jumps alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseChain>,
    pub rules: Vec<NetfilterRule>,
}

/// What makes a chain one that the kernel calls by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseChain {
    pub hook: NetfilterHook,
    /// Chains of one hook are called in ascending order of these (`NF_IP_PRI_*`).
    pub priority: i32,
    /// Whether it is called for the first packet of a connection alone (type `nat`).
    pub first_packets_only: bool,
    /// Whether a packet that no rule decided over is dropped.
    pub policy_drops: bool,
    /// Packets that met the policy; `None` where the chain does not count.
    pub policy_packets: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetfilterRule {
    /// Its place in the chain, from 1, as `iptables -L --line-numbers` counts.
    pub number: u32,
    /// `nf_tables`' name for it, as `nft -a list ruleset` shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<u64>,
    /// Packets that it has counted; `None` where it does not count.
    pub packets: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comments: Vec<String>,
    /// In the order in which they are evaluated.
    pub parts: Vec<RulePart>,
}

/// One part of a rule. Parts that ask end the rule where the answer is no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RulePart {
    Compare(Comparison),
    Device(DeviceMatch),
    Member(Membership),
    /// Asks something that is not evaluated here, by the name of the match or expression.
    NotUnderstood(String),
    /// The packet's mark becomes `(mark & keep) ^ xor`.
    SetMark {
        keep: u32,
        xor: u32,
    },
    /// These bits of the packet's mark become something that is not known, as from the connection's mark.
    LoseMark(u32),
    /// Does something that does not decide over the packet (`LOG`), by its name.
    Aside(String),
    Verdict(Verdict),
    /// The verdict that a map holds for the key; the rule ends where it holds none.
    VerdictMap(Membership),
}

/// Whether a field, masked, lies in one of the ranges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    pub field: Field,
    pub mask: u32,
    /// Both ends included.
    pub ranges: Vec<(u32, u32)>,
    pub invert: bool,
}

impl Comparison {
    /// Whether a whole field has a value.
    pub fn equals(field: Field, value: u32) -> Self {
        Self { field, mask: u32::MAX, ranges: vec![(value, value)], invert: false }
    }

    /// Whether any of these bits of a field is set.
    pub fn any_bit(field: Field, mask: u32) -> Self {
        Self { field, mask, ranges: vec![(0, 0)], invert: true }
    }
}

/// A number that a packet carries or that the kernel knows of it, in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Field {
    SourceAddress,
    DestinationAddress,
    Protocol,
    SourcePort,
    DestinationPort,
    IcmpType,
    IcmpCode,
    TcpFlags,
    /// 1 for a fragment that is not the first.
    LaterFragment,
    /// `NFPROTO_*` of the packet: 2 for IPv4.
    Family,
    Mark,
    /// One bit of `ConnectionState`.
    ConnectionState,
    /// `IPS_*` of `linux/netfilter/nf_conntrack_common.h`.
    ConnectionStatus,
    InputIndex,
    OutputIndex,
    /// `RTN_*` of the source or destination, 2 for this host's own; looked for on one device where `at` says so.
    AddressType {
        of: End,
        at: Option<Side>,
    },
    /// 1 where the way back to the source passes the reverse-path check, 0 where not.
    ReversePath {
        /// Whether the packet's mark takes part in the look-up.
        marked: bool,
        /// Whether the way back must lead through the input device.
        strict: bool,
    },
    /// Names of devices, as keys of sets and maps.
    InputName,
    OutputName,
}

/// States of a connection, as `nf_tables` numbers them (`NF_CT_STATE_BIT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionState {
    Invalid = 1,
    Established = 2,
    Related = 4,
    New = 8,
    Untracked = 64,
}

impl ConnectionState {
    pub const ALL: [Self; 5] = [Self::Invalid, Self::Established, Self::Related, Self::New, Self::Untracked];

    pub fn bit(self) -> u32 {
        self as u32
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    Source,
    Destination,
}

/// By which a packet came in, or leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    Input,
    Output,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMatch {
    pub side: Side,
    /// The whole name, or what it must begin with.
    pub name: String,
    pub prefix: bool,
    pub invert: bool,
}

/// A look-up in a set or map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    pub set: SetName,
    /// Fields of the packet that make up the key.
    pub key: Vec<Field>,
    pub invert: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SetName {
    /// One of the namespace's ipsets.
    Ipset(String),
    /// A set of the rule's own table.
    Table(String),
}

/// The members of a set, or the entries of a map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSetMembers {
    pub name: String,
    pub members: Fact<Vec<Member>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// A part for each field of the key.
    pub key: Vec<KeyPart>,
    /// Not a member although a wider network is (`nomatch` of ipsets).
    #[serde(default, skip_serializing_if = "is_false")]
    pub excluded: bool,
    /// What a verdict map holds for the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyPart {
    /// Numbers between these, both included.
    Range(u32, u32),
    Name(String),
}

impl KeyPart {
    /// The addresses of a network.
    pub fn network(address: Ipv4Addr, prefix_length: u8) -> Self {
        let host_bits = u32::MAX.checked_shr(u32::from(prefix_length)).unwrap_or(0);
        let address = address.to_bits();
        Self::Range(address & !host_bits, address | host_bits)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Accept,
    Drop,
    /// Dropped, and the sender is told so by ICMP or a TCP reset.
    Reject,
    Return,
    Jump(String),
    Goto(String),
    /// Given to a program in user space, and lost where none listens.
    Queue,
    /// Its addresses are rewritten, by the name of the target (`MASQUERADE`), and the chain is left.
    Rewrite(String),
    /// A target that is not understood, by its name.
    Other(String),
}

impl Verdict {
    /// Whether the packet may be lost by it.
    pub fn may_drop(&self) -> bool {
        matches!(self, Self::Drop | Self::Reject | Self::Queue | Self::Other(_))
    }
}
