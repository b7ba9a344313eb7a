//! The routes that `show route [all]` prints. A destination stands at the margin, further paths to it are indented;
//! what lies between brackets names the protocol, `*` marks the best path and `!` one that the kernel refused. With
//! `all`, attributes follow: the next hop that the peer announced is one, the line itself shows what it resolves to.

use ipnet::Ipv4Net;

use crate::sample::BirdRoute;

/// The attributes of 100,000 routes, more than one node is known to have seen.
const MOST_LINES: usize = 1_000_000;

/// Reads the IPv4 routes.
pub fn parse(text: &str) -> Vec<BirdRoute> {
    let mut routes: Vec<BirdRoute> = Vec::new();
    let mut destination = None;
    for line in text.lines().take(MOST_LINES) {
        let is_further = line.starts_with([' ', '\t']);
        let (head, rest) = if is_further { ("", line.trim()) } else { split_word(line) };
        if !is_further {
            destination = head.parse::<Ipv4Net>().ok();
        }
        let Some(destination) = destination else { continue };
        match path(destination, rest) {
            Some(route) => routes.push(route),
            None => below(&mut routes, destination, rest),
        }
    }
    routes
}

fn split_word(line: &str) -> (&str, &str) {
    line.split_once(char::is_whitespace).map_or((line, ""), |(word, rest)| (word, rest.trim()))
}

/// `via A on DEVICE [PROTOCOL TIME from B] * (100/0) [i]`, and the same with `dev`, `blackhole`, `unreachable`.
fn path(destination: Ipv4Net, text: &str) -> Option<BirdRoute> {
    let (way, rest) = text.split_once('[')?;
    let (source, marks) = rest.split_once(']')?;
    let marks = marks.split('(').next().unwrap_or_default();
    Some(BirdRoute {
        destination,
        gateway: word_after(way, "via").and_then(|word| word.parse().ok()),
        next_hop: None,
        device: word_after(way, "on").or_else(|| word_after(way, "dev")).map(str::to_owned),
        protocol: source.split_whitespace().next()?.to_owned(),
        best: marks.contains('*'),
        refused: marks.contains('!'),
        unreachable: way.trim_start().starts_with("unreachable"),
    })
}

/// What stands beneath a path: its announced next hop, or the one that BIRD 2 prints on a line of its own, as any
/// BIRD does for each of several.
fn below(routes: &mut [BirdRoute], destination: Ipv4Net, text: &str) {
    let Some(last) = routes.last_mut().filter(|route| route.destination == destination) else { return };
    if let Some(announced) = text.strip_prefix("BGP.next_hop:") {
        last.next_hop = announced.split_whitespace().next().and_then(|word| word.parse().ok());
    } else if last.gateway.is_none() {
        last.gateway = word_after(text, "via").and_then(|word| word.parse().ok());
        last.device = word_after(text, "on").or_else(|| word_after(text, "dev")).map(str::to_owned);
    }
}

fn word_after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut words = text.split_whitespace();
    words.find(|word| *word == key)?;
    words.next()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_read_as_bird_prints_them() {
        let shown = "\
10.200.55.237/32   dev cali1234567890a [kernel1 08:01:12] * (10)
10.200.153.64/26   via 172.30.10.187 on eth0 [Mesh_172_30_10_187 08:01:13] * (100/0) [i]
                   via 172.30.10.186 on eth0 [Mesh_172_30_10_186 08:01:13] (100/0) [i]
10.200.55.192/26   blackhole [static1 08:01:11] * (200)
10.200.168.128/26  unreachable [Mesh_172_30_51_95 09:23:24 from 172.30.51.95] ! (100/-) [i]
";
        let routes = parse(shown);
        let via = |last| Some(Ipv4Addr::new(172, 30, 10, last));
        let summary: Vec<_> = routes.iter().map(|route| (route.gateway, route.best, route.refused)).collect();
        assert_eq!(
            summary,
            [
                (None, true, false),
                (via(187), true, false),
                (via(186), false, false),
                (None, true, false),
                (None, false, true)
            ]
        );
        assert_eq!(routes[0].device.as_deref(), Some("cali1234567890a"));
        assert_eq!((routes[3].protocol.as_str(), routes[4].unreachable), ("static1", true));
    }

    #[test]
    fn next_hops_of_bird_2_stand_beneath() {
        let shown = "\
Table master4:
10.200.153.64/26     unicast [Mesh_172_30_10_187 08:01:13.123] * (100) [i]
\tvia 172.30.10.187 on eth0
";
        let routes = parse(shown);
        assert_eq!(routes[0].gateway, Some(Ipv4Addr::new(172, 30, 10, 187)));
        assert_eq!(routes[0].device.as_deref(), Some("eth0"));
    }

    #[test]
    fn the_announced_next_hop_is_told_from_the_router_before_it() {
        let shown = "\
10.200.168.128/26  via 172.30.10.254 on eth0 [Mesh_172_30_51_95 16:59:53 from 172.30.51.95] * (100/?) [i]
\tType: BGP unicast univ
\tBGP.origin: IGP
\tBGP.next_hop: 172.30.51.95
\tBGP.local_pref: 100
10.200.55.192/26   blackhole [static1 16:59:52] * (200)
";
        let routes = parse(shown);
        assert_eq!(routes[0].gateway, Some(Ipv4Addr::new(172, 30, 10, 254)));
        assert_eq!(routes[0].next_hop, Some(Ipv4Addr::new(172, 30, 51, 95)));
        assert_eq!((routes.len(), routes[1].next_hop), (2, None));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "([ \t\\[\\]*!()a-z0-9./]{0,40}\n){0,8}") {
            parse(&text);
        }
    }
}
