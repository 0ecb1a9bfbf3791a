#!/usr/bin/env bash
# Makes an image that stands in for the official slim Python one, from Debian's packages, so that the container can be built
# and tested where no image registry can be reached: tests/base_image.sh NAME. Needs root, buildah and debootstrap; 40 s.
set -euo pipefail
name=$1
buildah inspect --type image "$name" >/dev/null 2>&1 && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$work/root" >"$work/log" 2>&1 \
  || { tail "$work/log" >&2; echo "error: debootstrap cannot make a base image of Debian's packages" >&2; exit 1; }
rm -rf "$work"/root/var/cache/apt/* "$work"/root/var/lib/apt/lists/* "$work"/root/usr/share/{doc,man,locale}
ln -s python3 "$work/root/usr/bin/python"
echo "127.0.0.1 localhost" >"$work/root/etc/hosts"  # which runtimes write, and bubblewrap does not
# pip's way out of this machine may be through certificates that only this machine knows.
cp /etc/ssl/certs/ca-certificates.crt "$work/root/usr/local/share/host-ca.crt"
container=$(buildah from scratch)
buildah add --quiet "$container" "$work/root" / >/dev/null
buildah config --env PIP_CERT=/usr/local/share/host-ca.crt --env SSL_CERT_FILE=/usr/local/share/host-ca.crt \
  --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
buildah commit --quiet --rm "$container" "$name" >/dev/null
