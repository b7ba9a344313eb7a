#!/bin/bash
# In a fresh Debian that systemd runs: installs the older package, upgrades it, removes and purges it, and says what it
# sees.
set -euo pipefail
cd /packages
files() {
    find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /packages \
        -o -path /var/lib/dpkg -o -path /var/log -o -path /var/cache \) -prune -o -print | sort
}
fail() {
    echo "failed: $*"
    systemctl status caliprobe.service --no-pager || true
    exit 1
}
is() { [ "$(systemctl "$1" caliprobe.service || true)" = "$2" ] || fail "$1 is not $2"; }
pid() { systemctl show -p MainPID --value caliprobe.service; }

[ "$(cat /proc/1/comm)" = systemd ] || fail "process 1 is not systemd"
files >before

dpkg -i older.deb
is is-enabled enabled
is is-active active
[ "$(dpkg-query -W -f '${Version}' caliprobe)" = 0.0.9 ] || fail "another version is installed"
echo "installed: the service runs as process $(pid)"
caliprobe peers -o json >/dev/null || fail "peers"
first=$(pid)

echo '# ours' >>/etc/caliprobe/caliprobe.toml
dpkg -i newer.deb
is is-enabled enabled
is is-active active
[ "$(pid)" != "$first" ] || fail "the service was not started anew"
grep -q '^# ours$' /etc/caliprobe/caliprobe.toml || fail "the administrator's configuration is gone"
echo "upgraded to $(dpkg-query -W -f '${Version}' caliprobe): the service runs as process $(pid), settings were kept"
[ -z "$(dpkg --verify caliprobe | grep -v ' c /etc/caliprobe/caliprobe.toml' || true)" ] || fail "files differ"

systemctl disable --now caliprobe.service
dpkg -i newer.deb
is is-enabled disabled
is is-active inactive
echo "disabled by the administrator: stays so over an upgrade"
systemctl enable --now caliprobe.service
is is-active active

dpkg -r caliprobe
is is-active inactive
[ ! -e /usr/bin/caliprobe ] || fail "the program is still there"
[ -e /etc/caliprobe/caliprobe.toml ] || fail "a removal took the settings"
echo "removed: the service has stopped, settings are kept"

dpkg -P caliprobe
files >after
diff before after || fail "a purge left something, or took what was not ours"
echo "purged: the files are those from before"
