#!/usr/bin/env bash
# Publishes what release/package.sh has completed: pushes the image of all architectures and the chart to a registry,
# signs both by digest, signs SHA256SUMS, and attests the SBOMs and the provenance.
#
#   publish.sh [DIRECTORY]   the default is dist
#
# RELEASE_REGISTRY is required, a registry with a path such as registry.example.com/owner. It gets
# atdata-bridge:VERSION and charts/atdata-bridge:VERSION. A version that is there already is never replaced by another.
# The optional variables:
#
#   RELEASE_USER, RELEASE_PASSWORD   a login, kept in ~/.docker/config.json (DOCKER_CONFIG); or log in yourself before
#   RELEASE_TAG                      the tag that is released: it must be v and the version of the tree
#   SIGNING_KEY                      signs with this key of cosign (password: COSIGN_PASSWORD), without a public log;
#                                    without it, with the identity that the pipeline has by OpenID Connect
#
# It adds to the directory: SHA256SUMS.sigstore.json, atdata-bridge-VERSION.provenance.sigstore.json, and published,
# which has the digests of image and chart.
set -euo pipefail
cd "$(dirname "$0")/.."
. release/tools.sh

if [ $# -gt 1 ] || [[ ${1:-} == -* ]]; then usage "$0"; fi
dist=$(realpath "${1:-dist}")
version=$(release/version.sh)
image=${RELEASE_REGISTRY:?a registry with a path, such as registry.example.com/owner}/atdata-bridge
charts=$RELEASE_REGISTRY/charts
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

[ "${RELEASE_TAG:-v$version}" = "v$version" ] || fail "the tag is $RELEASE_TAG, but the tree has version $version"
(cd "$dist" && sha256sum --check --strict --quiet SHA256SUMS) || fail "$dist is not what release/package.sh made"

signing=(--yes)
if [ -n "${SIGNING_KEY:-}" ]; then
    # A configuration without any service: nothing goes to a public log, and no timestamp is asked for.
    signing+=(--key "$SIGNING_KEY" --signing-config "$work/signing.json")
fi
plain=()
case $RELEASE_REGISTRY in
    127.0.0.1:* | localhost:*) plain=(--plain-http) ;;
esac

log_in() {
    if [ -n "${RELEASE_USER:-}" ]; then
        crane auth login "${RELEASE_REGISTRY%%/*}" --username "$RELEASE_USER" --password-stdin <<<"${RELEASE_PASSWORD:?}"
    fi
    export HELM_REGISTRY_CONFIG=${DOCKER_CONFIG:-$HOME/.docker}/config.json
}

# Prints the digest that reference $1 has in the registry, or nothing if it is not there. Another failure ends the script.
published_digest() {
    crane digest "$1" 2>"$work/refusal" && return
    grep -qE 'MANIFEST_UNKNOWN|NAME_UNKNOWN' "$work/refusal" || fail "$1: $(cat "$work/refusal")"
}

push_image() {
    local digest there
    digest=sha256:$(digest_of "$dist/image/index.json")
    there=$(published_digest "$image:$version")
    [ "${there:-$digest}" = "$digest" ] || fail "$image:$version is published already, as $there"
    crane push --index "$dist/image" "$image:$version" >/dev/null
    echo "$image@$digest"
}

push_chart() {
    local there archive=$dist/atdata-bridge-$version.tgz
    there=$(published_digest "$charts/atdata-bridge:$version")
    if [ -z "$there" ]; then
        helm push "$archive" "oci://$charts" "${plain[@]}" >"$work/push" 2>&1 || fail "$(cat "$work/push")"
        there=$(sed -n 's/^Digest: //p' "$work/push")
    fi
    # The chart is the only layer of its manifest.
    crane manifest "$charts/atdata-bridge@$there" | jq -e --arg digest "sha256:$(digest_of "$archive")" \
        '[.layers[].digest] == [$digest]' >/dev/null || fail "$charts/atdata-bridge:$version is published already, as $there"
    echo "$charts/atdata-bridge@$there"
}

attest() {
    cosign attest "${signing[@]}" --type "$1" --predicate "$2" "$3" </dev/null
}

# Signs the image and the chart, and says where they come from and what is in them.
sign_pushed() {
    local digest arch
    cosign sign "${signing[@]}" --recursive "$1"
    cosign sign "${signing[@]}" "$2"
    attest slsaprovenance1 "$work/provenance.json" "$1"
    attest slsaprovenance1 "$work/provenance.json" "$2"
    jq -r '.manifests[] | "\(.digest) \(.platform.architecture)"' "$dist/image/index.json" | while read -r digest arch; do
        attest slsaprovenance1 "$work/provenance.json" "$image@$digest"
        attest cyclonedx "$dist/atdata-bridge-$version-linux-$arch.cdx.json" "$image@$digest"
    done
}

# One statement tells of all files.
sign_files() {
    cosign sign-blob "${signing[@]}" --bundle "$dist/SHA256SUMS.sigstore.json" "$dist/SHA256SUMS" >/dev/null
    jq -R 'capture("^(?<sha256>[0-9a-f]{64})  (?<name>.+)$") | {name, digest: {sha256}}' "$dist/SHA256SUMS" |
        jq -s --slurpfile predicate "$work/provenance.json" '{_type: "https://in-toto.io/Statement/v1", subject: .,
            predicateType: "https://slsa.dev/provenance/v1", predicate: $predicate[0]}' >"$work/statement.json"
    cosign attest-blob "${signing[@]}" --statement "$work/statement.json" \
        --bundle "$dist/atdata-bridge-$version.provenance.sigstore.json" >/dev/null
}

use_tools cosign crane helm
log_in
release/provenance.sh >"$work/provenance.json"
[ -z "${SIGNING_KEY:-}" ] || cosign signing-config create --out "$work/signing.json"
pushed_image=$(push_image)
pushed_chart=$(push_chart)
sign_pushed "$pushed_image" "$pushed_chart"
sign_files
printf 'image %s\nchart %s\n' "$pushed_image" "$pushed_chart" >"$dist/published"
cat "$dist/published"
