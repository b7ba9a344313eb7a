//! `caliprobe cleanup confirm`: keeps what was done.

use std::io::{self, Write as _};

use serde::Serialize;

use super::{ensure_may_change, folder};
use crate::{
    changing::undo,
    cli::{Global, Output},
    exit::Exit,
    report::document::{Header, Node},
    sources::identity,
};

#[derive(Serialize)]
struct Document {
    #[serde(flatten)]
    header: Header,
    /// When the clean-up began that is confirmed.
    confirmed: String,
}

pub fn run(global: &Global) -> anyhow::Result<Exit> {
    ensure_may_change()?;
    let node = identity::read(&global.root)?;
    let begun = undo::confirm(&folder(global), &node)?.begun;
    let name = Node { name: begun.node.clone(), address: None, kernel: node.kernel };
    let mut out = io::stdout().lock();
    match global.output {
        Output::Json => {
            let header = Header::new("cleanup confirm", jiff::Timestamp::now().to_string(), name);
            writeln!(out, "{}", serde_json::to_string_pretty(&Document { header, confirmed: begun.time })?)?;
        }
        Output::Text => {
            writeln!(out, "CONFIRMED  {}: the clean-up of {} stays", begun.node, begun.time)?;
        }
    }
    Ok(Exit::Fine)
}
