//! Compares what caliprobe said with what a scenario expects.

use std::process::Output;

use serde_json::Value;

use crate::scenario::{Expectation, expand};

/// What a run of caliprobe left.
#[derive(Debug, Default)]
pub struct Said {
    pub exit: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    pub fn of(output: &Output) -> Self {
        Self {
            exit: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Every difference, in words; none where all is as expected.
pub fn differences(expect: &Expectation, said: &Said) -> Vec<String> {
    let mut differences = Vec::new();
    if let Some(exit) = expect.exit
        && said.exit != Some(exit)
    {
        differences.push(format!("exit code {exit}, not {:?}", said.exit));
    }
    if expect.is_of_text() {
        contains(&mut differences, "stdout", &said.stdout, &expect.stdout_contains);
        contains(&mut differences, "stderr", &said.stderr, &expect.stderr_contains);
        if said.exit == Some(2) && said.stderr.trim_end().lines().count() != 1 {
            differences.push("an error of one line on stderr".to_owned());
        }
        return differences;
    }
    match serde_json::from_str(&said.stdout) {
        Ok(document) => in_document(&mut differences, expect, &document),
        Err(error) => differences.push(format!("a JSON document on stdout, not: {error}")),
    }
    differences
}

/// The same for a run that saw less: it may say that it does not know and why, and it need not prove. It may name
/// no other cause, and call nothing reachable that is not.
pub fn differences_of_less(expect: &Expectation, said: &Said) -> Vec<String> {
    let expect = Expectation { certainty: None, ..expect.clone() };
    let as_expected = differences(&expect, said);
    let admits = || {
        let document: Value = serde_json::from_str(&said.stdout).ok()?;
        let named = causes(document.pointer("/findings"));
        let only_the_cause = named.iter().all(|cause| Some(cause) == expect.cause.as_ref());
        let reasons = document.pointer("/not_seen")?.as_array()?;
        Some(document["verdict"] == "unknown" && only_the_cause && !reasons.is_empty())
    };
    if !as_expected.is_empty() && said.exit == Some(3) && admits() == Some(true) {
        return Vec::new();
    }
    as_expected
}

fn contains(differences: &mut Vec<String>, what: &str, text: &str, wanted: &[String]) {
    for part in wanted.iter().map(|part| expand(part)) {
        if !text.contains(&part) {
            differences.push(format!("`{part}` on {what}"));
        }
    }
}

fn in_document(differences: &mut Vec<String>, expect: &Expectation, document: &Value) {
    let mut compare = |pointer: &str, wanted: &Option<String>| {
        if let Some(wanted) = wanted.as_deref().map(expand) {
            let found = document.pointer(pointer);
            if found.and_then(Value::as_str) != Some(wanted.as_str()) {
                differences.push(format!("{pointer} = {wanted}, not {}", shown(found)));
            }
        }
    };
    compare("/verdict", &expect.verdict);
    compare("/findings/0/cause", &expect.cause);
    compare("/findings/0/certainty", &expect.certainty);
    compare("/lost_at/direction", &expect.direction);
    compare("/lost_at/stage", &expect.stage);
    compare("/lost_at/device", &expect.device);
    compare("/lost_at/node", &expect.node);
    let findings = document.pointer("/findings").and_then(Value::as_array).map_or(0, Vec::len);
    let wanted = expect.findings.or_else(|| {
        (expect.cause.is_some() || expect.verdict.is_some()).then(|| usize::from(expect.cause.is_some()))
    });
    if wanted.is_some_and(|wanted| wanted != findings) {
        differences.push(format!("{} findings, not {findings}", wanted.unwrap_or_default()));
    }
    if let Some(wanted) = &expect.explained_by {
        let found = causes(document.pointer("/findings/0/explained_by"));
        if *wanted != found {
            differences.push(format!("explained by {wanted:?}, not {found:?}"));
        }
    }
    if let Some(node) = &expect.next_node {
        let names = document.pointer("/next").and_then(Value::as_array);
        if !names.is_some_and(|names| names.iter().any(|next| next["node"].as_str() == Some(&expand(node)))) {
            differences
                .push(format!("{node} as the next place to look, not {}", shown(document.pointer("/next"))));
        }
    }
    for what in &expect.not_seen {
        let said = document.pointer("/not_seen").and_then(Value::as_array);
        if !said.is_some_and(|said| said.iter().any(|not_seen| not_seen["what"] == what.as_str())) {
            differences.push(format!("`{what}` among what was not seen"));
        }
    }
    for (point, wanted) in &expect.counts {
        let found = count(document, point);
        if found != Some(*wanted) {
            differences.push(format!("{wanted} packets at {point}, not {found:?}"));
        }
    }
    for (pointer, wanted) in &expect.fields {
        let wanted = &match wanted {
            Value::String(text) => Value::String(expand(text)),
            other => other.clone(),
        };
        let found = document.pointer(pointer);
        if found != Some(wanted) {
            differences.push(format!("{pointer} = {wanted}, not {}", shown(found)));
        }
    }
}

fn causes(findings: Option<&Value>) -> Vec<String> {
    let findings = findings.and_then(Value::as_array).into_iter().flatten();
    findings.filter_map(|finding| finding["cause"].as_str().map(str::to_owned)).collect()
}

fn count(document: &Value, point: &str) -> Option<u64> {
    let path = document.pointer("/path")?.as_array()?;
    let forward = path.iter().filter(|entry| entry["direction"] == "forward" && entry["point"] == point);
    forward.map(|entry| entry["packets"].as_u64()).next()?
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "absent".to_owned(), Value::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expect(text: &str) -> Expectation {
        toml::from_str(text).unwrap()
    }

    fn said(exit: i32, stdout: &str) -> Said {
        Said { exit: Some(exit), stdout: stdout.to_owned(), stderr: "caliprobe: no\n".to_owned() }
    }

    #[test]
    fn a_document_is_judged_in_each_field() {
        let document = r#"{"verdict":"black-hole","findings":[{"cause":"no-such-pod"}],
            "lost_at":{"stage":"routing"},"path":[{"point":"from-pod","direction":"forward","packets":3}]}"#;
        let good = "exit = 1\nverdict = 'black-hole'\ncause = 'no-such-pod'\nstage = 'routing'\n[counts]\nfrom-pod = 3";
        assert_eq!(differences(&expect(good), &said(1, document)), Vec::<String>::new());
        for (from, to) in [
            ("exit = 1", "exit = 0"),
            ("'black-hole'", "'reachable'"),
            ("'no-such-pod'", "'rp-filter'"),
            ("'routing'", "'decap'"),
            ("stage = 'routing'", "findings = 2"),
            ("from-pod = 3", "from-pod = 2"),
            ("from-pod = 3", "to-wire = 3"),
        ] {
            let bad = good.replace(from, to);
            assert_eq!(differences(&expect(&bad), &said(1, document)).len(), 1, "{bad}");
        }
    }

    #[test]
    fn who_sees_less_may_admit_it_and_say_nothing_else() {
        let wanted = expect("exit = 1\nverdict = 'black-hole'\ncause = 'rp-filter'\ncertainty = 'proven'");
        let unknown = r#"{"verdict":"unknown","findings":[],"not_seen":[{"what":"drops"}]}"#;
        let inferred =
            r#"{"verdict":"black-hole","findings":[{"cause":"rp-filter","certainty":"inferred"}]}"#;
        assert!(differences_of_less(&wanted, &said(3, unknown)).is_empty());
        assert!(differences_of_less(&wanted, &said(1, inferred)).is_empty());
        assert!(!differences(&wanted, &said(3, unknown)).is_empty());
        for (exit, wrong) in [
            (0, r#"{"verdict":"reachable","findings":[],"not_seen":[{"what":"drops"}]}"#),
            (1, r#"{"verdict":"black-hole","findings":[{"cause":"no-such-pod"}],"not_seen":[]}"#),
            (
                3,
                r#"{"verdict":"unknown","findings":[{"cause":"no-such-pod"}],"not_seen":[{"what":"drops"}]}"#,
            ),
            (3, r#"{"verdict":"unknown","findings":[],"not_seen":[]}"#),
        ] {
            assert!(!differences_of_less(&wanted, &said(exit, wrong)).is_empty(), "{wrong}");
        }
    }

    #[test]
    fn a_verdict_without_a_cause_has_no_finding() {
        let document = r#"{"verdict":"reachable","findings":[{"cause":"no-such-pod"}]}"#;
        assert_eq!(differences(&expect("exit = 0\nverdict = 'reachable'"), &said(0, document)).len(), 1);
    }

    #[test]
    fn text_is_judged_by_its_parts() {
        let wanted = expect("exit = 2\nstderr_contains = ['no']");
        assert!(differences(&wanted, &said(2, "")).is_empty());
        assert_eq!(differences(&expect("exit = 2\nstdout_contains = ['yes']"), &said(2, "no")).len(), 1);
    }
}
