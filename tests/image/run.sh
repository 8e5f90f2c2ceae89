#!/usr/bin/env bash
# Tests the image without a registry: builds the program from the files that the Dockerfile's build stage sees,
# builds the Dockerfile's last stage, and runs the program in it. Prints a document; progress goes to standard error.
#
#   run.sh [ARCH]   amd64 or arm64; the default is this machine's. Another architecture is run by qemu.
#
# It does not use the packages and the Rust of the build stage, which come from a registry, but this machine's.
set -euo pipefail
cd "$(dirname "$0")/../.."

case $(uname -m) in
    x86_64) own=amd64 ;;
    aarch64) own=arm64 ;;
    *) echo "there is no image for $(uname -m)" >&2; exit 1 ;;
esac
arch=${1:-$own}
qemu='' compiler=''
case $arch in
    "$own") ;;
    amd64) qemu=qemu-x86_64-static compiler=x86_64-linux-gnu-g++ ;;
    arm64) qemu=qemu-aarch64-static compiler=aarch64-linux-gnu-g++ ;;
    *) sed -n '/^#   run.sh/,/^#$/s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
esac

provide() {
    local packages=(buildah dnsmasq-base iproute2 openssl socat util-linux binutils ca-certificates)
    local programs=(go buildah dnsmasq ip openssl socat unshare readelf)
    if [ -n "$qemu" ]; then
        packages+=(qemu-user-static)
        programs+=("$qemu" "$compiler")
    fi
    # On some systems, dnsmasq and ip are not in a user's PATH.
    export PATH=$PATH:/usr/sbin:/sbin
    type "${programs[@]}" >/dev/null 2>&1 && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get -q update >&2
        DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends "${packages[@]}" >&2
        [ -z "$qemu" ] || image/build.sh tools "$arch" >&2
    fi
    type "${programs[@]}" >/dev/null && return
    echo "to test the image: Go 1.26 or newer; on Debian: apt-get install --no-install-recommends ${packages[*]}${qemu:+; then: image/build.sh tools $arch}" >&2
    exit 1
}

provide
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export CARGO_TARGET_DIR=$target
mkdir -p "$target/image"
work=$(mktemp -d "$target/image/run.XXXXXX")
trap 'rm -rf "$work"' EXIT
store() { buildah --storage-driver vfs --root "$work/store" --runroot "$work/state" "$@"; }
version=$(sed -n 's/^version = "\(.*\)"/\1/p;T;q' Cargo.toml)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
created=$(git log -1 --format=%ct 2>/dev/null || echo 0)

nice go -C tests/image/dockerfile run . <Dockerfile
echo "building the program for $arch from the files that .dockerignore includes" >&2
printf 'FROM scratch\nCOPY . /\n' >"$work/context.dockerfile"
rm -rf "$target/image/context"
store build --quiet --platform "linux/$arch" --file "$work/context.dockerfile" \
    --output "type=local,dest=$target/image/context" . >/dev/null
# The files have the times of the source tree, but Cargo must see them as new.
find "$target/image/context" -type f -exec touch {} +
(cd "$target/image/context" && image/build.sh program "$arch" "$work/atdata-bridge" >&2)

echo "building the last stage of the Dockerfile" >&2
# No such address exists.
export VERSION=$version REVISION=$revision SOURCE=https://git.example.test/atdata-bridge SOURCE_DATE_EPOCH=$created
image/layout.sh "$arch" "$work/atdata-bridge" "$work/oci"
# buildah makes a name of the path, in which it takes no capitals.
image=$(cd "$work" && store pull --quiet "oci:oci:$version")
# Only the layers are compressed; the other blobs are JSON.
mkdir "$work/root"
size=0
for blob in "$work"/oci/blobs/sha256/*; do
    gzip -t "$blob" 2>/dev/null || continue
    size=$((size + $(stat -c %s "$blob")))
    tar --list --verbose --numeric-owner --gzip --file "$blob" >>"$work/listing"
    tar --extract --gzip --no-same-owner --directory "$work/root" --file "$blob"
done
# shellcheck disable=SC2016 # for buildah to expand
store inspect --type image --format 'user: {{.OCIv1.Config.User}}
entry point: {{.OCIv1.Config.Entrypoint}}
arguments: {{.OCIv1.Config.Cmd}}
environment: {{.OCIv1.Config.Env}}
ports: {{range $port, $_ := .OCIv1.Config.ExposedPorts}}{{$port}}{{end}}
{{range $name, $value := .OCIv1.Config.Labels}}{{$name}}: {{$value}}
{{end}}' "$image" >"$work/config"

echo "running the image" >&2
export QEMU=${qemu:+$(command -v "$qemu")}
rights=(--map-root-user)
[ "$(id -u)" != 0 ] || rights=()
# It has its own network: nothing is reachable, and every port is free. Its mounts end with it.
unshare "${rights[@]}" --mount --net tests/image/check.sh "$work" >"$work/passed" || {
    cat "$work/passed" >&2
    echo "a check of the image failed: see above" >&2
    exit 1
}

mib() { awk -v bytes="$1" 'BEGIN { printf "%.1f MiB", bytes / 1048576 }'; }
cat <<END
# The image

- command: \`make image-test${1:+ ARGS=$1}\`
- platform: linux/$arch$([ -z "$qemu" ] || echo ", built on $own and run by $("$qemu" --version | sed -n '1s/ (.*//p')")
- atdata-bridge: $version
- compiler: $(rustc --version), C library $(getconf GNU_LIBC_VERSION)$([ -z "$qemu" ] || echo " (that of $arch is the cross compiler's)")
- Dockerfile: read by BuildKit's parser $(sed -n 's/^require .*buildkit v//p' tests/image/dockerfile/go.mod) without an objection, built by $(buildah --version | sed 's/ (.*//; s/ version//')
- date: $(date -u '+%Y-%m-%d %H:%M UTC')

| | |
|---|---:|
| the image, compressed | $(mib "$size") |
| unpacked | $(mib "$(awk '{ sum += $3 } END { print sum }' "$work/listing")") |

Its files:

\`\`\`
$(awk '{ size = $3; printf "%s %s %10d  /%s\n", $1, $2, size, $6 }' "$work/listing" | grep -v '^d')
\`\`\`

Its configuration:

\`\`\`
$(grep -v -e revision -e created "$work/config")
\`\`\`

## Checked

$(cat "$work/passed")
END
