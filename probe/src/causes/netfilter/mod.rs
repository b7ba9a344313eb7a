//! Packets that rules of netfilter dropped or rewrote: which rule it was, whose it is, and what cures it. The hook is
//! proven by the drop's kernel stack, the rule by walking the packet through the hook's chains and by what they
//! counted meanwhile.

mod blame;
mod calico;
mod counts;
mod cures;
mod meeting;
pub(super) mod owner;
mod rewritten;
mod risen;
mod suspects;
mod table_full;
mod told;
pub(super) mod words;

pub use rewritten::{out_of_sight, source as rewritten_source};
pub use risen::words as risen;
pub use told::told;

use super::{
    case::{Case, Located},
    drop_kind::describe,
    verdict::Ending,
};
use crate::{
    observation::DropSighting,
    report::document::{Direction, Stage},
    sample::NetfilterHook,
};
use meeting::Meeting;
use suspects::{Suspect, Suspects};

/// Judges a visible drop by a hook.
pub(super) fn dropped(
    case: &Case<'_>,
    direction: Direction,
    hook: Option<NetfilterHook>,
    drop: &DropSighting,
) -> Ending {
    let device = drop.link.map(|link| case.link_name(link));
    let place = case.place(direction, Stage::Netfilter, device);
    let unknown = |seen: String| Ending::Unknown { place: Some(place.clone()), seen };
    let Some(hook) = hook else {
        return unknown(format!(
            "{}; the kernel stack does not tell at which hook{}",
            describe(drop),
            risen(case, &NetfilterHook::ALL)
        ));
    };
    let Some(sets) = case.before.rule_sets.known() else {
        if let Some(finding) = told::finding(case, direction, hook, drop) {
            return Ending::Located(Located { finding, place });
        }
        let why = case.before.rule_sets.absent().unwrap_or_default();
        return unknown(format!("{}; its rules are not known: {why}", at(hook, drop)));
    };
    let meeting = Meeting::of(case, direction, hook, drop);
    let suspects = Suspects::find(case, sets, &meeting);
    match suspects.list.as_slice() {
        [] => match table_full::judge(case, &meeting, &suspects, drop) {
            Some(finding) => Ending::Located(Located { finding, place }),
            None => unknown(format!(
                "{}; no rule that it may have met counted it{}",
                at(hook, drop),
                missed(&suspects)
            )),
        },
        [only] if suspects.spares_others(case, &meeting, only) => unknown(format!(
            "{} drops these probes ({}) and may let other traffic pass: try --port N",
            words::whole(&only.place),
            describe(drop)
        )),
        [only] => {
            let finding = blame::finding(case, &meeting, &suspects, only, drop);
            Ending::Located(Located { finding, place })
        }
        several => {
            unknown(format!("{}; it was one of {}{}", at(hook, drop), list(several), missed(&suspects)))
        }
    }
}

fn at(hook: NetfilterHook, drop: &DropSighting) -> String {
    format!("dropped at netfilter hook {} ({})", hook.chain_name(), describe(drop))
}

/// As many rules as a person reads.
const MOST_NAMED: usize = 4;

fn list(suspects: &[Suspect<'_>]) -> String {
    let mut named: Vec<String> =
        suspects.iter().take(MOST_NAMED).map(|suspect| words::whole(&suspect.place)).collect();
    if suspects.len() > MOST_NAMED {
        named.push(format!("{} more", suspects.len() - MOST_NAMED));
    }
    named.join("; or ")
}

fn missed(suspects: &Suspects<'_>) -> String {
    suspects.missed.as_ref().map_or_else(String::new, |missed| format!("; not seen: {missed}"))
}
