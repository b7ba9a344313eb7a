//! The pages that people read: what they show is what caliprobe says, what they tell people to type is understood, and
//! what they lead to is there.

mod causes;
mod commands;
mod links;
mod outputs;
mod pages;

use std::fs;

use caliprobe::cli::Cli;
use clap::Parser as _;

/// Every page's name and text.
fn pages() -> Vec<(String, String)> {
    let read = |path: std::path::PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        (name, fs::read_to_string(&path).expect("a page is text"))
    };
    pages::all().expect("the pages are there").into_iter().map(read).collect()
}

#[test]
fn every_output_is_fresh() {
    let mut stale = Vec::new();
    let mut shown = 0;
    for (name, page) in pages() {
        match outputs::refreshed(&page) {
            Ok(refreshed) if refreshed == page => {}
            Ok(_) => stale.push(format!("{name} is stale: run `cargo xtask docs`")),
            Err(error) => stale.push(format!("{name}: {error:#}")),
        }
        shown += page.matches("<!-- recorded: ").count();
    }
    assert!(stale.is_empty(), "{}", stale.join("\n"));
    assert!(shown > 50, "only {shown} outputs are of recordings");
}

#[test]
fn every_command_line_is_understood() {
    let mut wrong = Vec::new();
    let mut understood = 0;
    for (name, page) in pages() {
        for words in commands::calls(&page, &["caliprobe"]) {
            // `caliprobe` alone is the program's name in a sentence.
            if words.len() == 1 {
                continue;
            }
            understood += 1;
            if let Err(error) = Cli::try_parse_from(&words)
                && !commands::may_stand(&words, &error)
            {
                wrong.push(format!("{name}: {}: {error}", words.join(" ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(understood > 50, "only {understood} command lines were found");
}

#[test]
fn every_link_leads_somewhere() {
    let mut dead = Vec::new();
    for path in pages::all().expect("the pages are there") {
        let page = fs::read_to_string(&path).expect("a page is text");
        dead.extend(links::dead(&path, &page).iter().map(|link| format!("{}: {link}", path.display())));
    }
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

#[test]
fn every_file_that_is_named_is_there() {
    let missing: Vec<String> = pages()
        .iter()
        .flat_map(|(name, page)| {
            links::missing_files(page).into_iter().map(move |file| format!("{name}: {file}"))
        })
        .collect();
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn what_is_wrong_in_a_page_is_seen() {
    assert!(outputs::refreshed("<!-- recorded: no-such-recording -->\n```\n```\n").is_err());
    assert!(outputs::refreshed("<!-- recorded: rp-filter -->\nno block\n").is_err());
    let stale = "<!-- recorded: rp-filter -->\n```\n# caliprobe diagnose A\nYESTERDAY\n```\n";
    let refreshed = outputs::refreshed(stale).expect("a recording");
    assert!(refreshed.contains("# caliprobe diagnose A\nBLACK HOLE"), "{refreshed}");
    assert!(!refreshed.contains("YESTERDAY"), "{refreshed}");
    let part = |line: &str| {
        outputs::refreshed(&format!("<!-- recorded: rp-filter, in part -->\n```\n{line}\n```\n"))
    };
    assert!(part("nothing says this").is_err());

    let page = "```\nip route | caliprobe check --input - # so\nssh a sudo ./caliprobe chekc; x\n```\n`caliprobe run`";
    let calls: Vec<String> =
        commands::calls(page, &["caliprobe"]).iter().map(|words| words.join(" ")).collect();
    assert_eq!(calls, ["caliprobe check --input -", "caliprobe chekc", "caliprobe run"]);

    let here = std::path::Path::new(pages::TOP).join("README.md");
    assert_eq!(
        links::dead(&here, "[a](nowhere.md) [b](#nothing) [c](docs/metrics.md)"),
        ["nowhere.md", "#nothing"]
    );
    assert_eq!(links::missing_files("`docs/nothing.md` and `docs/metrics.md`"), ["docs/nothing.md"]);
}
