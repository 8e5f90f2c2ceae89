#!/usr/bin/env bash
# Tests release/build.sh: builds the commit twice, compares the files, and checks what they are. Prints a document;
# progress goes to standard error.
#
#   run.sh [ARCH…]   amd64, arm64; the default is both
#
# Each build begins with nothing that is compiled.
set -euo pipefail
cd "$(dirname "$0")/../.."

[ $# -gt 0 ] || set -- amd64 arm64
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
mkdir -p "$target"
work=$(mktemp -d "$target/release-test.XXXXXX")
# What a failed run has built stays, to be compared.
trap '[ $? != 0 ] || rm -rf "$work"' EXIT
git clone --quiet --no-hardlinks . "$work/source"
cd "$work/source"

# The two builds share only the commit, the compilers and the tools.
export RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}" RELEASE_SOURCE=https://git.example.test/atdata-bridge
for tool in auditable cyclonedx; do image/cargo-tool.sh $tool >/dev/null; done
tools=${XDG_CACHE_HOME:-$HOME/.cache}/atdata-bridge

# build NAME DIRECTORY OPTION…: builds a clone in the directory, with options for `env`.
build() {
    local name=$1 directory=$2
    shift 2
    echo "the $name build" >&2
    mkdir -p "$work/$name/home/.cache/atdata-bridge" "$directory"
    cp -R "$tools"/cargo-auditable-* "$tools"/cargo-cyclonedx-* "$work/$name/home/.cache/atdata-bridge"
    git clone --quiet --no-hardlinks "$work/source" "$directory/clone"
    env -u XDG_CACHE_HOME "$@" HOME="$work/$name/home" DIST="$work/$name/dist" \
        "$directory/clone/release/build.sh" "${architectures[@]}" >&2
    date -u '+%Y-%m-%d %H:%M UTC' >"$work/$name/finished"
}

architectures=("$@")
build first "$work/first" CARGO_HOME="$work/first/cargo" CARGO_TARGET_DIR="$work/first/target" TZ=UTC LC_ALL=C.UTF-8
# The defaults for the directories, another place and another umask, time zone and language.
(umask 077 && build second "$work/at/another/place" -u CARGO_HOME -u CARGO_TARGET_DIR TZ=Asia/Tokyo LC_ALL=C)

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check --requirement tests/reproduce/requirements.txt >&2
"$work/venv/bin/python" tests/reproduce/check.py "$work" "$@" >"$work/passed"

cat <<END
# The release

- command: \`make release-test${ARGS:+ ARGS="$ARGS"}\`
- atdata-bridge: $(sed -n 's/^version = "\(.*\)"/\1/p;T;q' Cargo.toml), commit $(git rev-parse HEAD)
- compilers: $(rustc --version), $(gcc --version | sed -n 1p)
- tools: $(sed -n 's/^ *\([a-z]*\)) version=\(.*\) ;;/cargo-\1 \2,/p' image/cargo-tool.sh | paste -sd' ') $(buildah --version | sed 's/ (.*//; s/ version//')
- builds finished: $(cat "$work/first/finished") and $(cat "$work/second/finished")

$(cat "$work/passed")
END
