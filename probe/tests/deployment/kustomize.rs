//! The manifests as kustomize builds them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value};
use yaml_rust2::{Yaml, YamlLoader};

/// The objects of a folder below `deploy/kubernetes`; `None`, said aloud, where there is no kustomize.
pub fn build(folder: &str) -> Result<Option<Objects>> {
    build_at(&manifests().join(folder))
}

/// The same with a component of `deploy/kubernetes` added, as its users do.
pub fn build_with(overlay: &str, component: &str) -> Result<Option<Objects>> {
    let folder = tempfile::tempdir()?;
    for name in [overlay, component, "base"] {
        let (from, to) = (manifests().join(name), folder.path().join(name));
        fs::create_dir_all(&to)?;
        for file in fs::read_dir(from)? {
            let file = file?;
            fs::copy(file.path(), to.join(file.file_name()))?;
        }
    }
    let text = fs::read_to_string(folder.path().join(overlay).join("kustomization.yaml"))?;
    let with = format!("{text}components:\n  - ../{component}\n");
    fs::write(folder.path().join(overlay).join("kustomization.yaml"), with)?;
    build_at(&folder.path().join(overlay))
}

pub fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes")
}

fn build_at(folder: &Path) -> Result<Option<Objects>> {
    let Some(mut command) = kustomize() else {
        eprintln!("SKIPPED: there is no kustomize; `cargo xtask setup` fetches it");
        return Ok(None);
    };
    let output = command.arg(folder).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let objects = YamlLoader::load_from_str(&text)?.iter().map(json).collect::<Result<_>>()?;
    Ok(Some(Objects(objects)))
}

/// kustomize, of xtask or of the system, or the one within kubectl.
fn kustomize() -> Option<Command> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cache = env::var_os("CALIPROBE_CACHE").map(PathBuf::from).or_else(|| {
        let caches = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let caches = caches.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
        Some(caches?.join("caliprobe"))
    });
    let own = env::var_os("CALIPROBE_KUSTOMIZE").map(PathBuf::from);
    let system: Vec<PathBuf> = env::split_paths(&path).collect();
    let cache = cache.map(|cache| cache.join("kustomize/usr/bin"));
    let folders: Vec<PathBuf> = own.into_iter().chain(cache).chain(system.iter().cloned()).collect();
    let (program, task) = match find(&folders, "kustomize") {
        Some(kustomize) => (kustomize, "build"),
        None => (find(&system, "kubectl")?, "kustomize"),
    };
    let mut command = Command::new(program);
    command.arg(task);
    Some(command)
}

fn find(folders: &[PathBuf], name: &str) -> Option<PathBuf> {
    folders.iter().map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// What Kubernetes is given.
pub struct Objects(Vec<Value>);

impl Objects {
    /// The only object of a kind.
    pub fn only(&self, kind: &str) -> Result<&Value> {
        let mut of_kind = self.0.iter().filter(|object| object["kind"] == kind);
        let object = of_kind.next().with_context(|| format!("no {kind}"))?;
        ensure!(of_kind.next().is_none(), "several of kind {kind}");
        Ok(object)
    }

    pub fn kinds(&self) -> Vec<&str> {
        let mut kinds: Vec<&str> = self.0.iter().filter_map(|object| object["kind"].as_str()).collect();
        kinds.sort_unstable();
        kinds
    }
}

fn json(yaml: &Yaml) -> Result<Value> {
    Ok(match yaml {
        Yaml::Real(text) => serde_json::from_str(text)?,
        Yaml::Integer(number) => (*number).into(),
        Yaml::String(text) => text.as_str().into(),
        Yaml::Boolean(value) => (*value).into(),
        Yaml::Array(values) => values.iter().map(json).collect::<Result<Vec<_>>>()?.into(),
        Yaml::Hash(members) => {
            let members = members.iter().map(|(name, value)| {
                Ok((name.as_str().context("a name that is no text")?.to_owned(), json(value)?))
            });
            members.collect::<Result<Map<_, _>>>()?.into()
        }
        Yaml::Null => Value::Null,
        Yaml::Alias(_) | Yaml::BadValue => anyhow::bail!("kustomize printed {yaml:?}"),
    })
}
