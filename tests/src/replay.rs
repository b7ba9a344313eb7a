//! Recordings of scenarios, judged again without a machine, a kernel or privileges: what a scenario expects must come
//! out. A recording is made by `cargo xtask lab --record`, and lies in `tests/recorded` under its scenario's name.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use caliprobe::{
    causes::Cause,
    commands::check::judge_saved,
    diagnosis::{Diagnosis, FarEnd},
    probing::marks::{Cookie, Marks},
    report::{
        document::{Certainty, Direction, Document, Stage, Verdict},
        observed::ObservedDocument,
    },
    sample::{Fact, Sample},
};
use flate2::read::GzDecoder;
use serde_json::Value;

use crate::{
    judge::{Said, differences},
    scenario::{Expectation, Scenario},
};

fn recordings() -> Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recorded");
    let mut files: Vec<PathBuf> = folder.read_dir()?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    ensure!(!files.is_empty(), "nothing is recorded");
    Ok(files)
}

fn unpack(recording: &Path) -> Result<String> {
    let mut text = String::new();
    GzDecoder::new(File::open(recording)?).read_to_string(&mut text)?;
    Ok(text)
}

fn scenario_of(recording: &Path) -> Result<Scenario> {
    let name = recording.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = name.strip_suffix(".json.gz").with_context(|| format!("{name} is no recording"))?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(name).with_extension("toml");
    Scenario::read_all(&[file])?.pop().context("no scenario")
}

/// The document that caliprobe printed, judged anew.
fn document(scenario: &Scenario, recorded: &str) -> Result<Value> {
    if scenario.run[0] == "check" {
        let sample: Sample = serde_json::from_str(recorded)?;
        let document = judge_saved(&[sample])?.pop().context("no document")?;
        return Ok(serde_json::to_value(document)?);
    }
    let diagnosis: Diagnosis = serde_json::from_str(recorded)?;
    Ok(serde_json::to_value(diagnosis.documents().first())?)
}

#[test]
fn recorded_scenarios_are_judged_as_they_were_on_the_machine() -> Result<()> {
    let mut wrong = Vec::new();
    for recording in recordings()? {
        let scenario = scenario_of(&recording)?;
        let recorded = unpack(&recording)?;
        let stdout = document(&scenario, &recorded).with_context(|| scenario.name.clone())?.to_string();
        // The exit code is the program's.
        let expect = Expectation { exit: None, ..scenario.expect.clone() };
        let said = Said { exit: None, stdout, stderr: String::new() };
        wrong.extend(
            differences(&expect, &said).iter().map(|difference| format!("{}: {difference}", scenario.name)),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// The recordings of diagnoses whose far end was heard.
fn of_both_ends() -> Result<Vec<(String, Diagnosis)>> {
    let mut found = Vec::new();
    for recording in recordings()? {
        let scenario = scenario_of(&recording)?;
        if !scenario.is_of_diagnose() {
            continue;
        }
        let diagnosis: Diagnosis = serde_json::from_str(&unpack(&recording)?)?;
        if diagnosis.far.as_ref().is_some_and(|far| far.known().is_some()) {
            found.push((scenario.name, diagnosis));
        }
    }
    ensure!(found.len() > 3, "too few recordings of both ends");
    Ok(found)
}

/// The first document with another far end.
fn with_far_end(diagnosis: &Diagnosis, change: impl FnOnce(&mut FarEnd)) -> Result<Document> {
    let mut diagnosis = diagnosis.clone();
    if let Some(Fact::Known(far)) = &mut diagnosis.far {
        change(far);
    }
    diagnosis.documents().into_iter().next().context("no document")
}

fn has_proven(document: &Document, cause: Cause) -> bool {
    document.findings.iter().any(|finding| finding.cause == cause && finding.certainty == Certainty::Proven)
}

#[test]
fn who_may_have_missed_packets_proves_no_loss_on_the_way_there() -> Result<()> {
    let mut changed = 0;
    for (name, diagnosis) in of_both_ends()? {
        let before = with_far_end(&diagnosis, |_| {})?;
        let after =
            with_far_end(&diagnosis, |far| far.observed.missed.push("2 events were lost".to_owned()))?;
        let was_on_the_way =
            before.lost_at.as_ref().is_some_and(|place| place.direction == Some(Direction::Forward));
        if has_proven(&before, Cause::LostInUnderlay) && was_on_the_way {
            assert!(!has_proven(&after, Cause::LostInUnderlay), "{name}");
            changed += 1;
        }
    }
    assert!(changed > 0);
    Ok(())
}

#[test]
fn another_machine_is_no_witness() -> Result<()> {
    for (name, diagnosis) in of_both_ends()? {
        let alone = Diagnosis { far: None, ..diagnosis.clone() };
        let alone = alone.documents().into_iter().next().context("no document")?;
        let asked = with_far_end(&diagnosis, |far| far.before.addresses.clear())?;
        assert_eq!(asked.verdict, alone.verdict, "{name}");
        assert_eq!(asked.findings, alone.findings, "{name}");
        assert!(asked.far_node.is_none(), "{name}");
        assert!(asked.not_seen.iter().any(|not_seen| not_seen.what == "the far node"), "{name}");
    }
    Ok(())
}

/// A far end that leaves out what it saw, or makes it up, is judged without a panic, and what was answered stays so.
#[test]
fn a_far_end_that_lies_does_no_worse() -> Result<()> {
    for (name, diagnosis) in of_both_ends()? {
        let was = with_far_end(&diagnosis, |_| {})?.verdict;
        let count =
            diagnosis.far.as_ref().and_then(Fact::known).map_or(0, |far| far.observed.sightings.len());
        for left in 0..=count {
            let told_less = with_far_end(&diagnosis, |far| {
                far.observed.sightings.truncate(left);
                far.observed.drops.clear();
            })?;
            let nonsense = with_far_end(&diagnosis, |far| {
                far.observed.sightings.rotate_left(left);
                for sighting in far.observed.sightings.iter_mut().take(left) {
                    sighting.outgoing = !sighting.outgoing;
                    sighting.link = u32::MAX - sighting.link;
                    sighting.packet.sequence = sighting.packet.sequence.wrapping_sub(1);
                }
                far.before.links.truncate(left);
                far.before.routes.truncate(left);
            })?;
            for document in [told_less, nonsense] {
                if was == Verdict::Reachable {
                    assert_eq!(document.verdict, Verdict::Reachable, "{name}, {left} sightings");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_part_of_too_few_probes_is_no_rate() -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("recorded/partial-loss-beyond.json.gz");
    let diagnosis: Diagnosis = serde_json::from_str(&unpack(&file)?)?;
    let judged = |change: fn(&mut Diagnosis)| {
        let mut diagnosis = diagnosis.clone();
        change(&mut diagnosis);
        diagnosis.documents().into_iter().next().context("no document")
    };
    assert_eq!(judged(|_| ())?.verdict, Verdict::Degraded);
    let few = judged(|diagnosis| {
        let asked = |flow: u8| flow == 0;
        diagnosis.observed.probes.retain(|probe| !asked(probe.flow) || probe.sequence < 3);
        diagnosis.observed.sightings.retain(|seen| !asked(seen.packet.flow) || seen.packet.sequence < 3);
    })?;
    assert!(few.probes.answered < few.probes.sent);
    assert_eq!(few.verdict, Verdict::Unknown);
    let cut_short = judged(|diagnosis| {
        for probe in diagnosis.observed.probes.iter_mut().filter(|probe| probe.round_trip_us.is_none()) {
            probe.undecided = true;
        }
    })?;
    assert_eq!(cut_short.verdict, Verdict::Unknown);
    Ok(())
}

/// What the far end was told of the probes.
fn marks(diagnosis: &Diagnosis) -> Marks {
    let (target, traffic) = (diagnosis.question.target, diagnosis.question.traffic);
    Marks { cookie: Cookie([0; 16]), target, traffic, sent_from: std::collections::BTreeMap::new() }
}

/// Where the far end was asked over the network and keeps its rules for itself, its own word stands for them.
#[test]
fn rules_that_are_not_shown_change_no_verdict() -> Result<()> {
    let mut by_rules = 0;
    for (name, diagnosis) in of_both_ends()? {
        let marks = marks(&diagnosis);
        let shown = with_far_end(&diagnosis, |_| {})?;
        let kept = with_far_end(&diagnosis, |far| *far = far.clone().without_rules(&marks))?;
        assert_eq!(kept.verdict, shown.verdict, "{name}");
        assert_eq!(kept.lost_at, shown.lost_at, "{name}");
        let said = |document: &Document| {
            let said = document.findings.iter();
            said.map(|finding| (finding.cause, finding.certainty, finding.subject.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(said(&kept), said(&shown), "{name}");
        let is_there = shown.lost_at.as_ref().is_some_and(|place| place.stage == Stage::Netfilter);
        by_rules += usize::from(is_there);
    }
    assert!(by_rules > 0, "no recording of a drop by the far end's rules");
    Ok(())
}

/// Nothing of a rule but its place leaves the node.
#[test]
fn rules_that_are_not_shown_are_not_in_the_answer() -> Result<()> {
    for (name, diagnosis) in of_both_ends()? {
        let marks = marks(&diagnosis);
        let Some(Fact::Known(far)) = diagnosis.far else { continue };
        let answer = ObservedDocument::new(&marks, far.clone().without_rules(&marks));
        let text = serde_json::to_string(&answer)?;
        for part in ["\"parts\"", "\"chains\"", "\"ipsets\"", " -j ", "iifname"] {
            assert!(!text.contains(part), "{name}: {part}");
        }
    }
    Ok(())
}
