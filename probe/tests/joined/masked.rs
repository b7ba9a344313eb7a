//! Masking changes addresses and names, and nothing of what is judged.

use std::{collections::BTreeSet, fs, path::Path};

use caliprobe::{
    causes::Cause,
    commands::check::judge_saved,
    masking::{Key, Mask},
    report::{check::Condition, document::Severity},
    sample::{CniResult, Fact, Sample},
    sources::saved,
};
use proptest::prelude::*;

use super::{
    faults::{FAULTS, Fault},
    made_up::{Plan, pod},
    made_up_nodes, said,
};

fn masked(key: &Key, sample: &Sample) -> Sample {
    Mask::of(key, sample).sample(sample).expect("it stays a sample")
}

/// What a person acts on: the verdict, and each cause with its severity.
fn judged(sample: &Sample) -> Option<(Condition, BTreeSet<(Cause, Severity)>)> {
    let document = judge_saved(std::slice::from_ref(sample)).ok()?.pop()?;
    let causes = document.findings.iter().map(|finding| (finding.cause, finding.severity)).collect();
    Some((document.verdict, causes))
}

#[test]
fn cases_that_were_given_are_judged_as_before() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/given");
    let (mut judged_alike, mut wrong) = (0, Vec::new());
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let Ok(samples) = saved::read(&path) else { continue };
        for (at, sample) in samples.iter().enumerate() {
            let key = Key::new(format!("{} {at}", path.display()));
            let (before, after) = (judged(sample), judged(&masked(&key, sample)));
            if before == after {
                judged_alike += 1;
            } else {
                wrong.push(format!("{}: {before:?} became {after:?}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(judged_alike > 20, "{judged_alike}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// One node alone, and all of them next to each other.
    #[test]
    fn a_cluster_is_judged_as_before(
        key: u64,
        fault in prop::option::of(prop::sample::select(&FAULTS[..])),
        at in 0_u32..5,
        apart in 1_u32..5,
    ) {
        let mut samples = made_up_nodes(Plan { rules: 2, ..Plan::mesh(6, 2) });
        if let Some(fault) = fault {
            Fault::inject(fault, &mut samples, at, (at + apart) % 5);
        }
        let key = Key::new(key.to_be_bytes());
        let others: Vec<Sample> = samples.iter().map(|sample| masked(&key, sample)).collect();
        for (sample, other) in samples.iter().zip(&others) {
            prop_assert_eq!(judged(sample), judged(other));
        }
        let causes = |said: super::Said| -> Vec<(Cause, Severity, usize)> {
            let mut causes: Vec<_> =
                said.groups.iter().map(|group| (group.cause, group.severity, group.nodes)).collect();
            causes.sort();
            causes
        };
        prop_assert_eq!(causes(said(&samples)), causes(said(&others)));
    }
}

/// Wherever they are, no address and no name of before is in a masked sample.
#[test]
fn nothing_of_before_is_left() {
    let name = "acme-7f3k";
    let text = serde_json::to_string(&made_up_nodes(Plan::mesh(4, 2)).remove(1)).unwrap();
    let mut sample: Sample = serde_json::from_str(&text.replace("172.30.", "192.168.")).unwrap();
    sample.node.hostname = format!("{name}.corp.example");
    sample.node.calico_node_name = Fact::Known(name.to_owned());
    sample.cni_results = Fact::Known(vec![CniResult {
        namespace: Some("payments".to_owned()),
        pod: Some(format!("invoices-{name}")),
        container_id: "0123".to_owned(),
        host_interface: Some("cali000000003e8".to_owned()),
        addresses: vec![pod(1, 0)],
        network_namespace: None,
    }]);
    let why = format!("cannot ask {name} at 192.168.20.1 of payments/invoices-{name}, by Mesh_192_168_10_2");
    sample.control_plane.processes = Fact::Absent(why);
    for key in 0_u8..8 {
        let text = serde_json::to_string(&masked(&Key::new([key; 16]), &sample)).unwrap();
        for before in [name, "payments", "invoices", "10.200.0.129", "cali000000003e8"] {
            assert!(!text.contains(before), "{before} in {text}");
        }
        for address in ["192.168.10.1", "192.168.20.1", "192.168.10.2", "192_168_10_1", "192_168_10_2"] {
            let goes_on = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
            assert!(text.split(address).skip(1).all(goes_on), "{address} in {text}");
        }
    }
}
