//! `cargo xtask table`: every code, the places where its fault can lie, and what the scenarios of each came to.

use std::{collections::BTreeMap, fs, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Deserialize;

use crate::{
    kernels::Series,
    results::{self, Outcome, Results},
    scenarios::{self, Place, Scenario},
};

#[derive(Args)]
pub struct TableArguments {
    /// Of the runs without eBPF
    #[arg(long)]
    without_bpf: bool,
}

/// The list of all codes.
const CODES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/codes.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Codes {
    /// Those of a node's state.
    node: Vec<String>,
    /// Those that packets meet.
    packets: BTreeMap<String, Reasons>,
}

impl Codes {
    fn knows(&self, code: &str) -> bool {
        self.packets.contains_key(code) || self.node.iter().any(|other| other == code)
    }

    /// Every code with the places where it is looked for.
    fn rows(&self) -> impl Iterator<Item = (&str, Place, Option<&str>)> {
        let met = self.packets.iter().flat_map(|(code, reasons)| {
            Place::OF_PACKETS.map(|place| (code.as_str(), place, reasons.of(place)))
        });
        met.chain(self.node.iter().map(|code| (code.as_str(), Place::Node, None)))
    }
}

/// Why a fault cannot lie at a place.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reasons {
    sender: Option<String>,
    receiver: Option<String>,
    #[serde(rename = "return")]
    way_back: Option<String>,
}

impl Reasons {
    fn of(&self, place: Place) -> Option<&str> {
        match place {
            Place::Sender => self.sender.as_deref(),
            Place::Receiver => self.receiver.as_deref(),
            Place::Return => self.way_back.as_deref(),
            Place::Node => None,
        }
    }
}

pub fn run(arguments: &TableArguments) -> Result<ExitCode> {
    let text = fs::read_to_string(CODES).with_context(|| format!("cannot read {CODES}"))?;
    let table = Table {
        codes: toml::from_str(&text).with_context(|| format!("{CODES} is no list of codes"))?,
        scenarios: scenarios::all()?,
        kernels: Series::ALL
            .iter()
            .map(|series| Ok((series.name(), results::load(&label(series.name(), arguments.without_bpf))?)))
            .collect::<Result<_>>()?,
    };
    let unknown = table.codes_unknown();
    anyhow::ensure!(
        unknown.is_empty(),
        "scenarios expect codes that {CODES} does not have: {}",
        unknown.join(", ")
    );
    Ok(if table.print() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Under which name results are kept.
pub fn label(kernel: &str, without_bpf: bool) -> String {
    if without_bpf { format!("{kernel}-without-bpf") } else { kernel.to_owned() }
}

struct Table {
    codes: Codes,
    scenarios: Vec<Scenario>,
    kernels: Vec<(&'static str, Results)>,
}

/// What a code's scenarios of one place came to on one kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cell {
    right: usize,
    cannot_say: usize,
    wrong: usize,
    not_run: usize,
}

impl Cell {
    fn of<'a>(scenarios: impl Iterator<Item = &'a Scenario>, results: &Results) -> Self {
        let mut cell = Self::default();
        for scenario in scenarios {
            match results.get(&scenario.name) {
                Some(Outcome::Right) => cell.right += 1,
                Some(Outcome::CannotSay) => cell.cannot_say += 1,
                Some(Outcome::Wrong) => cell.wrong += 1,
                Some(Outcome::Skipped) | None => cell.not_run += 1,
            }
        }
        cell
    }

    fn words(self) -> String {
        match self {
            Self { wrong: 1.., .. } => format!("WRONG {}", self.wrong),
            Self { right: 0, cannot_say: 1.., .. } => format!("cannot say {}", self.cannot_say),
            Self { right: 0, .. } => "not run".to_owned(),
            Self { cannot_say: 1.., .. } => format!("right {}, cannot say {}", self.right, self.cannot_say),
            Self { .. } => format!("right {}", self.right),
        }
    }
}

impl Table {
    fn codes_unknown(&self) -> Vec<String> {
        let expected =
            self.scenarios.iter().filter(|scenario| scenario.fault.is_some()).flat_map(Scenario::codes);
        let mut unknown: Vec<String> =
            expected.filter(|code| !self.codes.knows(code)).map(str::to_owned).collect();
        unknown.sort();
        unknown.dedup();
        unknown
    }

    fn of<'a>(&'a self, code: &'a str, place: Place) -> impl Iterator<Item = &'a Scenario> + Clone {
        let at_place = self.scenarios.iter().filter(move |scenario| scenario.fault == Some(place));
        at_place.filter(move |scenario| scenario.codes().any(|other| other == code))
    }

    /// Prints it as Markdown. Whether nothing is wrong, and nothing is without a scenario and without a reason.
    fn print(&self) -> bool {
        let mut good = true;
        let kernels: Vec<&str> = self.kernels.iter().map(|(kernel, _)| *kernel).collect();
        println!("| code | place | {} |", kernels.join(" | "));
        println!("|---|---|{}", "---|".repeat(kernels.len()));
        for (code, place, reason) in self.codes.rows() {
            let scenarios = self.of(code, place);
            let cells: Vec<Cell> =
                self.kernels.iter().map(|(_, results)| Cell::of(scenarios.clone(), results)).collect();
            let is_missing = scenarios.count() == 0 && reason.is_none();
            good &= !is_missing && cells.iter().all(|cell| cell.wrong == 0);
            let words = match (cells.iter().all(|cell| *cell == Cell::default()), is_missing) {
                (_, true) => "NO SCENARIO | ".repeat(kernels.len()),
                (true, false) => "n/a | ".repeat(kernels.len()),
                (false, false) => cells.iter().map(|cell| cell.words() + " | ").collect::<Vec<_>>().concat(),
            };
            println!("| {code} | {} | {}", place.name(), words.trim_end());
        }
        println!("\nNot applicable:");
        for (code, place, reason) in self.codes.rows() {
            if let Some(reason) = reason {
                println!("- {code}, {}: {reason}", place.name());
            }
        }
        good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(name: &str) -> Scenario {
        toml::from_str(&format!("name = '{name}'\nfault = 'sender'\n[expect]\ncause = 'rp-filter'")).unwrap()
    }

    #[test]
    fn one_wrong_result_makes_a_cell_wrong() {
        let scenarios = [scenario("a"), scenario("b"), scenario("c")];
        let results = |outcomes: &[(&str, Outcome)]| {
            outcomes.iter().map(|(name, outcome)| ((*name).to_owned(), *outcome)).collect::<Results>()
        };
        let words = |outcomes: &[(&str, Outcome)]| Cell::of(scenarios.iter(), &results(outcomes)).words();
        assert_eq!(words(&[]), "not run");
        assert_eq!(words(&[("a", Outcome::Right), ("b", Outcome::Right)]), "right 2");
        assert_eq!(words(&[("a", Outcome::Right), ("b", Outcome::Wrong)]), "WRONG 1");
        assert_eq!(words(&[("a", Outcome::Right), ("b", Outcome::CannotSay)]), "right 1, cannot say 1");
        assert_eq!(words(&[("a", Outcome::Skipped)]), "not run");
    }
}
