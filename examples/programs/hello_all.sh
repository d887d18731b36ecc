#!/bin/sh
# Submits hello_sh for the same people, waits for it, and returns what it returned. The daemon of
# this task is found by CAPSULE_SOCKET; capsule stands first in PATH.
set -eu

flags=
for name; do
    flags="$flags --names $name"
done

# shellcheck disable=SC2086 # one word per flag
id=$(capsule submit hello_sh $flags --quiet)
echo "task $CAPSULE_TASK_ID submitted task $id"
capsule result "$id" --wait > "$CAPSULE_RESULT_FILE"
