//! Rule sets of netfilter, as `ip_tables` and `nf_tables` hold them.

use serde::{Deserialize, Serialize};

/// Which kernel interface holds a rule set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleSetBackend {
    /// `ip_tables`, as `iptables-legacy` writes it.
    Legacy,
    /// `nf_tables`, as `iptables-nft` and `nft` write it.
    NfTables,
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
}

/// A chain that hangs on a netfilter hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseChain {
    pub backend: RuleSetBackend,
    pub table: String,
    pub chain: String,
    pub hook: NetfilterHook,
    pub priority: i32,
    /// Whether a packet that no rule decided over is dropped.
    pub policy_drops: bool,
    /// Packets that met the policy; `None` where the chain does not count.
    pub policy_packets: Option<u64>,
    /// Rules in the chain itself.
    pub rules: u32,
}
