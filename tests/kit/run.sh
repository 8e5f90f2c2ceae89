#!/bin/sh
# Runs a server of NATS or Prometheus in place of this process. It prints "ready" when the log of the server says so, and
# ends when standard input ends, so that no server outlives its test run.
#
#   run.sh LOG COMMAND...   LOG is the file of standard error
set -eu

log=$1
shift
logged=$(wc -c <"$log")
name=$(basename "$1")
exec 3<&0 4>&1 </dev/null >/dev/null

# Checks the name, because another process could have the id by now.
(cat <&3 >/dev/null; grep -qx "$name" "/proc/$$/comm" && kill -KILL $$) 2>/dev/null 4>&- &

# A process that has ended and was not waited for (a zombie) has no `exe` any more.
(while [ -e "/proc/$$/exe" ]; do
    tail -c "+$((logged + 1))" "$log" | grep -q 'Server is ready' && echo ready >&4 && break
    sleep 0.02
done) 2>/dev/null 3<&- &

exec "$@" 3<&- 4>&-
