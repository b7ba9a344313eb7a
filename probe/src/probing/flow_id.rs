//! The probes of one diagnosis as a word that another machine can be told: `COOKIE@TARGET/icmp`,
//! `COOKIE@TARGET/tcp/PORT`, or `COOKIE@TARGET/udp/PORT/SOURCES`, where the source ports stand in the order of the
//! probes, a comma between two of them and a plus between two senders. No shell reads anything into it.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr, str::FromStr};

use thiserror::Error;

use super::marks::{Cookie, Marks, ProbeNumber};
use crate::observation::{Series, Traffic};

/// Longer than the ports of a diagnosis with the most probes need.
const LONGEST: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FlowIdError {
    #[error("a flow is COOKIE@TARGET/PROTOCOL, as `caliprobe diagnose --peer-exec` gives it")]
    Shape,
    #[error("the cookie of a flow is 32 hexadecimal digits")]
    Cookie,
    #[error("the target of a flow is an IPv4 address")]
    Target,
    #[error("the protocol of a flow is icmp, tcp/PORT or udp/PORT/SOURCES")]
    Protocol,
    #[error("a port of the flow is not a number from 1 to 65535, or is there twice")]
    Port,
}

impl fmt::Display for Marks {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.cookie.0 {
            write!(text, "{byte:02x}")?;
        }
        write!(text, "@{}/", self.target)?;
        match self.traffic {
            Traffic::Echo => write!(text, "icmp"),
            Traffic::Tcp(port) => write!(text, "tcp/{port}"),
            Traffic::Udp(port) => write!(text, "udp/{port}/{}", self.sources()),
        }
    }
}

impl Marks {
    fn sources(&self) -> String {
        let of_sender = |sender| {
            let mut ports: Vec<(u16, u16)> = self
                .sent_from
                .iter()
                .filter(|(_, number)| number.flow == Series::Asked.flow(sender))
                .map(|(port, number)| (number.sequence, *port))
                .collect();
            ports.sort_unstable();
            let words: Vec<String> = ports.iter().map(|(_, port)| port.to_string()).collect();
            words.join(",")
        };
        let senders: Vec<String> =
            (0..Series::SENDERS).map(of_sender).filter(|ports| !ports.is_empty()).collect();
        senders.join("+")
    }
}

impl FromStr for Marks {
    type Err = FlowIdError;

    fn from_str(text: &str) -> Result<Self, FlowIdError> {
        if text.len() > LONGEST {
            return Err(FlowIdError::Shape);
        }
        let (cookie, rest) = text.split_once('@').ok_or(FlowIdError::Shape)?;
        let mut parts = rest.split('/');
        let target: Ipv4Addr = parts.next().and_then(|text| text.parse().ok()).ok_or(FlowIdError::Target)?;
        let mut sent_from = BTreeMap::new();
        let traffic = match (parts.next(), parts.next(), parts.next()) {
            (Some("icmp"), None, None) => Traffic::Echo,
            (Some("tcp"), Some(port), None) => Traffic::Tcp(read_port(port)?),
            (Some("udp"), Some(port), Some(sources)) => {
                sent_from = read_sources(sources)?;
                Traffic::Udp(read_port(port)?)
            }
            _ => return Err(FlowIdError::Protocol),
        };
        if parts.next().is_some() {
            return Err(FlowIdError::Protocol);
        }
        Ok(Self { cookie: read_cookie(cookie)?, target, traffic, sent_from })
    }
}

fn read_cookie(text: &str) -> Result<Cookie, FlowIdError> {
    let digits = text.as_bytes();
    if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(FlowIdError::Cookie);
    }
    u128::from_str_radix(text, 16).map(|number| Cookie(number.to_be_bytes())).map_err(|_| FlowIdError::Cookie)
}

fn read_port(text: &str) -> Result<u16, FlowIdError> {
    // `+80` is a number to Rust.
    let port = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    port.filter(|port| *port != 0).ok_or(FlowIdError::Port)
}

fn read_sources(text: &str) -> Result<BTreeMap<u16, ProbeNumber>, FlowIdError> {
    let mut sent_from = BTreeMap::new();
    let senders: Vec<&str> = text.split('+').collect();
    if senders.len() > usize::from(Series::SENDERS) {
        return Err(FlowIdError::Protocol);
    }
    for (sender, ports) in (0..Series::SENDERS).zip(senders) {
        for (sequence, port) in (0..).zip(ports.split(',')) {
            let number = ProbeNumber { flow: Series::Asked.flow(sender), sequence };
            if sent_from.insert(read_port(port)?, number).is_some() {
                return Err(FlowIdError::Port);
            }
        }
    }
    Ok(sent_from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COOKIE: &str = "00112233445566778899aabbccddeeff";

    fn read(rest: &str) -> Result<Marks, FlowIdError> {
        format!("{COOKIE}@{rest}").parse()
    }

    #[test]
    fn what_a_flow_says_is_read() {
        let marks = read("10.0.0.1/udp/53/40000,40001+41000").unwrap();
        assert_eq!(marks.cookie.0[..3], [0, 0x11, 0x22]);
        assert_eq!((marks.target, marks.traffic), (Ipv4Addr::new(10, 0, 0, 1), Traffic::Udp(53)));
        let number = |port| marks.sent_from.get(&port).map(|number| (number.flow, number.sequence));
        assert_eq!([number(40000), number(40001), number(41000)], [Some((0, 0)), Some((0, 1)), Some((1, 0))]);
        assert_eq!(read("10.0.0.1/tcp/80").unwrap().traffic, Traffic::Tcp(80));
    }

    #[test]
    fn what_is_no_flow_is_refused_with_what_is_wrong() {
        for (rest, error) in [
            ("10.0.0.1", FlowIdError::Protocol),
            ("10.0.0/icmp", FlowIdError::Target),
            ("10.0.0.1/icmp/7", FlowIdError::Protocol),
            ("10.0.0.1/sctp/7", FlowIdError::Protocol),
            ("10.0.0.1/tcp/0", FlowIdError::Port),
            ("10.0.0.1/tcp/+80", FlowIdError::Port),
            ("10.0.0.1/tcp/65536", FlowIdError::Port),
            ("10.0.0.1/udp/53", FlowIdError::Protocol),
            ("10.0.0.1/udp/53/", FlowIdError::Port),
            ("10.0.0.1/udp/53/1,1", FlowIdError::Port),
            ("10.0.0.1/udp/53/1+2+3", FlowIdError::Protocol),
            ("10.0.0.1/udp/53/1/", FlowIdError::Protocol),
        ] {
            assert_eq!(read(rest).unwrap_err(), error, "{rest}");
        }
        assert_eq!("10.0.0.1/icmp".parse::<Marks>().unwrap_err(), FlowIdError::Shape);
        assert_eq!("+f@10.0.0.1/icmp".parse::<Marks>().unwrap_err(), FlowIdError::Cookie);
        assert_eq!(format!("{COOKIE}0@10.0.0.1/icmp").parse::<Marks>().unwrap_err(), FlowIdError::Cookie);
    }

    fn traffic() -> impl Strategy<Value = Traffic> {
        prop_oneof![Just(Traffic::Echo), (1u16..).prop_map(Traffic::Tcp), (1u16..).prop_map(Traffic::Udp)]
    }

    proptest! {
        #[test]
        fn a_flow_is_read_as_it_was_written(
            cookie in any::<[u8; 16]>(),
            target in any::<u32>(),
            traffic in traffic(),
            ports in prop::collection::btree_set(1u16.., 2..40),
            first in 1usize..2,
        ) {
            let number = |index: usize| if index < first {
                ProbeNumber { flow: 0, sequence: u16::try_from(index).unwrap() }
            } else {
                ProbeNumber { flow: 1, sequence: u16::try_from(index - first).unwrap() }
            };
            let has_sources = matches!(traffic, Traffic::Udp(_));
            let sent_from: BTreeMap<u16, ProbeNumber> =
                ports.into_iter().enumerate().filter(|_| has_sources).map(|(i, port)| (port, number(i))).collect();
            let marks = Marks { cookie: Cookie(cookie), target: Ipv4Addr::from(target), traffic, sent_from };
            let text = marks.to_string();
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"@/.,+".contains(&byte)));
            prop_assert_eq!(text.parse::<Marks>().unwrap(), marks);
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,80}|[0-9a-f]{32}@[0-9./a-z,+]{0,60}") {
            let _ = text.parse::<Marks>();
        }
    }
}
