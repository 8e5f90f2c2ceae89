#!/usr/bin/env bash
# Runs the program in the root file system of its image, as a container runtime does. run.sh starts this script with
# its own network and mounts. Prints one line for each passed check; the first failed check ends it.
#
#   check.sh WORK   WORK/root has the image's files, WORK/listing their modes and owners, WORK/config its configuration
#
# VERSION is the version that the program must print; REVISION, SOURCE and SOURCE_DATE_EPOCH are what the labels must
# say. QEMU is the emulator, if there is one.
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

passed() { echo "- $*"; }

fail() {
    echo "FAILED: $1"
    shift
    printf '%s\n' "$@"
    exit 1
}

# has TEXT WORDS: the text must contain the words.
has() { [[ $1 == *"$2"* ]] || fail "\"$2\" is missing" "$1"; }
lacks() { [[ $1 != *"$2"* ]] || fail "\"$2\" is there" "$1"; }

# until_true WHAT COMMAND...: waits until the command succeeds, for at most half a minute.
until_true() {
    local what=$1 deadline=$((SECONDS + 30))
    shift
    until "$@"; do
        [ $SECONDS -lt $deadline ] || fail "still waiting until $what" "$(tail -n 20 -- "$work"/*.log)"
        sleep 0.05
    done
}

# bridge ARGUMENTS: runs the image's entry point as the image's user; `variables` is its environment.
variables=()
as=(--setuid 65532 --setgid 65532)
# Without root, no other user is available: then 65532 is mapped to the user who started this.
[ "$(awk '{ print $3; exit }' /proc/self/uid_map)" != 1 ] || as=(--user --map-user=65532 --map-group=65532)
bridge() {
    exec env -i "${variables[@]}" "$(command -v unshare)" --root "$root" --wd / "${as[@]}" -- \
        ${QEMU:+/qemu} /usr/local/bin/atdata-bridge "$@"
}
output_of() { (bridge "$@") 2>&1 || true; }

image_has_the_expected_content() {
    local config files
    config=$(cat "$work/config")
    has "$config" "user: 65532:65532"
    has "$config" "entry point: [/usr/local/bin/atdata-bridge]"
    has "$config" "arguments: []"
    files=$(awk '!/^d/ { print "/" $6 }' "$work/listing" | sort | xargs)
    [ "$files" = "/etc/nsswitch.conf /etc/ssl/certs/ca-certificates.crt /usr/local/bin/atdata-bridge /usr/share/doc/atdata-bridge/LICENSE" ] ||
        fail "unexpected files" "$files"
    # Type and mode, owner: only root may write into directories, nobody into files; no set-user-id, no link, no device.
    awk '$2 != "0/0" || ($1 !~ /^-r-[x-]r-[x-]r-[x-]$/ && $1 !~ /^drwxr-xr-x$/) { bad = 1; print } END { exit bad }' \
        "$work/listing" || fail "owner or mode, see above"
    passed "four files, all owned by root and not writable; no shell; user 65532"

    local expected
    expected=$(printf 'org.opencontainers.image.%s\n' "created: $(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)" \
        "description: Mirrors AtData's real-time email events from ActiveMQ into Kafka, NATS JetStream and files" \
        "documentation: $SOURCE/tree/$REVISION/docs" "licenses: Apache-2.0" "revision: $REVISION" "source: $SOURCE" \
        "title: atdata-bridge" "url: $SOURCE" "version: $VERSION")
    [ "$(sed -n '/^org\./p' "$work/config" | LC_ALL=C sort)" = "$expected" ] || fail "unexpected labels" "$config"
    passed "nine labels: what it is, from which revision of which repository, and where its documents are"

    local binary=$root/usr/local/bin/atdata-bridge
    lacks "$(readelf --program-headers --wide "$binary")" INTERP
    lacks "$(readelf --dynamic --wide "$binary")" NEEDED
    passed "the program is static: it needs no loader and no shared library"
}

# Adds what a container runtime adds: mount points and its own files in /etc. Then makes all of it read-only.
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
    local output
    output=$(output_of --version)
    [ "$output" = "atdata-bridge $VERSION" ] || fail "--version" "$output"
    output=$(output_of check --offline)
    [ "$output" = "ok      configuration" ] || fail "check --offline" "$output"
    passed "\`--version\` and \`check --offline\`, as 65532, from a read-only root, with neither /proc nor /dev nor /tmp"
    variables+=(BRIDGE__SINKS__FILE__DIRECTORY=/events)
    output=$(output_of check)
    has "$output" "FAILED  sink file"
    variables=("${variables[0]}")
    passed "only mounted volumes are writable"
}

start_the_simulator() {
    (bridge simulate --events $events >"$work/simulator.log" 2>&1) &
    pids+=($!)
    until_true "the simulator listens" port_open 61613
}

port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

names_are_resolved() {
    dnsmasq --no-daemon --conf-file=/dev/null --no-hosts --no-resolv --listen-address=127.0.0.1 --bind-interfaces \
        --address=/broker.dns.test/127.0.0.1 2>"$work/dns.log" &
    pids+=($!)
    until_true "the name server listens" port_open 53
    for name in broker.hosts.test broker.dns.test; do
        variables+=("BRIDGE__SOURCE__URL=stomp://$name:61613")
        has "$(output_of check)" "ok      broker stomp://$name:61613"
    done
    variables+=("BRIDGE__SOURCE__URL=stomp://unknown.hosts.test:61613")
    has "$(output_of check)" "FAILED  broker stomp://unknown.hosts.test:61613"
    variables=("${variables[0]}")
    passed "the static C library resolves names with /etc/hosts and a name server"
}

certificate() { openssl req -x509 -newkey rsa:2048 -nodes -days 2 "$@" 2>"$work/openssl.log"; }

ca_certificates_are_used() {
    local bundle=/etc/ssl/certs/ca-certificates.crt output
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

    output=$(output_of check)
    has "$output" "FAILED  broker stomp+tls://broker.dns.test:61614"
    has "$output" "$unknown_to_broker"
    has "$output" "$unknown_to_kafka"
    cat "$root$bundle" "$work/own.pem" >"$work/with-own.pem"
    mount --bind "$work/with-own.pem" "$root$bundle"
    output=$(output_of check)
    has "$output" "ok      broker stomp+tls://broker.dns.test:61614"
    lacks "$output" "$unknown_to_kafka"
    umount "$root$bundle"
    # Without the image's CA certificates, there are none.
    mount -t tmpfs none "$root/etc/ssl/certs"
    output=$(output_of check)
    has "$output" "TLS with stomp+tls://broker.dns.test:61614 failed: this system has no certificates to trust"
    has "$output" "FAILED  sink kafka: broker.dns.test:61614: this system has no certificates to trust"
    umount "$root/etc/ssl/certs"
    variables=("${variables[0]}")
    passed "both TLS libraries trust the image's CA certificates: a broker with another CA is refused until that CA is added"
}
unknown="the certificate of CN=broker was issued by CN=an authority of the test's own, whose certificate is neither in the system's certificates nor sent"
unknown_to_broker="TLS with stomp+tls://broker.dns.test:61614 failed: $unknown"
unknown_to_kafka="FAILED  sink kafka: broker.dns.test:61614: $unknown"

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
    [ $status -eq 0 ] || fail "the bridge ended with $status" "$(tail -n 20 "$work/bridge.log")"
    local all distinct
    all=$(lines | wc -l)
    distinct=$(lines | sort -u | wc -l)
    [ "$all $distinct" = "$events $events" ] || fail "$all lines, $distinct different ones, of $events"
    # With root, the files must be owned by 65532.
    [ "${as[0]}" != --setuid ] || [ "$(stat -c %u "$root$mounted/events")" = 65532 ] || fail "the files are not owned by 65532"
    passed "$events events from \`simulate\` into files on a mounted volume, each once; after SIGTERM, exit code 0"
}

image_has_the_expected_content
mount_as_a_runtime_does
it_runs
start_the_simulator
names_are_resolved
ca_certificates_are_used
it_mirrors
