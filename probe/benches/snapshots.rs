//! What it costs to save and to read a snapshot of 100,000 routes, and to hold it against another.

use std::{
    fs,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use caliprobe::{
    causes::before_after,
    model::Model,
    sample::{FORMAT_VERSION, Hop, Link, Route, Rule, Sample},
    sources::saved,
};
use ipnet::Ipv4Net;

const ROUTES: u32 = 100_000;
const TUNNEL: u32 = 3;

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("before.json");
    println!(
        "{:<34} {:>8} {:>8} {:>10} {:>8}",
        "snapshot of 100,000 routes", "s", "budget", "peak MiB", "budget"
    );
    let sample = large_node();
    let saving = measured(|| {
        saved::write_sample(&path, &sample).expect("it is saved");
    });
    line("saved", saving, "");
    drop(sample);
    let reading = measured(|| drop(saved::read(&path).expect("it is read")));
    line("read", reading, "");
    let both = (saving.0 + reading.0, saving.1.max(reading.1));
    line("saved and read", both, "2");
    let before = saved::read(&path).expect("it is read").remove(0);
    let judged = measured(|| {
        let model = Model::new(&before);
        drop(before_after::judge(&model, &model, None));
    });
    line("verified against itself", judged, "");
    println!("{} MiB on disk", fs::metadata(&path).expect("a file").len() >> 20);
}

fn line(what: &str, (time, peak): (Duration, u64), budget: &str) {
    let memory = if budget.is_empty() { "" } else { "200" };
    println!("{what:<34} {:>8.2} {budget:>8} {peak:>10} {memory:>8}", time.as_secs_f64());
}

/// How long it took, and how much memory was resident at most meanwhile, MiB.
fn measured(work: impl FnOnce()) -> (Duration, u64) {
    // The kernel forgets the highest so far (`proc_pid_clear_refs(5)`).
    fs::write("/proc/self/clear_refs", "5").expect("the peak is set back");
    let start = Instant::now();
    work();
    (start.elapsed(), peak())
}

fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes >> 10
}

fn large_node() -> Sample {
    let route = |number: u32| Route {
        destination: Ipv4Net::new(Ipv4Addr::from_bits(0x0a00_0000 + number * 64), 26).expect("a block"),
        table: 254,
        protocol: 12,
        hops: vec![Hop {
            link: Some(TUNNEL),
            gateway: Some(Ipv4Addr::from_bits(0xac1e_0000 + number % 2000)),
            onlink: true,
            weight: 1,
            ..Hop::default()
        }],
        ..Route::default()
    };
    Sample {
        format_version: FORMAT_VERSION,
        time: "2018-06-27T08:12:13Z".to_owned(),
        links: vec![Link {
            index: TUNNEL,
            name: "tunl0".to_owned(),
            kind: Some("ipip".to_owned()),
            up: true,
            ..Link::default()
        }],
        routes: (0..ROUTES).map(route).collect(),
        rules: vec![Rule::for_all(32766, 254)],
        given_pools: vec!["10.0.0.0/8".parse().expect("a pool")],
        ..Sample::default()
    }
}
