//! Follows the packets of one diagnosis by kernel programs of its own.
//!
//! The taps are packet sockets with a program as their filter, which keeps no packet. They vanish with their
//! descriptors however this process ends, on every kernel, and touch nobody's queueing disciplines.

use std::{collections::HashMap, net::Ipv4Addr, os::fd::OwnedFd, path::Path};

use anyhow::{Context as _, bail};
use aya::{
    Btf as LoaderBtf, Ebpf, EbpfLoader,
    maps::{Array, MapData, RingBuf},
    programs::{BtfTracePoint, RawTracePoint, SocketFilter},
};
use probe_common::trace::{
    BY_COOKIE, BY_PAIR, DROPPED, ENCAPSULATED, Follow as KernelFollow, Offsets, QUOTED,
    TraceEvent as RawEvent,
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{PROGRAMS, btf::Btf, symbols::Symbols};
use crate::{
    observation::{DropNamespace, DropSighting, Follow, FollowedEvent, PacketId, PacketKind, Sighting},
    sample::NetfilterHook,
    sources::packet_socket,
};

/// `PACKET_OUTGOING`, linux/if_packet.h.
const PACKET_OUTGOING: u8 = 4;

/// Where the drop program looks for the reason among the tracepoint's arguments.
const REASON_ARGUMENT: u32 = 2;

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
    network_namespace: u64,
    limits: Vec<(String, String)>,
    _taps: Vec<OwnedFd>,
    _programs: Ebpf,
}

impl Tracer {
    /// Attaches everything; when it returns, no followed packet is missed.
    pub fn start(request: &TraceRequest) -> anyhow::Result<Self> {
        let mut limits = Vec::new();
        let btf = Btf::of_running_kernel();
        let mut loader = EbpfLoader::new();
        let follow = kernel_follow(request.follow);
        loader.override_global("FOLLOW", &follow, true);
        let visibility = btf
            .as_ref()
            .map_err(|error| format!("{error:#}"))
            .and_then(|btf| Visibility::new(btf).map_err(|error| format!("{error:#}")));
        let (offsets, has_reason) = match &visibility {
            Ok(visibility) => (visibility.offsets, u32::from(visibility.has_reason)),
            Err(_) => (NO_OFFSETS, 0),
        };
        loader.override_global("OFFSETS", &offsets, true);
        loader.override_global("HAS_REASON", &has_reason, true);
        let mut programs = loader.load(PROGRAMS).context("cannot load the kernel programs")?;
        let taps = attach_taps(&mut programs, &request.taps)?;
        match &visibility {
            Ok(visibility) => {
                attach_drops(&mut programs)?;
                if !visibility.has_reason {
                    limits.push(("drop reasons".to_owned(), "this kernel gives none".to_owned()));
                }
            }
            Err(why) => limits.push(("drops".to_owned(), why.clone())),
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
            names: Names { reasons, symbols: None },
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
    pub fn limits(&self) -> &[(String, String)] {
        &self.limits
    }

    fn decode(&mut self, raw: &RawEvent) -> Option<FollowedEvent> {
        let packet = packet_id(raw);
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
            }));
        }
        let symbol = self.names.symbol(raw.location, &mut self.limits);
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
        }))
    }
}

fn kernel_follow(follow: Follow) -> KernelFollow {
    let nothing = KernelFollow { cookie: [0; 16], mode: BY_COOKIE, source: [0; 4], target: [0; 4] };
    match follow {
        Follow::Cookie(cookie) => KernelFollow { cookie, ..nothing },
        Follow::Pair { source, target } => {
            KernelFollow { mode: BY_PAIR, source: source.octets(), target: target.octets(), ..nothing }
        }
    }
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

fn attach_drops(programs: &mut Ebpf) -> anyhow::Result<()> {
    let with_btf = LoaderBtf::from_sys_fs().map_err(anyhow::Error::from).and_then(|btf| {
        let program: &mut BtfTracePoint =
            programs.program_mut("trace_drop").context("the drop program is missing")?.try_into()?;
        program.load("kfree_skb", &btf)?;
        program.attach()?;
        Ok(())
    });
    let Err(first) = with_btf else { return Ok(()) };
    let program: &mut RawTracePoint =
        programs.program_mut("trace_drop_raw").context("the drop program is missing")?.try_into()?;
    if let Err(error) = program.load() {
        let refusals = format!("{first:#}; {error}");
        tracing::warn!("the kernel refuses the drop program: {refusals}");
        bail!(
            "the kernel refuses the drop program (CAP_BPF, CAP_PERFMON): {}",
            refusals.lines().next().unwrap_or_default()
        );
    }
    program.attach("kfree_skb").context("cannot attach to kfree_skb")?;
    Ok(())
}

const NO_OFFSETS: Offsets = Offsets {
    head: 0,
    network_header: 0,
    length: 0,
    device: 0,
    socket: 0,
    ingress_link: 0,
    mark: 0,
    device_index: 0,
    device_namespace: 0,
    socket_namespace: 0,
    namespace_inode: 0,
};

/// What the kernel's types let the drop program see.
struct Visibility {
    offsets: Offsets,
    has_reason: bool,
    reasons: HashMap<u64, String>,
}

impl Visibility {
    fn new(btf: &Btf) -> anyhow::Result<Self> {
        let offsets = Offsets {
            head: btf.offset("sk_buff", "head")?,
            network_header: btf.offset("sk_buff", "network_header")?,
            length: btf.offset("sk_buff", "len")?,
            device: btf.offset("sk_buff", "dev")?,
            socket: btf.offset("sk_buff", "sk")?,
            ingress_link: btf.offset("sk_buff", "skb_iif")?,
            mark: btf.offset("sk_buff", "mark")?,
            device_index: btf.offset("net_device", "ifindex")?,
            device_namespace: btf.offset("net_device", "nd_net.net")?,
            socket_namespace: btf.offset("sock", "__sk_common.skc_net.net")?,
            namespace_inode: btf.offset("net", "ns.inum")?,
        };
        let has_reason =
            btf.tracepoint_enum_argument("kfree_skb", "skb_drop_reason")? == Some(REASON_ARGUMENT);
        let reasons = btf.enumerators("skb_drop_reason").unwrap_or_default();
        Ok(Self { offsets, has_reason, reasons })
    }
}

/// Names of reasons and functions. Functions are read when the first drop needs them: most diagnoses have none.
struct Names {
    reasons: HashMap<u64, String>,
    symbols: Option<Option<Symbols>>,
}

impl Names {
    fn reason(&self, number: u32) -> Option<String> {
        if self.reasons.is_empty() {
            return None;
        }
        let name = self.reasons.get(&u64::from(number));
        Some(name.map_or_else(
            || format!("reason {number}"),
            |name| name.trim_start_matches("SKB_").trim_start_matches("DROP_REASON_").to_owned(),
        ))
    }

    fn symbol(&mut self, address: u64, limits: &mut Vec<(String, String)>) -> Option<String> {
        let symbols = self.symbols.get_or_insert_with(|| match Symbols::read(Path::new("/")) {
            Ok(symbols) => Some(symbols),
            Err(error) => {
                limits.push(("the function that dropped".to_owned(), format!("{error:#}")));
                None
            }
        });
        symbols.as_ref()?.name(address).map(str::to_owned)
    }

    /// The hook, from the function that called `nf_hook_slow` (net/netfilter/core.c).
    fn hook(&self, symbol: Option<&str>, stack: &[u64]) -> Option<NetfilterHook> {
        let symbols = self.symbols.as_ref()?.as_ref()?;
        let names: Vec<&str> = stack
            .iter()
            .take_while(|address| **address != 0)
            .filter_map(|address| symbols.name(*address))
            .collect();
        let caller = match names.iter().position(|name| name.starts_with("nf_hook_slow")) {
            Some(position) => &names[position + 1..],
            None if symbol.is_some_and(|symbol| symbol.starts_with("nf_hook_slow")) => &names[..],
            None => return None,
        };
        caller.iter().find_map(|name| hook_of(name))
    }
}

fn hook_of(function: &str) -> Option<NetfilterHook> {
    Some(match function {
        "ip_rcv" | "ip_sublist_rcv" | "ip_list_rcv" => NetfilterHook::Prerouting,
        "ip_local_deliver" => NetfilterHook::Input,
        "ip_forward" => NetfilterHook::Forward,
        "__ip_local_out" | "ip_local_out" | "raw_sendmsg" | "raw_send_hdrinc" => NetfilterHook::Output,
        "ip_output" | "ip_mc_output" => NetfilterHook::Postrouting,
        _ => return None,
    })
}

fn packet_id(raw: &RawEvent) -> PacketId {
    let kind = match (raw.protocol, raw.icmp_type) {
        _ if raw.flags & QUOTED != 0 => {
            PacketKind::IcmpError { icmp_type: raw.icmp_type, code: raw.icmp_code }
        }
        (1, 8) => PacketKind::EchoRequest,
        (1, 0) => PacketKind::EchoReply,
        _ => PacketKind::Other,
    };
    PacketId {
        source: Ipv4Addr::from(raw.source),
        destination: Ipv4Addr::from(raw.destination),
        protocol: raw.protocol,
        kind,
        flow: raw.flow,
        sequence: raw.sequence,
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
