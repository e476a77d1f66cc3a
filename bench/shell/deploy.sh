#!/usr/bin/env bash
# deploy.sh SSH_CONFIG HOST FILES APP VERB: the limit, one shell script over one SSH connection.
# VERB: deploy (provision, then release what is new), release (only that), rollback.
# FILES is a folder of finished configuration files, APP a Git checkout; both travel as one archive on standard input.
set -euo pipefail

config=$1 host=$2 files=$3 app=$4 verb=$5
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
commit=$(git -C "$app" rev-parse --short=8 HEAD)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ "$verb" != rollback ]; then
  git -C "$app" archive --output "$work/src.tar" HEAD
else
  : >"$work/src.tar"
fi
# shellcheck disable=SC2016 # meant for the host
tar --create --directory "$here" remote.sh --directory "$work" src.tar --directory "$files" . |
  ssh -F "$config" "$host" \
    'sudo sh -c '\''d=$(mktemp -d) && tar xC "$d" && bash "$d/remote.sh" "$1" "$2" "$d"; c=$?; rm -rf "$d"; exit $c'\'" sh $verb $commit"
