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

# The SDK that the tests and the demo run apps with, unmodified, in an environment of its own.
SDK_VERSION=0.3.181
sdk() {
    folder=${CARGO_TARGET_DIR:-target}/sdk
    mark=$folder/cpsl-$SDK_VERSION-croniter
    [ -e "$mark" ] && return 0
    package python3 python3 "runs Capsule apps" || return 1
    rm -rf "$folder"
    if ! python3 -m venv "$folder" >/dev/null 2>&1; then
        package pyvenv python3-venv "makes the environment of an app" >/dev/null 2>&1 || true
        rm -rf "$folder"
        python3 -m venv "$folder" || return 1
    fi
    say "installing cpsl $SDK_VERSION for the tests, once"
    "$folder/bin/pip" install --quiet --disable-pip-version-check \
        "cpsl==$SDK_VERSION" croniter || return 1
    : >"$mark"
}

case "${1:-build}" in
build) toolchain ;;
test)
    toolchain
    package strace strace "tests that the fsync comes before the reply" || true
    package python3 python3 "tests that run Python programs" || true
    package faketime faketime "tests that turn the daemon's clock" || true
    sdk || say "cpsl $SDK_VERSION cannot be had: tests of Capsule apps skip"
    have systemd-analyze || say "systemd-analyze is missing: the units are not verified"
    ;;
sdk) sdk || stop "cpsl $SDK_VERSION cannot be installed from PyPI; see pip's words above" ;;
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
