# PID 1 of a guest, once the root is in place: mounts what a running system has, runs the command, tells its
# exit code on the port of that name, and powers off. busybox is the guest's own; all else is the host's.
set -e
busybox=/run/guest/busybox
mount() { $busybox mount "$@"; }

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=666 devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p "/lib/modules/$(uname -r)" /run/lock
mount -o bind "$(cat /run/guest/modules.path)" "/lib/modules/$(uname -r)"
$busybox ip link set lo up
$busybox hostname guest

# A virtio port's device by the name that QEMU was given for it.
port() {
    for entry in /sys/class/virtio-ports/*; do
        if [ "$(cat "$entry/name")" = "$1" ]; then echo "/dev/${entry##*/}"; fi
    done
}

code=0
if [ -e /dev/hvc0 ]; then
    $busybox setsid -c /bin/sh /run/guest/command.sh </dev/hvc0 >/dev/hvc0 2>&1 || code=$?
else
    /bin/sh /run/guest/command.sh </dev/null >"$(port stdout)" 2>"$(port stderr)" || code=$?
fi
echo $code >"$(port exit)"
$busybox poweroff -f
