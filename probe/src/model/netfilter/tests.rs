//! The walk against an interpreter that knows everything: whatever the walk leaves open, what really happens must be
//! among what it says may happen, and what it is sure of must happen.

use proptest::prelude::*;

use super::*;
use crate::{
    model::Model,
    sample::{
        BaseChain, Comparison, DeviceMatch, Fact, Field, KeyPart, Member, Membership, RuleFamily, RulePart,
        RuleSetBackend, Sample, Side, Verdict,
    },
};

const HOOK: NetfilterHook = NetfilterHook::Forward;
/// Chains that are no hook's; each jumps only to those behind it.
const CHAINS: usize = 4;
const OPAQUE: [&str; 2] = ["limit", "recent"];

/// A packet of which everything is known, and how the matches that are not understood turn out.
#[derive(Clone, Debug)]
struct Concrete {
    protocol: u8,
    port: u16,
    mark: u32,
    state: ConnectionState,
    device: &'static str,
    opaque: [bool; 2],
}

/// What of it the walk is told.
#[derive(Clone, Debug)]
struct Told {
    port: bool,
    mark: u32,
    state: bool,
    device: bool,
}

impl Concrete {
    fn packet(&self, told: &Told) -> Packet<'_> {
        Packet {
            source: Ipv4Addr::new(10, 0, 0, 1),
            destination: Ipv4Addr::new(10, 0, 0, 2),
            protocol: self.protocol,
            transport: Transport::Ports {
                source: None,
                destination: told.port.then_some(self.port),
                tcp_flags: None,
            },
            input: if told.device { Device::Known { index: 1, name: self.device } } else { Device::Unknown },
            output: Device::Absent,
            mark: Bits::partly(self.mark, told.mark),
            connection: told.state.then_some(self.state),
        }
    }
}

enum End<'a> {
    Back,
    Accepted,
    Lost(&'a RuleChain, Option<&'a NetfilterRule>),
}

/// Interprets rules as the kernel does.
struct Oracle<'a> {
    table: &'a RuleTable,
    packet: Concrete,
}

impl<'a> Oracle<'a> {
    fn holds(&self, part: &RulePart) -> bool {
        match part {
            RulePart::Compare(comparison) => {
                let value = match comparison.field {
                    Field::Protocol => u32::from(self.packet.protocol),
                    Field::DestinationPort => u32::from(self.packet.port),
                    Field::Mark => self.packet.mark,
                    Field::ConnectionState => self.packet.state.bit(),
                    other => panic!("{other:?}"),
                } & comparison.mask;
                comparison.ranges.iter().any(|(from, to)| (*from..=*to).contains(&value)) != comparison.invert
            }
            RulePart::Device(wanted) => (self.packet.device == wanted.name) != wanted.invert,
            RulePart::Member(membership) => self.member(membership).is_some() != membership.invert,
            RulePart::NotUnderstood(name) => self.packet.opaque[usize::from(name == OPAQUE[1])],
            _ => true,
        }
    }

    fn member(&self, membership: &Membership) -> Option<&'a Member> {
        let SetName::Table(name) = &membership.set else { panic!("no ipset is used") };
        let set = self.table.sets.iter().find(|set| set.name == *name).unwrap();
        let members = set.members.known().unwrap();
        members.iter().find(|member| match &member.key[..] {
            [KeyPart::Range(from, to)] => (*from..=*to).contains(&u32::from(self.packet.port)),
            [KeyPart::Name(name)] => name == self.packet.device,
            other => panic!("{other:?}"),
        })
    }

    fn chain(&mut self, chain: &'a RuleChain) -> End<'a> {
        'rules: for rule in &chain.rules {
            for part in &rule.parts {
                let verdict = match part {
                    RulePart::SetMark { keep, xor } => {
                        self.packet.mark = (self.packet.mark & keep) ^ xor;
                        continue;
                    }
                    RulePart::Verdict(verdict) => verdict,
                    RulePart::VerdictMap(map) => match self.member(map) {
                        Some(member) => member.verdict.as_ref().unwrap(),
                        None => continue 'rules,
                    },
                    asking if self.holds(asking) => continue,
                    _ => continue 'rules,
                };
                match verdict {
                    Verdict::Accept => return End::Accepted,
                    Verdict::Drop => return End::Lost(chain, Some(rule)),
                    Verdict::Return => return End::Back,
                    Verdict::Jump(name) | Verdict::Goto(name) => {
                        let target = self.table.chains.iter().find(|chain| chain.name == *name).unwrap();
                        match self.chain(target) {
                            End::Back if matches!(verdict, Verdict::Goto(_)) => return End::Back,
                            End::Back => continue 'rules,
                            other => return other,
                        }
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        End::Back
    }
}

/// Where a packet is lost in the end, and with which mark.
fn lost<'a>(sets: &'a RuleSets, packet: &Concrete) -> Option<(Place<'a>, u32)> {
    let mut packet = packet.clone();
    for table in &sets.tables {
        let chain = &table.chains[0];
        let mut oracle = Oracle { table, packet: packet.clone() };
        let place = match oracle.chain(chain) {
            End::Lost(chain, rule) => Some(Place { table, chain, rule }),
            End::Back if chain.base.as_ref().unwrap().policy_drops => {
                Some(Place { table, chain, rule: None })
            }
            End::Back | End::Accepted => None,
        };
        if let Some(place) = place {
            return Some((place, oracle.packet.mark));
        }
        packet = oracle.packet;
    }
    None
}

fn verdict(after: usize) -> BoxedStrategy<Verdict> {
    let plain = prop_oneof![Just(Verdict::Accept), Just(Verdict::Drop), Just(Verdict::Return)];
    if after >= CHAINS {
        return plain.boxed();
    }
    let name = (after..CHAINS).prop_map(|number| format!("c{number}"));
    prop_oneof![
        3 => plain,
        2 => name.clone().prop_map(Verdict::Jump),
        1 => name.prop_map(Verdict::Goto),
    ]
    .boxed()
}

fn asking() -> impl Strategy<Value = RulePart> {
    let compare = |field, mask, ranges: (u32, u32), invert| {
        let ranges = vec![(ranges.0.min(ranges.1), ranges.0.max(ranges.1))];
        RulePart::Compare(Comparison { field, mask, ranges, invert })
    };
    let set = |name: &str, key, invert| {
        RulePart::Member(Membership { set: SetName::Table(name.to_owned()), key: vec![key], invert })
    };
    prop_oneof![
        (0u32..4, 0u32..4, any::<bool>()).prop_map(move |(mask, value, invert)| compare(
            Field::Mark,
            mask,
            (value, value),
            invert
        )),
        any::<bool>().prop_map(move |invert| compare(Field::Protocol, u32::MAX, (6, 6), invert)),
        (0u32..5, 0u32..5, any::<bool>()).prop_map(move |(from, to, invert)| compare(
            Field::DestinationPort,
            u32::MAX,
            (from, to),
            invert
        )),
        (0u32..16, any::<bool>()).prop_map(|(mask, invert)| {
            let mut comparison = Comparison::any_bit(Field::ConnectionState, mask);
            comparison.invert ^= invert;
            RulePart::Compare(comparison)
        }),
        (prop::sample::select(&["eth0", "cali1"][..]), any::<bool>()).prop_map(|(name, invert)| {
            RulePart::Device(DeviceMatch { side: Side::Input, name: name.to_owned(), prefix: false, invert })
        }),
        any::<bool>().prop_map(move |invert| set("ports", Field::DestinationPort, invert)),
        prop::sample::select(&OPAQUE[..]).prop_map(|name| RulePart::NotUnderstood(name.to_owned())),
    ]
}

fn rule(after: usize) -> impl Strategy<Value = NetfilterRule> {
    let doing = (0u32..4, 0u32..4).prop_map(|(keep, xor)| RulePart::SetMark { keep: keep | !3, xor });
    let map = RulePart::VerdictMap(Membership {
        set: SetName::Table(format!("map{after}")),
        key: vec![Field::InputName],
        invert: false,
    });
    let last =
        prop_oneof![5 => verdict(after).prop_map(RulePart::Verdict), 2 => doing.clone(), 1 => Just(map)];
    let middle = prop_oneof![4 => asking(), 1 => doing];
    (prop::collection::vec(middle, 0..3), last).prop_map(|(mut parts, last)| {
        parts.push(last);
        NetfilterRule { parts, ..NetfilterRule::default() }
    })
}

fn table() -> impl Strategy<Value = RuleTable> {
    let rules = |after| prop::collection::vec(rule(after), 0..5);
    let user = (0..CHAINS)
        .map(|number| {
            rules(number + 1).prop_map(move |rules| RuleChain {
                name: format!("c{number}"),
                base: None,
                rules,
            })
        })
        .collect::<Vec<_>>();
    let maps = (0..=CHAINS)
        .map(|number| {
            (verdict(number), verdict(number)).prop_map(move |(one, other)| RuleSetMembers {
                name: format!("map{number}"),
                members: Fact::Known(vec![
                    Member { key: vec![KeyPart::Name("eth0".into())], excluded: false, verdict: Some(one) },
                    Member {
                        key: vec![KeyPart::Name("cali1".into())],
                        excluded: false,
                        verdict: Some(other),
                    },
                ]),
            })
        })
        .collect::<Vec<_>>();
    (rules(0), any::<bool>(), user, maps, 0u32..5).prop_map(|(rules, policy_drops, user, maps, port)| {
        let base = BaseChain {
            hook: HOOK,
            priority: 0,
            first_packets_only: false,
            policy_drops,
            policy_packets: None,
        };
        let mut chains = vec![RuleChain { name: "FORWARD".into(), base: Some(base), rules }];
        chains.extend(user);
        let members =
            vec![Member { key: vec![KeyPart::Range(port, port + 1)], excluded: false, verdict: None }];
        let mut sets = vec![RuleSetMembers { name: "ports".into(), members: Fact::Known(members) }];
        sets.extend(maps);
        let backend = RuleSetBackend::NfTables;
        RuleTable { backend, family: RuleFamily::Ip, name: "filter".into(), chains, sets }
    })
}

fn packet() -> impl Strategy<Value = Concrete> {
    (
        prop::sample::select(&[1u8, 6][..]),
        0u16..5,
        0u32..4,
        prop::sample::select(&ConnectionState::ALL[..]),
        prop::sample::select(&["eth0", "cali1"][..]),
        any::<[bool; 2]>(),
    )
        .prop_map(|(protocol, port, mark, state, device, opaque)| Concrete {
            protocol,
            port,
            mark,
            state,
            device,
            opaque,
        })
}

fn told() -> impl Strategy<Value = Told> {
    (any::<bool>(), 0u32..4, any::<bool>(), any::<bool>()).prop_map(|(port, mark, state, device)| Told {
        port,
        mark,
        state,
        device,
    })
}

fn is_at(stop: &Stop<'_>, place: &Place<'_>) -> bool {
    stop.place == *place
        && match (stop.place.rule, place.rule) {
            (Some(one), Some(other)) => std::ptr::eq(one, other),
            (None, None) => true,
            _ => false,
        }
}

proptest! {
    #[test]
    fn what_happens_is_among_what_may_happen(
        tables in prop::collection::vec(table(), 1..3),
        concrete in packet(),
        told in told(),
    ) {
        let sets = RuleSets { tables, ..RuleSets::default() };
        let sample = Sample::default();
        let walk = Firewall::new(&sets).walk(&Model::new(&sample), HOOK, &concrete.packet(&told));
        prop_assert!(walk.complete);
        if let Some((place, mark)) = lost(&sets, &concrete) {
            prop_assert!(walk.stops.iter().any(|stop| is_at(stop, &place) && stop.mark.may_be(mark)));
            prop_assert!(walk.stops.iter().all(|stop| !stop.certain || is_at(stop, &place)));
        } else {
            prop_assert!(walk.passes);
            prop_assert!(walk.stops.iter().all(|stop| !stop.certain));
        }
    }

    #[test]
    fn nothing_is_open_where_everything_is_known(table in table(), concrete in packet()) {
        let sets = RuleSets { tables: vec![table], ..RuleSets::default() };
        let opaque = sets.tables[0].chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.parts);
        prop_assume!(!opaque.into_iter().any(|part| matches!(part, RulePart::NotUnderstood(_))));
        let all = Told { port: true, mark: u32::MAX, state: true, device: true };
        let sample = Sample::default();
        let walk = Firewall::new(&sets).walk(&Model::new(&sample), HOOK, &concrete.packet(&all));
        let lost = lost(&sets, &concrete);
        prop_assert_eq!(walk.passes, lost.is_none());
        prop_assert_eq!(walk.stops.len(), usize::from(lost.is_some()));
        prop_assert!(walk.stops.iter().all(|stop| stop.certain));
    }
}

/// Each chain jumps twice to the next, so that a walk that forgets nothing would never end.
#[test]
fn a_maze_of_chains_is_left_in_time() {
    const DEPTH: usize = 60;
    let jump = |number: usize| NetfilterRule {
        parts: vec![
            RulePart::NotUnderstood("limit".into()),
            RulePart::Verdict(Verdict::Jump(format!("c{number}"))),
        ],
        ..NetfilterRule::default()
    };
    let mut chains: Vec<RuleChain> = (0..DEPTH)
        .map(|number| RuleChain {
            name: format!("c{number}"),
            base: None,
            rules: if number + 1 < DEPTH { vec![jump(number + 1), jump(number + 1)] } else { Vec::new() },
        })
        .collect();
    chains[0].base = Some(BaseChain {
        hook: HOOK,
        priority: 0,
        first_packets_only: false,
        policy_drops: true,
        policy_packets: None,
    });
    let table = RuleTable {
        backend: RuleSetBackend::Legacy,
        family: RuleFamily::Ip,
        name: "filter".into(),
        chains,
        sets: Vec::new(),
    };
    let sets = RuleSets { tables: vec![table], ..RuleSets::default() };
    let concrete = Concrete {
        protocol: 6,
        port: 1,
        mark: 0,
        state: ConnectionState::New,
        device: "eth0",
        opaque: [true; 2],
    };
    let all = Told { port: true, mark: u32::MAX, state: true, device: true };
    let sample = Sample::default();
    let walk = Firewall::new(&sets).walk(&Model::new(&sample), HOOK, &concrete.packet(&all));
    assert!(!walk.complete && walk.passes);
}
