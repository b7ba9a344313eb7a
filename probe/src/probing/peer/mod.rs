//! The target's node, asked for its side of the probes: by a command of the caller's that runs `caliprobe observe`
//! there, or by the remote trace API of the daemon there. It says when it is ready, watches until it is told that all
//! is sent, and leaves one document.

mod answer;
mod command;
mod remote;

use std::time::Duration;

use anyhow::bail;
use tokio::time::timeout;

pub use self::{
    command::PeerCommand,
    remote::{Credentials, PeerUrl, REMOTE_PORT, RemotePeer},
};
use self::{command::RunningCommand, remote::RemoteTrace};
use super::marks::Marks;
use crate::diagnosis::FarEnd;

/// From its start until it watches: connecting, looking at that node, loading the programs.
const STARTING: Duration = Duration::from_secs(20);
/// From the end of the probes until its document is there.
const ANSWERING: Duration = Duration::from_secs(20);
/// The longest that `observe` watches.
pub const LONGEST_WATCH: Duration = Duration::from_mins(1);
/// The longest that the remote trace API watches.
pub const LONGEST_REMOTE_WATCH: Duration = Duration::from_secs(10);

/// How another node is asked.
#[derive(Clone, Debug)]
pub enum PeerWay {
    Command(PeerCommand),
    Remote(RemotePeer),
}

/// Another node that has said that it watches.
pub enum Peer {
    Command(Box<RunningCommand>),
    Remote(RemoteTrace),
}

impl Peer {
    /// Asks, and waits until it watches for these probes. It is to watch for `length` at most.
    pub async fn start(
        way: &PeerWay,
        flow: &Marks,
        length: Duration,
        without_bpf: bool,
    ) -> anyhow::Result<Self> {
        match way {
            PeerWay::Command(words) => {
                let mut command = RunningCommand::start(words, flow, length, without_bpf)?;
                match timeout(STARTING, command.ready()).await {
                    Ok(Ok(())) => Ok(Self::Command(Box::new(command))),
                    Ok(Err(error)) => bail!(command.explain(&error).await),
                    Err(_) => bail!(command.explain(&never_ready()).await),
                }
            }
            PeerWay::Remote(peer) => match timeout(STARTING, peer.ask(flow, length, without_bpf)).await {
                Ok(trace) => Ok(Self::Remote(trace?)),
                Err(_) => Err(never_ready()),
            },
        }
    }

    /// Ends its watch, and takes what it saw.
    pub async fn finish(self) -> anyhow::Result<FarEnd> {
        match self {
            Self::Command(mut command) => match timeout(ANSWERING, command.answer()).await {
                Ok(Ok(end)) => Ok(end),
                Ok(Err(error)) => bail!(command.explain(&error).await),
                Err(_) => bail!(command.explain(&never_answered()).await),
            },
            Self::Remote(trace) => match timeout(ANSWERING, trace.finish()).await {
                Ok(end) => end,
                Err(_) => Err(never_answered()),
            },
        }
    }
}

fn never_ready() -> anyhow::Error {
    anyhow::anyhow!("it was not ready after {} s", STARTING.as_secs())
}

fn never_answered() -> anyhow::Error {
    anyhow::anyhow!("it did not answer within {} s of the probes", ANSWERING.as_secs())
}
