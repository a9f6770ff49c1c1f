#!/usr/bin/env bash
# The quality tables of docs/results.md: every file is made and then scored beside the original, window by window.
#   bench/quality/run.sh methods|packings|front|curve|steps|stbllm|pruning|rotation MODEL TEXT OUT [WINDOWS]
# MODEL: the default model's file; TEXT: WikiText-2 raw test; OUT: a folder for the files, OUT/TABLE.json, OUT/TABLE.txt and a page.
set -euo pipefail
table=${1:?table} model=${2:?model} text=${3:?text} out=${4:?folder} windows=${5:-40}
here=$(cd "$(dirname "$0")/../.." && pwd)
whit=${WHIT:-$here/build/release/src/cli/whit}
mkdir -p "$out"

make() {  # NAME, compress options
  local name=$1
  shift
  [ -f "$out/$name.gguf" ] || "$whit" compress "$model" -o "$out/$name.gguf" "$@" --json >"$out/$name.compress.json"
  files+=("$out/$name.gguf")
}

files=()
case $table in
  methods)
    for preset in q8_0 q4_0 rtn-4 gptq-4 rtn-3 gptq-3 rtn-2 gptq-2; do make "$preset" --preset "$preset"; done
    for recipe in "$here"/bench/quality/methods/*.toml; do make "$(basename "$recipe" .toml)" --recipe "$recipe"; done
    ;;
  packings)
    for recipe in "$here"/bench/quality/packings/*.toml; do make "$(basename "$recipe" .toml)" --recipe "$recipe"; done
    ;;
  front)  # the sizes of llama.cpp's files on its front between 61 and 88 MB
    for bytes in 61917600 64804928 68177984 68786240 69670976 70687040 74046272 76741952 79022912 80280896 84206656 87745600; do
      make "fit-$bytes" --fit "$bytes"
    done
    ;;
  curve) for size in 60 55 50 45 40; do make "fit-${size}MB" --fit "${size}MB"; done ;;
  steps) for size in 45 49 53 57 61 65 69 73 77 81 85 89 93; do make "fit-${size}MB" --fit "${size}MB"; done ;;
  stbllm)  # binarization at equal N:M, and what else its bytes buy
    for preset in stbllm-{4,5,6}-8 stbllm-{4,5,6}-8-released billm arb-rc arb-rc-cgb gptq-2 gptq-3; do
      make "$preset" --preset "$preset"
    done
    for recipe in "$here"/bench/quality/stbllm/*.toml; do make "$(basename "$recipe" .toml)" --recipe "$recipe"; done
    ;;
  pruning | rotation)
    for recipe in "$here/bench/quality/$table"/*.toml; do make "$(basename "$recipe" .toml)" --recipe "$recipe"; done
    ;;
  *)
    echo "unknown table: $table" >&2
    exit 2
    ;;
esac
"$whit" eval "${files[@]}" --against "$model" --text "$text" --context 512 --chunks "$windows" --json >"$out/$table.json"
"$whit" report --eval "$out/$table.json" -o "$out/$table" --force | tee "$out/$table.txt"
