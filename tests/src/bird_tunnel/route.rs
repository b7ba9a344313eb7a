//! Route messages of rtnetlink(7), rewritten. Numbers are in the machine's byte order.

use std::collections::HashMap;

/// Length, type, flags, sequence, port: `struct nlmsghdr`.
const MESSAGE_HEADER: usize = 16;
/// `struct nlmsghdr` and `struct rtmsg`.
const HEADERS: usize = MESSAGE_HEADER + 12;
/// Length and type: `struct rtattr`.
const ATTRIBUTE_HEADER: usize = 4;
/// From the start of the message: `rtm_dst_len`, `rtm_protocol`, `rtm_flags`.
const PREFIX_LENGTH: usize = MESSAGE_HEADER + 1;
const PROTOCOL: usize = MESSAGE_HEADER + 5;
const FLAGS: usize = MESSAGE_HEADER + 8;
/// `RTPROT_BIRD`.
const BIRD: u8 = 12;
/// `RTNH_F_ONLINK`.
const ONLINK: u32 = 4;

/// Prefix and its length.
pub type Destination = ([u8; 4], u8);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    pub gateway: [u8; 4],
    pub device: u32,
}

/// A route to be sent in the place of another.
#[derive(Debug)]
pub struct Sent {
    pub message: Vec<u8>,
    pub destination: Destination,
    /// What it had before.
    pub next_hop: NextHop,
}

/// The route through the tunnel that a route of BIRD's stands for; nothing for what is to be sent as it is.
pub fn through_tunnel(message: &[u8], tunnel: Option<u32>) -> Option<Sent> {
    if message.len() < HEADERS || kind(message) != libc::RTM_NEWROUTE || message[PROTOCOL] != BIRD {
        return None;
    }
    let far = value(message, libc::RTA_PREFSRC)?;
    let destination = destination(message)?;
    let next_hop = next_hop(message)?;
    let mut rewritten = message[..HEADERS].to_vec();
    for attribute in attributes(message) {
        let value = match attribute.kind {
            libc::RTA_PREFSRC => continue,
            libc::RTA_OIF => tunnel.unwrap_or(next_hop.device).to_ne_bytes(),
            libc::RTA_GATEWAY if tunnel.is_some() => far,
            _ => {
                rewritten.extend(&message[attribute.start..attribute.end]);
                continue;
            }
        };
        rewritten.extend(&message[attribute.start..attribute.start + ATTRIBUTE_HEADER]);
        rewritten.extend(value);
    }
    if tunnel.is_some() {
        let flags = number(message, FLAGS)? | ONLINK;
        rewritten[FLAGS..FLAGS + 4].copy_from_slice(&flags.to_ne_bytes());
    }
    let length = u32::try_from(rewritten.len()).ok()?;
    rewritten[..4].copy_from_slice(&length.to_ne_bytes());
    Some(Sent { message: rewritten, destination, next_hop })
}

/// Gives the routes through the tunnel that are among these messages the next hops that BIRD knows. One that it
/// never sent keeps its gateway, by the device of any other.
pub fn as_bird_knows_them(messages: &mut [u8], tunnel: u32, known: &HashMap<Destination, NextHop>) {
    let mut rest = messages;
    while let Some(length) = number(rest, 0).and_then(|length| usize::try_from(length).ok()) {
        if length < MESSAGE_HEADER || length > rest.len() {
            return;
        }
        let (message, others) = rest.split_at_mut(length);
        restore(message, tunnel, known);
        // Messages begin at multiples of four bytes.
        let padding = (length.next_multiple_of(4) - length).min(others.len());
        rest = &mut others[padding..];
    }
}

fn restore(message: &mut [u8], tunnel: u32, known: &HashMap<Destination, NextHop>) {
    let is_route = [libc::RTM_NEWROUTE, libc::RTM_DELROUTE].contains(&kind(message));
    if message.len() < HEADERS || !is_route || message[PROTOCOL] != BIRD {
        return;
    }
    let (Some(destination), Some(next_hop)) = (destination(message), next_hop(message)) else { return };
    if next_hop.device != tunnel {
        return;
    }
    let any = || known.values().next().map(|other| NextHop { device: other.device, ..next_hop });
    let Some(next_hop) = known.get(&destination).copied().or_else(any) else { return };
    let places: Vec<Attribute> = attributes(message).collect();
    for attribute in places {
        let value = match attribute.kind {
            libc::RTA_OIF => next_hop.device.to_ne_bytes(),
            libc::RTA_GATEWAY => next_hop.gateway,
            _ => continue,
        };
        message[attribute.start + ATTRIBUTE_HEADER..attribute.end].copy_from_slice(&value);
    }
}

fn kind(message: &[u8]) -> u16 {
    let bytes = message.get(4..6).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u16::from_ne_bytes)
}

fn number(message: &[u8], place: usize) -> Option<u32> {
    let bytes = message.get(place..place + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(bytes))
}

fn destination(message: &[u8]) -> Option<Destination> {
    Some((value(message, libc::RTA_DST)?, message[PREFIX_LENGTH]))
}

/// Of a route with one next hop that is no next-hop object.
fn next_hop(message: &[u8]) -> Option<NextHop> {
    let device = u32::from_ne_bytes(value(message, libc::RTA_OIF)?);
    Some(NextHop { gateway: value(message, libc::RTA_GATEWAY)?, device })
}

/// An attribute's four bytes.
fn value(message: &[u8], kind: u16) -> Option<[u8; 4]> {
    let attribute = attributes(message).find(|attribute| attribute.kind == kind)?;
    message[attribute.start + ATTRIBUTE_HEADER..attribute.end].try_into().ok()
}

/// Where an attribute is in its message, its header included.
struct Attribute {
    kind: u16,
    start: usize,
    end: usize,
}

fn attributes(message: &[u8]) -> impl Iterator<Item = Attribute> {
    let mut start = HEADERS;
    std::iter::from_fn(move || {
        let header = message.get(start..start + ATTRIBUTE_HEADER)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let end = start + length;
        if length < ATTRIBUTE_HEADER || end > message.len() {
            return None;
        }
        let attribute = Attribute { kind: u16::from_ne_bytes([header[2], header[3]]), start, end };
        start += length.next_multiple_of(4);
        Some(attribute)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIC: u32 = 2;
    const TUNNEL: u32 = 7;
    const BLOCK: [u8; 4] = [10, 200, 168, 128];
    const ROUTER: [u8; 4] = [172, 30, 10, 254];
    const NODE: [u8; 4] = [172, 30, 51, 95];

    fn message(kind: u16, attributes: &[(u16, [u8; 4])]) -> Vec<u8> {
        let mut message = vec![0; HEADERS];
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message[PREFIX_LENGTH] = 26;
        message[PROTOCOL] = BIRD;
        for (kind, value) in attributes {
            message.extend(8_u16.to_ne_bytes());
            message.extend(kind.to_ne_bytes());
            message.extend(value);
        }
        let length = u32::try_from(message.len()).unwrap();
        message[..4].copy_from_slice(&length.to_ne_bytes());
        message
    }

    fn of_bird() -> Vec<u8> {
        message(
            libc::RTM_NEWROUTE,
            &[
                (libc::RTA_DST, BLOCK),
                (libc::RTA_PREFSRC, NODE),
                (libc::RTA_OIF, NIC.to_ne_bytes()),
                (libc::RTA_GATEWAY, ROUTER),
            ],
        )
    }

    fn hop(message: &[u8]) -> Option<NextHop> {
        next_hop(message)
    }

    #[test]
    fn a_route_of_bird_goes_through_the_tunnel() {
        let sent = through_tunnel(&of_bird(), Some(TUNNEL)).unwrap();
        assert_eq!(hop(&sent.message), Some(NextHop { gateway: NODE, device: TUNNEL }));
        assert_eq!(value(&sent.message, libc::RTA_PREFSRC), None);
        assert_eq!(number(&sent.message, FLAGS), Some(ONLINK));
        assert_eq!(number(&sent.message, 0), u32::try_from(HEADERS + 24).ok());
        assert_eq!((sent.destination, sent.next_hop.gateway), ((BLOCK, 26), ROUTER));
    }

    #[test]
    fn without_a_tunnel_it_goes_bare() {
        let sent = through_tunnel(&of_bird(), None).unwrap();
        assert_eq!(hop(&sent.message), Some(NextHop { gateway: ROUTER, device: NIC }));
        assert_eq!(value(&sent.message, libc::RTA_PREFSRC), None);
        assert_eq!(number(&sent.message, FLAGS), Some(0));
    }

    #[test]
    fn what_is_not_to_be_tunnelled_is_left_alone() {
        let blackhole = message(libc::RTM_NEWROUTE, &[(libc::RTA_DST, BLOCK)]);
        let mut foreign = of_bird();
        foreign[PROTOCOL] = 4;
        let mut deleted = of_bird();
        deleted[4..6].copy_from_slice(&libc::RTM_DELROUTE.to_ne_bytes());
        for message in [blackhole, foreign, deleted, vec![0; 3]] {
            assert!(through_tunnel(&message, Some(TUNNEL)).is_none());
        }
    }

    #[test]
    fn bird_reads_its_own_routes_back() {
        let sent = through_tunnel(&of_bird(), Some(TUNNEL)).unwrap();
        let known = HashMap::from([(sent.destination, sent.next_hop)]);
        // A wrong gateway is hidden as well: the fork compares no more than the device's name.
        let wrong = [
            (libc::RTA_DST, BLOCK),
            (libc::RTA_OIF, TUNNEL.to_ne_bytes()),
            (libc::RTA_GATEWAY, [172, 30, 10, 77]),
        ];
        let mut read = sent.message.clone();
        let second = read.len();
        read.extend(message(libc::RTM_DELROUTE, &wrong));
        as_bird_knows_them(&mut read, TUNNEL, &known);
        for part in [&read[..second], &read[second..]] {
            assert_eq!(hop(part), Some(NextHop { gateway: ROUTER, device: NIC }));
        }
    }

    #[test]
    fn lengths_that_lie_end_the_reading() {
        let known = HashMap::new();
        for length in [0_u32, 3, 1000, u32::MAX] {
            let mut message = of_bird();
            message[..4].copy_from_slice(&length.to_ne_bytes());
            as_bird_knows_them(&mut message, TUNNEL, &known);
        }
        let mut message = of_bird();
        message[HEADERS] = 200;
        assert!(through_tunnel(&message, Some(TUNNEL)).is_none());
    }
}
