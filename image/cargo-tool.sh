#!/bin/sh
# Builds a tool of the release with cargo, the first time, and prints the directory of its program.
#
#   cargo-tool.sh auditable   cargo-auditable, which puts the list of the crates into the program
#   cargo-tool.sh cyclonedx   cargo-cyclonedx, which makes the crates' part of the bill of materials
set -eu

case ${1:-} in
    auditable) version=0.7.7 ;;
    cyclonedx) version=0.5.9 ;;
    *) sed -n '/^#   cargo-tool.sh /s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
esac
directory=${XDG_CACHE_HOME:-$HOME/.cache}/atdata-bridge/cargo-$1-$version
if [ ! -x "$directory/bin/cargo-$1" ]; then
    echo "building cargo-$1 $version into $directory" >&2
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    # The wrappers and options of a build are not for its tools.
    env -u RUSTC_WRAPPER -u RUSTFLAGS CARGO_TARGET_DIR="$work" \
        cargo install --locked --quiet --root "$directory" "cargo-$1@$version" >&2
fi
echo "$directory/bin"
