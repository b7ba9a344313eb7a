//! Addresses as people show them: whole, or with a part that is masked (`x.x.0.1`, `10.244.*.*`).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// A value, or the text that stands in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown<T> {
    Whole(T),
    Masked(String),
}

impl<T> Shown<T> {
    pub fn whole(self) -> Option<T> {
        match self {
            Self::Whole(value) => Some(value),
            Self::Masked(_) => None,
        }
    }
}

/// An IPv4 address; `None` where the word is none at all.
pub fn address(word: &str) -> Option<Shown<Ipv4Addr>> {
    match word.parse() {
        Ok(address) => Some(Shown::Whole(address)),
        Err(_) => is_masked(word).then(|| Shown::Masked(word.to_owned())),
    }
}

/// A network in CIDR notation, or an address, which is a network of one; `None` where the word is none.
pub fn network(word: &str) -> Option<Shown<Ipv4Net>> {
    let (base, length) = match word.split_once('/') {
        Some((base, length)) => (base, length.parse::<u8>().ok().filter(|length| *length <= 32)),
        None => (word, Some(32)),
    };
    match (address(base)?, length) {
        (Shown::Whole(address), Some(length)) => {
            Some(Shown::Whole(Ipv4Net::new(address, length).ok()?.trunc()))
        }
        (Shown::Masked(_), _) | (Shown::Whole(_), None) => Some(Shown::Masked(word.to_owned())),
    }
}

/// Four parts, some of which are letters or signs in the place of a number.
fn is_masked(word: &str) -> bool {
    let mut parts = 0;
    let mut masked = 0;
    for part in word.split('.') {
        parts += 1;
        if part.is_empty() || part.len() > 3 {
            return false;
        }
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let is_mask = part.bytes().all(|byte| byte.is_ascii_digit() || b"xXyYzZ*#?".contains(&byte));
        let is_letter = part.len() == 1 && part.bytes().all(|byte| byte.is_ascii_alphabetic());
        if !is_mask && !is_letter {
            return false;
        }
        masked += 1;
    }
    parts == 4 && masked > 0
}

/// The prefix length of a netmask; `None` for one with holes.
pub fn prefix_length(mask: Ipv4Addr) -> Option<u8> {
    ipnet::ipv4_mask_to_prefix(mask).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn masked_values_are_told_from_whole_ones_and_from_words() {
        let masked = |text: &str| Some(Shown::Masked(text.to_owned()));
        for word in ["x.x.0.1", "10.244.x.x", "10.X.Y.Z", "1.2.3.***", "a.b.c.d"] {
            assert_eq!(address(word), masked(word), "{word}");
        }
        for word in ["default", "x.x.1", "node.example.org.", "10.0.0", "fe80::1", "eth0", "v1.6.8"] {
            assert_eq!(address(word), None, "{word}");
        }
        for word in ["x.y.z.0/23", "10.0.0.0/xx"] {
            assert_eq!(network(word), Some(Shown::Masked(word.to_owned())), "{word}");
        }
        assert_eq!(network("10.1.2.3/24"), Some(Shown::Whole("10.1.2.0/24".parse().unwrap())));
        assert_eq!(network("0.0.0.0"), Some(Shown::Whole("0.0.0.0/32".parse().unwrap())));
    }

    proptest! {
        #[test]
        fn any_word_is_read_without_a_panic(word in any::<String>(), dotted in "[0-9x*]{1,3}(\\.[0-9x*]{1,3}){3}(/[0-9x]{1,3})?") {
            let _ = network(&word);
            let base = dotted.split('/').next().unwrap_or_default();
            let is_masked = base.contains(['x', '*']);
            prop_assert_eq!(matches!(network(&dotted), Some(Shown::Masked(_))) || !is_masked, true);
        }
    }
}
