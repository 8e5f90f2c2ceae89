#!/bin/sh
# Builds the API server that the chart is shown to: kube-apiserver and etcd from their modules, in one program. The
# first time it takes ten minutes and more. How to call this is told in ../provision.sh.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../provision.sh"

servers=1.37
made_from='main.go go.mod go.sum'
packages='golang-go'

title() {
    echo "the API server of Kubernetes $1"
}

missing() {
    # Since 1.21, Go gets by itself the newer Go that a module asks for.
    command -v go >/dev/null && [ "$(go env GOVERSION | sed 's/^go1\.\([0-9]*\).*/\1/')" -ge 21 ] ||
        echo 'Go 1.21 or newer'
}

# Its version is what clients are told; a build of the module alone does not know it.
build() {
    release=$(sed -n 's/^.*k8s.io\/kubernetes v\([0-9.]*\).*$/\1/p' "$here/go.mod")
    version=k8s.io/component-base/version
    (cd "$here" && GOFLAGS=-mod=readonly GOTOOLCHAIN=auto CGO_ENABLED=0 go build -trimpath -buildvcs=false -o "$2/apiserver" -ldflags "-s
        -X $version.gitVersion=v$release -X $version.gitMajor=${1%.*} -X $version.gitMinor=${1#*.}" .) >&2
}

provision "$@"
