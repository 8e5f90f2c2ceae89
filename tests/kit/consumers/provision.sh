#!/bin/sh
# Compiles the consumers that docs/consumers.md shows, with the clients that they need from Maven's
# repository. How to call this is told in ../provision.sh.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../provision.sh"

servers=samples
samples=../../../examples/consumers
made_from="$samples/ReadKafka.java $samples/ReadJetStream.java $samples/pom.xml"
packages='default-jdk-headless maven'

title() {
    echo 'the samples of consumers'
}

missing() {
    can_compile_java || echo 'a Java 17 development kit (javac)'
    command -v mvn >/dev/null || echo 'Maven (mvn)'
}

build() {
    mkdir "$2/lib" "$2/classes"
    (here=$here/$samples; jars_of_pom "$2/lib")
    javac -cp "$2/lib/*" -d "$2/classes" "$here/$samples/ReadKafka.java" "$here/$samples/ReadJetStream.java" >&2
}

provision "$@"
