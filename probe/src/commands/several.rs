//! How commands print what they say of one node, or of each of several.

use std::io::Write as _;

use serde::Serialize;

use super::standard_output;
use crate::{
    cli::{Global, Output},
    report::{check::CheckDocument, document::Header, peers::PeersDocument, routes::RoutesDocument},
};

/// What a command says of one node.
pub trait Report: Serialize {
    fn header(&self) -> &Header;
    /// The whole of it for a person.
    fn text(&self) -> String;
    /// One line of at most eighty characters.
    fn quiet(&self) -> String;
}

/// Prints them. As JSON the first has the others within it, so that there is one document however many nodes there
/// are; as text each stands under its node's name, in one line the first alone.
pub fn print<R: Report>(reports: &[R], global: &Global) -> anyhow::Result<()> {
    let mut out = standard_output::lock();
    let Some((first, others)) = reports.split_first() else { return Ok(()) };
    match global.output {
        Output::Json => {
            let mut value = serde_json::to_value(first)?;
            if let Some(object) = value.as_object_mut().filter(|_| !others.is_empty()) {
                object.insert("other_nodes".to_owned(), serde_json::to_value(others)?);
            }
            writeln!(out, "{}", serde_json::to_string_pretty(&value)?)?;
        }
        Output::Text if global.quiet => writeln!(out, "{}", first.quiet())?,
        Output::Text if others.is_empty() => write!(out, "{}", first.text())?,
        Output::Text => {
            for (place, report) in reports.iter().enumerate() {
                let gap = if place == 0 { "" } else { "\n" };
                write!(out, "{gap}{}:\n{}", report.header().node.name, report.text())?;
            }
        }
    }
    Ok(())
}

impl Report for CheckDocument {
    fn header(&self) -> &Header {
        &self.header
    }

    fn text(&self) -> String {
        self.text()
    }

    fn quiet(&self) -> String {
        self.quiet()
    }
}

impl Report for PeersDocument {
    fn header(&self) -> &Header {
        &self.header
    }

    fn text(&self) -> String {
        self.text()
    }

    fn quiet(&self) -> String {
        self.quiet()
    }
}

impl Report for RoutesDocument {
    fn header(&self) -> &Header {
        &self.header
    }

    fn text(&self) -> String {
        self.text()
    }

    fn quiet(&self) -> String {
        self.quiet()
    }
}
