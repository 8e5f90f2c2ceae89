#!/bin/sh
# Gets the brokers that the tests start: ActiveMQ 5.17 from Debian's package, ActiveMQ 6 from Maven's
# repository, each with TestBroker and TestClient compiled against it. How to call this is told in ../provision.sh.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../provision.sh"

servers='5 6'
made_from='TestBroker.java TestClient.java pom.xml log4j.properties'
packages='default-jdk-headless maven activemq'
debian=/usr/share/activemq/lib

title() {
    echo "ActiveMQ $1"
}

missing() {
    can_compile_java || echo 'a Java 17 development kit (javac)'
    case $1 in
        5) [ -e $debian/activemq-broker.jar ] || echo "Debian's package activemq ($debian)" ;;
        6) command -v mvn >/dev/null || echo 'Maven (mvn)' ;;
    esac
}

build() {
    mkdir "$2/lib" "$2/classes"
    "jars_of_$1" "$2/lib" "$2/classes"
    javac -cp "$2/lib/*" -d "$2/classes" "$here/TestBroker.java" "$here/TestClient.java" >&2
}

jars_of_5() {
    cp -L $debian/*.jar "$1/"
    for jar in activemq-spring xbean-spring log4j-1.2 slf4j-log4j12 spring3-aop spring3-beans spring3-context \
        spring3-core spring3-expression; do
        cp -L "$debian/optional/$jar.jar" "$1/"
    done
    cp "$here/log4j.properties" "$2/"
}

jars_of_6() {
    jars_of_pom "$1"
}

provision "$@"
