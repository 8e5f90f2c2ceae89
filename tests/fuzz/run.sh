#!/bin/sh
# Fuzzes everything that parses bytes from the network, from the configuration or from files, with coverage guidance
# (LLVM's libFuzzer) and the stable compiler. The flags are those of cargo-fuzz without a sanitizer, because the fuzzed
# code has no `unsafe` of ours.
#
#   run.sh [SECONDS [TARGET...]]   fuzzes each target for SECONDS (120), from the same seed; prints a document, and
#                                  fails if a target has found a failure: the output names the input
#
# The corpus is kept in target/fuzz/corpus, so that the next run continues where this one ended.
set -eu
cd "$(dirname "$0")"

seconds=${1:-120}
[ $# -eq 0 ] || shift
targets=${*:-decoder session key cesu8 openwire commands simulator configuration letters id_log http}
seed=1
host=$(rustc -vV | sed -n 's/^host: //p')
build=$(cd ../.. && pwd)/target/fuzz

command -v c++ >/dev/null || { echo 'a C++ compiler is missing; on Debian: apt-get install --no-install-recommends g++' >&2; exit 1; }
# With --target, the flags do not apply to build scripts and procedural macros.
RUSTFLAGS='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares' \
    cargo build --release --locked --quiet --target "$host" --target-dir "$build"

cores=$(nproc)
memory=$(awk '/^MemTotal/ { printf "%.0f", $2 / 1048576 }' /proc/meminfo)
virtual=$(grep -qm1 hypervisor /proc/cpuinfo && echo 'virtual machine' || echo machine)
cat <<END
# Fuzzing

- command: \`make fuzz\`, $seconds s for each target
- seed: $seed
- compiler: $(rustc --version)
- fuzzer: libFuzzer of libfuzzer-sys $(sed -n '/name = "libfuzzer-sys"/{n;s/.*"\(.*\)"/\1/p}' Cargo.lock), debug assertions and overflow checks on
- machine: $cores cores, $memory GiB, $virtual
- date: $(date -u '+%Y-%m-%d %H:%M UTC')

| target | executions | a second | coverage (edges) | inputs kept | findings |
|---|---:|---:|---:|---:|---|
END

failed=0
for target in $targets; do
    echo "$target" >&2
    log=$build/$target.log
    mkdir -p "$build/corpus/$target" "$build/found/$target"
    dictionary=
    [ ! -e "dictionaries/$target" ] || dictionary=-dict=dictionaries/$target
    finding=none
    "$build/$host/release/$target" -seed=$seed -max_total_time="$seconds" -max_len=4096 -timeout=20 \
        -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$build/found/$target/" $dictionary \
        "$build/corpus/$target" "corpus/$target" >"$log" 2>&1 || {
        failed=1
        finding=$(sed -n 's/.*panicked at \(.*\):$/\1/p; s/^SUMMARY: libFuzzer: //p' "$log" | head -n 1)
        grep -A3 'panicked at\|^SUMMARY\|Test unit written' "$log" >&2 || tail -n 20 "$log" >&2
    }
    stat() { sed -n "s/^stat::$1: *//p" "$log"; }
    coverage=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    kept=$(find "$build/corpus/$target" -type f | wc -l)
    echo "| $target | $(stat number_of_executed_units) | $(stat average_exec_per_sec) | $coverage | $kept | $finding |"
done
exit $failed
