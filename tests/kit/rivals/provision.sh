#!/bin/sh
# Builds the rivals of `make bench-rivals`: programs that carry the events without the bridge, one in each language.
# How to call this is told in ../provision.sh.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../provision.sh"

servers='go java python'
made_from='go/main.go go/stomp.go go/kafka.go go/nats.go go/file.go go/go.mod go/go.sum
    java/Rival.java java/pom.xml python/rival.py python/requirements.txt'
packages='golang-go default-jdk-headless maven python3-venv'

title() {
    echo "the rival in $1"
}

missing() {
    "missing_$1"
}

# Since 1.21, Go gets by itself the newer Go that a module asks for.
missing_go() {
    command -v go >/dev/null && [ "$(go env GOVERSION | sed 's/^go1\.\([0-9]*\).*/\1/')" -ge 21 ] ||
        echo 'Go 1.21 or newer'
}

missing_java() {
    can_compile_java || echo 'a Java 17 development kit (javac)'
    command -v mvn >/dev/null || echo 'Maven (mvn)'
}

missing_python() {
    command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null || echo 'Python with venv'
}

build() {
    "build_$1" "$2"
}

build_go() {
    (cd "$here/go" && GOFLAGS=-mod=readonly GOTOOLCHAIN=auto CGO_ENABLED=0 \
        go build -trimpath -buildvcs=false -ldflags=-s -o "$1/rival" .) >&2
}

build_java() {
    mkdir "$1/lib" "$1/classes"
    (here=$here/java; jars_of_pom "$1/lib")
    javac -cp "$1/lib/*" -d "$1/classes" "$here/java/Rival.java" >&2
}

# A virtual environment finds its packages from where its interpreter is: it may be moved.
build_python() {
    python3 -m venv "$1/venv"
    "$1/venv/bin/python" -m pip install -q --disable-pip-version-check -r "$here/python/requirements.txt" >&2
    cp "$here/python/rival.py" "$1/"
}

provision "$@"
