#!/bin/sh
# Builds the last stage of the Dockerfile with buildah into a directory in the layout of OCI, without a registry.
#
#   layout.sh ARCH PROGRAM DIRECTORY
#
# ARCH is amd64 or arm64. VERSION, REVISION, SOURCE (the address of the repository, or nothing) and SOURCE_DATE_EPOCH
# (the time of the revision, in seconds) come from the environment. The same values make the same image to the byte.
set -eu

arch=$1 program=$2 directory=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
store() { buildah --storage-driver vfs --root "$work/store" --runroot "$work/state" "$@"; }

cd "$(dirname "$0")/.."
image/root.sh "$program" "$work/stage/image"
set -- --build-arg "VERSION=$VERSION" --build-arg "REVISION=$REVISION" \
    --build-arg "CREATED=$(date --utc --date "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)"
[ -z "${SOURCE:-}" ] ||
    set -- "$@" --build-arg "SOURCE=$SOURCE" --build-arg "DOCUMENTATION=$SOURCE/tree/$REVISION/docs"
# A directory replaces the build stage, so the Dockerfile's own last stage is built.
store build --quiet --platform "linux/$arch" --build-context "build=$work/stage" "$@" \
    --timestamp "$SOURCE_DATE_EPOCH" --identity-label=false --tag localhost/atdata-bridge . >/dev/null
rm -rf "$directory"
store push --quiet localhost/atdata-bridge "oci:$directory:$VERSION"
