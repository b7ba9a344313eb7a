//! What in a text is an address, a device of a pod or another thing that is replaced.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
};

use super::Key;

/// Between the numbers of an address, as BIRD's protocols and the names of some hosts have it too.
const SEPARATORS: [u8; 3] = *b"._-";

/// An address with the length of its network, where the text has one.
type Shown = (Ipv4Addr, Option<u8>);

/// Replaces every IPv4 address, whatever stands between its numbers.
pub fn addresses(text: &str, replace: &mut dyn FnMut(Shown) -> Shown) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let (mut at, mut copied) = (0, 0);
    while at < bytes.len() {
        let begins = bytes[at].is_ascii_digit()
            && !at.checked_sub(1).is_some_and(|before| bytes[before].is_ascii_alphanumeric());
        let Some((address, separator, end)) = begins.then(|| address_at(bytes, at)).flatten() else {
            at += 1;
            continue;
        };
        let (length, end) = if separator == b'.' { length_at(bytes, end) } else { (None, end) };
        let (address, length) = replace((address, length));
        out.push_str(text.get(copied..at).unwrap_or_default());
        let octets: Vec<String> = address.octets().iter().map(u8::to_string).collect();
        out.push_str(&octets.join(&char::from(separator).to_string()));
        if let Some(length) = length {
            let _ = write!(out, "/{length}");
        }
        (at, copied) = (end, end);
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    out
}

/// Four numbers from here on, what is between them, and where they end.
fn address_at(bytes: &[u8], start: usize) -> Option<(Ipv4Addr, u8, usize)> {
    let (mut at, mut octets, mut separator) = (start, [0_u8; 4], 0);
    for (index, octet) in octets.iter_mut().enumerate() {
        if index > 0 {
            let between = *bytes.get(at)?;
            let is_right = if index == 1 { SEPARATORS.contains(&between) } else { between == separator };
            if !is_right {
                return None;
            }
            separator = between;
            at += 1;
        }
        let digits = bytes.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
        *octet =
            std::str::from_utf8(bytes.get(at..at + digits)?).ok().filter(|_| digits < 4)?.parse().ok()?;
        at += digits;
    }
    // More than four numbers are a version.
    let before = |back: usize| start.checked_sub(back).and_then(|at| bytes.get(at));
    if before(1) == Some(&separator) && before(2).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let goes_on = bytes.get(at).is_some_and(u8::is_ascii_alphanumeric)
        || (bytes.get(at) == Some(&separator) && bytes.get(at + 1).is_some_and(u8::is_ascii_digit));
    (!goes_on).then_some((Ipv4Addr::from(octets), separator, at))
}

fn length_at(bytes: &[u8], end: usize) -> (Option<u8>, usize) {
    let digits =
        bytes.get(end + 1..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count();
    let length = (bytes.get(end) == Some(&b'/') && (1..3).contains(&digits))
        .then(|| std::str::from_utf8(bytes.get(end + 1..end + 1 + digits)?).ok()?.parse::<u8>().ok())
        .flatten()
        .filter(|length| *length <= 32);
    (length, if length.is_some() { end + 1 + digits } else { end })
}

/// `cali` and eleven digits of a hash, which can be guessed from a pod's name.
pub fn pod_devices(key: &Key, text: &str) -> String {
    const DIGITS: usize = 11;
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("cali") {
        let (head, tail) = rest.split_at(at + "cali".len());
        out.push_str(head);
        let digits = tail.bytes().take_while(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).count();
        let goes_on = tail.as_bytes().get(digits).is_some_and(u8::is_ascii_alphanumeric);
        rest = tail;
        if digits == DIGITS && !goes_on {
            let (hash, after) = tail.split_at(DIGITS);
            out.push_str(&key.hex("device", hash, DIGITS));
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// Chains of policies and profiles carry their names.
pub fn policy_chains(key: &Key, text: &str) -> String {
    const CHAINS: [&str; 4] = ["cali-pi-", "cali-po-", "cali-pri-", "cali-pro-"];
    const WORDS: [&str; 2] = ["Policy ", "Profile "];
    let mut out = text.to_owned();
    for prefix in CHAINS.iter().chain(&WORDS) {
        let mut masked = String::with_capacity(out.len());
        let mut rest = out.as_str();
        while let Some(at) = rest.find(prefix) {
            let (head, tail) = rest.split_at(at + prefix.len());
            let (name, after) = tail.split_at(tail.find([' ', ',', ';', '"']).unwrap_or(tail.len()));
            masked.push_str(head);
            if !name.is_empty() {
                let _ = write!(masked, "_{}", key.hex("policy", name, 10));
            }
            rest = after;
        }
        masked.push_str(rest);
        out = masked;
    }
    out
}

/// Link-layer addresses keep their maker's half; what every pod has alike stays. IPv6 addresses are replaced as a whole.
pub fn hardware_addresses(key: &Key, text: &str) -> String {
    let is_part = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_part) {
        let (head, tail) = rest.split_at(start);
        let (word, after) = tail.split_at(tail.find(|c: char| !is_part(c)).unwrap_or(tail.len()));
        out.push_str(head);
        let touches = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let is_whole = !touches(head.chars().next_back()) && !touches(after.chars().next());
        let inner = word.trim_end_matches([':', '.']);
        let replaced = is_whole.then(|| replaced_colons(key, inner)).flatten();
        out.push_str(replaced.as_deref().unwrap_or(inner));
        out.push_str(word.get(inner.len()..).unwrap_or_default());
        rest = after;
    }
    out.push_str(rest);
    out
}

fn replaced_colons(key: &Key, word: &str) -> Option<String> {
    let groups: Vec<&str> = word.split(':').collect();
    let is_hardware = groups.len() == 6 && groups.iter().all(|group| group.len() == 2);
    if is_hardware {
        let alike = groups.iter().all(|group| group == &groups[0]);
        let hex = key.hex("hardware", word, 6);
        let tail = format!("{}:{}:{}", &hex[..2], &hex[2..4], &hex[4..]);
        return (!alike).then(|| format!("{}:{tail}", groups[..3].join(":")));
    }
    let address = word.parse::<Ipv6Addr>().ok().filter(|_| groups.len() > 2)?;
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        return None;
    }
    let hex = key.hex("ipv6", &address.to_string(), 8);
    Some(format!("fd00::{}:{}", &hex[..4], &hex[4..]))
}

/// Leaves words, places in a program's source, and what has been replaced already; anything else may be a name.
pub fn plain_words(key: &Key, text: &str) -> String {
    let is_plain = |word: &str| {
        let letters = word.trim_matches(|c: char| c.is_ascii_punctuation());
        letters.chars().all(|c| c.is_ascii_alphabetic())
            || letters.chars().all(|c| c.is_ascii_digit())
            || letters.rsplit_once('.').is_some_and(|(_, ending)| ending == "go")
            || letters.parse::<Ipv4Addr>().is_ok()
            || letters.parse::<ipnet::Ipv4Net>().is_ok()
            || is_protocol(letters)
    };
    let word = |word: &str| {
        if is_plain(word) { word.to_owned() } else { format!("x{}", key.hex("word", word, 8)) }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// Names of BIRD's protocols, such as `Mesh_172_30_10_187`.
fn is_protocol(word: &str) -> bool {
    let numbers = ["Mesh_", "Node_", "Global_"].iter().find_map(|kind| word.strip_prefix(kind));
    numbers.is_some_and(|numbers| numbers.replace('_', ".").parse::<Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all_ones(text: &str) -> String {
        addresses(text, &mut |(_, length)| (Ipv4Addr::new(1, 1, 1, 1), length))
    }

    #[test]
    fn addresses_are_found_as_they_are_written() {
        for (text, expected) in [
            ("10.0.0.1", "1.1.1.1"),
            ("to 10.0.0.0/26, and 172.30.10.187:179", "to 1.1.1.1/26, and 1.1.1.1:179"),
            ("bird: Mesh_172_30_10_187: Error", "bird: Mesh_1_1_1_1: Error"),
            ("ip-172-30-10-187.internal", "ip-1-1-1-1.internal"),
            ("(10.0.0.1)", "(1.1.1.1)"),
            (
                "6.12.0 of 2026-01-02T03:04:05.678Z, v3.27.0, 256.1.1.1, 1.2.3.4.5, 0x10.0.0.1",
                "6.12.0 of 2026-01-02T03:04:05.678Z, v3.27.0, 256.1.1.1, 1.2.3.4.5, 0x10.0.0.1",
            ),
        ] {
            assert_eq!(all_ones(text), expected);
        }
    }

    #[test]
    fn devices_and_hardware_addresses_keep_their_form() {
        let key = Key::new(*b"key");
        let device = pod_devices(&key, "cali0d7763386da");
        assert!(device.starts_with("cali") && device.len() == 15 && device != "cali0d7763386da");
        assert_eq!(pod_devices(&key, "cali-tw-cali0d7763386da x"), format!("cali-tw-{device} x"));
        assert_eq!(pod_devices(&key, "cali40all-hosts-net calico"), "cali40all-hosts-net calico");
        assert_eq!(hardware_addresses(&key, "ee:ee:ee:ee:ee:ee"), "ee:ee:ee:ee:ee:ee");
        assert!(hardware_addresses(&key, "at 00:50:56:81:47:bb.").starts_with("at 00:50:56:"));
        assert!(!hardware_addresses(&key, "at 00:50:56:81:47:bb.").contains("81:47:bb"));
        assert!(!hardware_addresses(&key, "[2001:db8::17]:179").contains("2001"));
        assert_eq!(hardware_addresses(&key, "at 03:04:05 cafe"), "at 03:04:05 cafe");
        assert!(policy_chains(&key, "cali-pi-default/allow-web").starts_with("cali-pi-_"));
        assert_eq!(
            plain_words(&key, "bird: Mesh_1_1_1_1: Error: Hold timer expired"),
            "bird: Mesh_1_1_1_1: Error: Hold timer expired"
        );
        assert!(!plain_words(&key, "[ERROR] felix/route_table.go 475: lost web-0").contains("web-0"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in any::<String>()) {
            let key = Key::new(*b"key");
            prop_assert_eq!(addresses(&text, &mut |shown| shown).len() <= text.len() * 2, true);
            let _ = (pod_devices(&key, &text), policy_chains(&key, &text), hardware_addresses(&key, &text));
            let _ = plain_words(&key, &text);
        }
    }
}
