//! Addresses replaced by others that share as many leading bits with each other as before: what is in a network stays
//! in it, and what is private, of Docker or of no machine stays so. After Xu, Fan, Ammar, Moon: "Prefix-preserving IP
//! address anonymization" (2002).

use std::{collections::HashMap, net::Ipv4Addr};

use ipnet::Ipv4Net;

use super::Key;

const fn network(first: [u8; 4], length: u8) -> Ipv4Net {
    let [a, b, c, d] = first;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

/// Of these nothing is replaced: they are the same on every machine.
const KEPT: [Ipv4Net; 4] = [
    network([0, 0, 0, 0], 8),
    network([127, 0, 0, 0], 8),
    network([169, 254, 0, 0], 16),
    network([224, 0, 0, 0], 3),
];

/// What is in one of these stays in it, because it is judged by that.
const KINDS: [Ipv4Net; 11] = [
    network([10, 0, 0, 0], 8),
    network([100, 64, 0, 0], 10),
    network([172, 16, 0, 0], 12),
    network([192, 168, 0, 0], 16),
    network([192, 0, 2, 0], 24),
    network([198, 51, 100, 0], 24),
    network([203, 0, 113, 0], 24),
    network([192, 168, 122, 1], 32),
    network([10, 0, 3, 1], 32),
    network([10, 88, 0, 1], 32),
    network([10, 0, 2, 15], 32),
];

/// Docker's bridges have the first address of 172.17.0.0/16 to 172.31.0.0/16.
fn docker() -> impl Iterator<Item = Ipv4Net> {
    (17..=31).map(|second| network([172, second, 0, 1], 32))
}

pub struct Addresses {
    key: Key,
    known: HashMap<u32, u32>,
    kinds: Vec<Ipv4Net>,
}

impl Addresses {
    pub fn new(key: Key) -> Self {
        Self { key, known: HashMap::new(), kinds: KEPT.into_iter().chain(KINDS).chain(docker()).collect() }
    }

    pub fn address(&mut self, address: Ipv4Addr) -> Ipv4Addr {
        let bits = address.to_bits();
        if let Some(known) = self.known.get(&bits) {
            return Ipv4Addr::from_bits(*known);
        }
        let masked = if KEPT.iter().any(|kept| kept.contains(&address)) { bits } else { self.flipped(bits) };
        self.known.insert(bits, masked);
        Ipv4Addr::from_bits(masked)
    }

    /// A network keeps its length, and its addresses.
    pub fn network(&mut self, network: Ipv4Net) -> Ipv4Net {
        let masked = self.address(network.network());
        Ipv4Net::new(masked, network.prefix_len()).map_or(network, |masked| masked.trunc())
    }

    /// An address as a text shows it, with a length or without.
    pub fn shown(&mut self, (address, length): (Ipv4Addr, Option<u8>)) -> (Ipv4Addr, Option<u8>) {
        let network = length.and_then(|length| Ipv4Net::new(address, length).ok());
        match network.filter(|network| network.network() == address) {
            Some(network) => (self.network(network).addr(), length),
            None => (self.address(address), length),
        }
    }

    /// Each bit is turned round or not by those before it alone.
    fn flipped(&self, bits: u32) -> u32 {
        let mut masked = bits;
        for length in 0..32_u8 {
            let before = bits & !u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            if self.turns(before, length) {
                masked ^= 1 << (31 - u32::from(length));
            }
        }
        masked
    }

    fn turns(&self, before: u32, length: u8) -> bool {
        let holds_kind = self.kinds.iter().any(|kind| {
            let within =
                Ipv4Net::new(kind.addr(), length).is_ok_and(|around| around.network().to_bits() == before);
            kind.prefix_len() > length && within
        });
        let data = [&before.to_be_bytes()[..], &[length]].concat();
        !holds_kind && self.key.digest("address", &data).first().is_some_and(|byte| byte & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::causes::addresses::{is_public, of_any_machine};

    fn addresses(key: u64) -> Addresses {
        Addresses::new(Key::new(key.to_be_bytes()))
    }

    proptest! {
        #[test]
        fn as_many_leading_bits_are_shared_as_before(key: u64, one: u32, flip in 0_u32..33, more: u32) {
            let mut masked = addresses(key);
            let other = one ^ 1_u32.checked_shl(31 - flip.min(31)).unwrap_or(0) ^ more.checked_shr(flip + 1).unwrap_or(0);
            let (one, other) = if flip == 32 { (one, one) } else { (one, other) };
            let shared = (one ^ other).leading_zeros();
            let (one, other) = (masked.address(Ipv4Addr::from_bits(one)), masked.address(Ipv4Addr::from_bits(other)));
            prop_assert_eq!((one.to_bits() ^ other.to_bits()).leading_zeros(), shared);
        }

        #[test]
        fn a_network_keeps_its_addresses(key: u64, bits: u32, length in 0_u8..=32) {
            let mut masked = addresses(key);
            let address = Ipv4Addr::from_bits(bits);
            let network = Ipv4Net::new(address, length).unwrap().trunc();
            prop_assert!(masked.network(network).contains(&masked.address(address)));
        }

        #[test]
        fn an_address_stays_of_its_kind(key: u64, bits: u32, low in 0_u32..4096) {
            let mut masked = addresses(key);
            for bits in [bits, (bits >> 8) | 0x0a00_0000, 0xac10_0000 | (bits >> 12), 0xac11_0000 + low, 0x0a00_0200 + low % 256] {
                let address = Ipv4Addr::from_bits(bits);
                let other = masked.address(address);
                prop_assert_eq!(is_public(other), is_public(address), "{} {}", address, other);
                prop_assert_eq!(of_any_machine(other), of_any_machine(address), "{} {}", address, other);
                prop_assert_eq!(other.is_loopback(), address.is_loopback());
                prop_assert_eq!(other.is_link_local(), address.is_link_local());
            }
        }
    }
}
