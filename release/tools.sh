# What the scripts of the release share. They source it from the root of the tree.

# shellcheck shell=bash

# A failure inside of $( ) is one of the script.
shopt -s inherit_errexit

fail() {
    echo "$1" >&2
    exit 1
}

# Prints the comment at the start of script $1 that says how to call it, and ends.
usage() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$1" >&2
    exit 64
}

# Puts the tools of the release that are named first into PATH. They are built from pinned versions.
use_tools() {
    local tool directory
    for tool in "$@"; do
        directory=$(tests/kit/release/provision.sh --where "$tool") || exit 1
        PATH=$directory:$PATH
    done
}

digest_of() {
    sha256sum "$1" | cut -d ' ' -f 1
}
