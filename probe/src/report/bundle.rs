//! What a bundle holds and what it does not, as the document that it begins with and as a person reads it.

use serde::Serialize;

use super::{
    document::{Header, NotSeen},
    text::{printable, push},
};

#[derive(Debug, Serialize)]
pub struct BundleDocument {
    #[serde(flatten)]
    pub header: Header,
    /// Whether addresses and names were replaced.
    pub masked: bool,
    pub files: Vec<Content>,
    /// What is not in it, and why.
    pub left_out: Vec<NotSeen>,
    /// How many passwords, tokens, keys and certificates were taken out of its texts.
    pub secrets_removed: usize,
}

#[derive(Debug, Serialize)]
pub struct Content {
    pub name: String,
    pub what: String,
    /// Before compression.
    pub bytes: usize,
}

impl BundleDocument {
    /// The answer, in one line.
    pub fn headline(&self, archive: &str, bytes: usize) -> String {
        let masked = if self.masked { "addresses and names replaced, " } else { "" };
        format!(
            "{archive}  {} files, {} KiB, {masked}{} secrets taken out",
            self.files.len(),
            bytes.div_ceil(1024),
            self.secrets_removed
        )
    }

    /// The whole of it.
    pub fn text(&self, archive: &str, bytes: usize) -> String {
        let mut text = self.headline(archive, bytes);
        text.push('\n');
        for file in &self.files {
            push(&mut text, "holds", &format!("{:<16} {}", file.name, file.what));
        }
        for left_out in &self.left_out {
            push(&mut text, "not", &format!("{}: {}", left_out.what, left_out.why));
        }
        printable(&text)
    }
}
