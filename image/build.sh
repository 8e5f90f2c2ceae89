#!/bin/sh
# Builds the program for the image and for the release. It is static, so that it needs nothing from the system on
# which it runs. The same sources and compilers make the same file, in any directory and at any time.
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
here=$(dirname "$0")

tools() {
    packages='gcc g++ libc6-dev make cmake perl ca-certificates'
    [ -z "$foreign" ] || packages="$packages g++-$(echo $gnu | tr _ -) libc6-dev-$1-cross"
    apt-get -q update
    # shellcheck disable=SC2086 # several words on purpose
    DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends $packages
    rustup target add "$target"
    "$here/cargo-tool.sh" auditable
}

# wrap NAME PROGRAM WORD...: a command NAME, first in PATH, that runs PROGRAM with its own arguments and then the words.
wrap() {
    wrapper=$wrappers/$1
    printf '#!/bin/sh\nexec "%s" "$@"' "$2" >"$wrapper"
    shift 2
    printf ' "%s"' "$@" >>"$wrapper"
    echo >>"$wrapper"
    chmod +x "$wrapper"
}

# The compilers write paths into the program: in messages, and in OpenSSL's description of its build. Options that
# replace the paths have the paths in them, and cargo and OpenSSL's build write options down. So wrappers add them.
wrap_the_compilers() {
    wrappers=$build/wrappers
    rm -rf "$wrappers"
    mkdir -p "$wrappers"
    cargo fetch --quiet --locked --target "$target"
    sysroot=$(rustc --print sysroot)
    compiler=$(rustc --version --verbose | sed -n 's/^commit-hash: //p')
    set -- "$(pwd)=/atdata-bridge" "$build=/target" "$sysroot/lib/rustlib/src/rust=/rustc/$compiler"
    for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
        set -- "$@" "$registry=/crates"
    done
    for name in cc c++ gcc g++ "$gnu-gcc" "$gnu-g++"; do
        real=$(command -v "$name") || continue
        # shellcheck disable=SC2046 # options without spaces
        wrap "$name" "$real" $(printf -- '-ffile-prefix-map=%s ' "$@")
    done
    # shellcheck disable=SC2046 # the same
    wrap run-rustc "$(command -v env)" $(printf -- '--remap-path-prefix=%s ' "$@")
    export RUSTC_WRAPPER="$wrappers/run-rustc"
    # cargo-auditable gives cargo the path of itself, which cargo would hash into the names of functions.
    printf '#!/bin/sh\nRUSTC_WORKSPACE_WRAPPER=cargo-auditable exec "%s" "$@"\n' "$(command -v cargo)" >"$wrappers/run-cargo"
    chmod +x "$wrappers/run-cargo"
    export PATH="$wrappers:$PATH"
}

program() {
    build=$(realpath -m "${CARGO_TARGET_DIR:-target}")
    export CARGO_TARGET_DIR="$build"
    auditable=$("$here/cargo-tool.sh" auditable)
    name=$(echo $target | tr a-z- A-Z_)
    # With --target, the flags do not apply to build scripts and procedural macros.
    export "CARGO_TARGET_${name}_RUSTFLAGS=-C target-feature=+crt-static"
    [ -z "$foreign" ] || export "CARGO_TARGET_${name}_LINKER=$gnu-gcc"
    wrap_the_compilers
    export PATH="$auditable:$PATH"
    # OpenSSL writes the date and its directories down. The date is fixed, since a build that finds a compiled OpenSSL
    # takes it as it is. The directories are of the build machine, and do not exist where the program runs.
    export SOURCE_DATE_EPOCH=0
    export GNUMAKEFLAGS='ENGINESDIR=/usr/local/ssl/lib/engines-3 MODULESDIR=/usr/local/ssl/lib/ossl-modules'
    # Function names are kept for the backtrace of a panic.
    CARGO="$wrappers/run-cargo" CARGO_PROFILE_RELEASE_STRIP=debuginfo cargo-auditable auditable build --release --locked \
        --target "$target" --bin atdata-bridge
    install -D -m 0755 "$build/$target/release/atdata-bridge" "$2"
}

case $1 in
    tools) tools "$2" ;;
    program) [ $# -eq 3 ] || usage; program "$2" "$3" ;;
    *) usage ;;
esac
