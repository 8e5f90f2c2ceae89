#!/usr/bin/env bash
# Makes the page of a release on GitHub: the changes, the digests of image and chart, and the files.
#
#   announce.sh [DIRECTORY]   what release/publish.sh has published; the default is dist
#
# GitHub's program gh takes GH_TOKEN and GH_REPO.
set -euo pipefail
cd "$(dirname "$0")/.."
. release/tools.sh

if [ $# -gt 1 ] || [[ ${1:-} == -* ]]; then usage "$0"; fi
dist=${1:-dist}
version=$(release/version.sh)
[ -s "$dist/published" ] || fail "$dist has nothing that was published: release/publish.sh does it"
notes=$(mktemp)
trap 'rm -f "$notes"' EXIT

{
    release/version.sh --notes
    printf '\n### Image and chart\n\n'
    # shellcheck disable=SC2016 # code in a page
    sed 's/^\([a-z]*\) \(.*\)/- \1: `\2`/' "$dist/published"
    # shellcheck disable=SC2016
    printf '\n`docs/verify.md` says how to verify them.\n'
} >"$notes"
options=(--verify-tag --title "$version" --notes-file "$notes")
[[ $version != *-* ]] || options+=(--prerelease)
mapfile -t files < <(find "$dist" -maxdepth 1 -type f ! -name published | sort)
gh release create "v$version" "${options[@]}" "${files[@]}"
