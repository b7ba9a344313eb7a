//! What follows the probes: kernel programs where they are to be had, else packet sockets alone.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::Context as _;
use nix::sys::socket::{LinkAddr, recvfrom};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
    task::JoinSet,
};

use super::{
    marks::Follow,
    packet::{Recognised, recognise},
};
use crate::{
    kernel::trace::{TraceRequest, Tracer},
    observation::{DROPS, FollowedEvent, Sighting},
    sources::packet_socket,
};

/// `PACKET_OUTGOING`, `linux/if_packet.h`.
const PACKET_OUTGOING: u8 = 4;
/// Events that wait to be read; more than the probes of one diagnosis make.
const QUEUE: usize = 4096;
/// The longest packet, whose length is told whole.
const LONGEST: usize = 65_536;
/// Two headers with options, an ICMP error, and what it quotes.
const LOOKED_AT: usize = 512;

pub enum Follower {
    Programs(Box<Tracer>),
    Sockets(SocketTaps),
}

impl Follower {
    /// Kernel programs, or packet sockets where the kernel refuses them.
    pub fn start(request: &TraceRequest) -> anyhow::Result<Self> {
        match Tracer::start(request) {
            Ok(tracer) => Ok(Self::Programs(Box::new(tracer))),
            Err(error) => Self::without_programs(request, &format!("{error:#}")),
        }
    }

    /// Packet sockets alone; `why` is what the report says of it.
    pub fn without_programs(request: &TraceRequest, why: &str) -> anyhow::Result<Self> {
        SocketTaps::start(request, why).map(Self::Sockets)
    }

    /// Waits for the next event. Cancel safe.
    pub async fn next(&mut self) -> anyhow::Result<FollowedEvent> {
        match self {
            Self::Programs(tracer) => tracer.next().await,
            Self::Sockets(taps) => taps.next().await,
        }
    }

    /// What could not be observed, and why.
    pub fn limits(&self) -> Vec<(String, String)> {
        match self {
            Self::Programs(tracer) => {
                let lost = self.missed().into_iter().map(|why| ("every packet".to_owned(), why));
                tracer.limits().into_iter().chain(lost).collect()
            }
            Self::Sockets(taps) => taps.limits.clone(),
        }
    }

    /// Why followed packets may have passed a tap unseen.
    pub fn missed(&self) -> Vec<String> {
        match self {
            Self::Programs(tracer) => match tracer.lost() {
                Ok(0) => Vec::new(),
                Ok(lost) => vec![format!("{lost} events were lost")],
                Err(error) => vec![format!("how many events were lost is not known: {error:#}")],
            },
            Self::Sockets(_) => vec!["packet sockets lose packets where there are many".to_owned()],
        }
    }
}

/// Packet sockets whose packets are recognised here.
pub struct SocketTaps {
    events: mpsc::Receiver<FollowedEvent>,
    limits: Vec<(String, String)>,
    _readers: JoinSet<()>,
}

impl SocketTaps {
    fn start(request: &TraceRequest, why: &str) -> anyhow::Result<Self> {
        let (sender, events) = mpsc::channel(QUEUE);
        let mut readers = JoinSet::new();
        for link in &request.taps {
            let socket = packet_socket::open()?;
            if !packet_socket::bind_to_link(&socket, *link)? {
                continue;
            }
            // SAFETY: AsyncFd owns the socket, so its descriptor stays open as long as it is registered.
            let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }
                .context("cannot wait on a packet socket")?;
            readers.spawn(read_tap(socket, *link, request.follow.clone(), sender.clone()));
        }
        Ok(Self { events, limits: vec![(DROPS.to_owned(), why.to_owned())], _readers: readers })
    }

    async fn next(&mut self) -> anyhow::Result<FollowedEvent> {
        match self.events.recv().await {
            Some(event) => Ok(event),
            // Every tapped device has vanished: nothing more can be seen, which is no error.
            None => std::future::pending().await,
        }
    }
}

async fn read_tap(socket: AsyncFd<OwnedFd>, link: u32, follow: Follow, events: mpsc::Sender<FollowedEvent>) {
    let mut buffer = vec![0; LONGEST];
    loop {
        let received = socket.async_io(Interest::READABLE, |socket| {
            Ok(recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer)?)
        });
        // The device has vanished.
        let Ok((length, address)) = received.await else { return };
        let Some(Recognised { packet, outer, checksum, unfragmentable }) =
            recognise(&follow, &buffer[..length.min(LOOKED_AT)])
        else {
            continue;
        };
        let outgoing = address.is_some_and(|address| address.pkttype() == PACKET_OUTGOING);
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let sighting = Sighting {
            link,
            outgoing,
            outer,
            packet,
            mark: None,
            ingress_link: None,
            length,
            checksum,
            unfragmentable,
        };
        if events.send(FollowedEvent::Seen(sighting)).await.is_err() {
            return;
        }
    }
}
