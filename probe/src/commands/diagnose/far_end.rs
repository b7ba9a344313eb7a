//! The target's node, asked for its side of the probes (`--peer-exec`, `--peer`). Where it cannot be asked, the report
//! says why, and the verdict is the one without it.

use std::time::Duration;

use anyhow::Context as _;

use crate::{
    cli::DiagnoseArgs,
    diagnosis::{FarEnd, Question},
    model::Model,
    probing::{
        marks::Marks,
        peer::{Credentials, Peer, PeerWay, RemotePeer},
    },
    sample::Fact,
    tls::Identity,
};

/// How much longer than the probes may take the other node is to watch.
const MARGIN: Duration = Duration::from_secs(10);

/// How the caller wants it to be asked; `None` where not at all. Fails where the caller's files cannot be used.
pub fn way(args: &DiagnoseArgs) -> anyhow::Result<Option<PeerWay>> {
    if let Some(command) = &args.peer_exec {
        return Ok(Some(PeerWay::Command(command.clone())));
    }
    let Some(url) = &args.peer else { return Ok(None) };
    let (Some(authorities), Some(certificate), Some(key)) = (&args.peer_ca, &args.peer_cert, &args.peer_key)
    else {
        anyhow::bail!(
            "--peer needs --peer-ca, --peer-cert and --peer-key, or CALIPROBE_PEER_CA, _CERT and _KEY: both sides show \
             a certificate"
        );
    };
    let identity = Identity { certificate: certificate.clone(), key: key.clone() };
    let credentials = Credentials { authorities: authorities.clone(), identity };
    let peer = RemotePeer::new(url.clone(), &credentials).context("--peer cannot be used")?;
    Ok(Some(PeerWay::Remote(peer)))
}

/// Waits until the target's node watches; `None` where nobody asked for it.
pub async fn start(
    way: Option<&PeerWay>,
    args: &DiagnoseArgs,
    model: &Model<'_>,
    question: &Question,
    flow: &Marks,
) -> Option<anyhow::Result<Peer>> {
    let way = way?;
    if model.is_local_pod(question.target) || model.remote_block(question.target).is_none() {
        let error = anyhow::anyhow!("no route of this node leads to another one for {}", question.target);
        return Some(Err(error));
    }
    Some(Peer::start(way, flow, args.timeout + MARGIN, args.no_bpf).await)
}

/// Takes what it saw.
pub async fn finish(peer: Option<anyhow::Result<Peer>>) -> Option<Fact<FarEnd>> {
    let answer = match peer? {
        Ok(peer) => peer.finish().await,
        Err(error) => Err(error),
    };
    Some(Fact::from_result(answer))
}
