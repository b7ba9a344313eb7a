//! Rules read back from a real kernel, in a network namespace of their own: those of `iptables-legacy`,
//! `iptables-nft` and `nft` come to the same form.

use std::{
    fmt::Write as _,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use caliprobe::{
    sample::{RulePart, RuleSets, RuleTable, Verdict},
    sources::netfilter,
};
use nix::sched::{CloneFlags, unshare};
use serde::Serialize;
use serde_json::Value;

/// Runs a test in a network namespace that vanishes with it; `None`, said loudly, where that cannot be.
fn in_namespace<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root can make network namespaces");
        return None;
    }
    let thread = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        work()
    });
    Some(thread.join().expect("the test's thread"))
}

fn feed(program: &str, arguments: &[&str], text: &str) {
    let mut child = Command::new(program).args(arguments).stdin(Stdio::piped()).spawn().expect(program);
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("written");
    assert!(child.wait().expect(program).success(), "{program} refuses {text}");
}

/// The kernel keeps elements in tables whose order is another each time.
fn in_order(members: &impl Serialize) -> String {
    let mut members = serde_json::to_value(members).expect("JSON");
    if let Some(elements) = members.pointer_mut("/known").and_then(Value::as_array_mut) {
        elements.sort_by_cached_key(Value::to_string);
    }
    members.to_string()
}

fn tables(sets: &RuleSets) -> String {
    let mut text = String::new();
    let mut tables: Vec<&RuleTable> = sets.tables.iter().collect();
    tables.sort_by_key(|table| &table.name);
    for table in tables {
        let _ = writeln!(text, "{:?} {:?} {}", table.backend, table.family, table.name);
        for chain in &table.chains {
            let base = chain.base.as_ref().map_or_else(String::new, |base| {
                format!(" {:?} {} drops={}", base.hook, base.priority, base.policy_drops)
            });
            let _ = writeln!(text, "  {}{base}", chain.name);
            for rule in &chain.rules {
                let parts = serde_json::to_string(&rule.parts).expect("JSON");
                let _ = writeln!(text, "    {} {:?} {parts}", rule.number, rule.comments);
            }
        }
        for set in table.sets.iter().chain(&sets.ipsets) {
            let _ = writeln!(text, "  set {} {}", set.name, in_order(&set.members));
        }
    }
    for missed in &sets.missed {
        let _ = writeln!(text, "missed: {missed}");
    }
    for table in &sets.elsewhere {
        let _ = writeln!(text, "elsewhere: {table}");
    }
    text
}

const IPTABLES: &str = r#"*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:cali-INPUT - [0:0]
:cali-caught - [0:0]
-A INPUT -m comment --comment "cali:Cz_u1IQiXIMmKD4c" -j cali-INPUT
-A FORWARD ! -s 10.200.0.0/16 -i cali+ ! -o eth0 -p tcp -m tcp --sport 1:1024 ! --dport 80 --tcp-flags FIN,SYN,RST,ACK SYN -j REJECT
-A cali-INPUT -p 4 -m comment --comment "cali:x" -m comment --comment "Allow IPIP packets from Calico hosts" -m addrtype --dst-type LOCAL -j ACCEPT
-A cali-INPUT -p icmp -m icmp --icmp-type 8 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-INPUT -m conntrack ! --ctstate INVALID,UNTRACKED -j RETURN
-A cali-INPUT -m conntrack --ctstate DNAT -j DROP
-A cali-INPUT -p udp -m multiport --dports 53,4000:4789 -g cali-caught
-A cali-INPUT -m mark ! --mark 0x10000/0x10000 -j MARK --set-xmark 0x0/0xf0000
-A cali-INPUT -m limit --limit 3/sec -j LOG
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -o tunl0 -j MASQUERADE
COMMIT
"#;

/// `iptables-legacy` and `iptables-nft` write the same rules in different ways.
#[test]
fn both_programs_for_iptables_come_to_the_same() {
    let read = |program: &'static str| {
        in_namespace(move || {
            feed(program, &[], IPTABLES);
            netfilter::read(Path::new("/"))
        })
    };
    let (Some(legacy), Some(nft)) = (read("iptables-legacy-restore"), read("iptables-nft-restore")) else {
        return;
    };
    insta::assert_snapshot!("iptables_legacy", tables(&legacy));
    insta::assert_snapshot!("iptables_nft", tables(&nft));
    let verdicts = |sets: &RuleSets| {
        let tables = sets.tables.iter().filter(|table| table.name == "filter");
        let rules = tables.flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
        rules.flat_map(|rule| &rule.parts).filter(|part| matches!(part, RulePart::Verdict(_))).count()
    };
    assert_eq!(verdicts(&legacy), verdicts(&nft));
    assert_eq!((legacy.missed.len(), nft.missed.len()), (0, 0));
}

const NFT: &str = r#"table inet t {
  set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 172.16.0.0-172.16.0.9 } }
  set c { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.0/8 . 80-90 } }
  map m { type ifname : verdict; elements = { "cali123" : goto w } }
  chain w { }
  chain f { type filter hook forward priority filter + 5; policy drop;
    ct state established,related accept
    ct state vmap { invalid : drop, new : jump w }
    ip saddr @s tcp dport { 80, 443, 1000-2000 } counter accept
    ip saddr . tcp dport @c accept
    iifname vmap @m
    iifname "eth0" oifname != "cali*" drop
    meta mark & 0x00080000 == 0x00080000 fib saddr . mark . iif oif 0 counter drop
    fib daddr type local counter reject
    meta mark set meta mark and 0xffe5ffff
    meta mark set meta mark or 0x10000
    meta mark set 0x5
    mark != 0x1-0x7 drop
    ip daddr != 10.0.0.0/24 drop
    ip saddr 1.2.3.4 ip daddr 5.6.7.8 drop
    tcp dport 80 tcp sport 1 drop
    icmp type { echo-reply, echo-request } limit rate 4/second drop comment "ping"
    meta l4proto != { 6, 17 } log prefix "x" drop
    iifname != { "a", "b" } drop
    meta mark set ct mark
    ip6 saddr ::1 drop
  }
}
table netdev n {
  chain c {
    drop
  }
}
table ip asleep {
  flags dormant
  chain c { type filter hook input priority 0; policy drop; }
}
"#;

#[test]
fn rules_of_nft_are_read_with_their_sets() {
    let Some(read) = in_namespace(|| {
        feed("nft", &["-f", "-"], NFT);
        netfilter::read(Path::new("/"))
    }) else {
        return;
    };
    insta::assert_snapshot!("nft", tables(&read));
}

#[test]
fn handles_are_those_that_nft_shows() {
    let Some((read, shown)) = in_namespace(|| {
        feed("nft", &["-f", "-"], "table ip t {\n chain c {\n drop\n accept\n }\n}\n");
        let shown = Command::new("nft").args(["-a", "list", "ruleset"]).output().expect("nft").stdout;
        (netfilter::read(Path::new("/")), String::from_utf8_lossy(&shown).into_owned())
    }) else {
        return;
    };
    let [RuleTable { chains, .. }] = &read.tables[..] else { panic!("{read:?}") };
    for (rule, words) in chains[0].rules.iter().zip(["drop", "accept"]) {
        let handle = rule.handle.expect("a handle");
        assert!(shown.contains(&format!("{words} # handle {handle}\n")), "{shown}");
    }
    assert_eq!(chains[0].rules[0].parts, [RulePart::Verdict(Verdict::Drop)]);
}
