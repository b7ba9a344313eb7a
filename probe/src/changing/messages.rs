//! What the kernel told of a route, a device or an address, kept byte for byte: what is put back has every attribute
//! that it had, whether this program knows it or not.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::sources::raw_netlink::{attribute, attributes, put_attribute, text};

/// `struct rtmsg`, `struct ifinfomsg`, `struct ifaddrmsg`.
const ROUTE_HEADER: usize = 12;
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
/// Where `ifi_index`, `ifi_flags` and `ifa_index` are.
const LINK_INDEX: usize = 4;
const LINK_FLAGS: usize = 8;
const ADDRESS_INDEX: usize = 4;
/// `rtm_flags`.
const ROUTE_FLAGS: usize = 8;
/// `struct rtnexthop`.
const HOP_HEADER: usize = 8;

/// `RTNH_F_ONLINK`: the one flag of a hop that is given, not found out.
const ONLINK: u8 = 4;

const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_MULTIPATH: u16 = 9;
const RTA_CACHEINFO: u16 = 12;
const RTA_VIA: u16 = 18;
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_ENCAP: u16 = 22;
const RTA_NH_ID: u16 = 30;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_TXQLEN: u16 = 13;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_GROUP: u16 = 27;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;

/// `IFF_UP`.
pub const UP: u32 = 1;
/// Flags of a device that an administrator sets: up, no ARP, promiscuous, all multicast, multicast.
const GIVEN_FLAGS: u32 = 1 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 12;

/// The longest message that is kept: a route with hundreds of next hops.
const LARGEST: usize = 32 << 10;

macro_rules! kept {
    ($(#[$documentation:meta])* $name:ident, $header:expr) => {
        $(#[$documentation])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(Vec<u8>);

        impl $name {
            /// `None` where it is shorter than its header, or longer than any.
            pub fn new(payload: Vec<u8>) -> Option<Self> {
                ($header..=LARGEST).contains(&payload.len()).then_some(Self(payload))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&Hexadecimal(&self.0))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let bytes = from_hexadecimal(&String::deserialize(deserializer)?);
                bytes.and_then(Self::new).ok_or_else(|| de::Error::custom("no netlink message"))
            }
        }
    };
}

kept! {
    /// The payload of an `RTM_NEWROUTE`, of IPv4 or IPv6.
    KeptRoute, ROUTE_HEADER
}
kept! {
    /// The payload of an `RTM_NEWLINK`.
    KeptLink, LINK_HEADER
}
kept! {
    /// The payload of an `RTM_NEWADDR`, of IPv4 or IPv6.
    KeptAddress, ADDRESS_HEADER
}

struct Hexadecimal<'a>(&'a [u8]);

impl fmt::Display for Hexadecimal<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    if text.len() > 2 * LARGEST || !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes().chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

impl KeptRoute {
    fn attributes(&self) -> &[u8] {
        &self.0[ROUTE_HEADER..]
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// `rtm_protocol`.
    pub fn protocol(&self) -> u8 {
        self.0[5]
    }

    /// The indices of the devices that it names.
    pub fn devices(&self) -> Vec<u32> {
        let mut devices: Vec<u32> =
            attribute(self.attributes(), RTA_OIF).and_then(number).into_iter().collect();
        let mut rest = attribute(self.attributes(), RTA_MULTIPATH).unwrap_or_default();
        while let Some((hop, after)) = split_hop(rest) {
            devices.extend(number(&hop[4..]));
            rest = after;
        }
        devices
    }

    /// The payload of a request that makes or deletes exactly this route, by devices that may have got other indices
    /// meanwhile. `None` where a device is gone.
    pub fn request(&self, device: impl Fn(u32) -> Option<u32>) -> Option<Vec<u8>> {
        // The kernel repeats the hops of a next-hop object, and takes only the object's number.
        let by_object = attribute(self.attributes(), RTA_NH_ID).is_some();
        let mut request = self.0[..ROUTE_HEADER].to_vec();
        let onlink = if by_object { 0 } else { self.0[ROUTE_FLAGS] & ONLINK };
        request[ROUTE_FLAGS..].copy_from_slice(&u32::from(onlink).to_ne_bytes());
        for (kind, value) in attributes(self.attributes()) {
            match kind {
                RTA_CACHEINFO => {}
                RTA_OIF | RTA_GATEWAY | RTA_VIA | RTA_MULTIPATH | RTA_ENCAP | RTA_ENCAP_TYPE if by_object => {
                }
                RTA_OIF => {
                    let index = device(number(value)?)?;
                    put_attribute(&mut request, RTA_OIF, &index.to_ne_bytes()).ok()?;
                }
                RTA_MULTIPATH => {
                    put_attribute(&mut request, RTA_MULTIPATH, &hops(value, &device)?).ok()?;
                }
                _ => put_attribute(&mut request, kind, value).ok()?,
            }
        }
        Some(request)
    }
}

/// The hops of a multipath route with other indices, and without what the kernel found out.
fn hops(mut rest: &[u8], device: &impl Fn(u32) -> Option<u32>) -> Option<Vec<u8>> {
    let mut hops = Vec::with_capacity(rest.len());
    while let Some((hop, after)) = split_hop(rest) {
        let start = hops.len();
        hops.extend_from_slice(hop);
        hops[start + 2] &= ONLINK;
        hops[start + 4..start + HOP_HEADER].copy_from_slice(&device(number(&hop[4..])?)?.to_ne_bytes());
        hops.resize(hops.len().next_multiple_of(4), 0);
        rest = after;
    }
    Some(hops)
}

fn is_own(hardware_address: &[u8]) -> bool {
    hardware_address.iter().any(|byte| *byte != 0)
}

/// The first hop, with its header, and what follows.
fn split_hop(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let hop = bytes.get(..length).filter(|hop| hop.len() >= HOP_HEADER)?;
    Some((hop, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

impl KeptLink {
    fn attributes(&self) -> &[u8] {
        &self.0[LINK_HEADER..]
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn name(&self) -> String {
        attribute(self.attributes(), IFLA_IFNAME).map(text).unwrap_or_default()
    }

    /// `None` for a bridge that has none of its own: it takes that of a port, and zeros when the last one has left
    /// (`br_stp_recalculate_bridge_id`), which cannot be given to it.
    pub fn hardware_address(&self) -> Option<&[u8]> {
        attribute(self.attributes(), IFLA_ADDRESS).filter(|address| is_own(address))
    }

    pub fn kind(&self) -> Option<String> {
        let info = attribute(self.attributes(), IFLA_LINKINFO)?;
        attribute(info, IFLA_INFO_KIND).map(text)
    }

    /// The payload of a request that makes a bridge as this one was, still down and with the options that the kernel
    /// gives to any.
    pub fn request(&self) -> Option<Vec<u8>> {
        let mut request = vec![0; LINK_HEADER];
        for (kind, value) in attributes(self.attributes()) {
            match kind {
                IFLA_ADDRESS if !is_own(value) => {}
                IFLA_IFNAME | IFLA_ADDRESS | IFLA_MTU | IFLA_TXQLEN | IFLA_IFALIAS | IFLA_GROUP => {
                    put_attribute(&mut request, kind, value).ok()?;
                }
                IFLA_LINKINFO => {
                    put_attribute(&mut request, IFLA_LINKINFO, &info(value, None)?).ok()?;
                }
                _ => {}
            }
        }
        Some(request)
    }

    /// The payloads of requests that give a bridge of this index those options that it has other than this one had,
    /// one by one: a kernel may refuse what it told itself.
    pub fn option_requests(&self, now: &Self, index: u32) -> Vec<Vec<u8>> {
        let is_new = |(kind, value): &(u16, &[u8])| attribute(now.options(), *kind) != Some(value);
        let given = attributes(self.options()).filter(|(kind, _)| is_given_option(*kind)).filter(is_new);
        let Some(own) = attribute(self.attributes(), IFLA_LINKINFO) else { return Vec::new() };
        let request = |option| {
            let mut request = link(index);
            put_attribute(&mut request, IFLA_LINKINFO, &info(own, Some(option))?).ok()?;
            Some(request)
        };
        given.filter_map(request).collect()
    }

    fn options(&self) -> &[u8] {
        let info = attribute(self.attributes(), IFLA_LINKINFO).unwrap_or_default();
        attribute(info, IFLA_INFO_DATA).unwrap_or_default()
    }

    /// The payload of a request that gives a device of this index the flags that this one had.
    pub fn flags_request(&self, index: u32) -> Vec<u8> {
        let flags = self.0.get(LINK_FLAGS..).and_then(number).unwrap_or_default();
        link_flags(index, flags, GIVEN_FLAGS)
    }
}

/// The kind of a device, and an option.
fn info(own: &[u8], option: Option<(u16, &[u8])>) -> Option<Vec<u8>> {
    let mut info = Vec::new();
    put_attribute(&mut info, IFLA_INFO_KIND, attribute(own, IFLA_INFO_KIND)?).ok()?;
    if let Some((kind, value)) = option {
        let mut data = Vec::new();
        put_attribute(&mut data, kind, value).ok()?;
        put_attribute(&mut info, IFLA_INFO_DATA, &data).ok()?;
    }
    Some(info)
}

/// Whether an option of a bridge (`IFLA_BR_*`, `net/bridge/br_netlink.c`) is one that is set: not one of its timers, nor
/// what the spanning tree found.
fn is_given_option(kind: u16) -> bool {
    matches!(kind, 1..=9 | 22..=39 | 41..=46 | 49)
}

/// The payload of a request that names a device.
pub fn link(index: u32) -> Vec<u8> {
    link_flags(index, 0, 0)
}

/// The payload of a request that sets those flags of a device that `change` has.
pub fn link_flags(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut request = vec![0; LINK_INDEX];
    for value in [index, flags & change, change] {
        request.extend(value.to_ne_bytes());
    }
    request
}

impl KeptAddress {
    /// `ifa_index`.
    pub fn link(&self) -> u32 {
        self.0.get(ADDRESS_INDEX..).and_then(number).unwrap_or_default()
    }

    /// The payload of a request that gives the address to a device of this index.
    pub fn request(&self, index: u32) -> Vec<u8> {
        let mut request = self.0.clone();
        request[ADDRESS_INDEX..ADDRESS_HEADER].copy_from_slice(&index.to_ne_bytes());
        request
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(attributes: &[(u16, &[u8])]) -> KeptRoute {
        let mut payload = vec![2, 26, 0, 0, 254, 12, 0, 1];
        // Onlink, and the kernel has found it dead.
        payload.extend(u32::from(ONLINK | 1).to_ne_bytes());
        for (kind, value) in attributes {
            put_attribute(&mut payload, *kind, value).unwrap();
        }
        KeptRoute::new(payload).unwrap()
    }

    #[test]
    fn a_route_is_asked_for_as_it_was_by_the_device_of_today() {
        let unknown = [7; 5];
        let kept = route(&[(RTA_OIF, &3u32.to_ne_bytes()), (RTA_CACHEINFO, &[0; 4]), (99, &unknown)]);
        assert_eq!(kept.devices(), [3]);
        let request = KeptRoute::new(kept.request(|index| Some(index + 40)).unwrap()).unwrap();
        assert_eq!(request.devices(), [43]);
        assert_eq!(request.0[ROUTE_FLAGS..ROUTE_HEADER], u32::from(ONLINK).to_ne_bytes());
        assert_eq!(attribute(request.attributes(), 99), Some(&unknown[..]));
        assert_eq!(attribute(request.attributes(), RTA_CACHEINFO), None);
        assert_eq!(kept.request(|_| None), None);
    }

    #[test]
    fn every_hop_of_a_multipath_route_gets_its_device() {
        let hop = |index: u8, weight: u8| {
            vec![16, 0, 1 | ONLINK, weight, index, 0, 0, 0, 8, 0, 5, 0, 10, 0, 0, index]
        };
        let kept = route(&[(RTA_MULTIPATH, &[hop(3, 0), hop(4, 9)].concat())]);
        assert_eq!(kept.devices(), [3, 4]);
        let request = KeptRoute::new(kept.request(|index| Some(index + 10)).unwrap()).unwrap();
        assert_eq!(request.devices(), [13, 14]);
        let hops = attribute(request.attributes(), RTA_MULTIPATH).unwrap();
        assert_eq!((hops[2], hops[19], hops[31]), (ONLINK, 9, 4));
    }

    #[test]
    fn a_route_by_a_next_hop_object_names_the_object_alone() {
        let kept = route(&[(RTA_NH_ID, &7u32.to_ne_bytes()), (RTA_OIF, &3u32.to_ne_bytes())]);
        let request = KeptRoute::new(kept.request(|_| None).unwrap()).unwrap();
        assert!(request.devices().is_empty());
        assert!(attribute(request.attributes(), RTA_NH_ID).is_some());
    }

    proptest! {
        #[test]
        fn any_bytes_are_kept_and_asked_for_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(kept) = KeptRoute::new(bytes.clone()) {
                let read: KeptRoute = serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
                prop_assert_eq!(&read, &kept);
                let _ = (kept.devices(), kept.request(Some), kept.protocol());
            }
            if let Some(kept) = KeptLink::new(bytes.clone()) {
                let _ = (kept.name(), kept.kind(), kept.request(), kept.option_requests(&kept, 1), kept.flags_request(1));
            }
            if let Some(kept) = KeptAddress::new(bytes) {
                prop_assert_eq!(KeptAddress::new(kept.request(9)).unwrap().link(), 9);
            }
        }

        #[test]
        fn any_text_is_a_message_or_an_error(text in "\\PC{0,40}") {
            let _ = from_hexadecimal(&text);
        }
    }
}
