//! Recorded diagnoses (`caliprobe diagnose TARGET --record FILE`), judged again: the text that a person reads. A new
//! fault is a new file in `recorded`.

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};
use caliprobe::{
    diagnosis::Diagnosis,
    report::{document::Document, text},
};

fn diagnoses() -> anyhow::Result<Vec<(String, Diagnosis)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnoses/recorded");
    let mut found = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let diagnosis =
            serde_json::from_str(&fs::read_to_string(&path)?).context(path.display().to_string())?;
        found.push((name, diagnosis));
    }
    found.sort_by(|one: &(String, Diagnosis), other| one.0.cmp(&other.0));
    ensure!(!found.is_empty(), "nothing is recorded");
    Ok(found)
}

#[test]
fn the_text_says_what_a_person_must_know() -> anyhow::Result<()> {
    for (name, diagnosis) in diagnoses()? {
        let documents = diagnosis.documents();
        let whole: String = documents.iter().map(text::diagnosis).collect();
        let quiet: String = documents.iter().map(|document| text::quiet(document) + "\n").collect();
        insta::assert_snapshot!(name, format!("{whole}\n-q: {quiet}"));
    }
    Ok(())
}

#[test]
fn one_line_is_at_most_eighty_characters() -> anyhow::Result<()> {
    for (name, diagnosis) in diagnoses()? {
        for line in diagnosis.documents().iter().map(text::quiet) {
            assert!(line.chars().count() <= 80 && !line.contains('\n'), "{name}: {line}");
        }
    }
    Ok(())
}

/// Rules for a verdict: one root cause, evidence for each finding, something to do for each.
#[test]
fn a_finding_has_evidence_and_a_next_step() -> anyhow::Result<()> {
    for (name, diagnosis) in diagnoses()? {
        for Document { findings, .. } in diagnosis.documents() {
            assert!(findings.len() <= 1, "{name}: {findings:?}");
            for finding in findings {
                assert!(!finding.evidence.is_empty(), "{name}: {finding:?}");
                assert!(!finding.fix.is_empty(), "{name}: {finding:?}");
            }
        }
    }
    Ok(())
}

/// Without the drop tracepoint less is known, and nothing else may be said instead.
#[test]
fn without_drops_no_other_cause_is_named() -> anyhow::Result<()> {
    for (name, mut diagnosis) in diagnoses()? {
        let causes = |diagnosis: &Diagnosis| {
            let documents = diagnosis.documents();
            documents.iter().map(|document| document.findings.first().map(|f| f.cause)).collect::<Vec<_>>()
        };
        let with = causes(&diagnosis);
        diagnosis.observed.drops.clear();
        for (one, other) in with.iter().zip(causes(&diagnosis)) {
            assert!(other.is_none() || other == *one, "{name}: {one:?} became {other:?}");
        }
    }
    Ok(())
}
