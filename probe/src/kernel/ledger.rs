//! The ledger in the kernel: loaded with its programs, told whose each slot is, and read without a system call.

use std::{
    cmp::Reverse, collections::BTreeMap, net::Ipv4Addr, num::NonZeroUsize, os::fd::AsFd as _, ptr::NonNull,
};

use anyhow::{Context as _, anyhow};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapData},
    programs::Program,
    util::nr_cpus,
};
use aya_log::EbpfLogger;
use ipnet::Ipv4Net;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use probe_common::ledger::{
    BARE, BARE_TO_POOL, CodeRange, DROPPED, DROPS_WITHOUT_ROOM, DropCount, DropKey, ENCAPSULATED, FROM_POD,
    FROM_TUNNEL, FROM_WIRE, HOST_BARE, LAST_BARE, LAST_BARE_SOURCE, LAST_HOST_BARE, LINK_SLOTS, LastDrop,
    LinkEntry, NODE_FLOW, NODE_OTHER, NodeBucket, OTHER_NAMESPACE, OUTER_FRAGMENTS, OWN_NAMESPACE,
    PEER_BUFFERS, PEER_BYTES, PEER_FRAGMENTS, PEER_IN, PEER_OUT, PEER_SEGMENTS, POOLS, Pair, PoolEntry,
    SAME_NODE, SECOND, Slot, TO_POD, TO_TUNNEL, TO_WIRE, TRANSIT, TRUNCATED, WORDS,
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    PROGRAMS, drop_program,
    names::Names,
    symbols::Symbols,
    visibility::{NO_DROP_OFFSETS, NO_OFFSETS, Visibility},
};
use crate::{
    model::layout::{Layout, PoolLayout},
    reading::{
        BlockCounts, Count, DropCounts, DropPlace, Flow, LastBare, LastDropped, LinkCounts, NodeCounts,
        PeerCounts, PeerWay, Reading,
    },
};

/// The function that frees a buffer's fragments; these are no packets of their own.
const RELEASE_DATA: &str = "skb_release_data";

/// The kernel's tables as they were last written, so that only changes are.
#[derive(Default)]
struct Written {
    links: BTreeMap<u32, (u32, u32)>,
    blocks: BTreeMap<u32, u32>,
    nodes: BTreeMap<u32, ([u32; 4], [u32; 4])>,
    pools: Vec<PoolLayout>,
}

/// The counting programs and their maps.
pub struct Ledger {
    programs: Ebpf,
    slots: Mapping,
    links: Array<MapData, LinkEntry>,
    pools: Array<MapData, PoolEntry>,
    blocks: Array<MapData, u32>,
    nodes: Array<MapData, NodeBucket>,
    drops: HashMap<MapData, DropKey, DropCount>,
    written: Written,
    names: Names,
    drops_counted: bool,
    limits: Vec<String>,
}

impl Ledger {
    /// Loads the programs and attaches the one that counts drops in this network namespace, given by its inode.
    pub fn load(stride: u32, network_namespace: u64) -> anyhow::Result<Self> {
        let cpus = nr_cpus().map_err(|(file, error)| anyhow!("cannot read {file}: {error}"))?;
        let entries =
            u32::try_from(cpus).context("too many CPUs")?.checked_mul(stride).context("too many slots")?;
        let visibility = Visibility::of_running_kernel();
        let symbols = Symbols::read(std::path::Path::new("/"));
        let offsets = visibility.as_ref().map_or(NO_OFFSETS, |visibility| visibility.offsets);
        let mut drop_offsets =
            visibility.as_ref().map_or(NO_DROP_OFFSETS, |visibility| visibility.drop_offsets);
        drop_offsets.namespace = u32::try_from(network_namespace).unwrap_or(0);
        let has_reason = u32::from(visibility.as_ref().is_ok_and(|visibility| visibility.has_reason));
        let release = symbols.as_ref().ok().and_then(|symbols| symbols.range(RELEASE_DATA)).unwrap_or(0..0);
        let release = CodeRange { start: release.start, end: release.end };
        let mut loader = EbpfLoader::new();
        loader
            .map_max_entries("LEDGER", entries)
            .override_global("STRIDE", &stride, true)
            .override_global("OFFSETS", &offsets, true)
            .override_global("DROP_OFFSETS", &drop_offsets, true)
            .override_global("HAS_REASON", &has_reason, true)
            .override_global("RELEASE_DATA", &release, true);
        let mut programs = loader.load(PROGRAMS).context("cannot load the kernel programs")?;
        load_classifiers(&mut programs)?;
        let mut limits = Vec::new();
        let counted = visibility.and_then(|visibility| {
            drop_program::attach(&mut programs, "count_drop", "count_drop_raw")?;
            Ok(visibility.reasons)
        });
        let drops_counted = counted.is_ok();
        let reasons = counted.unwrap_or_else(|error| {
            limits.push(format!("drops are not counted, and what is dropped opens no black hole: {error:#}"));
            std::collections::HashMap::new()
        });
        if let Err(error) = symbols {
            limits.push(format!("the functions that drop have no names: {error:#}"));
        }
        let slots = take(&mut programs, "LEDGER")?;
        Ok(Self {
            slots: Mapping::new(slots, cpus, stride)?,
            links: Array::try_from(take(&mut programs, "LINKS")?)?,
            pools: Array::try_from(take(&mut programs, "POOL_LIST")?)?,
            blocks: Array::try_from(take(&mut programs, "BLOCKS")?)?,
            nodes: Array::try_from(take(&mut programs, "NODES")?)?,
            drops: HashMap::try_from(take(&mut programs, "DROPS")?)?,
            written: Written::default(),
            names: Names::new(reasons),
            drops_counted,
            limits,
            programs,
        })
    }

    /// Hands the programs' own messages, which tell of their faults only, to this process's log until it ends.
    /// Needs a running tokio runtime.
    pub fn forward_messages(&mut self) -> anyhow::Result<()> {
        let logger = EbpfLogger::init(&mut self.programs).context("cannot read the programs' messages")?;
        // SAFETY: AsyncFd owns the logger, so its descriptor stays open as long as it is registered.
        let mut logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }
            .context("cannot wait for messages")?;
        tokio::spawn(async move {
            while let Ok(mut guard) = logger.readable_mut().await {
                guard.get_inner_mut().flush();
                guard.clear_ready();
            }
        });
        Ok(())
    }

    /// What this kernel and these privileges keep from being counted.
    pub fn limits(&self) -> &[String] {
        &self.limits
    }

    pub(super) fn programs(&mut self) -> &mut Ebpf {
        &mut self.programs
    }

    /// Writes what changed in the layout, after zeroing the slots that are about to be given away again. Where
    /// pools changed, their traffic is not counted for the moment that it takes.
    pub fn write(&mut self, layout: &Layout, reusable: &[u32]) -> anyhow::Result<()> {
        for slot in reusable {
            self.slots.clear(*slot, LINK_SLOTS);
        }
        self.write_links(layout)?;
        self.write_nodes(layout)?;
        let pools_change = self.written.pools != layout.pools();
        if pools_change {
            self.write_pools(&[])?;
        }
        self.write_blocks(layout)?;
        if pools_change {
            self.write_pools(layout.pools())?;
        }
        Ok(())
    }

    fn write_links(&mut self, layout: &Layout) -> anyhow::Result<()> {
        let wanted = layout.link_entries();
        for place in self.written.links.keys().filter(|place| !wanted.contains_key(place)) {
            self.links
                .set(*place, LinkEntry { index: 0, slot: 0 }, 0)
                .context("cannot write the table of devices")?;
        }
        for (place, entry) in &wanted {
            if self.written.links.get(place) != Some(&(entry.index, entry.slot)) {
                self.links.set(*place, entry, 0).context("cannot write the table of devices")?;
            }
        }
        self.written.links =
            wanted.into_iter().map(|(place, entry)| (place, (entry.index, entry.slot))).collect();
        Ok(())
    }

    fn write_nodes(&mut self, layout: &Layout) -> anyhow::Result<()> {
        let wanted = layout.node_entries();
        let empty = NodeBucket { addresses: [0; 4], slots: [0; 4] };
        for number in self.written.nodes.keys().filter(|number| !wanted.contains_key(number)) {
            self.nodes.set(*number, empty, 0).context("cannot write the table of nodes")?;
        }
        for (number, entry) in &wanted {
            if self.written.nodes.get(number) != Some(&(entry.addresses, entry.slots)) {
                self.nodes.set(*number, entry, 0).context("cannot write the table of nodes")?;
            }
        }
        self.written.nodes =
            wanted.into_iter().map(|(number, entry)| (number, (entry.addresses, entry.slots))).collect();
        Ok(())
    }

    fn write_blocks(&mut self, layout: &Layout) -> anyhow::Result<()> {
        let wanted = layout.block_entries();
        for entry in self.written.blocks.keys().filter(|entry| !wanted.contains_key(entry)) {
            self.blocks.set(*entry, 0, 0).context("cannot write the table of blocks")?;
        }
        for (entry, slot) in wanted {
            if self.written.blocks.get(entry) != Some(slot) {
                self.blocks.set(*entry, slot, 0).context("cannot write the table of blocks")?;
            }
        }
        self.written.blocks.clone_from(wanted);
        Ok(())
    }

    fn write_pools(&mut self, pools: &[PoolLayout]) -> anyhow::Result<()> {
        let none = PoolEntry { base: 0, mask: 0, shift: 0, first: 0, blocks: 0 };
        let entries = pools.iter().map(|pool| pool.entry()).chain(std::iter::repeat(none));
        for (place, entry) in (0..POOLS).zip(entries) {
            self.pools.set(place, entry, 0).context("cannot write the table of pools")?;
        }
        self.written.pools = pools.to_vec();
        Ok(())
    }

    /// Everything that was counted. `name` names a device by its index.
    pub fn read(&mut self, layout: &Layout, name: impl Fn(u32) -> Option<String>) -> anyhow::Result<Reading> {
        let mut links: Vec<LinkCounts> =
            layout.links().filter_map(|(index, slot)| Some(self.link(index, slot, name(index)?))).collect();
        links.sort_by(|one, other| one.name.cmp(&other.name));
        let blocks =
            layout.blocks().map(|(block, slot)| BlockCounts { block, flow: self.flow(slot) }).collect();
        let peers = layout.peers().map(|(peer, slot)| self.peer(peer, slot)).collect();
        let drops = self.drops(layout, &name)?;
        Ok(Reading {
            time: String::new(),
            node: self.node(),
            links,
            blocks,
            peers,
            drops,
            last_host_bare: self.last_bare(NODE_OTHER, LAST_HOST_BARE, None),
            drops_counted: self.drops_counted,
            limits: self.limits.iter().cloned().chain(layout.limits()).collect(),
        })
    }

    fn node(&self) -> NodeCounts {
        NodeCounts {
            flow: self.flow(NODE_FLOW),
            host_bare: self.count(NODE_OTHER, HOST_BARE),
            transit: self.count(NODE_OTHER, TRANSIT),
            outer_fragments: self.slots.sum(NODE_OTHER, OUTER_FRAGMENTS),
            truncated: self.slots.sum(NODE_OTHER, TRUNCATED),
            drops_without_room: self.slots.sum(NODE_OTHER, DROPS_WITHOUT_ROOM),
        }
    }

    fn flow(&self, slot: u32) -> Flow {
        Flow {
            to_tunnel: self.count(slot, TO_TUNNEL),
            to_wire: self.count(slot, TO_WIRE),
            from_wire: self.count(slot, FROM_WIRE),
            from_tunnel: self.count(slot, FROM_TUNNEL),
        }
    }

    fn link(&self, index: u32, slot: u32, name: String) -> LinkCounts {
        LinkCounts {
            link: index,
            name,
            covered_since: None,
            from_pod: self.count(slot, FROM_POD),
            to_pod: self.count(slot, TO_POD),
            encapsulated: self.count(slot, ENCAPSULATED),
            same_node: self.count(slot, SAME_NODE),
            bare: self.count(slot + SECOND, BARE),
            bare_to_pool: self.count(slot + SECOND, BARE_TO_POOL),
            last_bare: self.last_bare(slot + SECOND, LAST_BARE, Some(LAST_BARE_SOURCE)),
            dropped: self.count(slot + SECOND, DROPPED),
        }
    }

    /// A bare packet since the reading before: what is read is taken away.
    fn last_bare(&self, slot: u32, word: u32, source: Option<u32>) -> Option<LastBare> {
        let found = self.slots.take(slot, word);
        let source = source.map_or(0, |word| self.slots.take(slot, word));
        let (destination, link) = addresses(found);
        let (_, source) = addresses(source);
        (found != 0).then(|| LastBare { source, destination, link: link.to_bits() })
    }

    fn peer(&self, peer: Ipv4Addr, slot: u32) -> PeerCounts {
        let way = |first: u32| PeerWay {
            segments: self.slots.sum(slot, first + PEER_SEGMENTS),
            buffers: self.slots.sum(slot, first + PEER_BUFFERS),
            bytes: self.slots.sum(slot, first + PEER_BYTES),
            fragments: self.slots.sum(slot, first + PEER_FRAGMENTS),
        };
        PeerCounts { peer, encapsulated: way(PEER_OUT), decapsulated: way(PEER_IN) }
    }

    fn count(&self, slot: u32, pair: Pair) -> Count {
        Count { segments: self.slots.sum(slot, pair as u32), buffers: self.slots.sum(slot, pair as u32 + 1) }
    }

    fn drops(
        &mut self,
        layout: &Layout,
        name: &impl Fn(u32) -> Option<String>,
    ) -> anyhow::Result<Vec<DropCounts>> {
        let entries: Vec<(DropKey, DropCount)> =
            self.drops.iter().collect::<Result<_, _>>().context("cannot read the drops")?;
        let mut drops: Vec<DropCounts> = Vec::with_capacity(entries.len());
        for (key, count) in entries {
            drops.push(DropCounts {
                reason: self.names.reason(key.reason),
                symbol: self.names.symbol(key.location),
                place: match key.namespace {
                    OWN_NAMESPACE => DropPlace::Node,
                    OTHER_NAMESPACE => DropPlace::InsideAPod,
                    _ => DropPlace::Unknown,
                },
                device: (key.namespace == OWN_NAMESPACE && key.link != 0).then(|| name(key.link)).flatten(),
                ingress_device: (key.namespace == OWN_NAMESPACE && key.ingress_link != 0)
                    .then(|| name(key.ingress_link))
                    .flatten(),
                block: block_of(layout, key.block),
                encapsulated: key.encapsulated != 0,
                count: Count { segments: count.segments, buffers: count.buffers },
                last: Some(last_dropped(count.last)),
            });
        }
        drops.sort_by_key(|drop| Reverse(drop.count.buffers));
        Ok(drops)
    }
}

/// All at once: a daemon that counts at some devices alone tells less than it seems to.
fn load_classifiers(programs: &mut Ebpf) -> anyhow::Result<()> {
    for (name, program) in programs.programs_mut() {
        if let Program::SchedClassifier(program) = program {
            program.load().with_context(|| {
                format!("the kernel refuses the program {name} (CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN)")
            })?;
        }
    }
    Ok(())
}

fn last_dropped(last: LastDrop) -> LastDropped {
    let (source, destination) = addresses(last.addresses);
    LastDropped {
        source,
        destination,
        outer: (last.outer != 0).then(|| addresses(last.outer)),
        mark: last.mark,
        protocol: u8::try_from(last.protocol).unwrap_or(0),
    }
}

/// The upper and the lower half.
fn addresses(pair: u64) -> (Ipv4Addr, Ipv4Addr) {
    let halves = [pair >> 32, pair & u64::from(u32::MAX)];
    let [upper, lower] = halves.map(|half| Ipv4Addr::from_bits(u32::try_from(half).unwrap_or(0)));
    (upper, lower)
}

fn block_of(layout: &Layout, base: u32) -> Option<Ipv4Net> {
    let address = Ipv4Addr::from_bits(base);
    let pool = layout.pools().iter().find(|pool| base != 0 && pool.cidr.contains(&address))?;
    Ipv4Net::new(address, pool.block_length).ok()
}

fn take(programs: &mut Ebpf, name: &str) -> anyhow::Result<aya::maps::Map> {
    programs.take_map(name).with_context(|| format!("the map {name} is missing"))
}

/// The slots of all CPUs, mapped into this process.
pub(super) struct Mapping {
    start: NonNull<u64>,
    length: NonZeroUsize,
    cpus: usize,
    stride: u32,
    _map: Array<MapData, Slot>,
}

impl Mapping {
    pub(super) fn new(map: aya::maps::Map, cpus: usize, stride: u32) -> anyhow::Result<Self> {
        let aya::maps::Map::Array(data) = map else { return Err(anyhow!("the ledger is no array")) };
        let bytes = cpus * stride as usize * size_of::<Slot>();
        let length = NonZeroUsize::new(bytes).context("the ledger is empty")?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, at a place that the kernel chooses, of a map that has at least this length.
        let start = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, data.fd().as_fd(), 0) }
            .context("cannot map the ledger into memory")?;
        let map = Array::try_from(aya::maps::Map::Array(data))?;
        Ok(Self { start: start.cast(), length, cpus, stride, _map: map })
    }

    fn word(&self, cpu: usize, slot: u32, word: u32) -> Option<NonNull<u64>> {
        let slots = cpu * self.stride as usize + slot as usize;
        let index = slots * WORDS + word as usize;
        if slot >= self.stride || word as usize >= WORDS {
            return None;
        }
        // SAFETY: the index lies within the mapping, by the check above and because `cpu` is below `cpus`.
        Some(unsafe { self.start.add(index) })
    }

    /// One counter over all CPUs.
    fn sum(&self, slot: u32, word: u32) -> u64 {
        // SAFETY: aligned words within the mapping, which kernel programs write at the same time: hence volatile.
        let read = |place: NonNull<u64>| unsafe { place.read_volatile() };
        (0..self.cpus).filter_map(|cpu| self.word(cpu, slot, word)).map(read).fold(0, u64::wrapping_add)
    }

    /// What any CPU noted in a word, which is zero then.
    fn take(&self, slot: u32, word: u32) -> u64 {
        let mut found = 0;
        for place in (0..self.cpus).filter_map(|cpu| self.word(cpu, slot, word)) {
            // SAFETY: as in `sum`; a note that is written between the two is lost, and the next one is not.
            unsafe {
                let value = place.read_volatile();
                if value != 0 {
                    found = value;
                    place.write_volatile(0);
                }
            }
        }
        found
    }

    fn clear(&self, first: u32, slots: u32) {
        for cpu in 0..self.cpus {
            for slot in first..first + slots {
                for place in (0..).map_while(|word| self.word(cpu, slot, word)) {
                    // SAFETY: as in `sum`; no program writes these words any more.
                    unsafe { place.write_volatile(0) };
                }
            }
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new`, and nothing refers to it after this.
        let _ = unsafe { munmap(self.start.cast(), self.length.get()) };
    }
}
