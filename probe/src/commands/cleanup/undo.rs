//! `caliprobe cleanup undo`: puts back what the last clean-up took away.

use super::{ensure_may_change, folder, print};
use crate::{
    changing::undo,
    cli::Global,
    exit::Exit,
    report::{cleaned::CleanedDocument, document::Node},
    sources::identity,
};

pub fn run(global: &Global) -> anyhow::Result<Exit> {
    ensure_may_change()?;
    let node = identity::read(&global.root)?;
    let folder = folder(global);
    let name = undo::open(&folder, &node)?.begun.node;
    let put_back = undo::undo(&folder, &node, "a person asked for it")?;
    let head = Node { name, address: None, kernel: node.kernel };
    print(&CleanedDocument::of_undone((&jiff::Timestamp::now().to_string(), head), put_back), global)
}
