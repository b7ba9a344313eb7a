//! `caliprobe cleanup`: what is stale on this node, and how it is taken away.

mod plan;

use crate::{
    cli::{CleanupCommand, Global},
    exit::Exit,
};

pub async fn run(command: &CleanupCommand, global: &Global) -> anyhow::Result<Exit> {
    match command {
        CleanupCommand::Plan(args) => plan::run(args, global).await,
    }
}
