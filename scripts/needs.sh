#!/bin/sh
# Installs what the tests need and a plain machine lacks: strace, for the order of write, sync and
# answer. Where it cannot be installed the test that needs it says so and is skipped.
set -eu

command -v strace >/dev/null 2>&1 && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    DEBIAN_FRONTEND=noninteractive apt-get install -y strace >/dev/null && exit 0
fi
echo "needs.sh: strace is missing; install it to test that an answer comes after the sync" >&2
