//! Where BIRD's control socket is: calico-node shares `/var/run/calico` with the host; other installations keep it
//! inside the container, where only `/proc/PID/root` leads.

use std::{
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::sample::{Process, ProcessRole};

/// `calicoctl` looks at the first two; `/var/run` may be a link that leads out of the root folder.
const PLACES: [&str; 4] =
    ["var/run/calico/bird.ctl", "run/calico/bird.ctl", "var/run/bird/bird.ctl", "run/bird/bird.ctl"];

/// The socket, or where it was looked for.
pub fn find(root: &Path, processes: &[Process]) -> anyhow::Result<PathBuf> {
    let containers = processes
        .iter()
        .filter(|process| process.role == ProcessRole::Bird)
        .map(|process| root.join(format!("proc/{}/root", process.id)));
    std::iter::once(root.to_owned())
        .chain(containers)
        .flat_map(|base| PLACES.map(|place| base.join(place)))
        .find(|path| is_socket(path))
        .with_context(|| format!("no control socket of BIRD at {}", root.join(PLACES[0]).display()))
}

fn is_socket(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.file_type().is_socket())
}
