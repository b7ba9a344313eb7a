//! `caliprobe reset`: the reset of calico-node that a person makes by hand. Nothing here changes the node.

mod follow;
mod plan;

use crate::{
    cli::{Global, ResetCommand},
    exit::Exit,
};

pub async fn run(command: &ResetCommand, global: &Global) -> anyhow::Result<Exit> {
    match command {
        ResetCommand::Plan(args) => plan::run(args, global).await,
        ResetCommand::Follow(args) => Box::pin(follow::run(args, global)).await,
    }
}
