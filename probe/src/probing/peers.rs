//! One echo request to each other node: to its end of the tunnel, as any pod's packet goes, or to the node itself.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{
    answer::{Answer, Answered},
    echo::{EchoSender, EchoSocket},
    marks::{Cookie, ProbeNumber},
};
use crate::{
    model::{
        Model,
        peers::{self, Peer},
    },
    observation::PeerEcho,
};

/// 50 a second: no burst, even with thousands of nodes.
const PACE: Duration = Duration::from_millis(20);
/// How long the last one's answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Three requests, a second apart (`net.ipv4.neigh.default.{mcast_solicit,retrans_time_ms}`), and some.
const ARP_PATIENCE: Duration = Duration::from_millis(3_300);

/// Asks each peer that has a tunnel address, or a block whose first address it mostly is.
pub async fn greet(model: &Model<'_>) -> anyhow::Result<Vec<PeerEcho>> {
    ask(tunnel_addresses(model), PATIENCE).await
}

/// Each peer's end of the tunnel, as far as it is known.
pub(super) fn tunnel_addresses(model: &Model<'_>) -> Vec<PeerEcho> {
    peers::all(model).iter().filter_map(|peer| tunnel_address(model, peer)).collect()
}

/// Asks nodes at their own addresses, as encapsulated packets go to them. Waits until the kernel has given up to
/// resolve those that are silent.
pub async fn ask_nodes(addresses: impl Iterator<Item = Ipv4Addr>) -> anyhow::Result<Vec<PeerEcho>> {
    let echo = |address| PeerEcho { peer: address, address, certain: true, rtt_us: None };
    ask(addresses.map(echo).collect(), ARP_PATIENCE).await
}

pub(super) async fn ask(mut asked: Vec<PeerEcho>, patience: Duration) -> anyhow::Result<Vec<PeerEcho>> {
    asked.truncate(usize::from(u16::MAX));
    let sender = EchoSocket::open(None)?.register(Cookie::random())?;
    let mut sent = Vec::with_capacity(asked.len());
    for (sequence, address) in (0u16..).zip(asked.iter().map(|echo| echo.address).collect::<Vec<_>>()) {
        sent.push(Instant::now());
        // What cannot be sent is not answered.
        let _ = sender.send(address, ProbeNumber { flow: 0, sequence }, None);
        receive(&sender, &sent, &mut asked, PACE).await?;
    }
    receive(&sender, &sent, &mut asked, patience).await?;
    Ok(asked)
}

/// Its end of the tunnel, as the datastore or its first block tells it.
pub fn tunnel_address(model: &Model<'_>, peer: &Peer<'_>) -> Option<PeerEcho> {
    let nodes = model.sample.datastore.known().map_or(&[][..], |datastore| &datastore.nodes);
    let node = nodes.iter().find(|node| node.address.is_some_and(|own| own.addr() == peer.address));
    let told = node.and_then(|node| node.tunnel_address);
    let address = told.or_else(|| Some(peer.blocks.first()?.network()))?;
    Some(PeerEcho { peer: peer.address, address, certain: told.is_some(), rtt_us: None })
}

/// Takes answers for a while, or until every one is there.
async fn receive(
    sender: &EchoSender,
    sent: &[Instant],
    asked: &mut [PeerEcho],
    patience: Duration,
) -> anyhow::Result<()> {
    let deadline = tokio::time::sleep(patience);
    tokio::pin!(deadline);
    while asked.iter().any(|echo| echo.rtt_us.is_none()) {
        tokio::select! {
            () = &mut deadline => break,
            answer = sender.next_answer() => enter(answer?, sent, asked),
        }
    }
    Ok(())
}

fn enter(answer: Answer, sent: &[Instant], asked: &mut [PeerEcho]) {
    if answer.what != Answered::Reply {
        return;
    }
    let place = usize::from(answer.number.sequence);
    if let (Some(then), Some(echo)) = (sent.get(place), asked.get_mut(place)) {
        echo.rtt_us = u64::try_from(then.elapsed().as_micros()).ok();
    }
}
