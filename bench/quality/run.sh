#!/usr/bin/env bash
# The quality tables of docs/results.md: every file is made and then scored beside the original, window by window.
#   bench/quality/run.sh TABLE MODEL TEXT OUT [WINDOWS]
# TABLE: methods packings front curve steps stbllm pruning rotation weighting text minutes; MODEL: the default model's file; TEXT:
# WikiText-2 raw test; OUT: a folder for the files, OUT/TABLE.json, OUT/TABLE.txt and a page.
# WHIT_DEVICE=cuda (WHIT: a program built with preset cuda): compresses, trains and judges on a card. WHIT_TUNE=2.5M: in stbllm and
# weighting each file is there once more, NAME-tuned, after so many tokens of training. text and minutes train anyway.
set -euo pipefail
table=${1:?table} model=${2:?model} text=${3:?text} out=${4:?folder} windows=${5:-40}
here=$(cd "$(dirname "$0")/../.." && pwd)
whit=${WHIT:-$here/build/release/src/cli/whit}
device=${WHIT_DEVICE:-cpu}
mkdir -p "$out"

make() {  # NAME, compress options
  local name=$1
  shift
  [ -f "$out/$name.gguf" ] ||
    "$whit" compress "$model" -o "$out/$name.gguf" --device "$device" --no-check "$@" --json >"$out/$name.compress.json"
  files+=("$out/$name.gguf")
}
make_all() {  # FOLDER of recipes
  for recipe in "$here/bench/quality/$1"/*.toml; do make "$(basename "$recipe" .toml)" --recipe "$recipe"; done
}
tune_all() {  # tune options: every file made so far once more, trained
  [ -n "${WHIT_TUNE:-}" ] || return 0
  for file in "${files[@]}"; do
    local tuned=${file%.gguf}-tuned.gguf
    [ -f "$tuned" ] || "$whit" tune "$file" --against "$model" -o "$tuned" --device "$device" --train-tokens "$WHIT_TUNE" \
      --data self+novels "$@" --json >"${tuned%.gguf}.json"
    files+=("$tuned")
  done
}

files=()
case $table in
  methods)
    for preset in q8_0 q4_0 rtn-4 gptq-4 rtn-3 gptq-3 rtn-2 gptq-2; do make "$preset" --preset "$preset"; done
    make_all methods
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
    make_all stbllm
    tune_all --set codes=0  # scales, means and norms alone: what all of them have
    ;;
  weighting)  # what the inputs' mean squares are worth to sign formats
    make_all weighting
    tune_all
    ;;
  text)  # what it is calibrated and trained on
    for data in novels self self+novels; do
      make "gptq-3-${data/+/-}" --preset gptq-3 --data "$data"
      make "rotated-2-${data/+/-}" --recipe "$here/bench/quality/text/rotated-2.toml" --data "$data"
    done
    ;;
  minutes)  # a size and a minute of training
    "$whit" calibrate "$model" >"$out/calibrate.txt" # what all sizes share
    for size in 12 19 28 37 46 56 70 90; do make "fit-${size}MB" --fit "${size}MB" --minutes 1; done
    ;;
  packings | pruning | rotation) make_all "$table" ;;
  *)
    echo "unknown table: $table" >&2
    exit 2
    ;;
esac
executor=()
[ "$device" = cpu ] || executor=(--executor torch --device "$device")
"$whit" eval "${files[@]}" --against "$model" --text "$text" --context 512 --chunks "$windows" "${executor[@]}" --json \
  >"$out/$table.json"
references=()
[ "$table" != minutes ] || references=(--references "$here/bench/quality/llamacpp-front.json")
"$whit" report --eval "$out/$table.json" -o "$out/$table" "${references[@]}" --force | tee "$out/$table.txt"
