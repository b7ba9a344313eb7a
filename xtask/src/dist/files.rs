//! The files of an archive or a package: sorted by path, owned by root, without anything of the machine that packs.

use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Folder,
    File { bytes: Vec<u8>, is_program: bool },
    Link { to: String },
}

impl Entry {
    /// The bits of `chmod`.
    pub fn mode(&self) -> u32 {
        match self {
            Self::Folder | Self::File { is_program: true, .. } => 0o755,
            Self::File { is_program: false, .. } => 0o644,
            Self::Link { .. } => 0o777,
        }
    }
}

/// By path, without a slash at its beginning. A folder stands before what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<String, Entry>);

impl Files {
    pub fn add(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.put(path, Entry::File { bytes: bytes.into(), is_program: false });
    }

    pub fn add_program(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.put(path, Entry::File { bytes: bytes.into(), is_program: true });
    }

    pub fn link(&mut self, path: &str, to: &str) {
        self.put(path, Entry::Link { to: to.to_owned() });
    }

    /// The files of another set, each below a folder of this one.
    pub fn add_all(&mut self, folder: &str, files: &Self) {
        for (path, entry) in files.iter() {
            self.put(&format!("{folder}/{path}"), entry.clone());
        }
    }

    /// The same files in a folder.
    pub fn below(&self, folder: &str) -> Self {
        let mut files = Self::default();
        files.add_all(folder, self);
        files
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// The files alone, with their bytes.
    pub fn contents(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.iter().filter_map(|(path, entry)| match entry {
            Entry::File { bytes, .. } => Some((path, &bytes[..])),
            Entry::Folder | Entry::Link { .. } => None,
        })
    }

    /// Bytes of all files.
    pub fn size(&self) -> usize {
        self.contents().map(|(_, bytes)| bytes.len()).sum()
    }

    /// Adds an entry, and the folders that it lies in.
    pub fn put(&mut self, path: &str, entry: Entry) {
        for (end, _) in path.match_indices('/') {
            self.0.entry(path[..end].to_owned()).or_insert(Entry::Folder);
        }
        self.0.insert(path.to_owned(), entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_by_themselves_and_before_what_is_in_them() {
        let mut files = Files::default();
        files.add_program("usr/bin/caliprobe", "program");
        files.link("usr/bin/kubectl-caliprobe", "caliprobe");
        files.add("etc/caliprobe.toml", "");
        let paths: Vec<(&str, u32)> = files.iter().map(|(path, entry)| (path, entry.mode())).collect();
        assert_eq!(
            paths,
            [
                ("etc", 0o755),
                ("etc/caliprobe.toml", 0o644),
                ("usr", 0o755),
                ("usr/bin", 0o755),
                ("usr/bin/caliprobe", 0o755),
                ("usr/bin/kubectl-caliprobe", 0o777),
            ]
        );
        assert_eq!(files.size(), 7);
        assert_eq!(files.below("x").iter().next(), Some(("x", &Entry::Folder)));
    }
}
