#!/usr/bin/env bash
# Sets the version in every file that has it, and gives it to the changes under "Unreleased" in CHANGELOG.md.
#
#   version.sh           prints the version
#   version.sh X.Y.Z     sets it; with X.Y.Z-rc.1, a version to try, the changes stay under "Unreleased"
#   version.sh --notes   prints the changes of the version
set -euo pipefail
cd "$(dirname "$0")/.."

current=$(sed -n 's/^version = "\(.*\)"$/\1/p;T;q' Cargo.toml)
locks=(Cargo.lock tests/fuzz/Cargo.lock)

usage() {
    sed -n '/^#   version.sh /,/^[^#]/s/^# \{0,1\}//p' release/version.sh >&2
    exit 64
}

fail() {
    echo "$1" >&2
    exit 1
}

# Replaces by the sed script $1 in file $2, which must make a difference.
edit() {
    local edited
    edited=$(sed "$1" "$2" && echo .)
    [ "${edited%.}" != "$(cat "$2" && echo .)" ] || fail "$2: nothing to replace by $1"
    printf '%s' "${edited%.}" >"$2"
}

# Prints what stands under the heading [$1], without the empty lines at both ends.
changes_of() {
    awk -v heading="## [$1]" '/^## / { on = index($0, heading) == 1; next } on && (found || /./) { found = 1; print }' CHANGELOG.md
}

notes() {
    local section=$current found
    [[ $current != *-* ]] || section=Unreleased
    found=$(changes_of "$section")
    [ -n "$found" ] || fail "CHANGELOG.md has no changes of $section; release/version.sh $current puts them there"
    printf '%s\n' "$found"
}

set_version() {
    local new=$1 old=${current//./\\.} prerelease=false file
    [[ $new =~ ^(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2}(-[0-9A-Za-z.-]+)?$ ]] || usage
    [[ $new != *-* ]] || prerelease=true
    [ -n "$(changes_of Unreleased)" ] || fail 'CHANGELOG.md has no change under the heading "## [Unreleased]"'
    [ -z "$(changes_of "$new")" ] || fail "CHANGELOG.md has changes of $new already"

    # The first version may be the one that the files have already.
    if [ "$new" != "$current" ]; then
        edit "0,/^version = \"$old\"/s//version = \"$new\"/" Cargo.toml
        for file in "${locks[@]}"; do
            edit "/^name = \"atdata-bridge\"$/{n;s/^version = .*/version = \"$new\"/}" "$file"
        done
        edit "s/^version: .*/version: $new/; s/^appVersion: .*/appVersion: \"$new\"/
            s/image: atdata-bridge:.*/image: atdata-bridge:$new/
            s/\(artifacthub.io\/prerelease: \).*/\1\"$prerelease\"/" helm/atdata-bridge/Chart.yaml
        # A test finds it where a command still has the old version.
        sed -i "s/VERSION=$old /VERSION=$new /; s/atdata-bridge:$old /atdata-bridge:$new /" Dockerfile docs/kubernetes.md
    fi
    "$prerelease" || edit "s/^## \[Unreleased\]$/&\n\n## [$new] - $(date -u +%F)/" CHANGELOG.md
}

case $#:${1:-} in
    0:) echo "$current" ;;
    1:--notes) notes ;;
    1:[0-9]*) set_version "$1" ;;
    *) usage ;;
esac
