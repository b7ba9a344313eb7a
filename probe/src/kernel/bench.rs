//! Measures the kernel programs against empty ones of the same type, in the same run and by turns.
//!
//! `BPF_PROG_TEST_RUN` tells whole nanoseconds and includes its own loop, of some 40 ns: hence differences, and the
//! least of many turns. It runs on one packet with hot caches: hence two counters beside, for scale.

use std::{net::Ipv4Addr, os::fd::AsRawFd as _, process::Command, time::Duration};

use anyhow::{Context as _, ensure};
use aya::{
    Btf, Ebpf, EbpfLoader, include_bytes_aligned,
    maps::HashMap,
    programs::{BtfTracePoint, SchedClassifier, TestRun as _, TestRunOptions},
    sys::{Stats, enable_stats},
};
use nix::{
    sched::{CloneFlags, unshare},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, sendto, socket},
};
use serde::Serialize;

use super::ledger::Ledger;
use crate::{
    model::{Model, layout::Layout},
    sample::{Address, Hop, Link, Route, RouteKind, Sample},
    sources::{identity, packet_socket},
};

static SCALE: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/scale"));

/// Runs of a program in one turn.
const REPEAT: u32 = 200_000;
/// Turns; the least time of a program counts.
const TURNS: usize = 15;
/// Drops in one turn.
const DROPS: usize = 20_000;

/// The index of `lo`, the device of every packet of a test run.
const LOOPBACK: u32 = 1;
const POD: Ipv4Addr = Ipv4Addr::new(10, 200, 55, 237);
const REMOTE: Ipv4Addr = Ipv4Addr::new(10, 200, 153, 70);
const NODE: Ipv4Addr = Ipv4Addr::new(172, 30, 10, 188);
const PEER: Ipv4Addr = Ipv4Addr::new(172, 30, 10, 187);
const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_IPIP: u8 = 4;

/// The budget of what counts a pod's packet, in nanoseconds.
const ON_PATH: Option<f64> = Some(8.0);

/// One row of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    pub program: String,
    pub packet: String,
    /// Over an empty program; a noisy machine may make it slightly negative.
    pub nanoseconds: f64,
    /// `None` for what is measured for scale alone.
    pub budget: Option<f64>,
}

/// Measures everything. Enters a network namespace of its own, so that the calling thread should be the only one.
pub fn measure() -> anyhow::Result<Vec<Measurement>> {
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace (needs root)")?;
    run("ip", &["link", "set", "lo", "up"])?;
    let sample = sample();
    let model = Model::new(&sample);
    let mut layout = Layout::new(4096);
    layout.update(&model);
    let namespace = identity::read(std::path::Path::new("/"))?.network_namespace;
    let mut ledger = Ledger::load(layout.stride(), namespace)?;
    ledger.write(&layout, &[])?;
    let mut scale = EbpfLoader::new().load(SCALE).context("cannot load the programs for scale")?;
    let mut measurements = classifiers(&mut ledger, &mut scale)?;
    measurements.extend(drops(&mut ledger, &mut scale)?);
    Ok(measurements)
}

fn classifiers(ledger: &mut Ledger, scale: &mut Ebpf) -> anyhow::Result<Vec<Measurement>> {
    // What passes tunl0 has no link-layer header; the kernel takes the packet's own first bytes for one.
    let headless = ipv4(POD, REMOTE, PROTOCOL_TCP, &[0; 40]);
    let pods = frame(&headless);
    let encapsulated = frame(&ipv4(NODE, PEER, PROTOCOL_IPIP, &ipv4(POD, REMOTE, PROTOCOL_TCP, &[0; 40])));
    let arriving = frame(&ipv4(PEER, NODE, PROTOCOL_IPIP, &ipv4(REMOTE, POD, PROTOCOL_TCP, &[0; 40])));
    let other = frame(&ipv4(STRANGER, NODE, PROTOCOL_TCP, &[0; 40]));
    let destination = u32::from_ne_bytes(REMOTE.octets());
    HashMap::<_, u32, u64>::try_from(scale.map_mut("HASH").context("no map HASH")?)?.insert(
        destination,
        0,
        0,
    )?;
    let cases: [(&str, &str, &[u8], Option<f64>); 8] = [
        ("caliprobe_from_pod", "a pod's TCP", &pods, ON_PATH),
        ("caliprobe_to_pod", "a pod's TCP", &pods, ON_PATH),
        ("caliprobe_to_tunnel", "a pod's TCP", &headless, ON_PATH),
        ("caliprobe_from_tunnel", "a pod's TCP", &headless, ON_PATH),
        ("caliprobe_to_wire", "encapsulated", &encapsulated, ON_PATH),
        ("caliprobe_from_wire", "encapsulated", &arriving, ON_PATH),
        ("caliprobe_to_wire", "not of pods", &other, Some(3.0)),
        ("caliprobe_from_wire", "not of pods", &other, Some(3.0)),
    ];
    let for_scale = [("per_cpu", "a per-CPU counter"), ("hash", "a counter in a hash")];
    for name in ["empty", "per_cpu", "hash"] {
        classifier(scale, name)?.load()?;
    }
    for name in cases.iter().map(|case| case.0).collect::<std::collections::BTreeSet<_>>() {
        classifier(ledger.programs(), name)?.load()?;
    }
    let mut least = vec![Duration::MAX; cases.len() + for_scale.len()];
    let mut least_empty = Duration::MAX;
    for _ in 0..TURNS {
        for (place, (name, _, packet, _)) in least.iter_mut().zip(&cases) {
            least_empty = least_empty.min(time(classifier(scale, "empty")?, packet)?);
            *place = (*place).min(time(classifier(ledger.programs(), name)?, packet)?);
        }
        for (place, (name, _)) in least[cases.len()..].iter_mut().zip(&for_scale) {
            *place = (*place).min(time(classifier(scale, name)?, &pods)?);
        }
    }
    let over = |time: Duration| nanoseconds(time) - nanoseconds(least_empty);
    let of_cases = cases.iter().zip(&least).map(|((name, packet, _, budget), time)| Measurement {
        program: (*name).to_owned(),
        packet: (*packet).to_owned(),
        nanoseconds: over(*time),
        budget: *budget,
    });
    let of_scale = for_scale.iter().zip(&least[cases.len()..]).map(|((name, packet), time)| Measurement {
        program: (*name).to_owned(),
        packet: (*packet).to_owned(),
        nanoseconds: over(*time),
        budget: None,
    });
    Ok(of_cases.chain(of_scale).collect())
}

fn nanoseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

fn classifier<'a>(programs: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut SchedClassifier> {
    let program = programs.program_mut(name).with_context(|| format!("the program {name} is missing"))?;
    Ok(program.try_into()?)
}

fn time(program: &SchedClassifier, packet: &[u8]) -> anyhow::Result<Duration> {
    let options = TestRunOptions { data_in: Some(packet), repeat: REPEAT, ..TestRunOptions::new() };
    Ok(program.test_run(options).context("BPF_PROG_TEST_RUN failed")?.duration)
}

/// Real drops: packets for nobody arrive at a device whose namespace does not forward. Both programs, the
/// counting one and an empty one, run at each of them.
fn drops(ledger: &mut Ledger, scale: &mut Ebpf) -> anyhow::Result<Vec<Measurement>> {
    run(
        "ip",
        &["link", "add", "arriving", "address", "02:00:00:00:00:01", "type", "veth", "peer", "sending"],
    )?;
    run("ip", &["address", "add", "192.0.2.254/24", "dev", "arriving"])?;
    run("ip", &["link", "set", "arriving", "up"])?;
    run("ip", &["link", "set", "sending", "up"])?;
    let btf = Btf::from_sys_fs()?;
    let empty: &mut BtfTracePoint =
        scale.program_mut("empty_drop").context("the program empty_drop is missing")?.try_into()?;
    empty.load("kfree_skb", &btf)?;
    empty.attach()?;
    let _statistics =
        enable_stats(Stats::RunTime).context("cannot enable the kernel's run time statistics")?;
    let sending = nix::net::if_::if_nametoindex("sending").context("no device sending")?;
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
        .context("cannot open a packet socket")?;
    let sending = packet_socket::link_address(sending, 0)?;
    let to = [0x02, 0, 0, 0, 0, 1];
    let mut measurements = Vec::new();
    for (what, destination, budget) in [("not ours", STRANGER, 10.0), ("ours", REMOTE, 100.0)] {
        let source = Ipv4Addr::new(192, 0, 2, 7);
        let mut packet = frame(&ipv4(source, destination, PROTOCOL_TCP, &[0; 40]));
        packet[..6].copy_from_slice(&to);
        let mut least: Option<f64> = None;
        for _ in 0..TURNS {
            let before = (run_time(ledger.programs(), "count_drop")?, run_time(scale, "empty_drop")?);
            for _ in 0..DROPS {
                sendto(socket.as_raw_fd(), &packet, &sending, MsgFlags::empty()).context("cannot send")?;
            }
            let after = (run_time(ledger.programs(), "count_drop")?, run_time(scale, "empty_drop")?);
            let each = |before: (Duration, u64), after: (Duration, u64)| {
                let runs = u32::try_from(after.1 - before.1).unwrap_or(u32::MAX);
                ensure!(runs as usize >= DROPS / 2, "{runs} drops were seen of {DROPS}");
                Ok((nanoseconds(after.0) - nanoseconds(before.0)) / f64::from(runs))
            };
            let over = each(before.0, after.0)? - each(before.1, after.1)?;
            least = Some(least.map_or(over, |least| least.min(over)));
        }
        measurements.push(Measurement {
            program: "count_drop".to_owned(),
            packet: format!("a drop that is {what}"),
            nanoseconds: least.context("no turn was made")?,
            budget: Some(budget),
        });
    }
    Ok(measurements)
}

/// Time and number of a program's runs so far.
fn run_time(programs: &mut Ebpf, name: &str) -> anyhow::Result<(Duration, u64)> {
    let program: &mut BtfTracePoint =
        programs.program_mut(name).with_context(|| format!("the program {name} is missing"))?.try_into()?;
    let info = program.info()?;
    Ok((info.run_time(), info.run_count()))
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let status =
        Command::new(program).args(arguments).status().with_context(|| format!("cannot start {program}"))?;
    ensure!(status.success(), "`{program} {}` failed", arguments.join(" "));
    Ok(())
}

/// A node whose only device, `lo`, is a pod's interface to the tables: so test runs find a slot at every step.
fn sample() -> Sample {
    let link = |index, name: &str| Link { index, name: name.to_owned(), up: true, ..Link::default() };
    let route = |destination: &str, kind, gateway, link| -> Route {
        Route {
            destination: destination.parse().unwrap_or_default(),
            kind,
            table: 254,
            protocol: 12,
            scope: 0,
            metric: 0,
            tos: 0,
            preferred_source: None,
            mtu: None,
            next_hop_id: None,
            hops: vec![Hop { gateway, link: Some(link), ..Hop::default() }],
        }
    };
    let address = |link, address| Address { link, address, prefix_length: 24, scope: 0 };
    Sample {
        links: vec![link(LOOPBACK, "cali0"), link(2, "tunl0"), link(3, "eth0")],
        addresses: vec![address(3, NODE)],
        routes: vec![
            route("10.200.55.237/32", RouteKind::Unicast, None, LOOPBACK),
            route("10.200.55.192/26", RouteKind::Blackhole, None, 2),
            route("10.200.153.64/26", RouteKind::Unicast, Some(PEER), 2),
        ],
        given_pools: "10.200.0.0/16".parse().into_iter().collect(),
        ..Sample::default()
    }
}

/// An Ethernet frame of IPv4. Its addresses are zero, so that the kernel takes it as its own.
fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([0x08, 0x00]);
    frame.extend(payload);
    frame
}

fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let sum = checksum(&packet).to_be_bytes();
    packet[10..12].copy_from_slice(&sum);
    packet.extend(payload);
    packet
}

/// RFC 1071.
fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header.chunks(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}
