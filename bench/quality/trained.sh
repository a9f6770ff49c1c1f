#!/usr/bin/env bash
# The table of docs/design/tune.md: files that were trained on a CUDA device, each scored once on all of a text.
#   bench/quality/trained.sh MODEL TEXT OUT MINUTES ROW...
# MODEL: the default model's file; TEXT: WikiText-2 raw test; OUT: a folder; ROW: row1 .. row5 (bench/quality/trained/ROW.toml).
# OUT/english.txt is made by bench/quality/english.py if it is not there. What the model writes itself is kept in the cache, so
# that of several rows the first alone waits for it. WHIT: the program, built with preset cuda.
set -euo pipefail
model=$(realpath "${1:?model}") text=$(realpath "${2:?text}") out=${3:?folder} minutes=${4:?minutes}
shift 4
here=$(cd "$(dirname "$0")/../.." && pwd)
whit=${WHIT:-$here/build/cuda/src/cli/whit}
mkdir -p "$out"
cd "$out"
[ -f english.txt ] || python3 "$here/bench/quality/english.py" english.txt
for row in "$@"; do
  [ -f "$row.gguf" ] ||
    "$whit" compress "$model" -o "$row.gguf" --recipe "$here/bench/quality/trained/$row.toml" --device cuda \
      --minutes "$minutes" --cache cache --no-check --json > "$row.json"
  "$whit" eval "$row.gguf" --against "$model" --text "$text" --chunks 592 --executor torch --device cuda --json > "$row.wiki.json"
  "$whit" eval "$row.gguf" --against "$model" --chunks 100 --executor torch --device cuda --json > "$row.jargon.json"
  "$whit" report --eval "$row.wiki.json" -o "$row" --force
done
