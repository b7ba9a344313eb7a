//! A node's whole IPv4 rule set, as text for `iptables-restore`.

use std::fmt::Write as _;

use super::{
    felix, services,
    topology::{Node, Variant},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    Raw,
    Mangle,
    Nat,
    Filter,
}

impl Table {
    const ALL: [Self; 4] = [Self::Raw, Self::Mangle, Self::Nat, Self::Filter];

    fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Mangle => "mangle",
            Self::Nat => "nat",
            Self::Filter => "filter",
        }
    }

    /// The chains that the kernel calls by itself.
    fn kernels_chains(self) -> &'static [&'static str] {
        match self {
            Self::Raw => &["PREROUTING", "OUTPUT"],
            Self::Mangle => &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
            Self::Nat => &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
            Self::Filter => &["INPUT", "FORWARD", "OUTPUT"],
        }
    }
}

/// A chain that a program made.
#[derive(Debug)]
pub struct Chain {
    pub table: Table,
    pub name: String,
    /// Without `-A NAME`.
    pub rules: Vec<String>,
}

/// Felix' rules and kube-proxy's, in the order in which a running cluster has them.
pub fn restore(node: &Node, variant: Variant) -> String {
    let chains: Vec<Chain> = felix::chains(node, variant).into_iter().chain(services::chains()).collect();
    let mut text = String::new();
    for table in Table::ALL {
        let own = || chains.iter().filter(|chain| chain.table == table);
        let _ = writeln!(text, "*{}", table.name());
        for name in table.kernels_chains() {
            let _ = writeln!(text, ":{name} ACCEPT [0:0]");
        }
        for chain in own() {
            let _ = writeln!(text, ":{} - [0:0]", chain.name);
        }
        for name in table.kernels_chains() {
            let felix = felix::hooks(table, name, variant);
            append(&mut text, name, &felix.inserted);
            append(&mut text, name, &services::hooks(table, name));
            append(&mut text, name, &felix.appended);
        }
        for chain in own() {
            append(&mut text, &chain.name, &chain.rules);
        }
        text.push_str("COMMIT\n");
    }
    text
}

fn append(text: &mut String, chain: &str, rules: &[String]) {
    for rule in rules {
        let _ = writeln!(text, "-A {chain} {rule}");
    }
}
