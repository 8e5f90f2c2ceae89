#!/bin/sh
# Gets the NATS server that the tests start: the newest release, built by Go from its module proxy; where that
# can't be done, Debian's package, which is older. How to call this is told in ../provision.sh.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../provision.sh"

servers=2
made_from=''
packages='golang-go nats-server'
version=v2.15.2

title() {
    echo 'the NATS server'
}

missing() {
    command -v go >/dev/null || command -v nats-server >/dev/null ||
        echo "Go 1.26 or newer, or Debian's package nats-server"
}

build() {
    if command -v go >/dev/null && go_install "$2" "github.com/nats-io/nats-server/v2@$version"; then
        return
    fi
    command -v nats-server >/dev/null || {
        echo "Go can't build nats-server $version here, and Debian's package nats-server is not installed" >&2
        return 1
    }
    cp "$(command -v nats-server)" "$2/"
    echo "taking Debian's $("$2/nats-server" --version) instead of $version; remove $cache/nats-* to try again" >&3
}

provision "$@"
