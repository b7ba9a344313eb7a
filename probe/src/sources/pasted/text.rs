//! Text as it was copied from terminals, issues and mails, made into plain lines.

use std::borrow::Cow;

/// No output that is read here has longer lines; what follows is cut.
const LONGEST_LINE: usize = 4096;
/// 100,000 routes of ten outputs.
const MOST_LINES: usize = 1_000_000;

/// The lines without what terminals, mark-up and other systems add to them. A code fence becomes an empty line.
pub fn lines(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
    text.trim_start_matches('\u{feff}').lines().take(MOST_LINES).map(plain)
}

fn plain(line: &str) -> Cow<'_, str> {
    let line = shortened(line);
    let is_plain = line.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) && !line.contains(['&', '`']);
    let line = if is_plain { Cow::Borrowed(line) } else { Cow::Owned(cleaned(line)) };
    if is_fence(&line) {
        return Cow::Borrowed("");
    }
    match line {
        Cow::Borrowed(line) => Cow::Borrowed(unquoted(line).trim_end()),
        Cow::Owned(line) => Cow::Owned(unquoted(&line).trim_end().to_owned()),
    }
}

fn shortened(line: &str) -> &str {
    line.get(..line.floor_char_boundary(LONGEST_LINE)).unwrap_or(line)
}

/// Without escape sequences, control characters and invisible blanks.
fn cleaned(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => skip_escape(&mut characters),
            '\u{a0}' | '\u{202f}' | '\u{3000}' => text.push(' '),
            '\t' => text.push('\t'),
            '\u{200b}' | '\u{200c}' | '\u{200d}' | '\u{feff}' => {}
            control if control.is_control() => {}
            other => text.push(other),
        }
    }
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// `ESC [ … LETTER`, and what follows one ESC otherwise.
fn skip_escape(characters: &mut std::str::Chars<'_>) {
    if characters.next() == Some('[') {
        for character in characters.by_ref() {
            if ('@'..='~').contains(&character) {
                break;
            }
        }
    }
}

fn is_fence(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("```") || line.starts_with("~~~")
}

/// Without the marks of a quotation.
fn unquoted(mut line: &str) -> &str {
    while let Some(rest) = line.strip_prefix("> ") {
        line = rest;
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_terminals_and_mark_up_add_is_taken_off() {
        let text = "\u{feff}```console\r\n> > default via 10.0.0.1\r\n\u{1b}[1;32mtunl0\u{1b}[0m:\u{a0}&lt;UP&gt;\n```";
        let lines: Vec<_> = lines(text).collect();
        assert_eq!(lines, ["", "default via 10.0.0.1", "tunl0: <UP>", ""]);
    }

    proptest! {
        #[test]
        fn any_text_comes_to_lines_of_bounded_length(text in any::<String>()) {
            for line in lines(&text) {
                prop_assert!(line.len() <= LONGEST_LINE);
                let has_control = line.contains(|c: char| c.is_control() && c != '\t');
                prop_assert!(!has_control, "{:?}", line);
            }
        }
    }

    #[test]
    fn a_line_of_megabytes_is_cut_between_characters() {
        let text = "é".repeat(1 << 20);
        let lengths: Vec<usize> = lines(&text).map(|line| line.len()).collect();
        assert_eq!(lengths, [LONGEST_LINE]);
    }
}
