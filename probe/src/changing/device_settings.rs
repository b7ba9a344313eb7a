//! A device's own settings (`net.ipv4.conf.NAME.*` and the like), which end with it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// Of the network namespace of the calling thread.
const ROOT: &str = "/proc/sys/net";
/// Where each device has a folder.
const GROUPS: [&str; 4] = ["ipv4/conf", "ipv4/neigh", "ipv6/conf", "ipv6/neigh"];
/// No value of them is longer.
const LONGEST: usize = 256;

/// All that can be read, by group and name, such as `ipv4/conf/rp_filter`.
pub fn read(device: &str) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    for group in GROUPS {
        let Some(entries) = folder(group, device).and_then(|folder| fs::read_dir(folder).ok()) else {
            continue;
        };
        for entry in entries.flatten() {
            let value = fs::read_to_string(entry.path()).unwrap_or_default();
            let value = value.trim_end();
            if !value.is_empty() && value.len() <= LONGEST {
                let name = entry.file_name().to_string_lossy().into_owned();
                settings.insert(format!("{group}/{name}"), value.to_owned());
            }
        }
    }
    settings
}

/// Writes those that are not as they were. The first that is refused is the error; the others are written.
pub fn put_back(device: &str, settings: &BTreeMap<String, String>) -> io::Result<()> {
    let now = read(device);
    let mut outcome = Ok(());
    for (setting, value) in settings.iter().filter(|(setting, value)| now.get(*setting) != Some(*value)) {
        let Some((group, name)) = setting.rsplit_once('/').filter(|(group, _)| GROUPS.contains(group)) else {
            continue;
        };
        let Some(folder) = folder(group, device) else { continue };
        let written = fs::write(folder.join(name), value);
        let written = written.map_err(|error| io::Error::new(error.kind(), format!("{setting}: {error}")));
        outcome = outcome.and(written);
    }
    outcome
}

/// `None` where the name could lead elsewhere; the kernel allows no such name.
fn folder(group: &str, device: &str) -> Option<PathBuf> {
    let is_name = !device.is_empty() && device != "." && device != ".." && !device.contains('/');
    is_name.then(|| Path::new(ROOT).join(group).join(device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_devices_settings_are_read_and_none_elsewhere() {
        let settings = read("lo");
        assert!(settings.contains_key("ipv4/conf/rp_filter"), "{settings:?}");
        for name in ["..", ".", "", "../../kernel", "a/b"] {
            assert!(read(name).is_empty(), "{name}");
        }
        put_back("lo", &settings).unwrap();
        let elsewhere = BTreeMap::from([("../kernel/hostname".to_owned(), "x".to_owned())]);
        put_back("lo", &elsewhere).unwrap();
    }
}
