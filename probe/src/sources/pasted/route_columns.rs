//! `route -n` and `netstat -rn`: eight columns; `*` stands for a blackhole's device, `!` among the flags for a route
//! that refuses (net-tools, `lib/inet_gr.c`; the kernel's `fib_flag_trans`).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{
    readings::{RouteRow, Unreadable},
    values::{self, Shown, prefix_length},
};
use crate::sample::{Hop, Route, RouteKind};

/// `RT_TABLE_MAIN`, the only one that is shown.
const MAIN: u32 = 254;
/// `RTPROT_UNSPEC`: these outputs do not tell who wrote a route.
const UNTOLD: u8 = 0;
const COLUMNS: usize = 8;

pub fn is_heading(line: &str) -> bool {
    line.trim().starts_with("Kernel IP routing table") || is_column_heading(line)
}

fn is_column_heading(line: &str) -> bool {
    let mut words = line.split_whitespace();
    words.next() == Some("Destination") && words.next() == Some("Gateway") && words.next() == Some("Genmask")
}

pub fn begins(line: &str) -> bool {
    is_heading(line) || Columns::of(line).is_some()
}

/// A device's name on a line of its own, where the terminal was too narrow.
pub fn goes_on(line: &str) -> bool {
    let mut words = line.split_whitespace();
    words.next().is_some_and(|word| word.len() <= 15 && !word.contains(':')) && words.next().is_none()
}

struct Columns<'a> {
    destination: &'a str,
    gateway: &'a str,
    mask: &'a str,
    flags: &'a str,
    metric: &'a str,
    /// Absent where it was wrapped to the next line.
    device: Option<&'a str>,
}

impl<'a> Columns<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().take(COLUMNS + 1).collect();
        let [destination, gateway, mask, flags, metric, _, _, rest @ ..] = words.as_slice() else {
            return None;
        };
        let device = match rest {
            [] => None,
            [device] => Some(*device),
            _ => return None,
        };
        let is_destination = *destination == "default" || values::address(destination).is_some();
        let is_mask = values::address(mask).is_some();
        let is_flags = flags.starts_with(['U', '!']) && flags.chars().all(|c| "U!GHDMRASC".contains(c));
        let is_count = |word: &str| word == "-" || word.bytes().all(|byte| byte.is_ascii_digit());
        (is_destination && is_mask && is_flags && is_count(metric)).then_some(Self {
            destination,
            gateway,
            mask,
            flags,
            metric,
            device,
        })
    }
}

/// Reads the rows of a table.
pub fn read(lines: &[String]) -> (Vec<RouteRow>, Vec<Unreadable>) {
    let mut rows: Vec<RouteRow> = Vec::new();
    let mut unreadable = Vec::new();
    // `netstat` has the segment size where `route` has the metric.
    let has_metrics = !lines.iter().any(|line| is_column_heading(line) && line.contains("MSS"));
    for line in lines.iter().filter(|line| !is_heading(line)) {
        let Some(columns) = Columns::of(line) else {
            if let Some(device) =
                rows.last_mut().and_then(|row| row.devices.last_mut()).filter(|it| it.is_none())
            {
                *device = Some(line.trim().to_owned());
            }
            continue;
        };
        match row(&columns, has_metrics) {
            Ok(row) => rows.push(row),
            Err(why) => unreadable.push(Unreadable::new(line, why)),
        }
    }
    (rows, unreadable)
}

fn row(columns: &Columns<'_>, has_metrics: bool) -> Result<RouteRow, &'static str> {
    let masked = "its destination is masked";
    let whole = |word: &str| values::address(word).and_then(Shown::whole);
    let base = if columns.destination == "default" {
        Ipv4Addr::UNSPECIFIED
    } else {
        whole(columns.destination).ok_or(masked)?
    };
    let mask = whole(columns.mask).ok_or(masked)?;
    let length = prefix_length(mask).ok_or("its mask has holes")?;
    let destination = Ipv4Net::new(base, length).map_err(|_| masked)?.trunc();
    let kind = match columns.device {
        _ if columns.flags.contains('!') => RouteKind::Unreachable,
        Some("*") => RouteKind::Blackhole,
        _ => RouteKind::Unicast,
    };
    let metric = columns.metric.parse().ok().filter(|_| has_metrics).unwrap_or_default();
    let route = Route { destination, kind, table: MAIN, protocol: UNTOLD, metric, ..Route::default() };
    let mut row = RouteRow::new(route);
    if kind == RouteKind::Unicast {
        let mut hop = Hop { weight: 1, ..Hop::default() };
        if columns.flags.contains('G') {
            match whole(columns.gateway) {
                Some(gateway) => hop.gateway = Some(gateway),
                None => hop.masked_gateway = Some(columns.gateway.to_owned()),
            }
        }
        row.route.hops.push(hop);
        row.devices.push(columns.device.map(str::to_owned));
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(text: &str) -> (Vec<RouteRow>, Vec<Unreadable>) {
        read(&text.lines().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn rows_are_read_as_route_prints_them() {
        let (rows, unreadable) = rows(
            "\
Kernel IP routing table
Destination     Gateway         Genmask         Flags Metric Ref    Use Iface
0.0.0.0         172.30.10.254   0.0.0.0         UG    100    0        0 eth0
10.200.55.192   0.0.0.0         255.255.255.192 U     0      0        0 *
10.200.55.237   0.0.0.0         255.255.255.255 UH    0      0        0 calia45f40cd54e
10.200.153.64   172.30.10.187   255.255.255.192 UG    0      0        0
tunl0
10.200.168.128  x.x.51.95       255.255.255.192 UG    0      0        0 tunl0
10.9.0.0        -               255.255.255.0   !     0      -        0 -
x.x.0.0         0.0.0.0         255.255.0.0     U     0      0        0 eth0",
        );
        let [default, own, pod, block, masked, refused] = rows.as_slice() else { panic!("{rows:#?}") };
        assert_eq!((default.route.destination, default.route.metric), (Ipv4Net::default(), 100));
        assert_eq!((own.route.kind, own.route.hops.len()), (RouteKind::Blackhole, 0));
        assert_eq!((pod.route.destination.prefix_len(), pod.route.hops[0].gateway), (32, None));
        assert_eq!(block.devices, [Some("tunl0".to_owned())]);
        assert_eq!(masked.route.hops[0].masked_gateway.as_deref(), Some("x.x.51.95"));
        assert_eq!(refused.route.kind, RouteKind::Unreachable);
        assert_eq!(unreadable.len(), 1);
    }

    #[test]
    fn netstat_prints_no_metric() {
        let (rows, _) = rows(
            "\
Destination     Gateway         Genmask         Flags   MSS Window  irtt Iface
default         10.0.0.1        0.0.0.0         UG     1460 0          0 eth0",
        );
        assert_eq!((rows[0].route.destination, rows[0].route.metric), (Ipv4Net::default(), 0));
    }

    proptest! {
        #[test]
        fn any_rows_are_read_without_a_panic(
            text in "(.{0,60}\n){0,6}",
            like in "(10\\.[0-9x]{1,3}\\.0\\.0 +[0-9.*-]{1,15} +255\\.[0-9]{1,3}\\.0\\.0 +[U!GH]{1,3} +[0-9-]{1,12} 0 0 ?[a-z0-9*]{0,15}\n){0,6}",
        ) {
            let _ = rows(&text);
            let (rows, _) = rows(&like);
            for row in rows {
                prop_assert_eq!(row.devices.len(), row.route.hops.len());
            }
        }
    }
}
