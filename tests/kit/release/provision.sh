#!/bin/sh
# Gets the tools that publish a release and check what was published: cosign, crane and Helm, and for the test a registry,
# actionlint and check-jsonschema. Go builds most of them from their modules, which takes minutes. How to call this is
# told in ../provision.sh.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../provision.sh"

servers='actionlint check-jsonschema cosign crane helm registry'
made_from='registry/main.go registry/go.mod registry/go.sum'
packages='golang-go python3-venv'

title() {
    echo "$1"
}

missing() {
    case $1 in
        check-jsonschema) has_venv || echo 'Python with venv' ;;
        *) has_go || echo 'Go 1.21 or newer' ;;
    esac
}

has_venv() {
    command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null
}

has_go() {
    # Since 1.21, Go gets by itself the newer Go that a module asks for.
    command -v go >/dev/null && [ "$(go env GOVERSION | sed 's/^go1\.\([0-9]*\).*/\1/')" -ge 21 ]
}

build() {
    case $1 in
        actionlint) go_install "$2" github.com/rhysd/actionlint/cmd/actionlint@v1.7.12 ;;
        check-jsonschema)
            python3 -m venv "$2/venv"
            "$2/venv/bin/python" -m pip install -q --disable-pip-version-check check-jsonschema==0.39.0 >&2
            ;;
        cosign) go_install "$2" github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3 ;;
        crane) go_install "$2" github.com/google/go-containerregistry/cmd/crane@v0.22.1 ;;
        helm) go_install "$2" helm.sh/helm/v4/cmd/helm@v4.3.1 ;;
        registry) (cd "$here/registry" && GOTOOLCHAIN=auto CGO_ENABLED=0 \
            go build -mod=readonly -trimpath -buildvcs=false -ldflags=-s -o "$2/registry" .) >&2 ;;
    esac
}

provision "$@"
