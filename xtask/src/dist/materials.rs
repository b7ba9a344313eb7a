//! The bill of materials, in the form of CycloneDX 1.5 (<https://cyclonedx.org/docs/1.5/json/>): the crates that are
//! in the program and in its kernel programs, with versions, checksums and licences.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{program::Program, release::Release};
use crate::{binaries::cargo, command};

/// The package of the kernel programs, which the program carries in it.
const KERNEL_PROGRAMS: &str = "probe-ebpf";
const KERNEL_TARGET: &str = "bpfel-unknown-none";

/// The document for one program.
pub fn document(root: &Path, release: &Release, program: &Program) -> Result<Vec<u8>> {
    let metadata = Metadata::read(root, program.architecture.target())?;
    let kernel = Metadata::read(root, KERNEL_TARGET)?;
    let checksums = checksums(root)?;
    let mut linked = program.linked.clone();
    linked.extend(kernel.reached_from(KERNEL_PROGRAMS)?);
    let mut value = bill(&metadata, &checksums, &linked, release);
    let rustc = command::output(Command::new("rustc").arg("--version"))?;
    if let Some(components) = value["components"].as_array_mut() {
        components.push(standard_library(rustc.trim()));
    }
    let mut text = serde_json::to_vec_pretty(&value)?;
    text.push(b'\n');
    Ok(text)
}

/// Rust's own part of every program, and the C library that it brings along for musl.
fn standard_library(rustc: &str) -> Value {
    let version = rustc.split(' ').nth(1).unwrap_or_default();
    json!({
        "type": "library",
        "bom-ref": format!("rust-std@{version}"),
        "name": "rust-std",
        "version": version,
        "description": "the standard library of Rust, with the musl that it brings along",
        "licenses": [{ "expression": "MIT OR Apache-2.0" }],
    })
}

fn bill(
    metadata: &Metadata,
    checksums: &BTreeMap<(String, String), String>,
    linked: &BTreeSet<String>,
    release: &Release,
) -> Value {
    let packages: Vec<&Package> =
        metadata.packages.iter().filter(|package| linked.contains(&package.id)).collect();
    let components: Vec<Value> = packages
        .iter()
        .filter(|package| package.name != "caliprobe")
        .map(|package| component(package, checksums))
        .collect();
    let reference =
        |id: &str| packages.iter().find(|package| package.id == id).map(|package| package.reference());
    let dependencies: Vec<Value> = packages
        .iter()
        .map(|package| {
            let of = metadata.resolve.nodes.iter().find(|node| node.id == package.id);
            let on: BTreeSet<String> =
                of.into_iter().flat_map(|node| &node.deps).filter_map(|dep| reference(&dep.pkg)).collect();
            json!({ "ref": package.reference(), "dependsOn": on })
        })
        .collect();
    let version = &release.version;
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": release.rfc3339(),
            "component": {
                "type": "application",
                "bom-ref": format!("pkg:cargo/caliprobe@{version}"),
                "name": "caliprobe",
                "version": version,
                "description": super::SUMMARY,
                "licenses": [{ "expression": super::LICENCE }],
            },
        },
        "components": components,
        "dependencies": dependencies,
    })
}

fn component(package: &Package, checksums: &BTreeMap<(String, String), String>) -> Value {
    let reference = package.reference();
    let mut component = json!({
        "type": "library",
        "bom-ref": reference,
        "name": package.name,
        "version": package.version,
        "scope": "required",
    });
    if package.source.is_some() {
        component["purl"] = json!(reference);
    }
    if let Some(licence) = &package.license {
        // Some crates still write the slash of old.
        component["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
    }
    if let Some(checksum) = checksums.get(&(package.name.clone(), package.version.clone())) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}

/// What `cargo metadata` tells of the crates (the part that is used).
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    /// Absent for the crates of this workspace.
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// Absent for ordinary ones; else `dev` or `build`.
    kind: Option<String>,
}

impl Metadata {
    fn read(root: &Path, target: &str) -> Result<Self> {
        let mut metadata = cargo();
        metadata.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", target]);
        let text = command::output(metadata.current_dir(root))?;
        let mut metadata: Self =
            serde_json::from_str(&text).context("cargo metadata prints something else")?;
        metadata.packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        Ok(metadata)
    }

    /// A package of this workspace, and all that it is compiled with.
    fn reached_from(&self, name: &str) -> Result<BTreeSet<String>> {
        let first = self.packages.iter().find(|package| package.name == name && package.source.is_none());
        let first = first.with_context(|| format!("this workspace has no package {name}"))?;
        let mut reached = BTreeSet::new();
        let mut open = vec![first.id.as_str()];
        while let Some(id) = open.pop() {
            if !reached.insert(id.to_owned()) {
                continue;
            }
            let node = self.resolve.nodes.iter().find(|node| node.id == id);
            let ordinary = |dep: &&Dependency| dep.dep_kinds.iter().any(|kind| kind.kind.is_none());
            open.extend(
                node.into_iter().flat_map(|node| &node.deps).filter(ordinary).map(|dep| dep.pkg.as_str()),
            );
        }
        Ok(reached)
    }
}

impl Package {
    /// A package URL (<https://github.com/package-url/purl-spec>).
    fn reference(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version)
    }
}

/// The SHA-256 of each crate by name and version, from `Cargo.lock`.
fn checksums(root: &Path) -> Result<BTreeMap<(String, String), String>> {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Locked>,
    }
    #[derive(Deserialize)]
    struct Locked {
        name: String,
        version: String,
        checksum: Option<String>,
    }
    let path = root.join("Cargo.lock");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let lock: Lock = toml::from_str(&text).context("Cargo.lock is not what cargo writes")?;
    let known = lock.package.into_iter().filter_map(|package| {
        let checksum = package.checksum?;
        Some(((package.name, package.version), checksum))
    });
    Ok(known.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_linked_is_in_the_bill() {
        let metadata: Metadata = serde_json::from_value(json!({
            "packages": [
                { "id": "1", "name": "anyhow", "version": "1.0.1", "license": "MIT OR Apache-2.0", "source": "registry" },
                { "id": "2", "name": "caliprobe", "version": "0.1.0", "license": null, "source": null },
                { "id": "3", "name": "syn", "version": "3.0.0", "license": "MIT", "source": "registry" },
                { "id": "4", "name": "old", "version": "0.1.0", "license": "MIT/Apache-2.0", "source": "registry" },
            ],
            "resolve": { "nodes": [
                { "id": "2", "deps": [
                    { "pkg": "1", "dep_kinds": [{ "kind": null }] },
                    { "pkg": "3", "dep_kinds": [{ "kind": "build" }] },
                ] },
                { "id": "1", "deps": [{ "pkg": "4", "dep_kinds": [{ "kind": null }] }] },
                { "id": "4", "deps": [] },
            ] },
        }))
        .unwrap();
        let reached = metadata.reached_from("caliprobe").unwrap();
        assert_eq!(reached.iter().map(String::as_str).collect::<Vec<_>>(), ["1", "2", "4"]);
        let sums = [(("anyhow".to_owned(), "1.0.1".to_owned()), "ab12".to_owned())].into_iter().collect();
        let release = Release { version: "0.1.0".to_owned(), commit: None, time: 1_700_000_000 };
        let bill = bill(&metadata, &sums, &reached, &release);
        let names: Vec<&Value> =
            bill["components"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
        assert_eq!(names, ["anyhow", "old"]);
        assert_eq!(bill["components"][0]["hashes"][0]["content"], "ab12");
        assert_eq!(bill["components"][1]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(bill["dependencies"][1]["dependsOn"], json!(["pkg:cargo/anyhow@1.0.1"]));
        assert_eq!(bill["metadata"]["timestamp"], "2023-11-14T22:13:20Z");
    }
}
