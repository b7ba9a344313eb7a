//! A container image as one archive: an OCI layout, which containerd, Podman and skopeo take, with the index of
//! `docker save` beside it, which `docker load` reads. No container engine is needed to make it.

use anyhow::Result;
use serde_json::{Value, json};

use super::{architecture::Architecture, archive, files::Files, release::Release};

/// The name that an import gives it.
const NAME: &str = "docker.io/library/caliprobe";
const SHORT_NAME: &str = "caliprobe";

/// The bytes of the archive.
pub fn archive(root: &Files, release: &Release, architecture: Architecture) -> Result<Vec<u8>> {
    let layer = archive::tar(root, release.time)?;
    let packed = archive::gzip(&layer)?;
    let created = release.rfc3339();
    let config = serde_json::to_vec(&json!({
        "architecture": architecture.debian(),
        "os": "linux",
        "created": created,
        "config": {
            "Entrypoint": ["/caliprobe"],
            "Env": ["PATH=/usr/bin"],
            "WorkingDir": "/",
            "Labels": labels(release),
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", archive::sha256(&layer))] },
        "history": [{ "created": created, "created_by": "cargo xtask dist" }],
    }))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &packed)],
    }))?;
    let version = &release.version;
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = json!({
        "io.containerd.image.name": format!("{NAME}:{version}"),
        "org.opencontainers.image.ref.name": version,
    });
    entry["platform"] = json!({ "architecture": architecture.debian(), "os": "linux" });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    });
    let docker = json!([{
        "Config": blob(&config),
        "RepoTags": [format!("{SHORT_NAME}:{version}")],
        "Layers": [blob(&packed)],
    }]);

    let mut files = Files::default();
    files.add("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    files.add("index.json", serde_json::to_vec(&index)?);
    files.add("manifest.json", serde_json::to_vec(&docker)?);
    for content in [config, manifest, packed] {
        files.add(&blob(&content), content);
    }
    archive::tar(&files, release.time)
}

/// Those of <https://specs.opencontainers.org/image-spec/annotations/>.
fn labels(release: &Release) -> Value {
    json!({
        "org.opencontainers.image.title": "caliprobe",
        "org.opencontainers.image.description": super::SUMMARY,
        "org.opencontainers.image.version": release.version,
        "org.opencontainers.image.revision": release.commit.as_deref().unwrap_or_default(),
        "org.opencontainers.image.source": super::HOMEPAGE,
        "org.opencontainers.image.licenses": super::LICENCE,
    })
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({
        "mediaType": media_type,
        "digest": format!("sha256:{}", archive::sha256(content)),
        "size": content.len(),
    })
}

/// Where a content lies in the layout.
fn blob(content: &[u8]) -> String {
    format!("blobs/sha256/{}", archive::sha256(content))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, io::Read as _};

    use super::*;

    #[test]
    fn both_indices_lead_to_the_program() {
        let mut root = Files::default();
        root.add_program("caliprobe", "program");
        let release = Release { version: "0.1.0".to_owned(), commit: None, time: 1_700_000_000 };
        let bytes = archive(&root, &release, Architecture::X86_64).unwrap();
        assert_eq!(bytes, archive(&root, &release, Architecture::X86_64).unwrap());
        let mut blobs: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            blobs.insert(path, content);
        }
        let read = |path: &str| serde_json::from_slice::<Value>(&blobs[path]).unwrap();
        let at = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
            let path = format!("blobs/{digest}");
            assert_eq!(descriptor["size"], blobs[&path].len());
            path
        };
        let manifest = read(&at(&read("index.json")["manifests"][0]));
        let (config, layer) = (at(&manifest["config"]), at(&manifest["layers"][0]));
        let docker = read("manifest.json");
        assert_eq!(docker[0]["Config"], config);
        assert_eq!(docker[0]["Layers"], json!([layer]));
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&blobs[&layer][..]).read_to_end(&mut unpacked).unwrap();
        let digest = format!("sha256:{}", archive::sha256(&unpacked));
        assert_eq!(read(&config)["rootfs"]["diff_ids"], json!([digest]));
        let mut entries = tar::Archive::new(&unpacked[..]);
        let paths: Vec<_> =
            entries.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
        assert_eq!(paths, [std::path::Path::new("caliprobe")]);
    }
}
