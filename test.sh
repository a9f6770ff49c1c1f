#!/usr/bin/env bash
# Sets up, builds (preset dev) and runs the fast tests.
#   ./test.sh         the fast tests
#   ./test.sh --all   also the slow ones, the fast ones under ASan and UBSan, the threads under TSan,
#                     and each fuzz target for a minute (WHIT_FUZZ_SECONDS)
# With CI=true compiler warnings are errors, and the tests that fast programs leave out as slow (NAME_slow) run too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

say() { printf '\n== %s\n' "$*"; }
all=
case "${1:-}" in
  '') ;;
  --all) all=yes ;;
  *) printf "test: error: unknown option '%s'; try --all\n" "$1" >&2; exit 2 ;;
esac

jobs=$(nproc)
export WHIT_DATA=$PWD/.whit/data
# A cache of its own: tests neither read nor fill the user's.
export WHIT_CACHE=$PWD/.whit/test-cache

build() {  # preset
  say "build, preset $1"
  local configure=()
  [ "${CI:-}" = true ] && configure+=(-DCMAKE_COMPILE_WARNING_AS_ERROR=ON)
  # gcc 12 sees overlaps in "x" + string that are not there (its bug 105651); clang builds the fuzz targets.
  [ "${CI:-}" = true ] && [ "$1" != fuzz ] && configure+=(-DCMAKE_CXX_FLAGS=-Wno-restrict)
  cmake --preset "$1" "${configure[@]}" > "build/$1.configure.log" 2>&1 || { cat "build/$1.configure.log"; exit 1; }
  cmake --build --preset "$1" -j "$jobs"
}
run_tests() {  # preset, further options of ctest
  say "tests, preset $1"
  ctest --test-dir "build/$1" --output-on-failure --no-tests=error -j "$jobs" "${@:2}"
}

mkdir -p build
./setup.sh ${all:+--all}
build dev
if [ -z "$all" ]; then
  run_tests dev -L '^fast$'
  [ "${CI:-}" != true ] || run_tests dev -R '_slow$'
  exit 0
fi

run_tests dev -LE '^cuda$'

build asan-ubsan
ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1 run_tests asan-ubsan -L '^fast$'
build tsan
run_tests tsan -L '^fast$' -R '^(base|runtime)'

build fuzz
seconds=${WHIT_FUZZ_SECONDS:-60}
found=
for target in build/fuzz/tests/fuzz/*_fuzz; do
  [ -x "$target" ] || continue
  found=yes
  name=$(basename "$target")
  say "fuzz, $name, $seconds s"
  corpus=build/fuzz/corpus/$name
  mkdir -p "$corpus"
  seeds=tests/fuzz/corpus/${name%_fuzz}
  [ -d "$seeds" ] || seeds=
  "$target" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=20 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/$name-" "$corpus" $seeds > "build/fuzz/$name.log" 2>&1 ||
    { tail -n 60 "build/fuzz/$name.log"; exit 1; }
  grep -E '^(stat::number_of_executed_units|stat::peak_rss_mb|Done)' "build/fuzz/$name.log" || true
done
[ -n "$found" ] || { printf 'test: error: the fuzz preset built no target\n' >&2; exit 1; }
say 'all of it passed'
