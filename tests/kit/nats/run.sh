#!/bin/sh
# Runs a NATS server as the very process that this was started as: says "ready" once it serves, and ends when
# standard input ends, so that none outlives its test run.
#
#   run.sh LOG COMMAND...   LOG is where standard error goes
set -eu

log=$1
shift
logged=$(wc -c <"$log")
exec 3<&0 4>&1 </dev/null >/dev/null

# Without a look at the name, the number might be another process's by now.
(cat <&3 >/dev/null; grep -q nats-server "/proc/$$/comm" && kill -KILL $$) 2>/dev/null 4>&- &

# A process that has ended, and that nobody has asked for its status yet, has no program any more.
(while [ -e "/proc/$$/exe" ]; do
    tail -c "+$((logged + 1))" "$log" | grep -q 'Server is ready' && echo ready >&4 && break
    sleep 0.02
done) 2>/dev/null 3<&- &

exec "$@" 3<&- 4>&-
