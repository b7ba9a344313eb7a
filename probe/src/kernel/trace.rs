//! Follows the packets of one diagnosis by kernel programs of its own.
//!
//! The taps are packet sockets with a program as their filter, which keeps no packet. They vanish with their
//! descriptors however this process ends, on every kernel, and touch nobody's queueing disciplines.

use std::{net::Ipv4Addr, os::fd::OwnedFd};

use anyhow::Context as _;
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData, RingBuf},
    programs::SocketFilter,
};
use probe_common::trace::{
    BY_COOKIE, BY_PAIR, CHECKSUM_BAD, CHECKSUM_GOOD, CHECKSUM_UNFINISHED, DROPPED, ENCAPSULATED,
    Follow as KernelFollow, PORT_WORDS, QUOTED, TraceEvent as RawEvent,
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    PROGRAMS, drop_program,
    names::Names,
    visibility::{NO_OFFSETS, Visibility},
};
use crate::{
    observation::{Checksum, DROPS, DropNamespace, DropSighting, FollowedEvent, PacketId, Sighting},
    probing::{
        marks::{Follow, Marks, ProbeNumber},
        packet::Headers,
    },
    sources::packet_socket,
};

/// `PACKET_OUTGOING`, `linux/if_packet.h`.
const PACKET_OUTGOING: u8 = 4;

/// What is to be followed, and where.
#[derive(Clone, Debug)]
pub struct TraceRequest {
    pub follow: Follow,
    /// Indices of the devices to tap.
    pub taps: Vec<u32>,
    /// Inode of the network namespace that is diagnosed.
    pub network_namespace: u64,
}

/// Programs that follow packets as long as this lives.
pub struct Tracer {
    events: AsyncFd<RingBuf<MapData>>,
    lost: Array<MapData, u64>,
    names: Names,
    follow: Follow,
    network_namespace: u64,
    limits: Vec<(String, String)>,
    _taps: Vec<OwnedFd>,
    _programs: Ebpf,
}

impl Tracer {
    /// Attaches everything; when it returns, no followed packet is missed.
    pub fn start(request: &TraceRequest) -> anyhow::Result<Self> {
        let mut limits = Vec::new();
        let mut loader = EbpfLoader::new();
        let follow = kernel_follow(&request.follow);
        loader.override_global("FOLLOW", &follow, true);
        let visibility = Visibility::of_running_kernel();
        let offsets = visibility.as_ref().map_or(NO_OFFSETS, |visibility| visibility.offsets);
        let has_reason = u32::from(visibility.as_ref().is_ok_and(|visibility| visibility.has_reason));
        loader.override_global("OFFSETS", &offsets, true);
        loader.override_global("HAS_REASON", &has_reason, true);
        let mut programs = loader.load(PROGRAMS).context("cannot load the kernel programs")?;
        tell_ports(&mut programs, &request.follow)?;
        let taps = attach_taps(&mut programs, &request.taps)?;
        match &visibility {
            Ok(visibility) => {
                drop_program::attach(&mut programs, "trace_drop", "trace_drop_raw")?;
                if !visibility.has_reason {
                    limits.push(("drop reasons".to_owned(), "this kernel gives none".to_owned()));
                }
            }
            Err(error) => limits.push((DROPS.to_owned(), format!("{error:#}"))),
        }
        let events =
            RingBuf::try_from(programs.take_map("TRACE_EVENTS").context("the map of events is missing")?)?;
        let lost =
            Array::try_from(programs.take_map("TRACE_LOST").context("the map of lost events is missing")?)?;
        // SAFETY: AsyncFd owns the ring buffer, so its descriptor stays open as long as it is registered.
        let events = unsafe { AsyncFd::register_with_interest(events, Interest::READABLE) }
            .context("cannot wait for events")?;
        let reasons = visibility.map(|visibility| visibility.reasons).unwrap_or_default();
        Ok(Self {
            events,
            lost,
            names: Names::new(reasons),
            follow: request.follow.clone(),
            network_namespace: request.network_namespace,
            limits,
            _taps: taps,
            _programs: programs,
        })
    }

    /// Waits for the next event. Cancel safe.
    pub async fn next(&mut self) -> anyhow::Result<FollowedEvent> {
        loop {
            let mut guard = self.events.readable_mut().await.context("cannot wait for events")?;
            let raw = guard.get_inner_mut().next().and_then(|item| read_event(&item));
            match raw {
                Some(raw) => {
                    if let Some(event) = self.decode(&raw) {
                        return Ok(event);
                    }
                }
                None => guard.clear_ready(),
            }
        }
    }

    /// Events that found no room.
    pub fn lost(&self) -> anyhow::Result<u64> {
        self.lost.get(&0, 0).context("cannot read the count of lost events")
    }

    /// What could not be observed, and why.
    pub fn limits(&self) -> Vec<(String, String)> {
        let hidden = self.names.limit().map(|why| ("the function that dropped".to_owned(), why.to_owned()));
        self.limits.iter().cloned().chain(hidden).collect()
    }

    fn decode(&mut self, raw: &RawEvent) -> Option<FollowedEvent> {
        let packet = packet_id(raw, &self.follow)?;
        let outer = (raw.flags & ENCAPSULATED != 0)
            .then(|| (Ipv4Addr::from(raw.outer_source), Ipv4Addr::from(raw.outer_destination)));
        if raw.kind != DROPPED {
            return Some(FollowedEvent::Seen(Sighting {
                link: raw.link,
                outgoing: raw.packet_type == PACKET_OUTGOING,
                outer,
                packet,
                mark: Some(raw.mark),
                ingress_link: Some(raw.ingress_link),
                length: raw.length,
                checksum: checksum(raw.checksum),
                unfragmentable: raw.unfragmentable != 0,
            }));
        }
        let symbol = self.names.symbol(raw.location);
        // The fragments of a buffer are freed beside it: no packet of their own (skb_release_data).
        if symbol.as_deref() == Some("skb_release_data") {
            return None;
        }
        let namespace = match u64::from(raw.namespace) {
            0 => DropNamespace::Unknown,
            inode if inode == self.network_namespace => DropNamespace::Own,
            _ => DropNamespace::Other,
        };
        Some(FollowedEvent::Dropped(DropSighting {
            reason: self.names.reason(raw.reason),
            hook: self.names.hook(symbol.as_deref(), &raw.stack),
            symbol,
            link: (raw.link != 0).then_some(raw.link),
            ingress_link: raw.ingress_link,
            mark: raw.mark,
            namespace,
            outer,
            packet,
            length: raw.length,
        }))
    }
}

fn kernel_follow(follow: &Follow) -> KernelFollow {
    let nothing = KernelFollow {
        cookie: [0; 16],
        mode: BY_COOKIE,
        source: [0; 4],
        target: [0; 4],
        port: 0,
        protocol: 0,
        padding: 0,
    };
    match follow {
        Follow::Probes(Marks { cookie, target, traffic, .. }) => KernelFollow {
            cookie: cookie.0,
            target: target.octets(),
            port: traffic.port().unwrap_or_default(),
            protocol: traffic.protocol(),
            ..nothing
        },
        Follow::Pair { source, target } => {
            KernelFollow { mode: BY_PAIR, source: source.octets(), target: target.octets(), ..nothing }
        }
    }
}

/// Lets the programs know the ports that datagrams are sent from.
fn tell_ports(programs: &mut Ebpf, follow: &Follow) -> anyhow::Result<()> {
    let Follow::Probes(marks) = follow else { return Ok(()) };
    let mut words = vec![0u64; PORT_WORDS as usize];
    for port in marks.sent_from.keys() {
        words[usize::from(port / 64)] |= 1 << (port % 64);
    }
    let map = programs.map_mut("PROBE_PORTS").context("the map of ports is missing")?;
    let mut map: Array<_, u64> = Array::try_from(map)?;
    for (index, word) in (0u32..).zip(words).filter(|(_, word)| *word != 0) {
        map.set(index, word, 0).context("cannot write the map of ports")?;
    }
    Ok(())
}

fn attach_taps(programs: &mut Ebpf, links: &[u32]) -> anyhow::Result<Vec<OwnedFd>> {
    let program: &mut SocketFilter =
        programs.program_mut("trace_tap").context("the tap program is missing")?.try_into()?;
    program.load().context("the kernel refuses the tap program (CAP_BPF, CAP_NET_ADMIN)")?;
    let mut taps = Vec::with_capacity(links.len());
    for link in links {
        let tap = packet_socket::open()?;
        program.attach(&tap).context("cannot attach the tap program")?;
        if packet_socket::bind_to_link(&tap, *link)? {
            taps.push(tap);
        }
    }
    Ok(taps)
}

fn packet_id(raw: &RawEvent, follow: &Follow) -> Option<PacketId> {
    let headers = Headers {
        source: Ipv4Addr::from(raw.source),
        destination: Ipv4Addr::from(raw.destination),
        protocol: raw.protocol,
        icmp: (raw.icmp_type, raw.icmp_code),
        quotes: raw.flags & QUOTED != 0,
        told_mtu: raw.told_mtu,
        tcp_flags: raw.tcp_flags,
        ports: (raw.source_port, raw.destination_port),
        number: ProbeNumber { flow: raw.flow, sequence: raw.sequence },
    };
    headers.identify(follow)
}

fn checksum(raw: u8) -> Option<Checksum> {
    match raw {
        CHECKSUM_GOOD => Some(Checksum::Good),
        CHECKSUM_UNFINISHED => Some(Checksum::Unfinished),
        CHECKSUM_BAD => Some(Checksum::Bad),
        _ => None,
    }
}

fn read_event(bytes: &[u8]) -> Option<RawEvent> {
    if bytes.len() < size_of::<RawEvent>() {
        return None;
    }
    // SAFETY: the event is of integers only, valid for any bytes, and there are enough of them; the ring buffer
    // aligns to eight bytes, and an unaligned read needs nothing.
    Some(unsafe { bytes.as_ptr().cast::<RawEvent>().read_unaligned() })
}
