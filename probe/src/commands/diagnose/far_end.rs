//! The target's node, asked for its side of the probes (`--peer-exec`). Where it cannot be asked, the report says why,
//! and the verdict is the one without it.

use std::time::Duration;

use crate::{
    cli::DiagnoseArgs,
    diagnosis::{FarEnd, Question},
    model::Model,
    probing::{marks::Marks, peer::Peer},
    sample::Fact,
};

/// How much longer than the probes may take the other node is to watch.
const MARGIN: Duration = Duration::from_secs(10);

/// Waits until the target's node watches; `None` where nobody asked for it.
pub async fn start(
    args: &DiagnoseArgs,
    model: &Model<'_>,
    question: &Question,
    flow: &Marks,
) -> Option<anyhow::Result<Peer>> {
    let command = args.peer_exec.as_ref()?;
    if model.is_local_pod(question.target) || model.remote_block(question.target).is_none() {
        let error = anyhow::anyhow!("no route of this node leads to another one for {}", question.target);
        return Some(Err(error));
    }
    Some(Peer::start(command, flow, args.timeout + MARGIN, args.no_bpf).await)
}

/// Takes what it saw.
pub async fn finish(peer: Option<anyhow::Result<Peer>>) -> Option<Fact<FarEnd>> {
    let answer = match peer? {
        Ok(peer) => peer.finish().await,
        Err(error) => Err(error),
    };
    Some(Fact::from_result(answer))
}
