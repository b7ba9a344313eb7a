//! Where pages lead: links to files and headings, and files that they name.

use std::{collections::BTreeSet, fs, path::Path};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::pages::TOP;

/// The links of a page that lead nowhere. Those to other sites are not followed.
pub fn dead(path: &Path, page: &str) -> Vec<String> {
    let folder = path.parent().unwrap_or(Path::new(TOP));
    let is_dead = |link: &String| {
        let (file, heading) = link.split_once('#').map_or((link.as_str(), None), |(a, b)| (a, Some(b)));
        let target = if file.is_empty() { path.to_owned() } else { folder.join(file) };
        !target.exists()
            || heading.is_some_and(|heading| {
                fs::read_to_string(&target).map_or(true, |page| !anchors(&page).contains(heading))
            })
    };
    targets(page).into_iter().filter(|link| !link.contains("://")).filter(is_dead).collect()
}

fn targets(page: &str) -> Vec<String> {
    let target = |event| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => Some(dest_url.to_string()),
        _ => None,
    };
    Parser::new_ext(page, Options::ENABLE_TABLES).filter_map(target).collect()
}

/// The anchors that GitHub gives the headings of a page.
pub fn anchors(page: &str) -> BTreeSet<String> {
    headings(page).iter().map(|heading| anchor(heading)).collect()
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn headings(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut heading: Option<String> = None;
    for event in Parser::new(page) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&text);
                }
            }
            Event::End(TagEnd::Heading(_)) => found.extend(heading.take()),
            _ => {}
        }
    }
    found
}

/// The folders of the repository whose files pages name.
const FOLDERS: [&str; 7] = ["deploy", "docs", "probe", "probe-common", "probe-ebpf", "tests", "xtask"];

/// Files of the repository that a page names in code and that are not there.
pub fn missing_files(page: &str) -> Vec<String> {
    let mut code = String::new();
    let mut is_block = false;
    for event in Parser::new(page) {
        match event {
            Event::Start(Tag::CodeBlock(_)) => is_block = true,
            Event::End(TagEnd::CodeBlock) => is_block = false,
            Event::Code(text) => code.extend([" ", &text, "\n"]),
            Event::Text(text) if is_block => code.push_str(&text),
            _ => {}
        }
    }
    let names_file = |word: &&str| {
        word.split_once('/').is_some_and(|(folder, rest)| FOLDERS.contains(&folder) && !rest.is_empty())
            && !word.contains(['*', '…', '$'])
    };
    let words =
        code.split_whitespace().map(|word| word.trim_matches([',', ';', ':', '.', '\'', '"', '(', ')']));
    words.filter(names_file).filter(|word| !Path::new(TOP).join(word).exists()).map(str::to_owned).collect()
}
