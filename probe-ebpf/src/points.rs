//! The counting points: what is entered in the ledger at each hook.

use aya_ebpf::programs::TcContext;
use probe_common::ledger::{
    BARE, BARE_TO_POOL, ENCAPSULATED, FROM_POD, FROM_TUNNEL, FROM_WIRE, HOST_BARE, LAST_BARE,
    LAST_BARE_SOURCE, LAST_HOST_BARE, LOCAL, NO_SLOT, NODE_FLOW, NODE_OTHER, OUTER_FRAGMENTS, PEER_BUFFERS,
    PEER_BYTES, PEER_FRAGMENTS, PEER_IN, PEER_OUT, PEER_SEGMENTS, Pair, SAME_NODE, SECOND, TO_POD, TO_TUNNEL,
    TO_WIRE, TRANSIT, TRUNCATED,
};

use crate::{
    ledger::{add, block, enter, link_slot, node, note},
    packet::{Device, Ethernet, Found, Headless, PROTOCOL_IPIP, Packet},
};

/// The IPv4 packet of a hook; a truncated one is counted as such.
#[inline(always)]
fn packet<D: Device>(context: &TcContext) -> Option<Packet> {
    match D::packet(context) {
        Found::Packet(packet) => Some(packet),
        Found::Other => None,
        Found::Truncated => {
            add(NODE_OTHER, TRUNCATED, 1);
            None
        }
    }
}

/// Ingress of a `cali*`.
#[inline(always)]
pub(crate) fn from_pod(context: &TcContext) -> Option<()> {
    let packet = packet::<Ethernet>(context)?;
    let slot = link_slot(packet.link());
    if slot != NO_SLOT {
        enter(slot, FROM_POD, packet.segments());
    }
    Some(())
}

/// Egress of a `cali*`.
#[inline(always)]
pub(crate) fn to_pod(context: &TcContext) -> Option<()> {
    let packet = packet::<Ethernet>(context)?;
    let segments = packet.segments();
    let slot = link_slot(packet.link());
    if slot != NO_SLOT {
        enter(slot, TO_POD, segments);
    }
    let from = link_slot(packet.ingress_link());
    if from != NO_SLOT {
        enter(from, SAME_NODE, segments);
    }
    Some(())
}

/// Egress of `tunl0`: the inner packet, after POSTROUTING.
#[inline(always)]
pub(crate) fn to_tunnel(context: &TcContext) -> Option<()> {
    let packet = packet::<Headless>(context)?;
    let segments = packet.segments();
    enter(NODE_FLOW, TO_TUNNEL, segments);
    let from = link_slot(packet.ingress_link());
    if from != NO_SLOT {
        enter(from, ENCAPSULATED, segments);
    }
    enter_block(packet.header.destination, TO_TUNNEL, segments);
    Some(())
}

/// Ingress of `tunl0`: the inner packet, decapsulated.
#[inline(always)]
pub(crate) fn from_tunnel(context: &TcContext) -> Option<()> {
    let packet = packet::<Headless>(context)?;
    let segments = packet.segments();
    enter(NODE_FLOW, FROM_TUNNEL, segments);
    enter_block(packet.header.source, FROM_TUNNEL, segments);
    Some(())
}

/// Egress of any other device that a route uses.
#[inline(always)]
pub(crate) fn to_wire<D: Device>(context: &TcContext) -> Option<()> {
    let packet = packet::<D>(context)?;
    let ingress = packet.ingress_link();
    if ingress != 0 {
        bare(&packet, link_slot(ingress));
    } else if packet.header.protocol != PROTOCOL_IPIP {
        if block(packet.header.destination).is_some() {
            enter(NODE_OTHER, HOST_BARE, packet.segments());
            note(NODE_OTHER, LAST_HOST_BARE, destination_and_link(&packet));
        }
    } else if node(packet.header.source) == LOCAL {
        encapsulated::<D>(context, &packet, packet.header.destination, PEER_OUT);
    }
    Some(())
}

/// A packet that leaves unencapsulated, from the device to which the slot belongs. A packet that `tunl0` made
/// has lost its ingress device, so that what still has one is bare (net/core/skbuff.c, `skb_scrub_packet`).
#[inline(always)]
fn bare(packet: &Packet, from: u32) {
    if from == NO_SLOT {
        return;
    }
    let segments = packet.segments();
    enter(from + SECOND, BARE, segments);
    if block(packet.header.destination).is_some() {
        enter(from + SECOND, BARE_TO_POOL, segments);
        note(from + SECOND, LAST_BARE, destination_and_link(packet));
        note(from + SECOND, LAST_BARE_SOURCE, u64::from(packet.header.source));
    }
}

#[inline(always)]
fn destination_and_link(packet: &Packet) -> u64 {
    u64::from(packet.header.destination) << 32 | u64::from(packet.link())
}

/// Ingress of such a device.
#[inline(always)]
pub(crate) fn from_wire<D: Device>(context: &TcContext) -> Option<()> {
    let packet = packet::<D>(context)?;
    if packet.header.protocol != PROTOCOL_IPIP {
        return None;
    }
    if node(packet.header.destination) == LOCAL {
        encapsulated::<D>(context, &packet, packet.header.source, PEER_IN);
    } else {
        enter(NODE_OTHER, TRANSIT, packet.segments());
    }
    Some(())
}

/// An encapsulated packet at the wire, to or from a peer. Fragments of the outer packet have counters of their
/// own: only one of them shows the inner header, and they are no segments of the pods.
#[inline(always)]
fn encapsulated<D: Device>(context: &TcContext, packet: &Packet, peer: u32, way: u32) -> Option<()> {
    let point = if way == PEER_OUT { TO_WIRE } else { FROM_WIRE };
    let peer = node(peer);
    let known = peer != NO_SLOT && peer != LOCAL;
    if packet.header.fragment {
        add(NODE_OTHER, OUTER_FRAGMENTS, 1);
        if known {
            add(peer, way + PEER_FRAGMENTS, 1);
        }
        return None;
    }
    let segments = packet.segments();
    enter(NODE_FLOW, point, segments);
    if known {
        add(peer, way + PEER_SEGMENTS, segments);
        add(peer, way + PEER_BUFFERS, 1);
        add(peer, way + PEER_BYTES, packet.bytes());
    }
    let inner = D::inner(context, packet)?;
    enter_block(if way == PEER_OUT { inner.destination } else { inner.source }, point, segments);
    Some(())
}

#[inline(always)]
fn enter_block(address: u32, point: Pair, segments: u64) {
    if let Some(block) = block(address)
        && block.slot != NO_SLOT
    {
        enter(block.slot, point, segments);
    }
}
