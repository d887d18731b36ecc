#!/bin/sh
# Sees to it that a make target finds what it runs: installs what is missing where that is possible
# without asking (Debian packages as root, cargo's own tools), else names it with the fix. Only what
# nothing can be built without ends the target; a test whose tool is missing says so and skips.
set -u

have() { command -v "$1" >/dev/null 2>&1; }

say() { echo "needs: $*" >&2; }

stop() {
    say "$*"
    exit 1
}

# package COMMAND PACKAGE WHY
package() {
    have "$1" && return 0
    if [ "$(id -u)" = 0 ] && have apt-get; then
        say "installing $2 ($3)"
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$2" >/dev/null 2>&1 || {
            apt-get update -q >/dev/null 2>&1
            DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$2" >/dev/null 2>&1
        }
        have "$1" && return 0
    fi
    say "$1 is missing ($3); on Debian: apt install $2"
    return 1
}

# tool COMMAND CRATE
tool() {
    have "$1" && return 0
    say "installing $2, once"
    cargo install --locked "$2" || stop "$2 could not be installed: cargo install --locked $2"
}

toolchain() {
    have cargo || stop "cargo is missing (Rust 1.90 or later); get it from https://rustup.rs"
    package cc build-essential "links Rust programs" || exit 1
}

# environment FOLDER: a fresh environment of Python; Debian has what makes it in a package apart.
environment() {
    package python3 python3 "runs Capsule apps" || return 1
    rm -rf "$1"
    python3 -m venv "$1" >/dev/null 2>&1 && return 0
    package pyvenv python3-venv "makes environments of Python" >/dev/null 2>&1 || true
    rm -rf "$1"
    python3 -m venv "$1"
}

# The SDK that the tests and the demo run apps with, unmodified, in an environment of its own.
SDK_VERSION=0.3.181
sdk() {
    folder=${CARGO_TARGET_DIR:-target}/sdk
    mark=$folder/cpsl-$SDK_VERSION-croniter
    [ -e "$mark" ] && return 0
    environment "$folder" || return 1
    say "installing cpsl $SDK_VERSION for the tests, once"
    "$folder/bin/pip" install --quiet --disable-pip-version-check \
        "cpsl==$SDK_VERSION" croniter || return 1
    : >"$mark"
}

# What drives the web board in a real browser: Chromium of Debian, Playwright without a browser of its
# own, and axe for accessibility.
PLAYWRIGHT=1.65.1 AXE=4.14.1
browser() {
    package chromium chromium "shows the web board" && package node nodejs "drives the browser" &&
        package npm npm "installs what drives the browser" || return 1
    folder=${CARGO_TARGET_DIR:-target}/web
    mark=$folder/playwright-$PLAYWRIGHT-axe-$AXE
    [ -e "$mark" ] && return 0
    say "installing Playwright and axe for the tests, once"
    mkdir -p "$folder"
    npm install --prefix "$folder" --silent --no-audit --no-fund --no-save \
        "playwright-core@$PLAYWRIGHT" "axe-core@$AXE" >/dev/null || return 1
    : >"$mark"
}

# The queues of others that `make bench-peers` measures beside ours, below target/peers but for the
# Debian packages. None is needed: one that cannot be had is named here, and again in the table.
PUEUE=4.0.4 BULLMQ=6.7.0 IOREDIS=5.8.2 RQ=3.0.0 HUEY=3.5.4 PROCRASTINATE=3.10.0

# server COMMAND PACKAGE WHY: installs a server without starting the system's own service.
server() {
    have "$1" || [ -x "/usr/sbin/$1" ] && return 0
    package "$1" "$2" "$3"
    found=$?
    if [ "$found" = 0 ] && have service && service "$2" status >/dev/null 2>&1; then
        say "stopping the service $2, which the package has started"
        service "$2" stop >/dev/null 2>&1
    fi
    return "$found"
}

peers() {
    folder=${CARGO_TARGET_DIR:-target}/peers
    mkdir -p "$folder"
    package tsp task-spooler "a peer" || true
    server redis-server redis-server "a peer" || true
    server beanstalkd beanstalkd "a peer" || true
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || server pg_ctlcluster postgresql "a peer" || true
    if ! "$folder/bin/pueue" --version 2>/dev/null | grep -q " $PUEUE\$"; then
        say "building pueue $PUEUE, once: some minutes"
        cargo install --quiet --locked --force "pueue@$PUEUE" --root "$folder" \
            --target-dir "$folder/build" || say "pueue $PUEUE could not be built"
    fi
    mark=$folder/venv/rq-$RQ-huey-$HUEY-procrastinate-$PROCRASTINATE
    if [ ! -e "$mark" ]; then
        environment "$folder/venv" && say "installing RQ, huey and procrastinate, once" &&
            "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "rq==$RQ" \
                "huey==$HUEY" "procrastinate==$PROCRASTINATE" "psycopg[binary,pool]>=3,<4" &&
            : >"$mark" || say "the peers in Python cannot be had"
    fi
    mark=$folder/node/bullmq-$BULLMQ-ioredis-$IOREDIS
    if [ ! -e "$mark" ]; then
        package node nodejs "runs BullMQ" && package npm npm "installs BullMQ" &&
            say "installing BullMQ, once" &&
            npm install --prefix "$folder/node" --silent --no-audit --no-fund --no-save \
                "bullmq@$BULLMQ" "ioredis@$IOREDIS" >/dev/null && : >"$mark" ||
            say "BullMQ cannot be had"
    fi
}

case "${1:-build}" in
build) toolchain ;;
test)
    toolchain
    package strace strace "tests that the fsync comes before the reply" || true
    package python3 python3 "tests that run Python programs" || true
    package faketime faketime "tests that turn the daemon's clock" || true
    package fusermount3 fuse3 "tests on a disk that fails" || true
    package tmux tmux "tests of the board on a terminal" || true
    sdk || say "cpsl $SDK_VERSION cannot be had: tests of Capsule apps skip"
    browser || say "no browser can be driven: the tests of the web board in one skip"
    have systemd-analyze || say "systemd-analyze is missing: the units are not verified"
    ;;
sdk) sdk || stop "cpsl $SDK_VERSION cannot be installed from PyPI; see pip's words above" ;;
peers)
    toolchain
    sdk || say "cpsl $SDK_VERSION cannot be had: the row with the stock runner is missing"
    peers
    ;;
mutants)
    toolchain
    tool cargo-mutants cargo-mutants
    ;;
fuzz)
    toolchain
    package g++ g++ "builds libFuzzer" || exit 1
    tool cargo-fuzz cargo-fuzz
    ;;
deny)
    toolchain
    tool cargo-deny cargo-deny
    ;;
*) stop "unknown target $1" ;;
esac
exit 0
