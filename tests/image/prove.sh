#!/usr/bin/env bash
# Runs the program in the root file system of its image, as a container runtime would; run.sh starts this in a network
# and with mounts of its own. Prints what was proved, a line each, and fails with the first that does not hold.
#
#   prove.sh WORK   WORK/root is what the image holds, WORK/listing how, WORK/config how it is run
#
# VERSION is what it must say of itself, QEMU the emulator that runs it, if any.
set -euo pipefail

work=$1
root=$work/root
events=20000
mounted=/var/lib/atdata-bridge
pids=()

end() {
    [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
}
trap end EXIT

proved() { echo "- $*"; }

fail() {
    echo "FAILED: $1"
    shift
    printf '%s\n' "$@"
    exit 1
}

# has TEXT WORDS: the text says so.
has() { [[ $1 == *"$2"* ]] || fail "\"$2\" is missing" "$1"; }
lacks() { [[ $1 != *"$2"* ]] || fail "\"$2\" is there" "$1"; }

# until_true WHAT COMMAND...: within half a minute.
until_true() {
    local what=$1 deadline=$((SECONDS + 30))
    shift
    until "$@"; do
        [ $SECONDS -lt $deadline ] || fail "still waiting until $what" "$(tail -n 20 -- "$work"/*.log)"
        sleep 0.05
    done
}

# bridge ARGUMENTS: the image's own entry point as its own user; variables are its environment.
variables=()
as=(--setuid 65532 --setgid 65532)
# Who is not root outside can become nobody else: then it is called 65532, and is who started this.
[ "$(awk '{ print $3; exit }' /proc/self/uid_map)" != 1 ] || as=(--user --map-user=65532 --map-group=65532)
bridge() {
    exec env -i "${variables[@]}" "$(command -v unshare)" --root "$root" --wd / "${as[@]}" -- \
        ${QEMU:+/qemu} /usr/local/bin/atdata-bridge "$@"
}
asked() { (bridge "$@") 2>&1 || true; }

image_is_as_it_says() {
    local config files
    config=$(cat "$work/config")
    has "$config" "user: 65532:65532"
    has "$config" "entry point: [/usr/local/bin/atdata-bridge]"
    has "$config" "arguments: []"
    has "$config" "org.opencontainers.image.version: $VERSION"
    files=$(awk '!/^d/ { print "/" $6 }' "$work/listing" | sort | xargs)
    [ "$files" = "/etc/nsswitch.conf /etc/ssl/certs/ca-certificates.crt /usr/local/bin/atdata-bridge /usr/share/doc/atdata-bridge/LICENSE" ] ||
        fail "other files than expected" "$files"
    # Type and mode, owner: nobody but root may write, and to files not even root; no set-user-id, no link, no device.
    awk '$2 != "0/0" || ($1 !~ /^-r-[x-]r-[x-]r-[x-]$/ && $1 !~ /^drwxr-xr-x$/) { bad = 1; print } END { exit bad }' \
        "$work/listing" || fail "owner or mode, see above"
    proved "four files, all of root's, none that anybody may write to; no shell; user 65532"

    local binary=$root/usr/local/bin/atdata-bridge
    lacks "$(readelf --program-headers --wide "$binary")" INTERP
    lacks "$(readelf --dynamic --wide "$binary")" NEEDED
    proved "the program is static: it names no loader and no shared library"
}

# What a runtime adds: mount points, its own files in /etc, and all of it read-only.
mount_as_a_runtime_does() {
    mkdir -p "$root/etc/atdata-bridge" "$root$mounted" "$work/mounted"
    printf '127.0.0.1 localhost broker.hosts.test\n' >"$root/etc/hosts"
    printf 'nameserver 127.0.0.1\n' >"$root/etc/resolv.conf"
    cat >"$root/etc/atdata-bridge/bridge.toml" <<END
[source]
url = "stomp://127.0.0.1:61613"
username = "12345"
password_file = "/etc/atdata-bridge/password"
namespace = "acme"
destination_id = "main"
connection_id = "image-1"

[sinks.file]
directory = "$mounted/events"

[dead_letters]
directory = "$mounted/dead-letters"
END
    printf '0123456789abcdef0123456789abcdef\n' >"$root/etc/atdata-bridge/password"
    if [ -n "$QEMU" ]; then
        cp "$QEMU" "$root/qemu"
    fi
    mount --bind "$root" "$root"
    mount -t tmpfs -o mode=0777 none "$root$mounted"
    mount -o remount,bind,ro "$root"
    if touch "$root/etc/hosts" 2>/dev/null; then fail "the root is not read-only"; fi
    ip link set lo up
    variables=(BRIDGE_CONFIG=/etc/atdata-bridge/bridge.toml)
}

it_runs() {
    local said
    said=$(asked --version)
    [ "$said" = "atdata-bridge $VERSION" ] || fail "--version" "$said"
    said=$(asked check --offline)
    [ "$said" = "ok      configuration" ] || fail "check --offline" "$said"
    proved "\`--version\` and \`check --offline\`, as 65532, from a read-only root, with neither /proc nor /dev nor /tmp"
    variables+=(BRIDGE__SINKS__FILE__DIRECTORY=/events)
    said=$(asked check)
    has "$said" "FAILED  sink file"
    variables=("${variables[0]}")
    proved "there is nowhere to write but on what is mounted"
}

start_the_simulator() {
    (bridge simulate --events $events >"$work/simulator.log" 2>&1) &
    pids+=($!)
    until_true "the simulator listens" port_open 61613
}

port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

names_are_looked_up() {
    dnsmasq --no-daemon --conf-file=/dev/null --no-hosts --no-resolv --listen-address=127.0.0.1 --bind-interfaces \
        --address=/broker.dns.test/127.0.0.1 2>"$work/dns.log" &
    pids+=($!)
    until_true "the name server listens" port_open 53
    for name in broker.hosts.test broker.dns.test; do
        variables+=("BRIDGE__SOURCE__URL=stomp://$name:61613")
        has "$(asked check)" "ok      broker stomp://$name:61613"
    done
    variables+=("BRIDGE__SOURCE__URL=stomp://unknown.hosts.test:61613")
    has "$(asked check)" "FAILED  broker stomp://unknown.hosts.test:61613"
    variables=("${variables[0]}")
    proved "names are found in /etc/hosts and asked of a name server, by the static C library alone"
}

certificate() { openssl req -x509 -newkey rsa:2048 -nodes -days 2 "$@" 2>"$work/openssl.log"; }

roots_are_found() {
    local bundle=/etc/ssl/certs/ca-certificates.crt said
    certificate -subj "/CN=an authority of the test's own" -keyout "$work/own.key" -out "$work/own.pem"
    certificate -subj /CN=broker -addext subjectAltName=DNS:broker.dns.test -addext basicConstraints=critical,CA:false \
        -CA "$work/own.pem" -CAkey "$work/own.key" -keyout "$work/broker.key" -out "$work/broker.pem"
    socat "OPENSSL-LISTEN:61614,cert=$work/broker.pem,key=$work/broker.key,verify=0,reuseaddr,fork" TCP:127.0.0.1:61613 \
        2>"$work/socat.log" &
    pids+=($!)
    until_true "TLS listens" port_open 61614
    variables+=(BRIDGE__SOURCE__URL=stomp+tls://broker.dns.test:61614 BRIDGE__SOURCE__CONNECT_TIMEOUT=5s
        BRIDGE__SINKS__KAFKA__BROKERS=broker.dns.test:61614 BRIDGE__SINKS__KAFKA__TOPIC=atdata
        BRIDGE__SINKS__KAFKA__TLS__ENABLED=true)

    said=$(asked check)
    has "$said" UnknownIssuer
    has "$said" "$unknown_to_kafka"
    cat "$root$bundle" "$work/own.pem" >"$work/with-own.pem"
    mount --bind "$work/with-own.pem" "$root$bundle"
    said=$(asked check)
    has "$said" "ok      broker stomp+tls://broker.dns.test:61614"
    lacks "$said" "$unknown_to_kafka"
    umount "$root$bundle"
    # Without the roots of the image there are none.
    mount -t tmpfs none "$root/etc/ssl/certs"
    said=$(asked check)
    has "$said" "no root certificates found"
    has "$said" "$unknown_to_kafka"
    umount "$root/etc/ssl/certs"
    variables=("${variables[0]}")
    proved "the roots of the image are those that both TLS libraries trust: a broker that they do not know is refused, one that is added to them is not"
}
unknown_to_kafka="certificate verify failed"

lines() { cat "$root$mounted"/events/*.jsonl* 2>/dev/null || true; }
all_there() { [ "$(lines | wc -l)" -ge $events ]; }

it_mirrors() {
    local bridge status=0
    (bridge >"$work/bridge.log" 2>&1) &
    bridge=$!
    pids+=("$bridge")
    until_true "$events events are in the files" all_there
    kill -TERM "$bridge"
    wait "$bridge" || status=$?
    [ $status -eq 0 ] || fail "it ended with $status" "$(tail -n 20 "$work/bridge.log")"
    local all distinct
    all=$(lines | wc -l)
    distinct=$(lines | sort -u | wc -l)
    [ "$all $distinct" = "$events $events" ] || fail "$all lines, $distinct different ones, of $events"
    # Where there are other users, the files must be this one's.
    [ "${as[0]}" != --setuid ] || [ "$(stat -c %u "$root$mounted/events")" = 65532 ] || fail "it was not 65532 that wrote"
    proved "$events events from \`simulate\` into files on what is mounted, each once; SIGTERM ended it with 0"
}

image_is_as_it_says
mount_as_a_runtime_does
it_runs
start_the_simulator
names_are_looked_up
roots_are_found
it_mirrors
