#!/bin/sh
# A model that is larger than the memory it may have: `whit run` inside a control group, and the same outside. Needs root and
# the memory controller of either version of control groups.
#
#   bench/faults/larger.sh MODEL.gguf MEGABYTES [WHIT]
#
# Prints seconds and answer of both; the exit status is 1 if the answers differ or nothing warned.
set -eu
model=$1 bytes=$(($2 * 1000000)) whit=${3:-$(dirname "$0")/../../build/release/src/cli/whit}
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
  group=/sys/fs/cgroup/whit limit=memory.max
else
  group=/sys/fs/cgroup/memory/whit limit=memory.limit_in_bytes
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
answer() {  # NAME GROUP: in that group
  sync
  echo 3 >/proc/sys/vm/drop_caches  # pages that are cached already count for the group that read them
  begin=$(date +%s)
  sh -c 'echo $$ >"$1"/cgroup.procs; shift; exec "$@"' sh "$2" "$whit" run "$model" --raw -p "The capital of France is" -n 8 \
    --temp 0 --context 64 >"$out/$1" 2>"$out/$1.notes"
  echo "$1: $(($(date +%s) - begin)) s, $(cat "$out/$1")"
}
mkdir -p "$group"
echo "$bytes" >"$group/$limit"
answer outside "${group%/whit}"
answer inside "$group"
cat "$out/inside.notes"
rmdir "$group"
cmp "$out/outside" "$out/inside" && grep -q "of memory are free" "$out/inside.notes"
