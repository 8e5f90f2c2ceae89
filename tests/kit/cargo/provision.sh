#!/bin/sh
# Gets the tools that check the dependencies: cargo-deny and cargo-machete, built by cargo. How to call this is told in
# ../provision.sh.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../provision.sh"

servers='deny machete'
made_from=''
packages='gcc libc6-dev'

title() {
    echo "cargo-$1"
}

missing() {
    command -v cargo >/dev/null || echo 'Rust: see https://rustup.rs'
    command -v cc >/dev/null || echo 'a C compiler'
}

build() {
    case $1 in
        deny) version=0.20.2 ;;
        machete) version=0.9.2 ;;
    esac
    CARGO_TARGET_DIR=$work/target cargo install --locked --quiet --root "$2" "cargo-$1@$version"
}

provision "$@"
