//! Whether a silent peer is there: one echo request to the node itself, and one to its end of the tunnel, as pods'
//! packets go. Answers are kept, and what is told of any packet that was encapsulated for it: who refuses those seldom
//! says so to each.

use std::{net::Ipv4Addr, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{
    answer::{Answer, Answered},
    echo::{EchoSocket, Heard},
    icmp::TunnelError,
    marks::{Cookie, ProbeNumber},
};
use crate::observation::Greeting;

/// The flows of the two requests.
const NODE: u8 = 0;
const TUNNEL_END: u8 = 1;

/// Different errors that are kept of a peer.
const MOST_ERRORS: usize = 16;

/// Asks these peers, each with its end of the tunnel where one is known, and takes answers for a while.
pub async fn greet(
    peers: &[(Ipv4Addr, Option<Ipv4Addr>)],
    patience: Duration,
) -> anyhow::Result<Vec<Greeting>> {
    let end = Instant::now() + patience;
    let sender = EchoSocket::open(None)?.register(Cookie::random())?;
    let mut greetings = Vec::with_capacity(peers.len());
    for (sequence, (peer, tunnel_end)) in (0u16..).zip(peers) {
        // What cannot be sent is not answered.
        let _ = sender.send(*peer, ProbeNumber { flow: NODE, sequence }, None);
        if let Some(address) = tunnel_end {
            let _ = sender.send(*address, ProbeNumber { flow: TUNNEL_END, sequence }, None);
        }
        let tunnel_end = tunnel_end.map(|address| (address, false));
        greetings.push(Greeting { peer: *peer, node: false, tunnel_end, errors: Vec::new() });
    }
    loop {
        tokio::select! {
            () = sleep_until(end) => return Ok(greetings),
            heard = sender.next_heard() => match heard? {
                Heard::Answer(answer) => enter(answer, &mut greetings),
                Heard::TunnelError(TunnelError { peer, from, icmp_type, code }) => {
                    if let Some(greeting) = greetings.iter_mut().find(|greeting| greeting.peer == peer) {
                        enter_error(greeting, (from, icmp_type, code));
                    }
                }
            },
        }
    }
}

fn enter(answer: Answer, greetings: &mut [Greeting]) {
    let Some(greeting) = greetings.get_mut(usize::from(answer.number.sequence)) else { return };
    match answer.what {
        Answered::Reply if answer.number.flow == NODE => greeting.node = true,
        Answered::Reply => {
            if let Some((_, answers)) = &mut greeting.tunnel_end {
                *answers = true;
            }
        }
        Answered::Error { from, icmp_type, code, .. } => enter_error(greeting, (from, icmp_type, code)),
        Answered::Refused | Answered::Failed(_) => {}
    }
}

fn enter_error(greeting: &mut Greeting, error: (Ipv4Addr, u8, u8)) {
    if greeting.errors.len() < MOST_ERRORS && !greeting.errors.contains(&error) {
        greeting.errors.push(error);
    }
}
