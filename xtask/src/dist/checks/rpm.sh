#!/bin/bash
# In an empty folder: what rpm itself says of the package, and an installation into a root and a database of its own.
# Scripts are only read: there is no systemd in that root.
# Arguments: the package, its version.
set -euo pipefail
package=$1 version=$2
[ "$(rpm -qp --queryformat '%{NAME} %{VERSION}' "$package")" = "caliprobe $version" ]
rpm -K --nosignature "$package"
rpm -qlp "$package" | grep -Fx /usr/bin/caliprobe
rpm -qcp "$package" | grep -Fx /etc/caliprobe/caliprobe.toml
for script in PREIN POSTIN PREUN POSTUN; do
    rpm -qp --queryformat "%{$script}" "$package" | sed 's/^(none)$//' | sh -n
done
mkdir unpacked root
(cd unpacked && rpm2cpio "$package" | cpio --quiet -id)
unpacked/usr/bin/caliprobe --version
rpm --root "$PWD/root" --initdb
rpm --root "$PWD/root" --nodeps --noscripts -i "$package"
rpm --root "$PWD/root" --nodeps --noscripts -V caliprobe
root/usr/bin/kubectl-caliprobe --version
rpm --root "$PWD/root" --noscripts -e caliprobe
left=$(find root -path '*caliprobe*')
[ -z "$left" ] || { echo "left behind: $left"; exit 1; }
echo "installed, verified and erased in a root of its own"
