#!/usr/bin/env bash
# Builds what is released, of the commit that is checked out: for each architecture the program in an archive, its bill
# of materials and its image. The same commit and compilers make the same files, in any directory and at any time.
#
#   build.sh [ARCH…]   amd64, arm64; the default is both
#
# DIST is the directory to write into; the default is dist. RELEASE_SOURCE is the address of the repository, for the
# labels of the image; without it they say that it is unknown. It works in CARGO_TARGET_DIR, below `release-build`.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    sed -n '/^#   build.sh/,/^# the image/s/^# \{0,1\}//p' "$0" >&2
    exit 64
}

[ $# -gt 0 ] || set -- amd64 arm64
machines=()
for arch; do
    case $arch in
        amd64) machines+=(x86_64) ;;
        arm64) machines+=(aarch64) ;;
        *) usage ;;
    esac
done

# Names what is missing, or installs it as root on Debian.
provide() {
    local programs=(cargo buildah python3 git) packages=(buildah python3 git qemu-user-static) index
    for index in "${!machines[@]}"; do
        programs+=("${machines[$index]}-linux-gnu-g++")
        [ "${machines[$index]}" = "$(uname -m)" ] || programs+=("qemu-${machines[$index]}-static")
    done
    type "${programs[@]}" >/dev/null 2>&1 && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        for arch; do image/build.sh tools "$arch" >&2; done
        DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends "${packages[@]}" >&2
    fi
    type "${programs[@]}" >/dev/null && return
    echo "to build a release, on Debian: apt-get install --no-install-recommends ${packages[*]}; then: image/build.sh tools $*" >&2
    exit 1
}

provide "$@"
version=$(sed -n 's/^version = "\(.*\)"/\1/p;T;q' Cargo.toml)
revision=$(git rev-parse HEAD)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export VERSION=$version REVISION=$revision SOURCE=${RELEASE_SOURCE:-} SOURCE_DATE_EPOCH
dist=$(realpath -m "${DIST:-dist}")
build=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release-build
work=$build/$revision
# Nothing of an earlier build is used, and nothing that is not in the commit.
rm -rf "$build"
mkdir -p "$dist" "$work/source"
trap 'rm -rf "$build"' EXIT
git archive HEAD | tar --extract --directory "$work/source"
[ -z "$(git status --porcelain)" ] || echo "changes that are not committed are left out" >&2
cyclonedx=$(image/cargo-tool.sh cyclonedx)
cd "$work/source"

# Prints the archive of a directory, in which only the files' names, contents and right to be executed count.
archive() {
    tar --create --format=ustar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
        --mode=u=rwX,go=rX --directory "$(dirname "$1")" "$(basename "$1")" | gzip --no-name --best
}

build_one() {
    local arch=$1 machine=$2 name program run=() shell
    name=atdata-bridge-$version-linux-$arch
    program=$work/$name/atdata-bridge
    echo "building $name" >&2
    CARGO_TARGET_DIR=$work/target-$arch image/build.sh program "$arch" "$program" >&2

    [ "$machine" = "$(uname -m)" ] || run=("qemu-$machine-static")
    [ "$("${run[@]}" "$program" --version)" = "atdata-bridge $version" ] || { echo "$program is not $version" >&2; exit 1; }
    cp LICENSE README.md "$work/$name"
    mkdir "$work/$name/completions" "$work/$name/man"
    for shell in bash elvish fish powershell zsh; do
        "${run[@]}" "$program" completions "$shell" >"$work/$name/completions/atdata-bridge.$shell"
    done
    "${run[@]}" "$program" man >"$work/$name/man/atdata-bridge.1"
    archive "$work/$name" >"$dist/$name.tar.gz"

    # cargo-cyclonedx writes beside Cargo.toml.
    PATH=$cyclonedx:$PATH cargo cyclonedx --quiet --format json --spec-version 1.5 --no-build-deps \
        --target "$machine-unknown-linux-gnu" --override-filename crates
    release/sbom.py make crates.json "$program" "$arch" >"$dist/$name.cdx.json"
    release/sbom.py check "$dist/$name.cdx.json" "$program" >&2

    image/layout.sh "$arch" "$program" "$dist/image-$arch"
}

for index in "${!machines[@]}"; do
    build_one "${@:index+1:1}" "${machines[$index]}"
done
