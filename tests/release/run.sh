#!/usr/bin/env bash
# Publishes a release into a registry of its own on this machine, with a key made for it. Then verifies it as a user, in
# an empty directory, with the commands of docs/verify.md, and shows that what was changed, signed by another key or not
# signed is refused. Prints what it has shown; everything else goes to standard error.
#
#   run.sh [DIRECTORY]          the directory that release/build.sh has filled; the default is dist
#   run.sh --stand-in PROGRAM   makes one from a program of this machine, for both architectures
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/../.."
tree=$PWD

usage() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$tree/tests/release/run.sh" >&2
    exit 64
}

case $#:${1:-} in
    2:--stand-in) program=$(realpath "$2") from='' ;;
    0:) program='' from=dist ;;
    1:-*) usage ;;
    1:*) program='' from=$1 ;;
    *) usage ;;
esac
[ -n "$program" ] || [ -d "$from" ] || { echo "there is no directory $from: run release/build.sh, or see --help" >&2; exit 1; }

tests/kit/release/provision.sh >&2
for tool in actionlint check-jsonschema cosign crane helm registry; do
    PATH=$(tests/kit/release/provision.sh --where "$tool"):$PATH
done
# Of the pipeline's own variables, none must change what this does.
unset "${!RELEASE_@}" "${!GITHUB_@}" SIGNING_KEY DOCKER_CONFIG
mkdir -p "${CARGO_TARGET_DIR:-target}/release-test"
work=$(mktemp -d "$(realpath "${CARGO_TARGET_DIR:-target}")/release-test/run.XXXXXX")
registry_process=
trap '[ -z "$registry_process" ] || kill "$registry_process"; rm -rf "$work"' EXIT
version=$(release/version.sh)
dist=$work/dist

fail() {
    echo "not shown: $1" >&2
    exit 1
}

shown() {
    echo "- $1"
}

# Runs the command after the first two arguments, which must fail and say $2.
refused() {
    local claim=$1 reason=$2 status=0
    shift 2
    "$@" >"$work/refusal" 2>&1 || status=$?
    [ "$status" != 0 ] || { cat "$work/refusal" >&2; fail "$claim: it was accepted"; }
    grep -qE -- "$reason" "$work/refusal" || { cat "$work/refusal" >&2; fail "$claim: it was refused without '$reason'"; }
    shown "$claim: refused, \"$(grep -oE -- "$reason" "$work/refusal" | head -n 1)\""
}

# Writes the layout $1 of an image for architecture $2 that has the file system in archive $3.
write_layout() {
    local config manifest
    mkdir -p "$1/blobs/sha256"
    echo '{"imageLayoutVersion": "1.0.0"}' >"$1/oci-layout"
    gzip --no-name --fast <"$3" >"$1/layer"
    jq -nc --arg arch "$2" --arg layer "$(sha256sum <"$3" | cut -d ' ' -f 1)" '{architecture: $arch, os: "linux",
        config: {Entrypoint: ["/usr/local/bin/atdata-bridge"]}, rootfs: {type: "layers", diff_ids: ["sha256:" + $layer]}}' >"$1/config"
    config=$(blob "$1" config) layer=$(blob "$1" layer)
    jq -nc --argjson config "$config" --argjson layer "$layer" '{schemaVersion: 2,
        mediaType: "application/vnd.oci.image.manifest.v1+json",
        config: ($config + {mediaType: "application/vnd.oci.image.config.v1+json"}),
        layers: [$layer + {mediaType: "application/vnd.oci.image.layer.v1.tar+gzip"}]}' >"$1/manifest"
    manifest=$(blob "$1" manifest)
    jq -n --argjson manifest "$manifest" '{schemaVersion: 2,
        manifests: [$manifest + {mediaType: "application/vnd.oci.image.manifest.v1+json"}]}' >"$1/index.json"
}

# Moves file $2 of the layout $1 to its blobs, and prints how a manifest refers to it.
blob() {
    local digest size
    digest=$(sha256sum "$1/$2" | cut -d ' ' -f 1) size=$(stat -c %s "$1/$2")
    mv "$1/$2" "$1/blobs/sha256/$digest"
    jq -nc --arg digest "sha256:$digest" --argjson size "$size" '{digest: $digest, size: $size}'
}

# Makes what release/build.sh would, out of one program: the other architecture is only called so.
stand_in() {
    local arch name
    mkdir -p "$work/root/usr/local/bin" "$dist"
    cp "$program" "$work/root/usr/local/bin/atdata-bridge"
    strip "$work/root/usr/local/bin/atdata-bridge"
    for arch in amd64 arm64; do
        name=atdata-bridge-$version-linux-$arch
        mkdir "$work/$name"
        cp "$work/root/usr/local/bin/atdata-bridge" LICENSE "$work/$name/"
        tar --create --directory "$work" "$name" | gzip --no-name --fast >"$dist/$name.tar.gz"
        jq -n --arg arch "$arch" --arg version "$version" '{bomFormat: "CycloneDX", specVersion: "1.5", version: 1,
            components: [{type: "application", name: "atdata-bridge", version: $version, description: $arch}]}' >"$dist/$name.cdx.json"
        echo "$arch" >"$work/root/arch"
        tar --create --directory "$work/root" . >"$work/root.tar"
        write_layout "$dist/image-$arch" "$arch" "$work/root.tar"
    done
}

# A registry with logins. Port 0 makes it choose a free one.
start_registry() {
    local hash
    login=$(head -c 24 /dev/urandom | base64 | tr -d /+=)
    # shellcheck disable=SC2016 # for Perl
    hash=$(perl -e 'print crypt($ARGV[0], "\$2y\$05\$" . "abcdefghijklmnopqrstuu")' "$login")
    [[ $hash == \$2y\$* ]] || fail 'the registry: crypt(3) of this system has no bcrypt'
    echo "publisher:$hash" >"$work/htpasswd"
    cat >"$work/registry.yml" <<END
version: 0.1
storage: {filesystem: {rootdirectory: $work/registry}, delete: {enabled: true}}
http: {addr: "127.0.0.1:0"}
auth: {htpasswd: {realm: test, path: $work/htpasswd}}
END
    OTEL_TRACES_EXPORTER=none registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
    registry_process=$!
    until address=$(grep -oE -m 1 'listening on 127.0.0.1:[0-9]+' "$work/registry.log"); do
        kill -0 "$registry_process" 2>/dev/null || { cat "$work/registry.log" >&2; fail 'the registry: it does not start'; }
        sleep 0.1
    done
    registry=${address#listening on }
}

# Changes one bit near the end of file $1.
flip_bit() {
    perl -e 'open $file, "+<", $ARGV[0] or die; seek $file, -100, 2; read $file, $byte, 1; seek $file, -100, 2;
        print $file chr(ord($byte) ^ 1)' "$1"
}

# Makes the key pair $1.
make_key() {
    cosign generate-key-pair --output-key-prefix "$work/$1" >/dev/null 2>&1
}

publish() {
    release/publish.sh "$@" >"$work/publish.out" 2>"$work/publish.log" || { cat "$work/publish.log" >&2; return 1; }
}

# Writes the commands of the page, with the names of this run.
commands_of_page() {
    # shellcheck disable=SC2016 # a fence of code
    sed -n '/^```sh$/,/^```$/{/^```/!p}' "$tree/docs/verify.md" |
        sed "s#X\.Y\.Z#$version#; s#registry.example.com/owner#$RELEASE_REGISTRY#"
}

echo "# A release, published and verified"
echo
echo "- command: \`make publish-test${*:+ ARGS=\"$*\"}\`"
echo "- atdata-bridge: $version, from ${program:+a stand-in for }release/build.sh"
echo "- tools: cosign $(cosign version 2>&1 | sed -n 's/^GitVersion: *//p'), helm $(helm version --template '{{.Version}}'), distribution $(
    sed -n 's/^require .*distribution.v3 //p' tests/kit/release/registry/go.mod) as the registry"
echo "- date: $(date -u '+%Y-%m-%d %H:%M UTC')"
echo
echo "## The pipeline"
echo

actionlint -no-color >&2 || fail 'the workflows: actionlint objects'
schema() { "$(tests/kit/release/provision.sh --where check-jsonschema)/venv/bin/python" -m check_jsonschema --builtin-schema "vendor.$1" "${@:2}" >&2; }
schema github-workflows .github/workflows/*.yml || fail 'the workflows: they do not fit the schema'
schema renovate renovate.json || fail 'renovate.json: it does not fit the schema'
shown 'the workflows: actionlint and the schema have no objection'
shown "renovate.json fits its schema, and finds $(tests/release/renovate.py | wc -l) versions in scripts"
on_github=(GITHUB_ACTIONS=true GITHUB_SERVER_URL=https://example.com GITHUB_REPOSITORY=owner/atdata-bridge GITHUB_REF=refs/tags/v1
    GITHUB_WORKFLOW_REF=owner/atdata-bridge/.github/workflows/release.yml@refs/tags/v1 GITHUB_SHA=c0ffee GITHUB_EVENT_NAME=push
    GITHUB_REPOSITORY_ID=1 GITHUB_REPOSITORY_OWNER_ID=2 RUNNER_ENVIRONMENT=github-hosted GITHUB_RUN_ID=3 GITHUB_RUN_ATTEMPT=1)
env "${on_github[@]}" release/provenance.sh >"$work/on-github.json"
jq -e '.buildDefinition.externalParameters.workflow == {ref: "refs/tags/v1", repository: "https://example.com/owner/atdata-bridge",
        path: ".github/workflows/release.yml"}
    and .buildDefinition.resolvedDependencies[0] == {uri: "git+https://example.com/owner/atdata-bridge@refs/tags/v1", digest: {gitCommit: "c0ffee"}}
    and .runDetails.builder.id == "https://example.com/owner/atdata-bridge/.github/workflows/release.yml@refs/tags/v1"
    and .runDetails.metadata.invocationId == "https://example.com/owner/atdata-bridge/actions/runs/3/attempts/1"' "$work/on-github.json" >/dev/null ||
    { cat "$work/on-github.json" >&2; fail 'the provenance of the pipeline: it is not what it should be'; }
shown 'the provenance names the workflow, its tag and its commit'
refused 'provenance without a commit' 'GITHUB_SHA is not set' env "${on_github[@]}" GITHUB_SHA= release/provenance.sh

# Nothing of this machine's logins and keys is read.
export XDG_CACHE_HOME=${XDG_CACHE_HOME:-$HOME/.cache} HOME=$work/home
mkdir "$HOME"
if [ -n "$program" ]; then stand_in; else cp -r "$from" "$dist"; fi
start_registry
export COSIGN_PASSWORD=secret
make_key release
make_key other
export RELEASE_REGISTRY=$registry/owner RELEASE_USER=publisher RELEASE_PASSWORD=$login SIGNING_KEY=$work/release.key
export RELEASE_SOURCE=https://example.com/owner/atdata-bridge RELEASE_IMAGE=$RELEASE_REGISTRY/atdata-bridge
export RELEASE_PAGES=$RELEASE_SOURCE/blob/v$version
commit=$(git rev-parse HEAD)

echo
echo "## Published"
echo

release/package.sh "$dist" >&2
cp "$dist/SHA256SUMS" "$work/first"
release/package.sh "$dist" >&2
cmp "$work/first" "$dist/SHA256SUMS" || fail 'packaging: a second time gives other files'
shown "packaging twice gives the same $(wc -l <"$dist/SHA256SUMS") files"
RELEASE_TAG=v$version publish "$dist"
image=$(sed -n 's/^image //p' "$dist/published")
chart=$(sed -n 's/^chart //p' "$dist/published")
shown "image and chart: pushed with a login, signed, attested"
cp "$dist/published" "$work/published"
publish "$dist"
cmp "$work/published" "$dist/published" || fail 'publishing: a second time gives other digests'
shown "publishing the same again changes no digest"

# A stand-in for GitHub's program: it says how it was called.
mkdir "$work/bin"
cat >"$work/bin/gh" <<'END'
#!/bin/sh
echo "$*"
while [ $# -gt 0 ]; do
    [ "$1" != --notes-file ] || cat "$2"
    shift
done
END
chmod +x "$work/bin/gh"
# A tree in which the version has its changes.
mkdir "$work/tree"
cp -r release Cargo.toml "$work/tree/"
sed "0,/^## \[Unreleased\]/s//## [$version] - $(date -u +%F)/" CHANGELOG.md >"$work/tree/CHANGELOG.md"
PATH=$work/bin:$PATH "$work/tree/release/announce.sh" "$dist" >"$work/announced" || fail 'the page of the release: it is not made'
for wanted in "^release create v$version --verify-tag" "/SHA256SUMS.sigstore.json( |$)" "linux-amd64.tar.gz( |$)" "$image" '^### '; do
    grep -qE -- "$wanted" "$work/announced" || { cat "$work/announced" >&2; fail "the page of the release: no $wanted"; }
done
shown 'the page of the release gets the changes, the digests and the files (with a stand-in for gh)'

refused 'a tag of another version' 'the tag is v9.9.9' env RELEASE_TAG=v9.9.9 release/publish.sh "$dist"
cp -r "$dist" "$work/changed"
printf 'x' >>"$work/changed/atdata-bridge-$version.tgz"
refused 'a file that was changed after packaging' 'is not what release/package.sh made' release/publish.sh "$work/changed"
(cd "$work/changed" && sha256sum "atdata-bridge-$version.tgz" >SHA256SUMS)
refused 'another chart for a published version' 'charts/atdata-bridge:[0-9.]+ is published already' release/publish.sh "$work/changed"
jq '.annotations.other = "yes"' "$dist/image/index.json" >"$work/changed/image/index.json"
refused 'another image for a published version' 'atdata-bridge:[0-9.]+ is published already' release/publish.sh "$work/changed"
refused 'a wrong login' 'UNAUTHORIZED' env RELEASE_PASSWORD=wrong release/publish.sh "$dist"

echo
echo "## Verified by a user, in an empty directory"
echo

user=$work/user
mkdir "$user"
cd "$user"
find "$dist" -maxdepth 1 -type f ! -name published -exec cp {} . \;
cp "$work/release.pub" cosign.pub
export DOCKER_CONFIG=$work/login HELM_REGISTRY_CONFIG=$work/login/config.json
crane auth login "$registry" --username publisher --password-stdin <<<"$login" 2>&1 | grep -v 'logged in' >&2 || true
commands_of_page >"$work/commands.sh"
bash -euo pipefail -x "$work/commands.sh" >"$work/commands.out" 2>"$work/commands.log" || {
    tail -n 30 "$work/commands.log" >&2
    fail "docs/verify.md: a command of it failed"
}
shown "the $(grep -cE '^(cosign|crane|helm|sha256sum)' "$work/commands.sh") commands of docs/verify.md"
grep -qF "$commit" "$work/commands.out" || fail 'docs/verify.md: the provenance does not name the commit'
shown "the provenance names the commit $commit"
diff <(jq -S . sbom.cdx.json) <(jq -S . "atdata-bridge-$version-linux-amd64.cdx.json") >&2 || fail 'docs/verify.md: the SBOM of the image is another'
shown "the SBOM of the image is the file"

# What is verified from here on is only what the user needs: the files, and the registry.
rm -rf "$user" && mkdir "$user" && cd "$user"
find "$dist" -maxdepth 1 -type f ! -name published -exec cp {} . \;
signer=(--key "$work/release.pub" --insecure-ignore-tlog)
verify() { "$tree/release/verify.sh" "$@"; }
export RELEASE_COMMIT=$commit
for subject in "files $user" "image $image" "chart $chart"; do
    # shellcheck disable=SC2086 # two words on purpose
    verify $subject "${signer[@]}" >"$work/verified" 2>&1 || { cat "$work/verified" >&2; fail "release/verify.sh $subject"; }
done
verify published "$dist" "${signer[@]}" >"$work/verified" 2>&1 || { cat "$work/verified" >&2; fail 'release/verify.sh published'; }
shown 'release/verify.sh: files, image and chart, and all that the pipeline has published'

own=$(uname -m)
mkdir root
crane export --platform "linux/$(sed 's/x86_64/amd64/; s/aarch64/arm64/' <<<"$own")" "$image" - | tar --extract --no-same-owner --directory root
root/usr/local/bin/atdata-bridge demo --events 2000 >"$work/demo" 2>&1 || { cat "$work/demo" >&2; fail 'the pulled program: its demo fails'; }
grep -q 'lost 0, doubled 0' "$work/demo" || { cat "$work/demo" >&2; fail 'the pulled program: its demo does not say that nothing was lost'; }
shown 'the program of the pulled image runs its demo: lost 0, doubled 0'
plain=(--plain-http)
helm pull "oci://$chart" "${plain[@]}" --untar >&2
# The example of its README, which has an image of its own.
# shellcheck disable=SC2016 # a fence of code
sed -n '/^```yaml$/,/^```$/{/^```/d;/^image:/,/^config:/{/^config:/!d};p}' atdata-bridge/README.md >values.yaml
helm template bridge atdata-bridge --values values.yaml >rendered
grep -q "image: \"\?$RELEASE_IMAGE:$version" rendered || { grep image: rendered >&2; fail 'the pulled chart: it has another image'; }
shown 'the pulled chart renders, with the published image'
grep -q "($RELEASE_PAGES/docs/kubernetes.md)" atdata-bridge/README.md || fail 'the pulled chart: its README has no absolute link'
grep -q "^home: $RELEASE_SOURCE$" atdata-bridge/Chart.yaml || fail 'the pulled chart: it has no home'
shown 'its README has absolute links, and its page a home'
rm -rf atdata-bridge values.yaml rendered root

echo
echo "## Refused"
echo

other=(--key "$work/other.pub" --insecure-ignore-tlog)
archive=atdata-bridge-$version-linux-amd64.tar.gz
for subject in "files $user" "image $image" "chart $chart"; do
    # shellcheck disable=SC2086
    refused "${subject%% *} with another key" 'failed to verify signature' verify $subject "${other[@]}"
done
cp "$archive" "$work/kept"
flip_bit "$archive"
refused 'one changed bit in an archive' 'a file is not the one that was published' verify files "$user" "${signer[@]}"
sha256sum "$archive" >SHA256SUMS
refused 'the same, with its checksum changed too' 'failed to verify signature' verify files "$user" "${signer[@]}"
cp "$work/kept" "$archive" && cp "$dist/SHA256SUMS" .
echo unknown >extra
refused 'a file that was not published' 'extra is not in SHA256SUMS' verify files "$user" "${signer[@]}"
rm extra
mv SHA256SUMS.sigstore.json "$work/"
refused 'files without a signature' 'SHA256SUMS.sigstore.json: no such file or directory' verify files "$user" "${signer[@]}"
mv "$work/SHA256SUMS.sigstore.json" .
rm ./*.provenance.sigstore.json
refused 'files without provenance' 'provenance.sigstore.json: no such file or directory' verify files "$user" "${signer[@]}"
cp "$dist"/*.provenance.sigstore.json .
RELEASE_COMMIT=0000 refused 'another commit than expected' 'was built from commit [0-9a-f]+, not from 0000' verify image "$image" "${signer[@]}"
refused 'a tag instead of a digest' 'has no digest' verify image "${image%@*}:$version" "${signer[@]}"

signed=${image#*@}
crane copy "$image" "$registry/unsigned/atdata-bridge:1" 2>/dev/null
other_image=sha256:$(sha256sum "$work/changed/image/index.json" | cut -d ' ' -f 1)
crane push --index "$work/changed/image" "$registry/unsigned/atdata-bridge:2" >/dev/null 2>&1
refused 'an image without a signature' 'no signatures found' verify image "$registry/unsigned/atdata-bridge@$signed" "${signer[@]}"
signing=(--yes --key "$work/release.key" --signing-config "$work/signing.json")
cosign signing-config create --out "$work/signing.json"
cosign sign "${signing[@]}" "$registry/unsigned/atdata-bridge@$signed" >/dev/null 2>&1
refused 'a signed image without provenance' 'no trusted attestation of type slsaprovenance1' verify image "$registry/unsigned/atdata-bridge@$signed" "${signer[@]}"
# Its signatures and attestations are in an index whose tag is its digest.
crane copy "$registry/unsigned/atdata-bridge:${signed/:/-}" "$registry/unsigned/atdata-bridge:${other_image/:/-}" 2>/dev/null
refused "an image with another one's signature" 'provided artifact digest does not match any digest in statement' verify image "$registry/unsigned/atdata-bridge@$other_image" "${signer[@]}"
layer=$(crane manifest --platform linux/amd64 "$image" | jq -r '.layers[0].digest')
blob=$work/registry/docker/registry/v2/blobs/sha256/$(cut -c 8-9 <<<"$layer")/${layer#sha256:}/data
flip_bit "$blob"
refused 'an image of which the registry has changed one bit' 'error verifying sha256 checksum' crane pull --platform linux/amd64 "$image" changed.tar
echo
echo 'All of it was shown.'
