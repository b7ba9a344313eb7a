#!/bin/bash
# In a guest: lets systemd run a fresh Debian in namespaces of its own, with the guest's network, and has it check the
# package. What is written goes to the guest's memory.
# Arguments: the root of the Debian, an older and the new package, what is run inside.
set -euo pipefail
root=$1 older=$2 newer=$3 inside=$4

modprobe ipip
ip link set tunl0 up
mount --bind "$root" "$root"
mkdir -p "$root/packages"
cp "$older" "$root/packages/older.deb"
cp "$newer" "$root/packages/newer.deb"
cp "$inside" "$root/packages/inside.sh"
cat >"$root/etc/systemd/system/packages.service" <<'UNIT'
[Unit]
Description=the check of the packages
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/sh -c 'bash /packages/inside.sh >/packages/said 2>&1; echo $$? >/packages/code'
ExecStopPost=/bin/systemctl --force --force poweroff
UNIT
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s /etc/systemd/system/packages.service "$root/etc/systemd/system/multi-user.target.wants/packages.service"
ln -sf /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"

mount -t sysfs sysfs "$root/sys"
mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
mount -t bpf bpf "$root/sys/fs/bpf"
mount -t tracefs tracefs "$root/sys/kernel/tracing"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 run "$root/run"
unshare --pid --fork --mount --uts --ipc --mount-proc="$root/proc" \
    env -i container=check PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" /lib/systemd/systemd || true
cat "$root/packages/said" || { echo "systemd did not come so far"; exit 1; }
exit "$(cat "$root/packages/code")"
