//! `cargo xtask fuzz`: snapshots and plans with everything in them changed at random, read and judged for as long as it
//! is told. What makes it panic, or takes seconds, is kept in a file.

use std::{
    cell::RefCell,
    fs, panic, process,
    time::{Duration, Instant},
};

use caliprobe::{
    causes::{before_after, cleanup},
    changing::plan_file,
    model::Model,
    plan::{Action, FORMAT_VERSION, Plan, Step},
    report::{
        document::{Evidence, EvidenceSource, Subject, SubjectKind},
        snapshot::SnapshotDocument,
        verify::VerifyDocument,
    },
    sample::{self, Sample},
    sources::{self, GatherOptions, saved},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::Value;

/// An input that takes longer is as bad as one that panics.
const LONGEST: Duration = Duration::from_secs(5);

thread_local! {
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: fuzz snapshots|plans SECONDS [SEED]";
    let target = arguments.next().expect(usage);
    let seconds: u64 = arguments.next().and_then(|text| text.parse().ok()).expect(usage);
    let seed: u64 = arguments.next().map_or_else(rand::random, |text| text.parse().expect(usage));
    let judge: fn(&[u8], &Sample) -> bool = match target.as_str() {
        "snapshots" => of_snapshot,
        "plans" => of_plan,
        _ => panic!("{usage}"),
    };
    let node = node();
    let seeds = if target == "plans" { vec![plan(&node)] } else { vec![value(&node), value(&lean(&node))] };
    let usual_hook = panic::take_hook();
    panic::set_hook(Box::new(move |information| {
        usual_hook(information);
        keep("panic");
        process::exit(1);
    }));
    let mut random = StdRng::seed_from_u64(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut inputs, mut read, mut longest) = (0_u64, 0_u64, Duration::ZERO);
    while Instant::now() < end {
        let input = mutated(&seeds, &mut random);
        INPUT.with_borrow_mut(|kept| kept.clone_from(&input));
        let start = Instant::now();
        read += u64::from(judge(&input, &node));
        longest = longest.max(start.elapsed());
        if start.elapsed() > LONGEST {
            keep("slow");
            process::exit(1);
        }
        inputs += 1;
    }
    println!(
        "{target}: {inputs} inputs in {seconds} s with seed {seed}, {read} of them readable and judged; the slowest took {} ms",
        longest.as_millis()
    );
}

fn keep(why: &str) {
    let path = std::env::temp_dir().join(format!("caliprobe-fuzz-{why}-{}", process::id()));
    INPUT.with_borrow(|input| {
        let _ = fs::write(&path, input);
    });
    eprintln!("{why}: the input is in {}", path.display());
}

/// Whether it could be read.
fn of_snapshot(input: &[u8], node: &Sample) -> bool {
    let Ok(samples) = saved::read_bytes(input) else { return false };
    for sample in &samples {
        let (changed, node) = (Model::new(sample), Model::new(node));
        for (before, after) in [(&changed, &node), (&node, &changed), (&changed, &changed)] {
            let judged = before_after::judge(before, after, None);
            let document = VerifyDocument::new(before, after, judged, None);
            let _ = (document.text(), serde_json::to_string(&document).expect("JSON"));
        }
        let _ = SnapshotDocument::new(&changed).text();
        let _ = cleanup::plan(&changed, Some(&node));
    }
    !samples.is_empty()
}

fn of_plan(input: &[u8], node: &Sample) -> bool {
    let Ok(plan) = plan_file::parse(input) else { return false };
    let node = Model::new(node);
    let _ = plan_file::ensure_fits(&plan, &node, jiff::Timestamp::UNIX_EPOCH);
    let _ = caliprobe::changing::refusals::of_steps(&node, &plan, None);
    let changes = before_after::judge(&node, &node, Some(&plan));
    let _ = VerifyDocument::new(&node, &node, changes, Some(&plan)).text();
    let _ = caliprobe::report::cleanup::text(&plan);
    true
}

/// This machine's own network, so that what is changed is not made up.
fn node() -> Sample {
    let pools = vec!["10.200.0.0/16".parse().expect("a pool")];
    let options = GatherOptions { root: "/".into(), pools, facts: None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut sample = runtime.block_on(sources::gather(&options)).expect("this machine is read");
    sources::gather_rules(&options, &mut sample);
    let link = sample.links.first().map_or(1, |link| link.index);
    let hop = |gateway: Option<&str>| sample::Hop {
        link: Some(link),
        gateway: gateway.map(|gateway| gateway.parse().expect("an address")),
        weight: 1,
        ..sample::Hop::default()
    };
    for (destination, gateway) in [("10.200.55.193/32", None), ("10.200.153.64/26", Some("172.30.10.187"))] {
        sample.routes.push(sample::Route {
            destination: destination.parse().expect("a network"),
            table: 254,
            protocol: 12,
            hops: vec![hop(gateway)],
            ..sample::Route::default()
        });
    }
    sample.routes.truncate(200);
    sample.ledger = sample::Fact::Known(sample::Ledger {
        readings: vec![caliprobe::reading::Reading::default(); 2],
        black_holes: Vec::new(),
    });
    sample
}

/// Without what most of a snapshot's bytes are.
fn lean(node: &Sample) -> Sample {
    let nothing = || sample::Fact::Absent("left out".to_owned());
    Sample { counters: std::collections::BTreeMap::new(), rule_sets: nothing(), ..node.clone() }
}

fn value(sample: &Sample) -> Value {
    serde_json::to_value(sample).expect("JSON")
}

fn plan(node: &Sample) -> Value {
    let subject = Subject { kind: SubjectKind::Route, value: "10.200.153.64/26".to_owned() };
    let step = |action| Step {
        action,
        subject: subject.clone(),
        why: "why".to_owned(),
        proof: vec![Evidence { source: EvidenceSource::Route, text: "proof".to_owned() }],
        risk: "risk".to_owned(),
        command: "ip route del".to_owned(),
    };
    let links = node.links.iter().take(2).map(|link| Action::DeleteLink {
        link: link.clone(),
        addresses: node.addresses.iter().take(2).cloned().collect(),
    });
    let routes =
        node.routes.iter().rev().take(4).map(|route| Action::DeleteRoute {
            route: route.clone(),
            devices: vec![Some("tunl0".to_owned())],
        });
    let plan = Plan {
        format_version: FORMAT_VERSION,
        time: node.time.clone(),
        node: Model::new(node).node_name(),
        boot_id: node.node.boot_id.clone(),
        network_namespace: node.node.network_namespace,
        steps: links.chain(routes).map(step).collect(),
        kept: Vec::new(),
    };
    serde_json::to_value(plan).expect("JSON")
}

/// A few values changed, and then perhaps a few bytes.
fn mutated(seeds: &[Value], random: &mut StdRng) -> Vec<u8> {
    let mut value = seeds[random.random_range(0..seeds.len())].clone();
    for _ in 0..random.random_range(0..6) {
        change(&mut value, random);
    }
    let mut bytes = serde_json::to_vec(&value).expect("JSON");
    if random.random_ratio(1, 3) {
        for _ in 0..random.random_range(1..8) {
            change_bytes(&mut bytes, random);
        }
    }
    bytes
}

/// Walks down to some part, and puts another in its place.
fn change(value: &mut Value, random: &mut StdRng) {
    let mut part = value;
    loop {
        let has_parts = match part {
            Value::Array(list) => !list.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            _ => false,
        };
        if !has_parts || random.random_ratio(1, 8) {
            *part = another(part, random);
            return;
        }
        part = match part {
            Value::Array(list) => {
                let place = random.random_range(0..list.len());
                match random.random_range(0..12) {
                    0 => return drop(list.remove(place)),
                    1 => return list.push(list[place].clone()),
                    2 => return list.truncate(place),
                    _ => &mut list[place],
                }
            }
            Value::Object(fields) => {
                let place = random.random_range(0..fields.len());
                let name = fields.keys().nth(place).expect("a field").clone();
                if random.random_ratio(1, 40) {
                    fields.remove(&name);
                    return;
                }
                fields.get_mut(&name).expect("a field")
            }
            _ => return,
        };
    }
}

/// Mostly of the same kind, and at the edges of it.
fn another(value: &Value, random: &mut StdRng) -> Value {
    const NUMBERS: [u64; 9] = [0, 1, 31, 32, 33, 255, 65_535, u32::MAX as u64, u64::MAX];
    const TEXTS: [&str; 12] = [
        "",
        "tunl0",
        "lo",
        "cali1",
        "veth",
        "bridge",
        "0.0.0.0",
        "255.255.255.255",
        "0.0.0.0/0",
        "10.200.0.0/16",
        "10.200.55.193/32",
        "\u{1b}[2J\u{0}\u{202e}",
    ];
    match value {
        Value::Number(_) if random.random_ratio(9, 10) => {
            Value::from(NUMBERS[random.random_range(0..NUMBERS.len())])
        }
        Value::String(text) if random.random_ratio(1, 3) => {
            Value::from(text.repeat(random.random_range(0..300)))
        }
        Value::String(_) => Value::from(TEXTS[random.random_range(0..TEXTS.len())]),
        Value::Bool(truth) => Value::from(!truth),
        Value::Null => Value::from(NUMBERS[random.random_range(0..NUMBERS.len())]),
        _ => match random.random_range(0..4) {
            0 => Value::Null,
            1 => Value::from(-1),
            2 => Value::Array(Vec::new()),
            _ => Value::Object(serde_json::Map::new()),
        },
    }
}

fn change_bytes(bytes: &mut Vec<u8>, random: &mut StdRng) {
    if bytes.is_empty() {
        return;
    }
    let place = random.random_range(0..bytes.len());
    match random.random_range(0..5) {
        0 => bytes[place] = random.random(),
        1 => bytes.truncate(place),
        2 => bytes.insert(place, random.random()),
        3 => drop(bytes.remove(place)),
        _ => {
            let end = (place + random.random_range(0..200)).min(bytes.len());
            let copy = bytes[place..end].to_vec();
            let at = random.random_range(0..bytes.len());
            bytes.splice(at..at, copy);
        }
    }
}
