//! Archives and checksums that depend on nothing but their contents and one time.

use std::io::Write as _;

use anyhow::Result;
use flate2::{Compression, GzBuilder};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::files::{Entry, Files};

/// A tar archive of files of root, which all bear this time.
pub fn tar(files: &Files, time: u32) -> Result<Vec<u8>> {
    let mut builder = Builder::new(Vec::new());
    for (path, entry) in files.iter() {
        let mut header = Header::new_gnu();
        header.set_mode(entry.mode());
        header.set_mtime(time.into());
        header.set_uid(0);
        header.set_gid(0);
        header.set_username("root")?;
        header.set_groupname("root")?;
        header.set_size(0);
        match entry {
            Entry::Folder => {
                header.set_entry_type(EntryType::Directory);
                builder.append_data(&mut header, format!("{path}/"), &[][..])?;
            }
            Entry::Link { to } => {
                header.set_entry_type(EntryType::Symlink);
                builder.append_link(&mut header, path, to)?;
            }
            Entry::File { bytes, .. } => {
                header.set_size(bytes.len().try_into()?);
                builder.append_data(&mut header, path, &bytes[..])?;
            }
        }
    }
    Ok(builder.into_inner()?)
}

/// Compressed, without a name and a time.
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// In hexadecimal digits, as `sha256sum` prints it.
pub fn sha256(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn tar_reads_what_was_packed() {
        let mut files = Files::default();
        files.add_program("usr/bin/caliprobe", "program");
        files.link("usr/bin/kubectl-caliprobe", "caliprobe");
        let packed = gzip(&tar(&files, 1_700_000_000).unwrap()).unwrap();
        assert_eq!(packed, gzip(&tar(&files, 1_700_000_000).unwrap()).unwrap());
        let mut tar = Command::new("tar");
        tar.args(["--utc", "--full-time", "-tzvf", "-"]).env("LC_ALL", "C");
        let mut list = tar.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        list.stdin.take().unwrap().write_all(&packed).unwrap();
        let list = String::from_utf8(list.wait_with_output().unwrap().stdout).unwrap();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
        assert_eq!(
            list.lines().map(words).collect::<Vec<_>>(),
            [
                "drwxr-xr-x root/root 0 2023-11-14 22:13:20 usr/",
                "drwxr-xr-x root/root 0 2023-11-14 22:13:20 usr/bin/",
                "-rwxr-xr-x root/root 7 2023-11-14 22:13:20 usr/bin/caliprobe",
                "lrwxrwxrwx root/root 0 2023-11-14 22:13:20 usr/bin/kubectl-caliprobe -> caliprobe",
            ]
        );
    }

    #[test]
    fn checksums_are_those_of_sha256sum() {
        assert_eq!(sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
