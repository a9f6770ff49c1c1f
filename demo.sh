#!/usr/bin/env bash
# The whole of whit on a real model: sets up, builds the program, compresses SmolLM2-135M-Instruct to 90, 75 and 60 MB,
# judges the files, and the two of models/, beside the original on a text that was not calibrated on, asks each the same
# question, and leaves report/index.html and report/results.json. Run again, it does only what is missing.
#   WHIT_PROMPT="..."      another question
#   WHIT_WINDOWS=40        more windows of 512 tokens to judge on (20)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
[ $# = 0 ] || { printf "demo: error: unknown option '%s'; it takes none\n" "$1" >&2; exit 2; }

started=$(date +%s)
say() { printf '\n== %s  [%d:%02d]\n' "$*" $((($(date +%s) - started) / 60)) $((($(date +%s) - started) % 60)); }

prompt=${WHIT_PROMPT:-Why is the sky blue? Answer in two sentences.}
windows=${WHIT_WINDOWS:-20}
sizes=(90 75 60)
export WHIT_DATA=$PWD/.whit/data
export WHIT_CACHE=$PWD/.whit/cache
original=.whit/models/SmolLM2-135M-Instruct.Q4_1.gguf
whit=build/release/src/cli/whit

say 'set-up'
./setup.sh --program

say 'build, preset release'
mkdir -p build .whit/demo
cmake --preset release > build/release.configure.log 2>&1 || { cat build/release.configure.log; exit 1; }
cmake --build --preset release --target whit -j "$(nproc)"

models=("$original")
for size in "${sizes[@]}"; do
  say "compress to $size MB"
  file=.whit/demo/SmolLM2-135M-Instruct.${size}MB.gguf
  # Made again whenever program or size changed; what depends on the original alone comes from the cache then.
  if [ "$file" -nt "$whit" ]; then
    echo "$file is there already"
  else
    "$whit" compress "$original" --fit "${size}MB" -o "$file" --force --no-check
  fi
  models+=("$file")
done

# Files below one and a quarter bits that were trained on a GPU come with the project (models/README.md).
models+=(models/*.gguf)

say "judge on $windows windows of the Jargon File (nothing was calibrated or trained on it)"
"$whit" eval "${models[@]}" --against "$original" --chunks "$windows" --json > .whit/demo/eval.json

say "ask each: $prompt"
arguments=()
for model in "${models[@]}"; do
  name=$(basename "$model" .gguf)
  "$whit" run "$model" -p "$prompt" -n 120 --temp 0 --quiet > ".whit/demo/$name.answer.txt"
  printf '\n-- %s\n' "$name"
  cat ".whit/demo/$name.answer.txt"
  arguments+=(--model "$model" --answer "$model=.whit/demo/$name.answer.txt")
done

say 'report'
processor=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)
"$whit" report --eval .whit/demo/eval.json "${arguments[@]}" --prompt "$prompt" --base "$original" \
  --title 'whit: SmolLM2-135M-Instruct in fewer bytes' \
  --note "Judged on $windows windows of 512 tokens of the Jargon File; calibrated on novels (the two of models/: on other English, and trained). The original is itself a Q4_1 file, and what can be copied from it is copied, so the interesting range begins below 4.5 bits per weight. ${processor:-unknown processor}, $(nproc) threads." \
  -o report --force
say "done: report/index.html, report/results.json"
