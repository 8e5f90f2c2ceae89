#!/bin/sh
# Gets the Kafka that the tests start, from Maven's repository, with TestKafka and Partitions compiled
# against it. How to call this is told in ../provision.sh.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../provision.sh"

servers=4
made_from='TestKafka.java Partitions.java pom.xml simplelogger.properties'
packages='default-jdk-headless maven'

title() {
    echo "Kafka $1"
}

missing() {
    can_compile_java || echo 'a Java 17 development kit (javac)'
    command -v mvn >/dev/null || echo 'Maven (mvn)'
}

build() {
    mkdir "$2/lib" "$2/classes"
    jars_of_pom "$2/lib"
    javac -cp "$2/lib/*" -d "$2/classes" "$here/TestKafka.java" "$here/Partitions.java" >&2
    cp "$here/simplelogger.properties" "$2/classes/"
}

provision "$@"
