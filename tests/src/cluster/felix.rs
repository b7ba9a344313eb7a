//! The rules and sets that Felix keeps on a node, by their real names, marks, comments and hashes.
//!
//! Felix tags each rule with a hash over the chain's name and all rules up to this one, in its own spelling.
//! That spelling is what stands here; `iptables-restore` reads it as it is.

use std::fmt::Write as _;

use data_encoding::BASE64URL;
use sha2::{Digest as _, Sha224};

use super::{
    rules::{Chain, Table},
    topology::{NAMESPACE, NODES, Node, POOL, Pod, Variant},
};

/// One rule as Felix spells it.
#[derive(Clone, Debug)]
struct Rule {
    comment: Option<String>,
    matches: String,
    action: String,
}

fn rule(matches: &str, action: &str) -> Rule {
    Rule { comment: None, matches: matches.to_owned(), action: action.to_owned() }
}

impl Rule {
    fn commented(mut self, comment: &str) -> Self {
        self.comment = Some(comment.to_owned());
        self
    }
}

/// The bits of the packet's mark that Felix uses.
#[derive(Clone, Copy, Debug)]
struct Marks {
    /// Every bit of Felix'.
    all: u32,
    /// A policy or profile accepted the packet.
    accept: u32,
    /// The packet comes from a pod.
    from_pod: u32,
}

const ACCEPT: u32 = 0x10000;
const PASS: u32 = 0x20000;

impl Marks {
    fn of(variant: Variant) -> Self {
        if variant.is_recent() {
            Self { all: 0x1b_0000, accept: ACCEPT, from_pod: 0x8_0000 }
        } else {
            Self { all: 0xf_0000, accept: ACCEPT, from_pod: 0x4_0000 }
        }
    }

    fn accepted(self) -> String {
        marked(self.accept)
    }
}

fn marked(bits: u32) -> String {
    format!("-m mark --mark {bits:#x}/{bits:#x}")
}

fn unmarked(bits: u32) -> String {
    format!("-m mark --mark 0/{bits:#x}")
}

fn set_mark(bits: u32) -> String {
    format!("--jump MARK --set-mark {bits:#x}/{bits:#x}")
}

fn clear_mark(bits: u32) -> String {
    format!("--jump MARK --set-mark 0/{bits:#x}")
}

/// Tags the rules of a chain with their hashes. Rules that Felix appends to a chain of the kernel's hash
/// under another name than the chain's: `seed`.
fn tag(seed: &str, rules: &[Rule]) -> Vec<String> {
    let mut hash = Sha224::digest(seed);
    rules
        .iter()
        .map(|rule| {
            let mut spelling = format!("-A {seed} HASH");
            let mut text = String::new();
            if let Some(comment) = &rule.comment {
                let _ = write!(text, " -m comment --comment \"{comment}\"");
            }
            for part in [&rule.matches, &rule.action] {
                if !part.is_empty() {
                    let _ = write!(text, " {part}");
                }
            }
            spelling.push_str(&text);
            hash = Sha224::new().chain_update(hash).chain_update(spelling).finalize();
            format!("-m comment --comment \"cali:{}\"{text}", &BASE64URL.encode(&hash)[..16])
        })
        .collect()
}

fn chain(table: Table, name: &str, rules: &[Rule]) -> Chain {
    Chain { table, name: name.to_owned(), rules: tag(name, rules) }
}

/// Felix' rules for a kernel's chain: those that it inserts at the top, and those that it appends.
#[derive(Debug, Default)]
pub struct Hooked {
    pub inserted: Vec<String>,
    pub appended: Vec<String>,
}

/// What Felix adds to one of the kernel's own chains.
pub fn hooks(table: Table, name: &str, variant: Variant) -> Hooked {
    let jump = || rule("", &format!("--jump cali-{name}"));
    match (table, name) {
        (Table::Filter, "FORWARD") => Hooked {
            inserted: tag(name, &[jump()]),
            appended: tag(
                "FORWARD*appends*",
                &[
                    rule(&marked(ACCEPT), "--jump ACCEPT").commented("Policy explicitly accepted packet."),
                    rule("", &set_mark(ACCEPT)),
                ],
            ),
        },
        (Table::Nat, "POSTROUTING") if variant.is_recent() => {
            Hooked { appended: tag("POSTROUTING*appends*", &[jump()]), ..Hooked::default() }
        }
        (Table::Raw, "PREROUTING" | "OUTPUT")
        | (Table::Mangle, "PREROUTING" | "POSTROUTING")
        | (Table::Nat, "PREROUTING" | "OUTPUT" | "POSTROUTING")
        | (Table::Filter, "INPUT" | "OUTPUT") => {
            Hooked { inserted: tag(name, &[jump()]), ..Hooked::default() }
        }
        _ => Hooked::default(),
    }
}

/// Felix' own chains.
pub fn chains(node: &Node, variant: Variant) -> Vec<Chain> {
    let marks = Marks::of(variant);
    let mut chains = raw(marks);
    chains.extend(mangle(marks));
    chains.extend(nat(variant));
    chains.extend(filter(marks));
    chains.extend(dispatch(node));
    chains.extend(node.pods.iter().flat_map(|pod| endpoint(&pod.interface(), variant)));
    chains.extend(profiles(variant));
    chains
}

fn empty(table: Table, names: &[&str]) -> impl Iterator<Item = Chain> {
    names.iter().map(move |name| chain(table, name, &[]))
}

fn raw(marks: Marks) -> Vec<Chain> {
    let from_pod = marked(marks.from_pod);
    let mut chains = vec![
        chain(
            Table::Raw,
            "cali-PREROUTING",
            &[
                rule("", &clear_mark(marks.all)),
                rule("--in-interface cali+", &set_mark(marks.from_pod)),
                rule(&from_pod, "--jump cali-rpf-skip"),
                rule(&format!("{from_pod} -m rpfilter --invert --validmark"), "--jump DROP"),
                rule(&unmarked(marks.from_pod), "--jump cali-from-host-endpoint"),
                rule(&marks.accepted(), "--jump ACCEPT"),
            ],
        ),
        chain(
            Table::Raw,
            "cali-OUTPUT",
            &[
                rule("", &clear_mark(marks.all)),
                rule("", "--jump cali-to-host-endpoint"),
                rule(&marks.accepted(), "--jump ACCEPT"),
            ],
        ),
    ];
    chains.extend(empty(Table::Raw, &["cali-rpf-skip", "cali-from-host-endpoint", "cali-to-host-endpoint"]));
    chains
}

fn mangle(marks: Marks) -> Vec<Chain> {
    let accepted = marks.accepted();
    let by_host_policy = "Host endpoint policy accepted packet.";
    let mut chains = vec![
        chain(
            Table::Mangle,
            "cali-PREROUTING",
            &[
                rule("-m conntrack --ctstate RELATED,ESTABLISHED", "--jump ACCEPT"),
                rule(&accepted, "--jump ACCEPT"),
                rule("", "--jump cali-from-host-endpoint"),
                rule(&accepted, "--jump ACCEPT").commented(by_host_policy),
            ],
        ),
        chain(
            Table::Mangle,
            "cali-POSTROUTING",
            &[
                rule(&accepted, "--jump RETURN"),
                rule("", &clear_mark(marks.all)),
                rule("-m conntrack --ctstate DNAT", "--jump cali-to-host-endpoint"),
                rule(&accepted, "--jump RETURN").commented(by_host_policy),
            ],
        ),
    ];
    chains.extend(empty(Table::Mangle, &["cali-from-host-endpoint", "cali-to-host-endpoint"]));
    chains
}

fn nat(variant: Variant) -> Vec<Chain> {
    let pools = pool_set(variant);
    let mut chains = vec![
        chain(Table::Nat, "cali-PREROUTING", &[rule("", "--jump cali-fip-dnat")]),
        chain(Table::Nat, "cali-OUTPUT", &[rule("", "--jump cali-fip-dnat")]),
        chain(
            Table::Nat,
            "cali-POSTROUTING",
            &[
                rule("", "--jump cali-fip-snat"),
                rule("", "--jump cali-nat-outgoing"),
                rule(
                    "--out-interface tunl0 -m addrtype ! --src-type LOCAL --limit-iface-out \
                     -m addrtype --src-type LOCAL",
                    "--jump MASQUERADE --random-fully",
                ),
            ],
        ),
        chain(
            Table::Nat,
            "cali-nat-outgoing",
            &[rule(
                &format!("-m set --match-set cali40masq-ipam-pools src -m set ! --match-set {pools} dst"),
                "--jump MASQUERADE --random-fully",
            )],
        ),
    ];
    chains.extend(empty(Table::Nat, &["cali-fip-dnat", "cali-fip-snat"]));
    chains
}

fn filter(marks: Marks) -> Vec<Chain> {
    let accepted = marks.accepted();
    let by_host_policy = "Host endpoint policy accepted packet.";
    let mut chains = vec![
        chain(
            Table::Filter,
            "cali-INPUT",
            &[
                rule(
                    "-p 4 -m set --match-set cali40all-hosts-net src -m addrtype --dst-type LOCAL",
                    "--jump ACCEPT",
                )
                .commented("Allow IPIP packets from Calico hosts"),
                rule("-p 4", "--jump DROP").commented("Drop IPIP packets from non-Calico hosts"),
                rule("--in-interface cali+", "--goto cali-wl-to-host"),
                rule(&accepted, "--jump ACCEPT"),
                rule("", &clear_mark(marks.all)),
                rule("", "--jump cali-from-host-endpoint"),
                rule(&accepted, "--jump ACCEPT").commented(by_host_policy),
            ],
        ),
        chain(
            Table::Filter,
            "cali-FORWARD",
            &[
                rule("", &clear_mark(marks.all & !marks.accept)),
                rule(&unmarked(marks.accept), "--jump cali-from-hep-forward"),
                rule("--in-interface cali+", "--jump cali-from-wl-dispatch"),
                rule("--out-interface cali+", "--jump cali-to-wl-dispatch"),
                rule("", "--jump cali-to-hep-forward"),
                rule("", "--jump cali-cidr-block"),
            ],
        ),
        chain(
            Table::Filter,
            "cali-OUTPUT",
            &[
                rule(&accepted, "--jump ACCEPT"),
                rule("--out-interface cali+", "--jump RETURN"),
                rule(
                    "-p 4 -m set --match-set cali40all-hosts-net dst -m addrtype --src-type LOCAL",
                    "--jump ACCEPT",
                )
                .commented("Allow IPIP packets to other Calico hosts"),
                rule("", &clear_mark(marks.all)),
                rule("", "--jump cali-to-host-endpoint"),
                rule(&accepted, "--jump ACCEPT").commented(by_host_policy),
            ],
        ),
        chain(
            Table::Filter,
            "cali-wl-to-host",
            &[
                rule("", "--jump cali-from-wl-dispatch"),
                rule("", "--jump ACCEPT").commented("Configured DefaultEndpointToHostAction"),
            ],
        ),
    ];
    chains.extend(empty(
        Table::Filter,
        &[
            "cali-from-host-endpoint",
            "cali-to-host-endpoint",
            "cali-from-hep-forward",
            "cali-to-hep-forward",
            "cali-cidr-block",
        ],
    ));
    chains
}

/// The way to the chains of each pod. With two pods no tree of prefixes is needed.
fn dispatch(node: &Node) -> [Chain; 2] {
    [
        ("cali-from-wl-dispatch", "--in-interface", "cali-fw-"),
        ("cali-to-wl-dispatch", "--out-interface", "cali-tw-"),
    ]
    .map(|(name, option, prefix)| {
        let mut interfaces = node.pods.each_ref().map(Pod::interface);
        interfaces.sort();
        let mut rules: Vec<Rule> = interfaces
            .iter()
            .map(|interface| rule(&format!("{option} {interface}"), &format!("--goto {prefix}{interface}")))
            .collect();
        rules.push(rule("", "--jump DROP").commented("Unknown interface"));
        chain(Table::Filter, name, &rules)
    })
}

/// Which way a packet goes, as seen from the pod.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

/// A pod's own chains, without any policy: its profiles decide.
fn endpoint(interface: &str, variant: Variant) -> [Chain; 2] {
    [(Way::In, "cali-tw-", "cali-pri-"), (Way::Out, "cali-fw-", "cali-pro-")].map(
        |(way, prefix, profile_prefix)| {
            let clear = if variant.is_recent() { ACCEPT | PASS } else { ACCEPT };
            let mut rules = vec![
                rule("-m conntrack --ctstate RELATED,ESTABLISHED", "--jump ACCEPT"),
                rule("-m conntrack --ctstate INVALID", "--jump DROP"),
                rule("", &clear_mark(clear)),
            ];
            if way == Way::Out {
                rules.push(
                    rule("-p 17 -m multiport --destination-ports 4789", "--jump DROP")
                        .commented("Drop VXLAN encapped packets originating in workloads"),
                );
                rules.push(
                    rule("-p 4", "--jump DROP")
                        .commented("Drop IPinIP encapped packets originating in workloads"),
                );
            }
            for profile in profile_names() {
                rules.push(rule("", &format!("--jump {profile_prefix}{profile}")));
                rules.push(rule(&marked(ACCEPT), "--jump RETURN").commented("Return if profile accepted"));
            }
            rules.push(rule("", "--jump DROP").commented("Drop if no profiles matched"));
            chain(Table::Filter, &format!("{prefix}{interface}"), &rules)
        },
    )
}

fn profile_names() -> [String; 2] {
    [format!("kns.{NAMESPACE}"), format!("ksa.{NAMESPACE}.default")]
}

/// The profiles that Calico derives from Kubernetes: a namespace allows everything, a service account says
/// nothing.
fn profiles(variant: Variant) -> Vec<Chain> {
    let [namespace, account] = profile_names();
    [("cali-pri-", "ingress"), ("cali-pro-", "egress")]
        .into_iter()
        .flat_map(|(prefix, way)| {
            let mut allow =
                vec![rule("", &set_mark(ACCEPT)).commented(&format!("Profile {namespace} {way}"))];
            if !variant.is_recent() {
                allow.push(rule(&marked(ACCEPT), "--jump RETURN"));
            }
            let nothing = rule("", "").commented(&format!("Profile {account} {way}"));
            [
                chain(Table::Filter, &format!("{prefix}{namespace}"), &allow),
                chain(Table::Filter, &format!("{prefix}{account}"), &[nothing]),
            ]
        })
        .collect()
}

fn pool_set(variant: Variant) -> &'static str {
    if variant == Variant::Felix { "cali40network-ip-pools" } else { "cali40all-ipam-pools" }
}

/// Felix' sets, for `ipset restore`.
pub fn sets(node: &Node, variant: Variant) -> String {
    let mut text = String::new();
    let mut set = |name: &str, kind: &str, members: &[String]| {
        let _ = writeln!(text, "create {name} hash:{kind} family inet maxelem 1048576");
        for member in members {
            let _ = writeln!(text, "add {name} {member}");
        }
    };
    let hosts: Vec<String> = NODES.iter().map(|node| node.address.to_string()).collect();
    set("cali40all-hosts-net", "net", &hosts);
    set(pool_set(variant), "net", &[POOL.to_owned()]);
    set("cali40masq-ipam-pools", "net", &[POOL.to_owned()]);
    let own = [
        "127.0.0.1".to_owned(),
        "172.17.0.1".to_owned(),
        node.address.to_string(),
        node.tunnel_address.to_string(),
    ];
    set("cali40this-host", "ip", &own);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(chains: &[Chain], name: &str) -> Vec<String> {
        let chain = chains.iter().find(|chain| chain.name == name).unwrap();
        chain.rules.iter().map(|rule| hash(rule)).collect()
    }

    fn hash(rule: &str) -> String {
        rule.split("cali:").nth(1).unwrap()[..16].to_owned()
    }

    /// The expected hashes were read from real clusters' `iptables-save`, in public bug reports.
    #[test]
    fn static_chains_carry_felix_hashes() {
        let old = Marks::of(Variant::Bird);
        let recent = Marks::of(Variant::Felix);
        assert_eq!(
            hashes(&filter(old), "cali-INPUT"),
            [
                "PajejrV4aFdkZojI",
                "_wjq-Yrma8Ly1Svo",
                "8TZGxLWh_Eiz66wc",
                "6McIeIDvPdL6PE1T",
                "YGPbrUms7NId8xVa",
                "2gmY7Bg2i0i84Wk_",
                "q-Vz2ZT9iGE331LL"
            ]
        );
        assert_eq!(
            hashes(&filter(recent), "cali-INPUT")[4..],
            ["FHoqwXIibih3FkAm", "qZ1_fX7-OsFCh64q", "64so3UXgS7MtBy-m"]
        );
        assert_eq!(hashes(&filter(recent), "cali-FORWARD")[5], "rnKNH2WxGcRQcIlD");
        assert_eq!(hashes(&filter(old), "cali-OUTPUT")[5], "tvSSMDBWrme3CUqM");
        assert_eq!(hashes(&filter(old), "cali-wl-to-host")[1], "nSZbcOoG1xPONxb8");
        assert_eq!(hashes(&raw(old), "cali-PREROUTING")[5], "lV4V2MPoMBf0hl9T");
        assert_eq!(hashes(&raw(recent), "cali-PREROUTING")[3], "hOMHbY_OXb_BF9pw");
        assert_eq!(hashes(&mangle(old), "cali-PREROUTING")[3], "Cg96MgVuoPm7UMRo");
        assert_eq!(hashes(&nat(Variant::Bird), "cali-POSTROUTING")[2], "SXWvdsbh4Mw7wOln");
        assert_eq!(hashes(&nat(Variant::Bird), "cali-nat-outgoing"), ["flqWnvo8yq4ULQLa"]);
        assert_eq!(hashes(&nat(Variant::Felix), "cali-nat-outgoing"), ["W_qq_N2KSTWyCvrX"]);
    }

    #[test]
    fn hooks_carry_felix_hashes() {
        let forward = hooks(Table::Filter, "FORWARD", Variant::Bird);
        assert_eq!(hash(&forward.inserted[0]), "wUHhoiAYhphO9Mso");
        assert_eq!(hash(&forward.appended[0]), "S93hcgKJrXEqnTfs");
        assert_eq!(hash(&forward.appended[1]), "mp77cMpurHhyjLrM");
    }

    #[test]
    fn pod_chains_carry_felix_hashes() {
        let [_, out] = endpoint("cali4ab24bb9148", Variant::Felix);
        assert_eq!(
            hashes(&[out], "cali-fw-cali4ab24bb9148")[..6],
            [
                "vnNQAx9GFDXLjyN_",
                "7j6hCLrkP4QFLR_U",
                "B8R2dlGx1pBoMu4W",
                "yrfBdiCpGSJtjHEK",
                "fg_gcnDT_kW1IURO",
                "4bcxr9yKp99n38va"
            ]
        );
    }
}
