#!/usr/bin/env bash
# Completes the directory that release/build.sh has filled: packages the chart, joins the images of all architectures
# into one index (image/), and writes SHA256SUMS over all files.
#
#   package.sh [DIRECTORY]   the default is dist
#
# The tree does not know where it is published. These variables tell it, and each may be missing:
#
#   RELEASE_SOURCE   the address of the repository, for the chart's page
#   RELEASE_PAGES    what links to files of this version begin with, for the chart's README
#   RELEASE_ICON     the address of a picture, for the chart's page
#   RELEASE_IMAGE    the image without its tag: the chart's default
set -euo pipefail
cd "$(dirname "$0")/.."
. release/tools.sh

if [ $# -gt 1 ] || [[ ${1:-} == -* ]]; then usage "$0"; fi
dist=${1:-dist}
version=$(release/version.sh)
# The chart's archive has this time, so that the same commit makes the same bytes.
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Replaces by the sed script $1 in file $2, which must make a difference.
edit() {
    sed -E "$1" "$2" >"$work/edited"
    ! cmp -s "$work/edited" "$2" || fail "$2: nothing to replace by $1"
    cp "$work/edited" "$2"
}

# Makes the names of files in a page links, except in blocks of code.
link_pages() {
    edit "/^\`\`\`/,/^\`\`\`/b; s#\`?(docs/[a-z/-]+\.md|helm/atdata-bridge/ci)\`?#[\1]($RELEASE_PAGES/\1)#g" "$1"
}

package_chart() {
    local chart=$work/atdata-bridge
    cp -r helm/atdata-bridge "$work/"
    if [ -n "${RELEASE_SOURCE:-}" ]; then
        printf 'home: %s\nsources:\n  - %s\n' "$RELEASE_SOURCE" "$RELEASE_SOURCE" >>"$chart/Chart.yaml"
    fi
    [ -z "${RELEASE_ICON:-}" ] || printf 'icon: %s\n' "$RELEASE_ICON" >>"$chart/Chart.yaml"
    [ -z "${RELEASE_PAGES:-}" ] || link_pages "$chart/README.md"
    if [ -n "${RELEASE_IMAGE:-}" ]; then
        edit "/There is no public image/d; s#image: atdata-bridge:#image: $RELEASE_IMAGE:#" "$chart/Chart.yaml"
        edit "s#^  repository: atdata-bridge\$#  repository: $RELEASE_IMAGE#; s#Where your image is: .*#Where the image is.#" "$chart/values.yaml"
        edit "/^\| \`image.repository\`/s#.*#| \`image.repository\` | \`$RELEASE_IMAGE\` | Where the image is. |#" "$chart/README.md"
    fi
    find "$chart" -exec touch --date "@$epoch" {} +
    helm package "$chart" --destination "$work/packed" >/dev/null
    # Helm writes the time of packing into the archive.
    mkdir "$work/chart"
    tar --extract --gzip --directory "$work/chart" --file "$work/packed/atdata-bridge-$version.tgz"
    tar --create --directory "$work/chart" --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner \
        --mode=u=rwX,go=rX --format=ustar atdata-bridge | gzip --no-name >"$dist/atdata-bridge-$version.tgz"
    # It becomes the time of creation in the registry.
    touch --date "@$epoch" "$dist/atdata-bridge-$version.tgz"
}

# Prints the entry of the image in layout $1, with its platform, for an index.
entry() {
    local manifest config
    [ "$(jq '.manifests | length' "$1/index.json")" = 1 ] || fail "$1 does not have exactly one image"
    manifest=$(jq -r '.manifests[0].digest' "$1/index.json")
    config=$(jq -r '.config.digest' "$1/blobs/${manifest/://}")
    jq -c --slurpfile config "$1/blobs/${config/://}" '.manifests[0] | {mediaType, digest, size,
        platform: ($config[0] | {architecture, os} + if .variant then {variant} else {} end)}' "$1/index.json"
}

join_images() {
    local layout layouts=("$dist"/image-*/)
    rm -rf "$dist/image"
    mkdir "$dist/image"
    for layout in "${layouts[@]}"; do
        [ -f "$layout/index.json" ] || fail "there is no image in $dist: release/build.sh makes it"
        cp -r "$layout/blobs" "$layout/oci-layout" "$dist/image/"
        entry "${layout%/}"
    done | jq -s '{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: .}' >"$dist/image/index.json"
}

sum_files() {
    local files
    mapfile -t files < <(cd "$dist" && find . -maxdepth 1 -type f ! -name 'SHA256SUMS*' ! -name '*.sigstore.json' \
        ! -name published ! -name '.*' -printf '%P\n' | LC_ALL=C sort)
    (cd "$dist" && sha256sum -- "${files[@]}" >SHA256SUMS)
}

use_tools helm
package_chart
join_images
sum_files
cat "$dist/SHA256SUMS"
