#!/bin/sh
# Greets people: hello.sh GREETING NAME...
set -eu

greeting=$1
shift
total=$#
done=0

for name; do
    echo "$greeting, $name"
    done=$((done + 1))
    # Progress: one JSON object a line on the event descriptor.
    eval "echo '{\"done\": $done, \"total\": $total, \"text\": \"people\"}' >&${CAPSULE_EVENT_FD:-2}"
done

# The result: whatever stands in this file at the end.
printf '{"greeted": %d, "attempt": %d}\n' "$done" "$CAPSULE_ATTEMPT" > "$CAPSULE_RESULT_FILE"
