//! Recordings of scenarios, judged again without a machine, a kernel or privileges: what a scenario expects must come
//! out. A recording is made by `cargo xtask lab --record`, and lies in `tests/recorded` under its scenario's name.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use caliprobe::{commands::check::judge_saved, diagnosis::Diagnosis, sample::Sample};
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
