#!/bin/sh
# Gets what the tests of the status page drive: Debian's Chromium, with playwright-core and axe-core from npm. How to
# call this is told in ../provision.sh.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../provision.sh"

servers=chromium
made_from='package.json package-lock.json drive.js'
packages='chromium fonts-inter'
command -v node >/dev/null && command -v npm >/dev/null || packages="$packages nodejs npm"

title() {
    echo 'the browser'
}

missing() {
    command -v chromium >/dev/null || echo 'Chromium'
    command -v npm >/dev/null && command -v node >/dev/null &&
        [ "$(node -p 'process.versions.node.split(".")[0]')" -ge 18 ] || echo 'Node.js 18 or newer with npm'
}

build() {
    cp "$here/package.json" "$here/package-lock.json" "$here/drive.js" "$2/"
    npm ci --prefix "$2" --ignore-scripts --no-audit --no-fund
    ln -s "$(command -v chromium)" "$2/chromium"
}

provision "$@"
