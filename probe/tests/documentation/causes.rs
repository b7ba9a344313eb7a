//! `docs/causes.md` has every cause, each with an output that names it or the scenario that shows it.

use std::{collections::BTreeMap, fs, path::Path};

use caliprobe::causes::Cause;

use crate::pages::TOP;

/// The codes that the program knows, by its own word.
fn codes() -> Vec<String> {
    let error = serde_json::from_str::<Cause>("\"\"").expect_err("no cause has an empty code").to_string();
    let (_, expected) = error.split_once("expected one of ").expect("the codes");
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What stands under each heading of the third level.
fn sections(page: &str) -> BTreeMap<String, String> {
    let mut sections = page.split("\n### ");
    sections.next();
    sections
        .map(|section| {
            let (code, text) = section.split_once('\n').expect("a section has text");
            (code.to_owned(), text.split("\n## ").next().unwrap_or_default().to_owned())
        })
        .collect()
}

#[test]
fn every_cause_is_explained_and_shown() {
    let page = fs::read_to_string(Path::new(TOP).join("docs/causes.md")).expect("the page is there");
    let sections = sections(&page);
    let codes = codes();
    assert!(codes.len() > 50 && codes.contains(&Cause::RpFilter.code()), "{codes:?}");
    let mut wrong: Vec<String> = sections
        .keys()
        .filter(|code| !codes.contains(code))
        .map(|code| format!("{code} is no cause"))
        .collect();
    for code in &codes {
        let Some(text) = sections.get(code) else {
            wrong.push(format!("{code} is not explained"));
            continue;
        };
        let blocks: String = text.split("```").skip(1).step_by(2).collect();
        if !blocks.contains(&format!("({code}")) && !text.contains("`tests/scenarios/") {
            wrong.push(format!("{code} is not shown"));
        }
        if !text.contains("**Cure**") {
            wrong.push(format!("{code} has no cure"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_list_of_codes_is_whole() {
    let text = fs::read_to_string(Path::new(TOP).join("tests/codes.toml")).expect("the list is there");
    let missing: Vec<String> = codes()
        .into_iter()
        .filter(|code| !text.contains(&format!("\"{code}\"")) && !text.contains(&format!("[packets.{code}]")))
        .collect();
    assert!(missing.is_empty(), "tests/codes.toml lacks {missing:?}");
}
