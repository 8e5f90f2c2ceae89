#!/bin/sh
# Builds the program for the image. It is static, so that it needs nothing from the system on which it runs.
#
#   build.sh tools ARCH          installs the tools for the build, on Debian, as root
#   build.sh program ARCH FILE   builds it into FILE
#
# ARCH is amd64 or arm64, on a machine of either architecture.
set -eu

usage() {
    sed -n '/^#   build.sh /,/^# ARCH/s/^# \{0,1\}//p' "$0" >&2
    exit 64
}

[ $# -ge 2 ] || usage
case $2 in
    amd64) machine=x86_64 target=x86_64-unknown-linux-gnu gnu=x86_64-linux-gnu ;;
    arm64) machine=aarch64 target=aarch64-unknown-linux-gnu gnu=aarch64-linux-gnu ;;
    *) usage ;;
esac
foreign=
[ "$machine" = "$(uname -m)" ] || foreign=1

tools() {
    packages='gcc g++ libc6-dev make cmake perl ca-certificates'
    [ -z "$foreign" ] || packages="$packages g++-$(echo $gnu | tr _ -) libc6-dev-$1-cross"
    apt-get -q update
    # shellcheck disable=SC2086 # several words on purpose
    DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends $packages
    rustup target add "$target"
}

program() {
    name=$(echo $target | tr a-z- A-Z_)
    # With --target, the flags do not apply to build scripts and procedural macros.
    export "CARGO_TARGET_${name}_RUSTFLAGS=-C target-feature=+crt-static"
    [ -z "$foreign" ] || export "CARGO_TARGET_${name}_LINKER=$gnu-gcc"
    # Function names are kept for the backtrace of a panic.
    CARGO_PROFILE_RELEASE_STRIP=debuginfo cargo build --release --locked --target "$target" --bin atdata-bridge
    install -D -m 0755 "${CARGO_TARGET_DIR:-target}/$target/release/atdata-bridge" "$2"
}

case $1 in
    tools) tools "$2" ;;
    program) [ $# -eq 3 ] || usage; program "$2" "$3" ;;
    *) usage ;;
esac
