#!/bin/bash
# Runs a command in the tree of an image as Kubernetes would: user 10001, no capabilities, the root
# read-only, /tmp empty and its own. Root; what it mounts is gone with it.
#   inside.sh TREE [--bind FROM:TO[:ro]]... [--env NAME=VALUE]... [--] COMMAND...
set -euo pipefail
tree=$1
shift
binds=() values=()
while [ $# -gt 0 ]; do
  case $1 in
    --bind) binds+=("$2"); shift 2 ;;
    --env) values+=("$2"); shift 2 ;;
    --) shift; break ;;
    *) break ;;
  esac
done
# A place to mount to has to be there before the root is read-only.
for bind in "${binds[@]}"; do
  IFS=: read -r from to _ <<< "$bind"
  if [ -d "$from" ]; then mkdir -p "$tree$to"
  elif [ ! -e "$tree$to" ]; then mkdir -p "$(dirname "$tree$to")" && touch "$tree$to"; fi
done
exec unshare --mount --pid --fork --kill-child bash -euc '
  tree=$1 binds=("${@:3:$2}")
  shift $((2 + $2))
  mount --bind "$tree" "$tree"
  mount -o remount,bind,ro "$tree"
  mount -t tmpfs tmpfs "$tree/tmp" && chmod 1777 "$tree/tmp"
  for bind in "${binds[@]}"; do
    IFS=: read -r from to how <<< "$bind"
    mount --bind "$from" "$tree$to"
    [ "$how" != ro ] || mount -o remount,bind,ro "$tree$to"
  done
  mount -t proc proc "$tree/proc"
  mount --rbind /dev "$tree/dev"
  exec chroot "$tree" env -i HOME=/tmp PATH=/opt/letheon/bin:/usr/bin:/bin "$@"
' - "$tree" "${#binds[@]}" "${binds[@]}" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 "${values[@]}" \
  setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --bounding-set=-all "$@"
