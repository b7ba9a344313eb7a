//! Command lines that pages show, in code blocks and within sentences.

use std::slice;

use clap::error::ErrorKind;
use pulldown_cmark::{Event, Parser, Tag, TagEnd};

/// What people put in for these words, where the command line is read.
const PLACEHOLDERS: [(&str, &str); 5] = [
    ("COMMAND", "check"),
    ("URL", "http://127.0.0.1:9090"),
    ("DURATION", "10s"),
    ("CIDR", "10.200.0.0/16"),
    ("N", "3"),
];

/// Every call of a program in a page, each as its words, with the program's own. `a|b` in one word are two calls, `[` and
/// `]` are left out.
pub fn calls(page: &str, program: &[&str]) -> Vec<Vec<String>> {
    let lines = lines(page);
    let commands = lines.iter().flat_map(|line| simple_commands(line));
    commands.filter_map(|words| call(&words, program)).flat_map(|words| alternatives(&words)).collect()
}

/// Whether a call that the command line refuses may stand so: it shows help, or it is a command's bare name in a sentence.
pub fn may_stand(words: &[String], refusal: &clap::Error) -> bool {
    match refusal.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => true,
        ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let is_name = |word: &String| word.chars().all(|c| c.is_ascii_lowercase());
            words.iter().all(is_name)
        }
        _ => false,
    }
}

/// The lines that may be commands: of a block that begins with a prompt those that do so too, of another all of them.
fn lines(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut block: Option<String> = None;
    for event in Parser::new(page) {
        match event {
            Event::Start(Tag::CodeBlock(_)) => block = Some(String::new()),
            Event::Text(text) => {
                if let Some(block) = &mut block {
                    block.push_str(&text);
                }
            }
            Event::End(TagEnd::CodeBlock) => found.extend(typed(&block.take().unwrap_or_default())),
            Event::Code(text) => found.push(text.to_string()),
            _ => {}
        }
    }
    found
}

fn typed(block: &str) -> Vec<String> {
    let prompted =
        |line: &str| line.strip_prefix("# ").or_else(|| line.strip_prefix("$ ")).map(str::to_owned);
    if block.lines().next().is_some_and(|first| prompted(first).is_some()) {
        return block.lines().filter_map(prompted).collect();
    }
    // A line may go on after a backslash.
    block.replace("\\\n", " ").lines().map(str::to_owned).collect()
}

/// What stands between the shell's operators, split into words.
fn simple_commands(line: &str) -> Vec<Vec<String>> {
    let line = line.split(" #").next().unwrap_or_default();
    let mut commands = vec![Vec::new()];
    for word in shlex::split(line).unwrap_or_default() {
        let is_operator = matches!(word.as_str(), "|" | "||" | "&&" | "&" | ";" | ">" | "<" | ">>");
        let text = word.trim_end_matches(';');
        if let (Some(last), false) = (commands.last_mut(), is_operator || text.is_empty()) {
            last.push(text.to_owned());
        }
        if is_operator || text != word {
            commands.push(Vec::new());
        }
    }
    commands
}

/// The call of the program within a simple command: by itself, by `sudo` or `ssh`, or after `--`.
fn call(words: &[String], program: &[&str]) -> Option<Vec<String>> {
    let is_called = |place: usize| match place.checked_sub(1).map(|before| words[before].as_str()) {
        None | Some("sudo" | "--") => true,
        Some(_) => words[0] == "ssh",
    };
    let is_name = |place: usize| words[place].rsplit('/').next() == Some(program[0]);
    let start = (0..words.len()).find(|place| is_name(*place) && is_called(*place))?;
    let rest = words.get(start + program.len()..)?;
    let is_program = words[start + 1..].iter().zip(&program[1..]).all(|(word, name)| word == name);
    let name = program.iter().map(ToString::to_string);
    is_program.then(|| name.chain(rest.iter().cloned()).collect())
}

fn alternatives(words: &[String]) -> Vec<Vec<String>> {
    let mut calls = vec![Vec::new()];
    for word in words {
        let word = word.trim_start_matches('[').trim_end_matches(']');
        if word == "…" {
            continue;
        }
        let choices: Vec<String> =
            if word.contains(' ') { vec![word.to_owned()] } else { word.split('|').map(put_in).collect() };
        calls = calls
            .iter()
            .flat_map(|call| {
                choices.iter().map(move |choice| [call.as_slice(), slice::from_ref(choice)].concat())
            })
            .collect();
    }
    calls
}

fn put_in(word: &str) -> String {
    let value = PLACEHOLDERS.iter().find(|(name, _)| *name == word).map_or(word, |(_, value)| value);
    value.to_owned()
}
