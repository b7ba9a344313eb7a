//! What a node says that watches: a line once it does, and one document in the end. Whoever answers may say anything,
//! at any length.

use anyhow::{bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    diagnosis::FarEnd,
    probing::follow::MOST_KEPT,
    report::{
        document::SCHEMA_VERSION,
        text::{printable, shorten},
    },
    sample::FORMAT_VERSION,
};

/// The longest line that says that it is ready.
pub const LONGEST_READY: usize = 4096;
/// The longest document: two looks at a node with 100,000 routes.
pub const LONGEST_DOCUMENT: usize = 64 << 20;
/// How much of what it said is shown.
const SHOWN: usize = 160;

/// What it said, fit for a line of a report.
pub fn shown(text: &str) -> String {
    shorten(&printable(text).replace('\n', " "), SHOWN)
}

pub fn read_ready(line: &[u8]) -> anyhow::Result<()> {
    ensure!(!line.is_empty(), "it ended without a word that it was ready");
    let said = || shown(String::from_utf8_lossy(line).trim());
    if let Some(error) = read_error(line) {
        bail!("caliprobe there: {error}");
    }
    let Ok(Value::Object(value)) = serde_json::from_slice(line) else {
        bail!("it said `{}` where it was to say that it is ready", said());
    };
    ensure!(value.get("ready") == Some(&Value::Bool(true)), "it said `{}`, not that it is ready", said());
    ensure_version(value.get("schema_version").and_then(Value::as_u64))
}

/// The error that it said instead.
pub fn read_error(text: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(text).ok()?;
    value.get("error")?.get("message")?.as_str().map(shown)
}

fn ensure_version(version: Option<u64>) -> anyhow::Result<()> {
    let told = version.map_or_else(|| "none".to_owned(), |version| version.to_string());
    ensure!(
        version == Some(SCHEMA_VERSION.into()),
        "its documents have version {told}, and this caliprobe reads {SCHEMA_VERSION}"
    );
    Ok(())
}

/// The part of the document of `observe` that verdicts rest on.
#[derive(Deserialize)]
struct Answer {
    schema_version: u64,
    command: String,
    facts: FarEnd,
}

/// Reads what `observe` left.
pub fn read_answer(text: &[u8]) -> anyhow::Result<FarEnd> {
    ensure!(!text.is_empty(), "it ended without an answer");
    let answer: Answer = serde_json::from_slice(text).map_err(|error| match read_error(text) {
        Some(error) => anyhow::anyhow!("caliprobe there: {error}"),
        None => anyhow::anyhow!("its answer is none: {}", shown(&error.to_string())),
    })?;
    ensure_version(Some(answer.schema_version))?;
    ensure!(answer.command == "observe", "it answered `{}` instead of `observe`", shown(&answer.command));
    let FarEnd { before, after, observed } = &answer.facts;
    for sample in [before, after] {
        let version = sample.format_version;
        ensure!(version == FORMAT_VERSION, "its samples have version {version}, not {FORMAT_VERSION}");
    }
    ensure!(
        [observed.sightings.len(), observed.drops.len(), observed.told.len()]
            .iter()
            .all(|many| *many <= MOST_KEPT),
        "it saw more packets than any diagnosis sends"
    );
    Ok(answer.facts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{observation::Observation, sample::Sample};

    fn facts() -> FarEnd {
        let sample = Sample { format_version: FORMAT_VERSION, ..Sample::default() };
        FarEnd { before: sample.clone(), after: sample, observed: Observation::default() }
    }

    fn document(command: &str, version: u32, facts: &FarEnd) -> Vec<u8> {
        json!({ "schema_version": version, "command": command, "facts": facts }).to_string().into_bytes()
    }

    fn refusal<T>(result: anyhow::Result<T>) -> String {
        result.map(|_| "taken").map_or_else(|error| format!("{error:#}"), str::to_owned)
    }

    #[test]
    fn an_answer_is_taken_and_every_other_is_refused_with_a_reason() {
        assert_eq!(read_answer(&document("observe", 1, &facts())).unwrap(), facts());
        let newer = Sample { format_version: 7, ..Sample::default() };
        let newer = FarEnd { after: newer, ..facts() };
        for (text, reason) in [
            (document("observe", 2, &facts()), "documents have version 2"),
            (document("check", 1, &facts()), "`check` instead of"),
            (document("observe", 1, &newer), "samples have version 7"),
            (b"{}".to_vec(), "missing field"),
            (b"yes\x1b[2J".to_vec(), "its answer is none"),
            (Vec::new(), "without an answer"),
        ] {
            let refusal = refusal(read_answer(&text));
            assert!(refusal.contains(reason) && !refusal.contains('\x1b'), "{refusal}");
        }
    }

    #[test]
    fn more_packets_than_a_diagnosis_sends_are_refused() {
        let mut facts = facts();
        let drop: crate::observation::DropSighting = serde_json::from_value(json!({
            "reason": null, "symbol": null, "link": 1, "ingress_link": 0, "mark": 0, "namespace": "own",
            "hook": null, "outer": null,
            "packet": { "source": "10.0.0.1", "destination": "10.0.0.2", "protocol": 1, "kind": "echo-request",
                "flow": 0, "sequence": 0 },
        }))
        .unwrap();
        facts.observed.drops = vec![drop; MOST_KEPT + 1];
        assert!(refusal(read_answer(&document("observe", 1, &facts))).contains("more packets"));
    }

    #[test]
    fn only_who_is_ready_is_waited_for() {
        assert!(read_ready(br#"{"ready":true,"schema_version":1}"#).is_ok());
        for (line, reason) in [
            (&b""[..], "without a word"),
            (b"Last login: today\n", "`Last login: today`"),
            (br#"{"ready":"true","schema_version":1}"#, "not that it is ready"),
            (br#"{"ready":true,"schema_version":9}"#, "version 9"),
            (br#"{"ready":true}"#, "version none"),
            (br#"{"error":{"message":"no privileges"}}"#, "caliprobe there: no privileges"),
        ] {
            assert!(refusal(read_ready(line)).contains(reason), "{reason}: {}", refusal(read_ready(line)));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_ready(&bytes);
            let _ = read_answer(&bytes);
        }

        /// A document that was cut or changed anywhere is refused or read, and never worse.
        #[test]
        fn a_damaged_answer_does_no_harm(place in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
            let mut text = document("observe", 1, &facts());
            let place = place.index(text.len());
            if cut { text.truncate(place) } else { text[place] = byte }
            let read = read_answer(&text);
            prop_assert!(!cut || read.is_err());
        }
    }
}
