#!/bin/sh
# Gets the brokers that the tests start: ActiveMQ 5.17 from Debian's package, ActiveMQ 6 from Maven's
# repository, each with TestBroker compiled against it.
#
#   provision.sh             makes everything ready, as far as this machine allows, and tells what is missing;
#                            with REQUIRE_BROKERS=1 something missing is a failure
#   provision.sh --where V   prints the directory of broker V (5 or 6), or why there is none, and fails
#
# A broker's directory stands in ${XDG_CACHE_HOME:-$HOME/.cache}/atdata-bridge. Its name holds a digest of what
# it was made from, and it appears by one rename: there is never a half-made or an outdated one.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/atdata-bridge
packages='default-jdk-headless maven activemq'
debian=/usr/share/activemq/lib

directory_of() {
    digest=$(cat "$here/TestBroker.java" "$here/pom.xml" "$here/log4j.properties" "$0" | sha256sum | cut -c1-12)
    echo "$cache/activemq-$1-$digest"
}

can_compile() {
    command -v java >/dev/null && command -v javac >/dev/null &&
        [ "$(javac -version 2>&1 | sed 's/^javac \([0-9]*\).*/\1/')" -ge 17 ]
}

# Prints what broker $1 still needs on this machine; nothing when it could be made.
missing() {
    can_compile || echo 'a Java 17 development kit (javac)'
    case $1 in
        5) [ -e $debian/activemq-broker.jar ] || echo "Debian's package activemq ($debian)" ;;
        6) command -v mvn >/dev/null || echo 'Maven (mvn)' ;;
    esac
}

advice="on Debian: apt-get install --no-install-recommends $packages; then: make brokers"

where() {
    directory=$(directory_of "$1")
    if [ -d "$directory" ]; then
        echo "$directory"
        return
    fi
    lacking=$(missing "$1" | paste -sd, - | sed 's/,/, /g')
    echo "ActiveMQ $1 is not provisioned${lacking:+: missing $lacking}; $advice" >&2
    return 1
}

install_packages() {
    [ -z "$(missing 5)$(missing 6)" ] && return
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 0
    echo "installing $packages" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q -o DPkg::Lock::Timeout=300 update >&2 || true
    # shellcheck disable=SC2086 # several words on purpose
    apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends $packages >&2 || true
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
    cp "$here/pom.xml" "$work/"
    mvn -B -f "$work/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$1" \
        >"$work/mvn.log" 2>&1 || { tail -n 20 "$work/mvn.log" >&2; return 1; }
}

make_broker() {
    directory=$(directory_of "$1")
    [ -d "$directory" ] && return
    [ -z "$(missing "$1")" ] || return 0
    echo "provisioning ActiveMQ $1 into $directory" >&2
    work=$(mktemp -d "$cache/.making.XXXXXX")
    mkdir "$work/broker" "$work/broker/lib" "$work/broker/classes"
    "jars_of_$1" "$work/broker/lib" "$work/broker/classes"
    javac -cp "$work/broker/lib/*" -d "$work/broker/classes" "$here/TestBroker.java" >&2
    chmod 755 "$work/broker"
    mv "$work/broker" "$directory"
    rm -rf "$work"
}

all() {
    mkdir -p "$cache"
    # One at a time; what an interrupted run left behind is nobody's while the lock is held.
    exec 9>"$cache/lock"
    flock 9
    rm -rf "$cache"/.making.*
    install_packages
    status=0
    for version in 5 6; do
        # A subshell with its own -e: a failure of one broker leaves the other possible.
        set +e
        (set -e; make_broker "$version")
        set -e
        where "$version" >/dev/null || status=1
    done
    [ "${REQUIRE_BROKERS:-}" != 1 ] || return $status
}

case ${1:-} in
    '') all ;;
    --where) where "$2" ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 64 ;;
esac
