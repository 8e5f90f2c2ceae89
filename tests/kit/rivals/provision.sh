#!/bin/sh
# Builds the rivals of `make bench-rivals`: programs that carry the events without the bridge, one in each language.
# How to call this is told in ../provision.sh.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../provision.sh"
. "$here/../languages.sh"

servers='go java python'
made_from='go/main.go go/stomp.go go/kafka.go go/nats.go go/file.go go/go.mod go/go.sum
    java/Rival.java java/pom.xml python/rival.py python/requirements.txt ../languages.sh'

title() {
    echo "the rival in $1"
}

build() {
    case $1 in
        go) go_program "$here/go" "$2/rival" ;;
        *) "$1_program" "$here/$1" "$2" ;;
    esac
}

provision "$@"
