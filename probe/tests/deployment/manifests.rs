//! The `DaemonSet` and what belongs to it.

use anyhow::{Context as _, Result};
use caliprobe::{
    cli::{Cli, Command},
    probing::peer::REMOTE_PORT,
};
use clap::Parser as _;
use serde_json::{Value, json};

use crate::kustomize::{Objects, build, build_with};

/// Base and overlays: whatever holds for all of them.
const ALL: [&str; 3] = ["base", "observe", "diagnose"];

fn each(check: impl Fn(&str, &Objects) -> Result<()>) -> Result<()> {
    for folder in ALL {
        if let Some(objects) = build(folder)? {
            check(folder, &objects).with_context(|| folder.to_owned())?;
        }
    }
    Ok(())
}

fn pod(objects: &Objects) -> Result<&Value> {
    Ok(&objects.only("DaemonSet")?["spec"]["template"]["spec"])
}

fn container(objects: &Objects) -> Result<&Value> {
    let containers = pod(objects)?["containers"].as_array().context("no containers")?;
    assert_eq!(containers.len(), 1);
    Ok(&containers[0])
}

/// The arguments of the container with the variables that Kubernetes puts in.
fn arguments(objects: &Objects) -> Result<Vec<String>> {
    let arguments = container(objects)?["args"].as_array().context("no arguments")?;
    let text =
        |argument: &Value| argument.as_str().map(|text| text.replace("$(NODE_ADDRESS)", "172.30.10.186"));
    arguments.iter().map(|argument| text(argument).context("an argument that is no text")).collect()
}

fn parse(arguments: &[String]) -> Result<Cli> {
    Ok(Cli::try_parse_from(["caliprobe".to_owned()].iter().chain(arguments))?)
}

#[test]
fn each_folder_builds_what_a_cluster_needs() -> Result<()> {
    each(|_, objects| {
        assert_eq!(objects.kinds(), ["DaemonSet", "Namespace", "Service", "ServiceAccount"]);
        for kind in ["DaemonSet", "Service", "ServiceAccount"] {
            assert_eq!(objects.only(kind)?["metadata"]["namespace"], "caliprobe", "{kind}");
        }
        let labels = &objects.only("DaemonSet")?["spec"]["template"]["metadata"]["labels"];
        assert_eq!(&objects.only("DaemonSet")?["spec"]["selector"]["matchLabels"], labels);
        assert_eq!(&objects.only("Service")?["spec"]["selector"], labels);
        Ok(())
    })
}

#[test]
fn it_runs_on_every_node_in_the_nodes_network() -> Result<()> {
    each(|_, objects| {
        let pod = pod(objects)?;
        assert_eq!(pod["hostNetwork"], true);
        assert_eq!(pod["tolerations"], json!([{ "operator": "Exists" }]), "of every taint");
        assert_eq!(pod["nodeSelector"], json!({ "kubernetes.io/os": "linux" }));
        assert_eq!(pod["priorityClassName"], "system-node-critical");
        assert!(pod.get("initContainers").is_none() && pod.get("hostIPC").is_none());
        Ok(())
    })
}

#[test]
fn it_has_no_way_to_the_api_server() -> Result<()> {
    each(|_, objects| {
        assert_eq!(pod(objects)?["automountServiceAccountToken"], false);
        assert_eq!(objects.only("ServiceAccount")?["automountServiceAccountToken"], false);
        Ok(())
    })
}

#[test]
fn the_image_is_of_this_version_and_its_arguments_are_caliprobes() -> Result<()> {
    each(|_, objects| {
        let container = container(objects)?;
        assert_eq!(container["image"], format!("caliprobe:{}", env!("CARGO_PKG_VERSION")));
        let Command::Run(run) = parse(&arguments(objects)?)?.command else { panic!("it does not count") };
        let port = container["ports"][0]["containerPort"].as_u64().context("no port")?;
        assert_eq!(run.listen.context("no --listen")?.port(), u16::try_from(port)?);
        assert!(run.remote.remote_listen.is_none() && port != u64::from(REMOTE_PORT));
        let stop = container["lifecycle"]["preStop"]["exec"]["command"].as_array().context("no preStop")?;
        let stop: Vec<String> = stop.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect();
        assert_eq!(stop[0], "/caliprobe");
        assert!(matches!(parse(&stop[1..])?.command, Command::Detach(_)));
        Ok(())
    })
}

#[test]
fn it_may_change_nothing_on_the_node() -> Result<()> {
    each(|_, objects| {
        let container = container(objects)?;
        let variables = container["env"].as_array().context("no environment")?;
        let read_only = json!({ "name": "CALIPROBE_READ_ONLY", "value": "1" });
        assert!(variables.contains(&read_only), "{variables:?}");
        let mounts = container["volumeMounts"].as_array().context("no mounts")?;
        let writable = mounts.iter().filter(|mount| mount["readOnly"] != true);
        let writable: Vec<&str> = writable.filter_map(|mount| mount["mountPath"].as_str()).collect();
        assert_eq!(writable, ["/var/lib/caliprobe", "/run/caliprobe"], "its own folders alone");
        let volumes = pod(objects)?["volumes"].as_array().context("no volumes")?;
        for mount in mounts {
            let volume =
                volumes.iter().find(|volume| volume["name"] == mount["name"]).context("no volume")?;
            let (path, place) =
                (&volume["hostPath"]["path"], mount["mountPath"].as_str().unwrap_or_default());
            // What is read lies below `--root`, as on the host.
            assert_eq!(*path, place.strip_prefix("/host").unwrap_or(place), "{mount}");
            assert_ne!(*path, "/");
        }
        assert_eq!(mounts.len(), volumes.len());
        assert!(arguments(objects)?.contains(&"--root=/host".to_owned()));
        Ok(())
    })
}

#[test]
fn it_is_asked_how_it_is_and_has_limits() -> Result<()> {
    each(|_, objects| {
        let container = container(objects)?;
        for (probe, page) in
            [("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")]
        {
            assert_eq!(container[probe]["httpGet"], json!({ "path": page, "port": "metrics" }), "{probe}");
        }
        assert_eq!(container["ports"][0]["name"], "metrics");
        let resources = &container["resources"];
        for (kind, what) in [("requests", "cpu"), ("requests", "memory"), ("limits", "memory")] {
            assert!(resources[kind][what].is_string(), "{kind} of {what}");
        }
        Ok(())
    })
}

#[test]
fn the_monitor_finds_the_service() -> Result<()> {
    let Some(objects) = build_with("observe", "service-monitor")? else { return Ok(()) };
    let (monitor, service) = (objects.only("ServiceMonitor")?, objects.only("Service")?);
    let wanted = monitor["spec"]["selector"]["matchLabels"].as_object().context("no selector")?;
    for (name, value) in wanted {
        assert_eq!(&service["metadata"]["labels"][name], value);
    }
    let endpoints = monitor["spec"]["endpoints"].as_array().context("no endpoints")?;
    let pages: Vec<&str> = endpoints.iter().filter_map(|endpoint| endpoint["path"].as_str()).collect();
    assert_eq!(pages, ["/metrics", "/metrics/peers"]);
    for endpoint in endpoints {
        assert_eq!(endpoint["port"], service["spec"]["ports"][0]["name"]);
    }
    Ok(())
}
