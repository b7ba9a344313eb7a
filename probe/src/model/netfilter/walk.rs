//! The walk of a packet through the chains of a hook. Where a part of a rule is undecided, the walk goes both ways
//! and joins them again behind the rule, so that it takes no more steps than the rules that the packet may meet.

use super::{
    Bits, Entrance, Firewall, Packet, Place, Table, Truth,
    matching::{Found, Question},
};
use crate::{
    model::Model,
    sample::{ConnectionState, NetfilterHook, NetfilterRule, RuleChain, RulePart, Verdict},
};

/// Jumps within jumps; the kernel allows 16 (`NFT_JUMP_STACK_SIZE`), or as many as `ip_tables` has chains.
const DEEPEST: usize = 64;
/// Rules that one walk evaluates.
const MOST_STEPS: usize = 1_000_000;
/// Connection tracking comes behind this priority (`NF_IP_PRI_CONNTRACK`).
const TRACKING: i32 = -200;

/// A place at which the packet may be lost, or have its addresses rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop<'a> {
    pub place: Place<'a>,
    pub verdict: Verdict,
    /// Whether it certainly gets there and is stopped; else it may be.
    pub certain: bool,
    /// The packet's mark there.
    pub mark: Bits,
}

/// What a hook's chains may do with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk<'a> {
    /// Where it may be lost, in the order of the walk.
    pub stops: Vec<Stop<'a>>,
    /// Where its addresses may be rewritten.
    pub rewrites: Vec<Stop<'a>>,
    /// Whether it may get through.
    pub passes: bool,
    /// Its mark behind the hook, where it gets through.
    pub mark: Bits,
    /// Whether everything that it may meet was walked.
    pub complete: bool,
}

/// The packet between two rules.
#[derive(Clone, Copy, Debug)]
struct State {
    mark: Bits,
    /// Whether it certainly gets here.
    sure: bool,
}

/// What a chain may do with a packet.
#[derive(Default)]
struct Outcome {
    /// It came back from the chain.
    returned: Option<Bits>,
    /// It was accepted, and other chains of the hook follow.
    accepted: Option<Bits>,
    stopped: bool,
}

impl Outcome {
    /// Whether it did nothing but come back.
    fn only_returned(&self) -> bool {
        self.accepted.is_none() && !self.stopped
    }
}

fn join(one: Option<Bits>, other: Option<Bits>) -> Option<Bits> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.either(other)),
        (one, other) => one.or(other),
    }
}

/// The bits of a packet's mark that a part of a rule may change.
pub fn changed_bits(part: &RulePart) -> u32 {
    match part {
        RulePart::SetMark { keep, xor } => !keep | xor,
        RulePart::LoseMark(bits) => *bits,
        // What is not understood may do anything.
        RulePart::Verdict(Verdict::Other(_)) => u32::MAX,
        _ => 0,
    }
}

impl<'a> Firewall<'a> {
    /// Walks a packet through the chains of a hook.
    pub fn walk(&self, model: &Model<'_>, hook: NetfilterHook, packet: &Packet<'_>) -> Walk<'a> {
        let walk = Walk {
            stops: Vec::new(),
            rewrites: Vec::new(),
            passes: false,
            mark: Bits::UNKNOWN,
            complete: true,
        };
        let mut walker = Walker { model, firewall: self, packet: packet.clone(), walk, steps: 0 };
        let mut state = Some(State { mark: packet.mark, sure: true });
        for entrance in self.entrances(hook) {
            let Some(here) = state else { break };
            walker.packet.connection = packet.connection.filter(|_| entrance.base.priority > TRACKING);
            state = walker.enter(entrance, here);
        }
        walker.walk.passes = state.is_some();
        walker.walk.mark = state.map_or(Bits::UNKNOWN, |state| state.mark);
        walker.walk
    }
}

impl<'a> Table<'a> {
    /// The chains that a part of a rule may lead to.
    pub fn targets<'r>(&self, part: &'r RulePart) -> Vec<&'r str>
    where
        'a: 'r,
    {
        let name = |verdict: &'r Verdict| match verdict {
            Verdict::Jump(name) | Verdict::Goto(name) => Some(name.as_str()),
            _ => None,
        };
        match part {
            RulePart::Verdict(verdict) => name(verdict).into_iter().collect(),
            RulePart::VerdictMap(map) => {
                let crate::sample::SetName::Table(set) = &map.set else { return Vec::new() };
                let members = self.sets.get(set.as_str()).and_then(|set| set.members.known());
                let verdicts = members.into_iter().flatten().filter_map(|member| member.verdict.as_ref());
                verdicts.filter_map(name).collect()
            }
            _ => Vec::new(),
        }
    }
}

struct Walker<'w, 'a> {
    model: &'w Model<'w>,
    firewall: &'w Firewall<'a>,
    packet: Packet<'w>,
    walk: Walk<'a>,
    steps: usize,
}

/// A chain that is being walked.
#[derive(Clone, Copy)]
struct Level<'w, 'a> {
    table: &'w Table<'a>,
    chain: &'a RuleChain,
    depth: usize,
}

impl<'w, 'a> Walker<'w, 'a> {
    /// Calls one chain of the hook; `None` where the packet does not get past it.
    fn enter(&mut self, entrance: Entrance<'w, 'a>, state: State) -> Option<State> {
        let Entrance { table, chain, base } = entrance;
        let called = if base.first_packets_only { self.is_first_packet() } else { Truth::Yes };
        if called == Truth::No {
            return Some(state);
        }
        let inside = State { sure: state.sure && called == Truth::Yes, ..state };
        let mut outcome = self.chain(Level { table, chain, depth: 0 }, inside);
        if let Some(mark) = outcome.returned
            && base.policy_drops
        {
            let place = Place { table: table.whole, chain, rule: None };
            let certain = inside.sure && outcome.only_returned();
            self.walk.stops.push(Stop { place, verdict: Verdict::Drop, certain, mark });
            outcome.returned = None;
            outcome.stopped = true;
        }
        let past = if called == Truth::Yes { None } else { Some(state.mark) };
        let mark = join(past, join(outcome.returned, outcome.accepted))?;
        Some(State { mark, sure: state.sure && !outcome.stopped })
    }

    /// Whether it is the first packet of a connection, which alone chains of type `nat` see.
    fn is_first_packet(&self) -> Truth {
        match self.packet.connection {
            Some(ConnectionState::New) => Truth::Yes,
            Some(ConnectionState::Related) | None => Truth::Undecided,
            Some(ConnectionState::Established | ConnectionState::Invalid | ConnectionState::Untracked) => {
                Truth::No
            }
        }
    }

    fn chain(&mut self, level: Level<'w, 'a>, entry: State) -> Outcome {
        let mut outcome = Outcome::default();
        let mut here = Some(entry);
        for rule in &level.chain.rules {
            let Some(state) = here else { break };
            self.steps += 1;
            if self.steps > MOST_STEPS {
                self.walk.complete = false;
                return Outcome { accepted: Some(Bits::UNKNOWN), stopped: true, ..outcome };
            }
            here = self.rule(level, rule, state, &mut outcome);
        }
        outcome.returned = join(outcome.returned, here.map(|state| state.mark));
        outcome
    }

    /// Evaluates one rule; what comes back is the packet in front of the next.
    fn rule(
        &mut self,
        level: Level<'w, 'a>,
        rule: &'a NetfilterRule,
        state: State,
        outcome: &mut Outcome,
    ) -> Option<State> {
        // The packet that has satisfied all parts so far, and the one that some undecided part may have turned away.
        let mut within = state;
        let mut turned_away: Option<Bits> = None;
        for part in &rule.parts {
            match part {
                RulePart::SetMark { keep, xor } => within.mark = within.mark.changed(*keep, *xor),
                RulePart::LoseMark(bits) => within.mark = within.mark.without(*bits),
                RulePart::Aside(_) => {}
                RulePart::Verdict(verdict) => {
                    return self.verdict(level, rule, (verdict, within), (turned_away, state.sure), outcome);
                }
                RulePart::VerdictMap(map) => {
                    let question = self.question(within.mark);
                    let possible = match question.find(level.table, map) {
                        Found::Verdict(verdict) => {
                            return self.verdict(
                                level,
                                rule,
                                (verdict, within),
                                (turned_away, state.sure),
                                outcome,
                            );
                        }
                        Found::Nothing => Vec::new(),
                        Found::AnyOf(verdicts) => verdicts,
                        Found::Unknown => {
                            self.walk.complete = false;
                            outcome.stopped = true;
                            outcome.accepted = Some(Bits::UNKNOWN);
                            return Some(State { mark: Bits::UNKNOWN, sure: false });
                        }
                    };
                    return Some(self.any_verdict(
                        level,
                        rule,
                        &possible,
                        within,
                        (turned_away, state.sure),
                        outcome,
                    ));
                }
                asking => match self.question(within.mark).answer(level.table, asking) {
                    Truth::Yes => {}
                    Truth::No => {
                        return Some(State {
                            mark: join(turned_away, Some(within.mark)).unwrap_or(within.mark),
                            sure: state.sure,
                        });
                    }
                    Truth::Undecided => {
                        turned_away = join(turned_away, Some(within.mark));
                        within.sure = false;
                    }
                },
            }
        }
        let mark = join(turned_away, Some(within.mark)).unwrap_or(within.mark);
        Some(State { mark, sure: state.sure })
    }

    fn question(&self, mark: Bits) -> Question<'_, 'a> {
        Question { model: self.model, firewall: self.firewall, packet: &self.packet, mark }
    }

    /// Any of several verdicts, or none.
    fn any_verdict(
        &mut self,
        level: Level<'w, 'a>,
        rule: &'a NetfilterRule,
        possible: &[&'a Verdict],
        within: State,
        (turned_away, sure): (Option<Bits>, bool),
        outcome: &mut Outcome,
    ) -> State {
        let mut behind = State { mark: join(turned_away, Some(within.mark)).unwrap_or(within.mark), sure };
        for verdict in possible {
            let unsure = State { sure: false, ..within };
            let after =
                self.verdict(level, rule, (verdict, unsure), (Some(behind.mark), behind.sure), outcome);
            behind = after.unwrap_or(State { sure: false, ..behind });
        }
        behind
    }

    /// What a verdict does with the packet that met it; what comes back is the packet in front of the next rule,
    /// which may also be the one that was turned away before.
    fn verdict(
        &mut self,
        level: Level<'w, 'a>,
        rule: &'a NetfilterRule,
        (verdict, within): (&'a Verdict, State),
        (turned_away, sure): (Option<Bits>, bool),
        outcome: &mut Outcome,
    ) -> Option<State> {
        let mark = within.mark;
        let mut came_back = None;
        // Whether the packet is certainly in front of the next rule, if it was in front of this one.
        let mut all_go_on = false;
        match verdict {
            Verdict::Accept => outcome.accepted = join(outcome.accepted, Some(mark)),
            Verdict::Return => outcome.returned = join(outcome.returned, Some(mark)),
            Verdict::Rewrite(_) => {
                self.walk.rewrites.push(stop(level, rule, verdict, within));
                outcome.accepted = join(outcome.accepted, Some(mark));
            }
            Verdict::Drop | Verdict::Reject => {
                self.walk.stops.push(stop(level, rule, verdict, within));
                outcome.stopped = true;
            }
            Verdict::Queue => {
                self.walk.stops.push(stop(level, rule, verdict, State { sure: false, ..within }));
                outcome.stopped = true;
                outcome.accepted = join(outcome.accepted, Some(Bits::UNKNOWN));
            }
            Verdict::Other(_) => {
                self.walk.stops.push(stop(level, rule, verdict, State { sure: false, ..within }));
                outcome.stopped = true;
                outcome.accepted = join(outcome.accepted, Some(Bits::UNKNOWN));
                came_back = Some(Bits::UNKNOWN);
            }
            Verdict::Jump(name) | Verdict::Goto(name) => {
                let inner = self.lead(level, name, within);
                let only_returned = inner.only_returned();
                outcome.stopped |= inner.stopped;
                outcome.accepted = join(outcome.accepted, inner.accepted);
                if matches!(verdict, Verdict::Jump(_)) {
                    came_back = inner.returned;
                    all_go_on = only_returned && came_back.is_some();
                } else {
                    outcome.returned = join(outcome.returned, inner.returned);
                }
            }
        }
        Some(State { mark: join(turned_away, came_back)?, sure: sure && all_go_on })
    }

    fn lead(&mut self, level: Level<'w, 'a>, name: &str, state: State) -> Outcome {
        let target = level.table.chains.get(name).copied();
        match target {
            Some(chain) if level.depth < DEEPEST => {
                self.chain(Level { chain, depth: level.depth + 1, ..level }, state)
            }
            _ => {
                self.walk.complete = false;
                Outcome { returned: Some(Bits::UNKNOWN), accepted: Some(Bits::UNKNOWN), stopped: true }
            }
        }
    }
}

fn stop<'a>(level: Level<'_, 'a>, rule: &'a NetfilterRule, verdict: &Verdict, state: State) -> Stop<'a> {
    Stop {
        place: Place { table: level.table.whole, chain: level.chain, rule: Some(rule) },
        verdict: verdict.clone(),
        certain: state.sure,
        mark: state.mark,
    }
}
