#!/bin/bash
# Builds the images with buildah and starts each as Kubernetes would: as user 10001, on a root that
# is read-only. `make images`; root; Debian packages buildah, crun and debootstrap.
#   IMAGES="coordinator calibrator agent"   which
#   WHEELS=folder   with PyTorch's wheel for processors, if it is not in deploy/docker/wheels
#   TORCH=cuda      PyPI's own wheel instead, which is large
#   MIRROR=URL      of Debian packages; debootstrap's own without it
#   CA=file   PIP_CONF=file   what pip needs here to reach its index, if anything
set -euo pipefail
cd "$(dirname "$0")/../.."
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
BASE=docker.io/library/debian:bookworm-slim
TAG=${TAG:-check}
work=$(mktemp -d)
container=
cleanup() {
  [ -z "$container" ] || buildah rm "$container" > /dev/null
  rm -rf "$work"
}
trap cleanup EXIT

mounts=()
if [ -n "${CA:-}${PIP_CONF:-}" ]; then
  # Not at its own place: the package ca-certificates writes there.
  sed 's#^cert *=.*#cert = /mnt/ca.pem#' "${PIP_CONF:-/dev/stdin}" <<< $'[global]\ncert = ' > "$work/pip.conf"
  mounts+=(-v "$work/pip.conf:/etc/pip.conf:ro" -v "${CA:-/dev/null}:/mnt/ca.pem:ro")
fi

base_image() {
  buildah inspect --type image "$BASE" > /dev/null 2>&1 && return
  buildah pull --quiet "$BASE" > /dev/null 2>&1 && return
  echo "base: $BASE cannot be pulled here; made by debootstrap instead"
  debootstrap --variant=minbase bookworm "$work/tree" ${MIRROR:+"$MIRROR"} > "$work/debootstrap.log"
  rm -rf "$work"/tree/var/cache/apt/archives/*.deb "$work"/tree/var/lib/apt/lists/*
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$work/tree" / > /dev/null
  buildah commit --quiet "$container" "$BASE" > /dev/null
  buildah rm "$container" > /dev/null
  container=
}

# Runs a command in the image, with /var/lib/letheon to write to and the checks at /mnt.
inside() {
  local image=$1 tree
  shift
  container=$(buildah from --pull-never "$image")
  tree=$(buildah mount "$container")
  rm -rf "$work/state" && install -d -o 10001 -g 10001 "$work/state"
  deploy/docker/inside.sh "$tree" --bind "$work/state:/var/lib/letheon" \
    --bind "$(pwd)/deploy/docker/check:/mnt:ro" -- "$@"
  buildah umount "$container" > /dev/null
  buildah rm "$container" > /dev/null
  container=
}

# The wheel that torch-cpu.txt names by its hash is on no index that pip knows.
wheel_is_there() {
  [ "${TORCH:-cpu}" = cpu ] || return 0
  [ -z "${WHEELS:-}" ] || cp -n "$WHEELS"/torch-*cpu*.whl deploy/docker/wheels/
  ls deploy/docker/wheels/torch-*cpu*.whl > /dev/null 2>&1 && return
  echo "deploy/docker/wheels lacks PyTorch's wheel for processors, $(sed -n 's/^\(torch==[^ ]*\).*/\1/p' \
    deploy/locks/torch-cpu.txt): put it there, name its folder with WHEELS=, or set TORCH=cuda" >&2
  return 1
}

kinds=${IMAGES:-coordinator calibrator agent}
case $kinds in *calibrator* | *agent*) wheel_is_there ;; esac
base_image
for kind in $kinds; do
  image=localhost/letheon-$kind:$TAG
  started=$SECONDS
  buildah bud --layers --pull-never --format docker --quiet "${mounts[@]}" \
    --build-arg "TORCH=${TORCH:-cpu}" \
    -f "deploy/docker/$kind.Dockerfile" -t "$image" . > "$work/build.log" 2>&1 \
    || { tail -30 "$work/build.log"; exit 1; }
  size=$(buildah images --format '{{.Size}}' "$image")
  echo "$kind: built in $((SECONDS - started)) s, $size with its base"
  inside "$image" sh "/mnt/$kind.sh"
done
