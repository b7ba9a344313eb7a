#!/bin/bash
# In an empty folder: what skopeo and umoci, which other engines share their code with, read of the image; and the
# program in it, run by nobody. Nothing is asked of a registry.
# Arguments: the image, its version.
set -euo pipefail
image=$1 version=$2
skopeo inspect "oci-archive:$image" | grep -F '"org.opencontainers.image.title": "caliprobe"'
skopeo inspect "docker-archive:$image:caliprobe:$version" | grep -F '"Os": "linux"'
# Copies check every digest.
skopeo --insecure-policy copy --quiet "oci-archive:$image" "oci:$PWD/layout:$version"
skopeo --insecure-policy copy --quiet "docker-archive:$image:caliprobe:$version" "dir:$PWD/docker"
umoci unpack --rootless --image "layout:$version" bundle
chmod 755 . bundle
entry=$(sed -n 's/.*"args":\["\([^"]*\)"\].*/\1/p' <<<"$(tr -d ' \n\t' <bundle/config.json)")
[ "$entry" = /caliprobe ]
if [ "$(id -u)" = 0 ]; then
    chroot --userspec=65534:65534 bundle/rootfs "$entry" --version
    chroot --userspec=65534:65534 bundle/rootfs /usr/bin/caliprobe version -q
else
    "bundle/rootfs$entry" --version
fi
