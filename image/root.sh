#!/bin/sh
# Makes the file system of the image. This is the only list of its files.
#
#   root.sh PROGRAM DIRECTORY
set -eu
umask 022

roots=/etc/ssl/certs/ca-certificates.crt
[ -s "$roots" ] || { echo "there are no certificates to trust in $roots; on Debian: apt-get install ca-certificates" >&2; exit 1; }
licence=$(dirname "$0")/../LICENSE

install -D -m 0555 "$1" "$2/usr/local/bin/atdata-bridge"
install -D -m 0444 "$roots" "$2$roots"
install -D -m 0444 "$licence" "$2/usr/share/doc/atdata-bridge/LICENSE"
# Without it, glibc's default decides whether /etc/hosts, where Kubernetes puts `hostAliases`, is read first.
echo 'hosts: files dns' >"$2/etc/nsswitch.conf"
chmod 0444 "$2/etc/nsswitch.conf"
