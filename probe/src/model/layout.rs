//! Which slot of the ledger is whose: pure bookkeeping, written into the kernel's tables by `kernel::ledger`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use probe_common::ledger::{
    BLOCK_ENTRIES, BUCKET, FIRST_FREE, LINK_ENTRIES, LINK_SLOTS, LOCAL, LinkEntry, NO_SLOT, NODE_BUCKETS,
    NodeBucket, POOLS, PoolEntry, bucket,
};

use super::{Model, is_pod_link};

/// Slots are planned for this many times what is there now, so that a node may grow.
const GROWTH: usize = 2;
/// The fewest slots that are planned.
const LEAST_STRIDE: u32 = 1024;
/// The most slots of one CPU: 64 MiB each.
const LARGEST_STRIDE: u32 = 1 << 20;
/// Bytes of a slot.
const SLOT: u64 = 64;

/// Slots of one CPU that a node of this size is given.
#[must_use]
pub fn stride(pods: usize, blocks: usize, peers: usize) -> u32 {
    let link_slots = pods.saturating_mul(LINK_SLOTS as usize);
    let needed = link_slots.saturating_add(blocks).saturating_add(peers).saturating_mul(GROWTH);
    u32::try_from(needed).unwrap_or(u32::MAX).saturating_add(FIRST_FREE).clamp(LEAST_STRIDE, LARGEST_STRIDE)
}

/// Bytes of kernel memory that the ledger's array takes.
#[must_use]
pub fn planned_memory(cpus: usize, stride: u32) -> u64 {
    cpus as u64 * u64::from(stride) * SLOT
}

/// A pool as the kernel programs divide it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLayout {
    pub cidr: Ipv4Net,
    /// Prefix length of the blocks that are told apart.
    pub block_length: u8,
    /// Its first entry in the table of blocks.
    first: u32,
}

impl PoolLayout {
    fn shift(self) -> u32 {
        u32::from(32 - self.block_length)
    }

    /// Entries of the table of blocks.
    fn entries(self) -> u32 {
        1 << (self.block_length - self.cidr.prefix_len())
    }

    pub fn entry(self) -> PoolEntry {
        PoolEntry {
            base: self.cidr.network().to_bits(),
            mask: self.cidr.netmask().to_bits(),
            shift: self.shift(),
            first: self.first,
            blocks: self.entries(),
        }
    }

    /// The entries of the table of blocks that a network within the pool covers.
    fn covered(self, network: Ipv4Net) -> std::ops::Range<u32> {
        let start = (network.network().to_bits() - self.cidr.network().to_bits()) >> self.shift();
        let count = 1 << self.block_length.saturating_sub(network.prefix_len());
        self.first + start..self.first + start + count
    }
}

/// Whose each slot is. Slots are never moved, so that counters go on over an update.
#[derive(Debug)]
pub struct Layout {
    stride: u32,
    next: u32,
    /// First slots of devices that are gone, and the update in which they went.
    retired: Vec<u32>,
    free: Vec<u32>,
    links: HashMap<u32, u32>,
    blocks: BTreeMap<Ipv4Net, u32>,
    peers: BTreeMap<Ipv4Addr, u32>,
    own: BTreeSet<Ipv4Addr>,
    pools: Vec<PoolLayout>,
    block_table: BTreeMap<u32, u32>,
    without_room: usize,
    pools_without_room: Vec<Ipv4Net>,
}

impl Layout {
    pub fn new(stride: u32) -> Self {
        Self {
            stride,
            next: FIRST_FREE,
            retired: Vec::new(),
            free: Vec::new(),
            links: HashMap::new(),
            blocks: BTreeMap::new(),
            peers: BTreeMap::new(),
            own: BTreeSet::new(),
            pools: Vec::new(),
            block_table: BTreeMap::new(),
            without_room: 0,
            pools_without_room: Vec::new(),
        }
    }

    /// Gives slots to what is new, takes those of devices that are gone. Returns the first slots that may now be
    /// zeroed: their devices went an update ago, so that no program still writes them.
    pub fn update(&mut self, model: &Model<'_>) -> Vec<u32> {
        let reusable = std::mem::take(&mut self.retired);
        self.free.extend(&reusable);
        self.without_room = 0;
        self.update_links(model);
        self.own = model.sample.addresses.iter().map(|local| local.address).collect();
        for peer in model.peers() {
            if !self.peers.contains_key(&peer)
                && let Some(slot) = self.take(1)
            {
                self.peers.insert(peer, slot);
            }
        }
        (self.pools, self.pools_without_room) = divide(model);
        self.update_blocks(model);
        reusable
    }

    fn update_links(&mut self, model: &Model<'_>) {
        let present: BTreeSet<u32> =
            model.sample.links.iter().filter(|link| is_pod_link(link)).map(|link| link.index).collect();
        let gone: Vec<u32> = self.links.keys().copied().filter(|index| !present.contains(index)).collect();
        for index in gone {
            self.retired.extend(self.links.remove(&index));
        }
        let places: BTreeSet<u32> = self.links.keys().map(|index| index % LINK_ENTRIES).collect();
        for index in present {
            if self.links.contains_key(&index) {
                continue;
            }
            if places.contains(&(index % LINK_ENTRIES)) {
                self.without_room += 1;
            } else if let Some(slot) = self.free.pop().or_else(|| self.take(LINK_SLOTS)) {
                self.links.insert(index, slot);
            }
        }
    }

    fn update_blocks(&mut self, model: &Model<'_>) {
        let mut networks: Vec<Ipv4Net> = model
            .remote_blocks()
            .iter()
            .map(|block| block.route.destination)
            .chain(model.own_blocks().iter().map(|route| route.destination))
            .map(|network| if network.prefix_len() == 32 { model.block_of(network.addr()) } else { network })
            .collect();
        // Wider networks first, so that the blocks within them stand.
        networks.sort_by_key(|network| (network.prefix_len(), network.network()));
        networks.dedup();
        self.block_table.clear();
        for network in networks {
            let Some(pool) = self.pools.iter().copied().find(|pool| pool.cidr.contains(&network)) else {
                continue;
            };
            let slot = match self.blocks.get(&network) {
                Some(slot) => *slot,
                None => match self.take(1) {
                    Some(slot) => slot,
                    None => continue,
                },
            };
            self.blocks.insert(network, slot);
            self.block_table.extend(pool.covered(network).map(|entry| (entry, slot)));
        }
    }

    fn take(&mut self, slots: u32) -> Option<u32> {
        if self.next + slots > self.stride {
            self.without_room += 1;
            return None;
        }
        let slot = self.next;
        self.next += slots;
        Some(slot)
    }

    pub fn stride(&self) -> u32 {
        self.stride
    }

    /// First slots of pod interfaces, by index of the device.
    pub fn links(&self) -> impl Iterator<Item = (u32, u32)> {
        self.links.iter().map(|(index, slot)| (*index, *slot))
    }

    pub fn blocks(&self) -> impl Iterator<Item = (Ipv4Net, u32)> {
        self.blocks.iter().map(|(block, slot)| (*block, *slot))
    }

    pub fn peers(&self) -> impl Iterator<Item = (Ipv4Addr, u32)> {
        self.peers.iter().map(|(peer, slot)| (*peer, *slot))
    }

    pub fn pools(&self) -> &[PoolLayout] {
        &self.pools
    }

    /// What the counters do not tell apart, in words.
    pub fn limits(&self) -> Vec<String> {
        let mut limits = Vec::new();
        if self.without_room > 0 {
            limits.push(format!(
                "{} interfaces, blocks or peers found no room and count in totals only: restart caliprobe",
                self.without_room
            ));
        }
        for pool in &self.pools_without_room {
            limits.push(format!("traffic of pool {pool} is not counted: only {POOLS} pools are"));
        }
        limits
    }

    /// The table of devices, by place.
    pub fn link_entries(&self) -> BTreeMap<u32, LinkEntry> {
        self.links
            .iter()
            .map(|(index, slot)| (index % LINK_ENTRIES, LinkEntry { index: *index, slot: *slot }))
            .collect()
    }

    /// The table of blocks, by place.
    pub fn block_entries(&self) -> &BTreeMap<u32, u32> {
        &self.block_table
    }

    /// The table of nodes, by bucket. Own addresses come first; an address that finds its bucket full counts in
    /// totals only.
    pub fn node_entries(&self) -> BTreeMap<u32, NodeBucket> {
        let mut buckets = BTreeMap::new();
        let own = self.own.iter().map(|address| (*address, LOCAL));
        for (address, slot) in own.chain(self.peers()) {
            let number = bucket(address.to_bits());
            debug_assert!(number < NODE_BUCKETS);
            let entry = buckets
                .entry(number)
                .or_insert(NodeBucket { addresses: [0; BUCKET], slots: [NO_SLOT; BUCKET] });
            if let Some(place) = entry.addresses.iter().position(|held| *held == 0) {
                entry.addresses[place] = address.to_bits();
                entry.slots[place] = slot;
            }
        }
        buckets
    }
}

/// The pools with their places in the table of blocks, and those that find no place. Where the blocks of all
/// pools together are too many, they are told apart by coarser ones.
fn divide(model: &Model<'_>) -> (Vec<PoolLayout>, Vec<Ipv4Net>) {
    let mut cidrs: Vec<Ipv4Net> = model.pools.iter().map(|pool| pool.cidr).collect();
    // The programs take the first that holds an address: of nested pools the inner one.
    cidrs.sort_by_key(|cidr| (std::cmp::Reverse(cidr.prefix_len()), cidr.network()));
    cidrs.dedup();
    let beyond = cidrs.split_off(cidrs.len().min(POOLS as usize));
    let mut coarser = 0;
    loop {
        let mut first = 0_u32;
        let mut pools = Vec::new();
        for cidr in &cidrs {
            let length = block_length(model, *cidr);
            let block_length = length.saturating_sub(coarser).max(cidr.prefix_len());
            let pool = PoolLayout { cidr: *cidr, block_length, first };
            let entries = 1_u64 << (block_length - cidr.prefix_len());
            first = first.saturating_add(u32::try_from(entries).unwrap_or(u32::MAX));
            pools.push(pool);
        }
        if first <= BLOCK_ENTRIES {
            return (pools, beyond);
        }
        coarser += 1;
    }
}

/// The longest block of a pool that is routed; Calico's default where none is.
fn block_length(model: &Model<'_>, pool: Ipv4Net) -> u8 {
    let routes =
        model.own_blocks().iter().copied().chain(model.remote_blocks().iter().map(|block| block.route));
    routes
        .map(|route| route.destination)
        .filter(|block| block.prefix_len() < 32 && pool.contains(block))
        .map(|block| block.prefix_len())
        .max()
        .unwrap_or_else(|| super::DEFAULT_BLOCK_LENGTH.max(pool.prefix_len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sample::{Address, Hop, Link, Route, RouteKind, Sample};

    const TUNNEL: u32 = 1;

    fn route(destination: Ipv4Net, gateway: Ipv4Addr) -> Route {
        Route {
            destination,
            kind: RouteKind::Unicast,
            table: 254,
            protocol: 12,
            scope: 0,
            metric: 0,
            tos: 0,
            preferred_source: None,
            mtu: None,
            next_hop_id: None,
            hops: vec![Hop { gateway: Some(gateway), link: Some(TUNNEL), onlink: true, ..Hop::default() }],
        }
    }

    fn link(index: u32, name: &str) -> Link {
        Link { index, name: name.to_owned(), ..Link::default() }
    }

    fn sample(blocks: &[(Ipv4Net, Ipv4Addr)]) -> Sample {
        Sample {
            links: vec![link(TUNNEL, "tunl0"), link(7, "cali7"), link(8, "cali8")],
            addresses: vec![Address {
                link: 2,
                address: Ipv4Addr::new(172, 30, 10, 188),
                prefix_length: 24,
                scope: 0,
            }],
            routes: blocks.iter().map(|(block, gateway)| route(*block, *gateway)).collect(),
            given_pools: vec!["10.200.0.0/16".parse().unwrap()],
            ..Sample::default()
        }
    }

    /// What the kernel programs do with the tables.
    fn slot_of_block(layout: &Layout, address: Ipv4Addr) -> Option<u32> {
        let pool = layout.pools().iter().find(|pool| pool.cidr.contains(&address))?.entry();
        let number = (address.to_bits() - pool.base) >> pool.shift;
        assert!(number < pool.blocks);
        layout.block_entries().get(&(pool.first + number)).copied()
    }

    fn slot_of_node(layout: &Layout, address: Ipv4Addr) -> Option<u32> {
        let buckets = layout.node_entries();
        let entry = buckets.get(&bucket(address.to_bits()))?;
        let place = entry.addresses.iter().position(|held| *held == address.to_bits())?;
        Some(entry.slots[place])
    }

    #[test]
    fn slots_stay_whose_they_are_and_are_reused_an_update_later() {
        let mut sample = sample(&[]);
        let mut layout = Layout::new(64);
        layout.update(&Model::new(&sample));
        let first: HashMap<u32, u32> = layout.links().collect();
        sample.links.retain(|link| link.index != 7);
        sample.links.push(link(9, "cali9"));
        assert!(layout.update(&Model::new(&sample)).is_empty());
        let second: HashMap<u32, u32> = layout.links().collect();
        assert_eq!(second[&8], first[&8]);
        assert!(!first.values().any(|slot| *slot == second[&9]), "a program may still write it");
        sample.links.push(link(10, "cali10"));
        assert_eq!(layout.update(&Model::new(&sample)), vec![first[&7]]);
        assert_eq!(layout.links().collect::<HashMap<_, _>>()[&10], first[&7]);
    }

    #[test]
    fn what_finds_no_room_is_said() {
        let blocks: Vec<_> = (0..40u8)
            .map(|number| {
                (Ipv4Net::new(Ipv4Addr::new(10, 200, number, 0), 26).unwrap(), Ipv4Addr::new(1, 1, 1, 1))
            })
            .collect();
        let sample = sample(&blocks);
        let mut layout = Layout::new(20);
        layout.update(&Model::new(&sample));
        assert!(layout.limits()[0].contains("found no room"), "{:?}", layout.limits());
        let used: Vec<u32> =
            layout.blocks().map(|(_, slot)| slot).chain(layout.links().map(|(_, s)| s + 1)).collect();
        assert!(used.iter().all(|slot| *slot < 20));
    }

    #[test]
    fn too_many_blocks_are_told_apart_by_coarser_ones() {
        let mut sample = sample(&[("10.0.0.0/32".parse().unwrap(), Ipv4Addr::new(1, 1, 1, 1))]);
        sample.given_pools = vec!["0.0.0.0/1".parse().unwrap(), "128.0.0.0/2".parse().unwrap()];
        let mut layout = Layout::new(64);
        layout.update(&Model::new(&sample));
        let entries: u64 = layout.pools().iter().map(|pool| u64::from(pool.entry().blocks)).sum();
        assert!(entries <= u64::from(BLOCK_ENTRIES), "{entries}");
    }

    proptest! {
        /// Against a search through all routes for the longest that covers the address.
        #[test]
        fn tables_find_what_a_search_finds(
            blocks in prop::collection::btree_map((0u8..8, 22u8..28), 1u8..200, 0..12),
            asked in (0u8..8, any::<u8>()),
        ) {
            let blocks: Vec<(Ipv4Net, Ipv4Addr)> = blocks
                .into_iter()
                .map(|((third, length), node)| {
                    let network = Ipv4Net::new(Ipv4Addr::new(10, 200, third, 0), length).unwrap().trunc();
                    (network, Ipv4Addr::new(172, 30, 10, node))
                })
                .collect();
            let sample = sample(&blocks);
            let model = Model::new(&sample);
            let mut layout = Layout::new(256);
            layout.update(&model);
            let address = Ipv4Addr::new(10, 200, asked.0, asked.1);
            let slots: BTreeMap<Ipv4Net, u32> = layout.blocks().collect();
            let longest = blocks
                .iter()
                .filter(|(block, _)| block.contains(&address))
                .max_by_key(|(block, _)| block.prefix_len())
                .map(|(block, _)| slots[block]);
            prop_assert_eq!(slot_of_block(&layout, address), longest);
            for peer in model.peers() {
                let slot = layout.peers().find(|(known, _)| *known == peer).map(|(_, slot)| slot);
                prop_assert_eq!(slot_of_node(&layout, peer), slot);
            }
            prop_assert_eq!(slot_of_node(&layout, Ipv4Addr::new(172, 30, 10, 188)), Some(LOCAL));
            let all: Vec<u32> = layout.links().flat_map(|(_, slot)| [slot, slot + 1]).chain(slots.values().copied())
                .chain(layout.peers().map(|(_, slot)| slot)).collect();
            let distinct: BTreeSet<u32> = all.iter().copied().collect();
            prop_assert_eq!(all.len(), distinct.len());
            prop_assert!(all.iter().all(|slot| (FIRST_FREE..256).contains(slot)));
        }
    }
}
