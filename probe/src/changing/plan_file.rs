//! A plan as it comes from a file or standard input: perhaps edited, perhaps of another node, perhaps no plan at all.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use serde::Deserialize;

use crate::{
    model::Model,
    plan::{FORMAT_VERSION, Plan, VALID_FOR_SECONDS},
};

/// Thousands of steps with all their proof.
const LARGEST: u64 = 16 << 20;
/// No node has as much that is stale.
const MOST_STEPS: usize = 10_000;
/// How far the clock may have been set back since the plan was made, seconds.
const CLOCK_SET_BACK: i64 = 5;

/// Reads it; `-` is standard input.
pub fn read(path: &Path) -> anyhow::Result<Plan> {
    let mut bytes = Vec::new();
    let mut take = |reader: &mut dyn Read| reader.take(LARGEST + 1).read_to_end(&mut bytes);
    if path == Path::new("-") {
        take(&mut io::stdin().lock())
    } else {
        File::open(path).and_then(|mut file| take(&mut file))
    }
    .with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        bytes.len() as u64 <= LARGEST,
        "{} is larger than any plan ({} MiB)",
        path.display(),
        LARGEST >> 20
    );
    parse(&bytes).with_context(|| format!("{} is no plan of caliprobe", path.display()))
}

/// Reads any bytes: what nests deeper than 128 is an error, as is a field that is not known.
pub fn parse(bytes: &[u8]) -> anyhow::Result<Plan> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let Version { format_version } = serde_json::from_slice(bytes)?;
    ensure!(
        format_version == FORMAT_VERSION,
        "it has format version {format_version}, and this caliprobe knows {FORMAT_VERSION}: make it anew"
    );
    let plan: Plan = serde_json::from_slice(bytes)?;
    ensure!(plan.steps.len() <= MOST_STEPS, "it has more than {MOST_STEPS} steps");
    Ok(plan)
}

/// Fails where a plan is not of this node as it runs now, or is too old.
pub fn ensure_fits(plan: &Plan, model: &Model<'_>, now: Timestamp) -> anyhow::Result<()> {
    let node = &model.sample.node;
    ensure!(
        plan.node == model.node_name(),
        "the plan is of node {}, and this is {}",
        plan.node,
        model.node_name()
    );
    ensure!(plan.boot_id == node.boot_id, "the node was started anew since the plan: make it anew");
    ensure!(
        plan.network_namespace == node.network_namespace,
        "the plan is of another network namespace than this one"
    );
    let made: Timestamp =
        plan.time.parse().with_context(|| format!("the plan is of no time: {}", plan.time))?;
    let age = now.as_second() - made.as_second();
    ensure!(age >= -CLOCK_SET_BACK, "the plan is from {made}, which is yet to come: make it anew");
    ensure!(
        age <= i64::try_from(VALID_FOR_SECONDS)?,
        "the plan is {} minutes old, and a node changes: make it anew (it holds for {})",
        age / 60,
        VALID_FOR_SECONDS / 60
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sample::{NodeIdentity, Sample};

    fn plan() -> Plan {
        Plan {
            format_version: FORMAT_VERSION,
            time: "2018-06-27T08:12:13Z".to_owned(),
            node: "paas-188".to_owned(),
            boot_id: "b".to_owned(),
            network_namespace: 7,
            steps: Vec::new(),
            kept: Vec::new(),
        }
    }

    fn complaint(plan: &Plan, seconds_later: i64) -> String {
        let node = NodeIdentity {
            hostname: "paas-188".to_owned(),
            boot_id: "b".to_owned(),
            network_namespace: 7,
            ..NodeIdentity::default()
        };
        let sample = Sample { node, ..Sample::default() };
        let now = Timestamp::from_second(1_530_087_133 + seconds_later).unwrap();
        match ensure_fits(plan, &Model::new(&sample), now) {
            Ok(()) => String::new(),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn a_plan_is_of_one_node_boot_and_quarter_of_an_hour() {
        assert_eq!(complaint(&plan(), 0), "");
        assert_eq!(complaint(&plan(), 900), "");
        assert!(complaint(&plan(), 901).contains("15 minutes old"));
        assert!(complaint(&plan(), -60).contains("yet to come"));
        assert!(complaint(&Plan { node: "paas-187".to_owned(), ..plan() }, 0).contains("paas-187"));
        assert!(complaint(&Plan { boot_id: "a".to_owned(), ..plan() }, 0).contains("started anew"));
        assert!(complaint(&Plan { network_namespace: 8, ..plan() }, 0).contains("namespace"));
        assert!(complaint(&Plan { time: "today".to_owned(), ..plan() }, 0).contains("of no time"));
    }

    #[test]
    fn what_is_no_plan_is_said() {
        let text = serde_json::to_string(&plan()).unwrap();
        assert_eq!(parse(text.as_bytes()).unwrap(), plan());
        let deep = "[".repeat(100_000);
        let newer = text.replace("\"format_version\":1", "\"format_version\":2");
        let edited = text.replace("\"steps\"", "\"Steps\"");
        let cut = &text[..text.len() - 5];
        for (text, expected) in [
            ("", "EOF"),
            ("{}", "format_version"),
            (deep.as_str(), "invalid type"),
            (&format!("{{\"format_version\":1,\"steps\":{deep}"), "EOF"),
            (&newer, "make it anew"),
            (&edited, "unknown field"),
            (cut, "EOF"),
        ] {
            let error = format!("{:#}", parse(text.as_bytes()).unwrap_err());
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_plan_with_any_byte_changed_is_read_or_refused(place in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = serde_json::to_vec(&plan()).unwrap();
            let place = place.index(bytes.len());
            bytes[place] = byte;
            let _ = parse(&bytes);
        }
    }
}
