//! Whose a rule is: who wrote it writes it again, so a cure is theirs.

use crate::{
    model::netfilter::Place,
    sample::{RuleSetBackend, RuleTable},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Calico,
    KubeProxy,
    Docker,
    Firewalld,
    Ufw,
    /// Another pod network, by its name.
    PodNetwork(&'static str),
    /// Nobody that is known: a person's, or a script's.
    Unknown,
}

/// How other pod networks begin the names of their chains.
pub const POD_NETWORKS: [(&str, &str); 6] = [
    ("FLANNEL-", "flannel"),
    ("WEAVE", "Weave Net"),
    ("CILIUM_", "Cilium"),
    ("KUBE-ROUTER-", "kube-router"),
    ("KUBE-POD-FW-", "kube-router"),
    ("ANTREA-", "Antrea"),
];

impl Owner {
    pub fn of(place: &Place<'_>) -> Self {
        Self::of_chain(&place.table.name, &place.chain.name).unwrap_or_else(|| {
            let tagged = place.rule.is_some_and(|rule| rule.comments.iter().any(|c| c.starts_with("cali:")));
            if tagged { Self::Calico } else { Self::Unknown }
        })
    }

    /// By the names of the table and the chain.
    pub fn of_chain(table: &str, chain: &str) -> Option<Self> {
        const FIREWALLD: [&str; 6] = ["INPUT_", "FORWARD_", "OUTPUT_", "IN_", "FWD", "FWDI_"];
        let network = POD_NETWORKS.iter().find(|(prefix, _)| chain.starts_with(prefix));
        let is_cali = |name: &str| super::calico::chain_name(name).starts_with("cali-");
        Some(match (table, chain) {
            ("firewalld", _) => Self::Firewalld,
            ("calico", _) => Self::Calico,
            ("kube-proxy", _) => Self::KubeProxy,
            (_, chain) if is_cali(chain) => Self::Calico,
            _ if network.is_some() => Self::PodNetwork(network?.1),
            (_, chain) if chain.starts_with("KUBE-") => Self::KubeProxy,
            (_, chain) if chain.starts_with("DOCKER") => Self::Docker,
            (_, chain) if chain.starts_with("ufw") => Self::Ufw,
            (_, chain) if FIREWALLD.iter().any(|prefix| chain.starts_with(prefix)) => Self::Firewalld,
            _ => return None,
        })
    }
}

/// Which program shows and changes a table as a person knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    IptablesLegacy,
    IptablesNft,
    Nft,
}

impl Tool {
    pub fn of(table: &RuleTable) -> Self {
        const TABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];
        // iptables-nft names its base chains as the kernel's old ones are named.
        let as_iptables = || {
            TABLES.contains(&table.name.as_str())
                && table
                    .chains
                    .iter()
                    .all(|chain| chain.base.as_ref().is_none_or(|base| chain.name == base.hook.chain_name()))
        };
        match table.backend {
            RuleSetBackend::Legacy => Self::IptablesLegacy,
            RuleSetBackend::NfTables if table.family == crate::sample::RuleFamily::Ip && as_iptables() => {
                Self::IptablesNft
            }
            RuleSetBackend::NfTables => Self::Nft,
        }
    }

    pub fn command(self) -> &'static str {
        match self {
            Self::IptablesLegacy => "iptables-legacy",
            Self::IptablesNft => "iptables-nft",
            Self::Nft => "nft",
        }
    }
}
