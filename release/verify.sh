#!/usr/bin/env bash
# Verifies what a user got of a release: signatures, checksums, SBOMs and provenance. It needs cosign 3 or newer, crane
# and jq, and takes cosign and crane from the tests' tools where they are not in PATH. docs/verify.md has the same as
# single commands.
#
#   verify.sh files DIRECTORY SIGNER…      the files of a release, all or some
#   verify.sh image IMAGE@DIGEST SIGNER…   the index of all architectures, and the image of each
#   verify.sh chart CHART@DIGEST SIGNER…   the chart in a registry
#   verify.sh published DIRECTORY SIGNER…  all that release/publish.sh has published from this directory
#
# SIGNER are cosign's options that say whose signature is trusted, one of:
#
#   --certificate-identity ADDRESS --certificate-oidc-issuer ADDRESS   a pipeline
#   --key FILE --insecure-ignore-tlog                                  a key, without a public log
#
# With RELEASE_COMMIT, the provenance must name this commit.
set -euo pipefail
shopt -s inherit_errexit

usage() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
    exit 64
}

fail() {
    echo "verify: $1" >&2
    exit 1
}

# Runs cosign, whose account of what it did is shown only when it refuses.
trusted() {
    local account
    account=$(cosign "$@" "${signer[@]}" 2>&1) || fail "cosign $1 refuses ${*: -1}: $account"
}

# Prints the attested predicate of type $1 of the artefact $2 in a registry. What was published twice has two, alike.
predicate() {
    local attestations
    attestations=$(cosign verify-attestation --type "$1" "${signer[@]}" "$2" 2>"$work/account") ||
        fail "no trusted attestation of type $1 for $2: $(cat "$work/account")"
    jq -cs '.[0].payload | @base64d | fromjson | .predicate' <<<"$attestations"
}

# Says what the provenance in $1 says, and compares the commit.
tell_provenance() {
    local commit
    commit=$(jq -r '[.buildDefinition.resolvedDependencies[].digest.gitCommit | strings][0]' <<<"$1")
    [ "${RELEASE_COMMIT:-$commit}" = "$commit" ] || fail "$2 was built from commit $commit, not from $RELEASE_COMMIT"
    echo "$2: built from commit $commit by $(jq -r .runDetails.builder.id <<<"$1")"
}

verify_pushed() {
    local provenance
    [[ $1 == *@sha256:* ]] || fail "$1 has no digest: a tag can be moved"
    trusted verify "$1"
    # For cosign, the provenance counts as a signature. Admission controllers want a plain one, too.
    predicate https://sigstore.dev/cosign/sign/v1 "$1" >/dev/null
    provenance=$(predicate slsaprovenance1 "$1")
    tell_provenance "$provenance" "$1"
}

verify_image() {
    local entry digest platform sbom
    verify_pushed "$1"
    crane manifest "$1" | jq -r '.manifests[] | "\(.digest) \(.platform.os)/\(.platform.architecture)"' >"$work/images"
    [ -s "$work/images" ] || fail "$1 is not an index of images"
    while read -r digest platform; do
        entry=${1%@*}@$digest
        verify_pushed "$entry"
        sbom=$(predicate cyclonedx "$entry")
        [ "$(jq '.components | length' <<<"$sbom")" -gt 0 ] || fail "the SBOM of $entry is empty"
        echo "$entry: $platform, with an SBOM of $(jq '.components | length' <<<"$sbom") components"
    done <"$work/images"
}

verify_files() {
    local file bundle bundles=("$1"/*.provenance.sigstore.json)
    bundle=${bundles[0]}
    trusted verify-blob --bundle "$1/SHA256SUMS.sigstore.json" "$1/SHA256SUMS"
    (cd "$1" && sha256sum --check --strict --quiet --ignore-missing SHA256SUMS) || fail "a file is not the one that was published"
    for file in "$1"/*; do
        case ${file##*/} in
            SHA256SUMS | *.sigstore.json | published) continue ;;
        esac
        [ -f "$file" ] || continue
        awk -v name="${file##*/}" '$2 == name { found = 1 } END { exit !found }' "$1/SHA256SUMS" ||
            fail "$file is not in SHA256SUMS"
        trusted verify-blob-attestation --type slsaprovenance1 --bundle "$bundle" "$file"
        echo "$file: as published"
    done
    tell_provenance "$(jq -r '.dsseEnvelope.payload | @base64d | fromjson | .predicate' "$bundle")" "$1"
}

[ $# -ge 3 ] || usage
what=$1 subject=$2
signer=("${@:3}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for tool in cosign crane; do
    command -v "$tool" >/dev/null || PATH=$PATH:$("$(dirname "$0")/../tests/kit/release/provision.sh" --where "$tool")
done
case $what in
    files) verify_files "${subject%/}" ;;
    image) verify_image "$subject" ;;
    chart) verify_pushed "$subject" ;;
    published)
        verify_files "$subject"
        verify_image "$(sed -n 's/^image //p' "$subject/published")"
        verify_pushed "$(sed -n 's/^chart //p' "$subject/published")"
        ;;
    *) usage ;;
esac
