#!/bin/busybox sh
# PID 1 of a guest: makes the host's root, with a layer of the guest's own memory on top, the guest's root.
# Any failure ends PID 1: the kernel panics and the run has failed.
set -e
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
for module in /modules/*; do
    [ ! -e "$module" ] || insmod "$module"
done
mount -t virtiofs -o ro host /host
mount -t tmpfs -o mode=755 changes /changes
mkdir /changes/upper /changes/work
mount -t overlay -o lowerdir=/host,upperdir=/changes/upper,workdir=/changes/work overlay /root
mount -t tmpfs -o mode=755 run /root/run
mkdir /root/run/guest
cp /bin/busybox /start.sh /command.sh /modules.path /root/run/guest/
umount /proc /sys
cd /root
mount --move . /
exec chroot . /run/guest/busybox sh /run/guest/start.sh
