# What the scripts share that get the servers of the tests: the provision.sh of each sources this, says
#
#   servers     its servers, a word each
#   made_from   the files beside it that they are made from
#   packages    the packages of Debian that this takes
#   title S     what people call server S
#   missing S   prints what server S still needs on this machine; nothing when it could be made
#   build S D   makes it in the new directory D; $work is for what is needed on the way. What it prints is shown if
#               it fails; what it writes to descriptor 3 is shown in any case
#
# and calls: provision "$@"
#
#   provision.sh             makes everything ready, as far as this machine allows, and tells what is missing;
#                            with REQUIRE_BROKERS=1 something missing is a failure
#   provision.sh --make      only the first half of this; --missing: only the second
#   provision.sh --where S   prints the directory of server S, or why there is none, and fails
#
# Several may run at once, for the same servers or others.
#
# A server's directory stands in ${XDG_CACHE_HOME:-$HOME/.cache}/atdata-bridge. Its name holds a digest of what
# it was made from, and it appears by one rename: there is never a half-made or an outdated one.

# shellcheck shell=sh disable=SC2154 # what the sourcing script says
cache=${XDG_CACHE_HOME:-$HOME/.cache}/atdata-bridge
kind=$(basename "$here")

directory_of() {
    # shellcheck disable=SC2086 # several words on purpose
    digest=$(cd "$here" && cat $made_from provision.sh ../provision.sh | sha256sum | cut -c1-12)
    echo "$cache/$kind-$1-$digest"
}

work_of() {
    echo "$cache/.making-$kind-$1"
}

can_compile_java() {
    command -v java >/dev/null && command -v javac >/dev/null &&
        [ "$(javac -version 2>&1 | sed 's/^javac \([0-9]*\).*/\1/')" -ge 17 ]
}

# Puts the jars that pom.xml asks for, and all that they need, into directory $1. Maven's repository is made for one
# Maven at a time.
jars_of_pom() {
    cp "$here/pom.xml" "$work/"
    flock "$cache/.lock-maven" \
        mvn -B -f "$work/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$1"
}

# Builds a program of Go into directory $1; the rest is for `go install`: package@version. A toolchain is downloaded
# only where the one that is installed is too old for it.
go_install() {
    into=$1
    shift
    for toolchain in local auto; do
        GOBIN=$into GOTOOLCHAIN=$toolchain GOFLAGS='-trimpath -buildvcs=false -ldflags=-s' CGO_ENABLED=0 \
            go install "$@" >&2 && return
    done
    return 1
}

where() {
    directory=$(directory_of "$1")
    if [ -d "$directory" ]; then
        echo "$directory"
        return
    fi
    lacking=$(missing "$1" | paste -sd, - | sed 's/,/, /g')
    advice="on Debian: apt-get install --no-install-recommends $packages; then: make brokers"
    echo "$(title "$1") is not provisioned${lacking:+: missing $lacking}; $advice" >&2
    return 1
}

install_packages() {
    exec 9>"$cache/.lock-packages"
    flock 9
    # Another script may have installed them meanwhile.
    [ -n "$(for server in $servers; do missing "$server"; done)" ] || return 0
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 0
    echo "installing $packages" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q -o DPkg::Lock::Timeout=300 update >&2 || true
    # shellcheck disable=SC2086 # several words on purpose
    apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends $packages >&2 || true
}

make_unless_there() {
    directory=$(directory_of "$1")
    exec 9>"$cache/.lock-$kind-$1"
    flock 9
    # What an earlier run left behind is nobody's while the lock is held.
    work=$(work_of "$1")
    rm -rf "$work"
    [ -d "$directory" ] && return
    [ -z "$(missing "$1")" ] || return 0
    echo "provisioning $(title "$1") into $directory" >&2
    mkdir -p "$work/server"
    build "$1" "$work/server" 3>&2 >"$work/build.log" 2>&1
    chmod 755 "$work/server"
    mv "$work/server" "$directory"
    rm -rf "$work"
}

make_all() {
    mkdir -p "$cache"
    (install_packages)
    for server in $servers; do
        # A subshell with its own -e: a failure of one server leaves the others possible.
        set +e
        (set -e; make_unless_there "$server")
        # shellcheck disable=SC2181 # in a condition, the subshell would have no -e
        [ $? = 0 ] || echo "$(title "$server") could not be made" >&2
        set -e
    done
}

tell_missing() {
    status=0
    for server in $servers; do
        where "$server" >/dev/null && continue
        status=1
        log=$(work_of "$server")/build.log
        [ ! -e "$log" ] || tail -n 20 "$log" >&2
    done
    [ "${REQUIRE_BROKERS:-}" != 1 ] || return $status
}

provision() {
    case ${1:-} in
        '') make_all; tell_missing ;;
        --make) make_all ;;
        --missing) tell_missing ;;
        --where) where "$2" ;;
        *) sed -n '/^#   provision.sh /,/^$/s/^# \{0,1\}//p' "$here/../provision.sh"; exit 64 ;;
    esac
}
