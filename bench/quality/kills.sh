#!/usr/bin/env bash
# kill -9 at five moments of a whole cold run of `compress --fit 60MB`; the same command goes on, and the bytes must be those of
# a run that was left alone.
#   bench/quality/kills.sh MODEL OUT [PERCENT...]
# MODEL: the default model's file; OUT: a folder for files and logs; PERCENT: when, of the time of a run left alone (10 30 50 70 90)
set -euo pipefail
model=${1:?model} out=${2:?folder}
shift 2
[ $# -gt 0 ] || set -- 10 30 50 70 90
here=$(cd "$(dirname "$0")/../.." && pwd)
whit=${WHIT:-$here/build/release/src/cli/whit}
mkdir -p "$out"
run() { WHIT_CACHE="$out/cache-$1" "$whit" compress "$model" -o "$out/$1.gguf" --fit 60MB --no-check 2>>"$out/$1.log" >/dev/null; }
if [ ! -f "$out/reference.seconds" ]; then
  start=$(date +%s)
  run reference
  echo $(($(date +%s) - start)) >"$out/reference.seconds"
fi
seconds=$(cat "$out/reference.seconds")
echo "left alone: $seconds s"
for part in "$@"; do
  name=killed-$part
  rm -rf "$out/$name".* "$out/cache-$name"
  run "$name" &
  job=$!
  sleep $((seconds * part / 100))
  pkill -9 -P "$job" || true
  wait "$job" 2>/dev/null || true
  [ ! -f "$out/$name.gguf" ] || { echo "at $part %: it was finished already" >&2; exit 1; }
  echo "--- killed; the same command again" >>"$out/$name.log"
  again=$(date +%s)
  run "$name"
  cmp "$out/reference.gguf" "$out/$name.gguf"
  echo "killed at $part % ($((seconds * part / 100)) s): the same bytes after $(($(date +%s) - again)) s more;" \
    "$(tr '\r' '\n' <"$out/$name.log" | grep -o 'going on.*' | tail -1)"
  rm -rf "$out/cache-$name"
done
