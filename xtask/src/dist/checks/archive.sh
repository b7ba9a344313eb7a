#!/bin/bash
# In a guest without a network: follows the notes of the archive as they are written, has the lab's scenarios run by the
# program that was installed, and follows them again to take everything away.
# Arguments: the archive, the lab, BIRD, the kernel's label, scenarios.
set -euo pipefail
archive=$1 lab=$2 bird=$3 label=$4
shift 4

# The commands of one section of the notes.
section() {
    awk -v "heading=## $1" '/^## /{ wanted = $0 == heading } wanted && /^```sh$/{ inside = 1; next } /^```/{ inside = 0 } inside' INSTALL.md
}
# All files but those that live elsewhere or change by themselves.
files() {
    find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /run \) -prune -o ! -type d -newer "$1" -print | sort
}

[ -z "$(ip -o link show | grep -v ' lo: ' | grep -v 'tunl0')" ] || { echo "this guest has a network"; exit 1; }
mkdir -p /tmp/unpacked && cd /tmp/unpacked
touch /tmp/before && sleep 1
tar xzf "$archive"
cd caliprobe-*
./caliprobe version
./caliprobe preflight -q
bash -euc "$(section Install)"
[ "$(command -v caliprobe)" = /usr/local/bin/caliprobe ]
[ "$(kubectl-caliprobe --version)" = "$(caliprobe --version)" ]
echo "installed: $(files /tmp/before | wc -l) files"
"$lab" run --caliprobe /usr/local/bin/caliprobe --bird "$bird" --kernel-label "$label" "$@"
# The second part of the section; the service is not here.
bash -euc "$(section Uninstall | sed -n '/^caliprobe detach/,$p')"
left=$(files /tmp/before | grep -E 'caliprobe' || true)
[ -z "$left" ] || { echo "left behind: $left"; exit 1; }
echo "uninstalled: nothing is left"
