//! Echo requests from the node itself to whoever must be reachable: the pods of this node, and each other node's end of
//! the tunnel.

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use super::peers;
use crate::{model::Model, observation::PeerEcho, sample::Echo};

/// A minute's worth of requests, at their pace.
pub const MOST: usize = 3000;
/// Who is silent is asked so often in all: a single request may be lost.
const ROUNDS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(1);

/// Who is to be asked of a node: each address once.
pub fn of(model: &Model<'_>) -> Vec<Echo> {
    let pods = model.pods().iter().map(|pod| Echo { address: pod.address, peer: None, rtt_us: None });
    let peers = peers::tunnel_addresses(model).into_iter();
    let peers = peers.map(|echo| Echo { address: echo.address, peer: Some(echo.peer), rtt_us: None });
    let mut seen: BTreeSet<Ipv4Addr> = BTreeSet::new();
    pods.chain(peers).filter(|echo| seen.insert(echo.address)).take(MOST).collect()
}

/// Asks them, and those that are silent again.
pub async fn ask(mut echoes: Vec<Echo>) -> anyhow::Result<Vec<Echo>> {
    for _ in 0..ROUNDS {
        let silent: Vec<usize> = (0..echoes.len()).filter(|place| echoes[*place].rtt_us.is_none()).collect();
        if silent.is_empty() {
            break;
        }
        let asked = silent.iter().map(|place| {
            let address = echoes[*place].address;
            PeerEcho { peer: address, address, certain: true, rtt_us: None }
        });
        let answers = peers::ask(asked.collect(), PATIENCE).await?;
        for (place, answer) in silent.into_iter().zip(answers) {
            echoes[place].rtt_us = answer.rtt_us;
        }
    }
    Ok(echoes)
}
