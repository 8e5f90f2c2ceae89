#!/bin/sh
# Builds the programs of examples/consumers, with the clients that they need. How to call this is told in
# ../provision.sh.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../provision.sh"
. "$here/../languages.sh"

servers='go java python'
samples=../../../examples/consumers
made_from="$samples/go/main.go $samples/go/go.mod $samples/go/go.sum
    $samples/java/ReadKafka.java $samples/java/ReadJetStream.java $samples/java/pom.xml
    $samples/python/read_kafka.py $samples/python/requirements.txt ../languages.sh"

title() {
    echo "the sample of a consumer in $1"
}

build() {
    folder=$here/$samples/$1
    case $1 in
        go) go_program "$folder" "$2/read-kafka" ;;
        *) "$1_program" "$folder" "$2" ;;
    esac
}

provision "$@"
