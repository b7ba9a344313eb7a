//! What the pods may do: exactly what is listed, and each for a reason that stands beside it.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::kustomize::{build, manifests};

const OBSERVE: [&str; 4] = ["BPF", "PERFMON", "NET_ADMIN", "SYSLOG"];
/// What it takes beyond that to enter a pod's network namespace, and to send from there.
const DIAGNOSE: [&str; 3] = ["NET_RAW", "SYS_ADMIN", "SYS_PTRACE"];

#[test]
fn each_overlay_has_its_capabilities_and_no_others() -> Result<()> {
    let diagnose = [&OBSERVE[..], &DIAGNOSE].concat();
    for (folder, wanted) in [("base", &[][..]), ("observe", &OBSERVE), ("diagnose", &diagnose)] {
        let Some(objects) = build(folder)? else { return Ok(()) };
        let pod = &objects.only("DaemonSet")?["spec"]["template"]["spec"];
        let context = &pod["containers"][0]["securityContext"];
        let mut capabilities = json!({ "drop": ["ALL"] });
        if !wanted.is_empty() {
            capabilities["add"] = json!(wanted);
        }
        assert_eq!(context["capabilities"], capabilities, "{folder}");
        for (field, value) in
            [("privileged", false), ("allowPrivilegeEscalation", false), ("readOnlyRootFilesystem", true)]
        {
            assert_eq!(context[field], value, "{folder}: {field}");
        }
        let enters_pods = folder == "diagnose";
        assert_eq!(pod.get("hostPID"), enters_pods.then_some(&Value::Bool(true)), "{folder}");
        assert_eq!(context.get("appArmorProfile").is_some(), enters_pods, "{folder}");
    }
    Ok(())
}

/// Whoever reads the file is told what each of them is for.
#[test]
fn each_privilege_stands_below_its_reason() -> Result<()> {
    let mut privileges = 0;
    for folder in ["observe", "diagnose"] {
        let path = manifests().join(folder).join("capabilities.yaml");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (above, line) in lines.iter().zip(lines.iter().skip(1)) {
            if line.starts_with("- ") && !line.contains("name:") || line.starts_with("hostPID:") {
                assert!(above.starts_with("# "), "{folder}: no reason for `{line}`");
                privileges += 1;
            }
        }
    }
    assert_eq!(privileges, 2 * OBSERVE.len() + DIAGNOSE.len() + 1);
    Ok(())
}
