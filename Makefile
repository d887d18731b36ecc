# Every target works in a fresh clone: what it needs it fetches, or names with the fix.
# Cargo never changes Cargo.lock here.

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=
TARGET ?= $(or $(CARGO_TARGET_DIR),target)
PYTHON ?= python3
SDK = 0.3.181
UNITS = $(DESTDIR)$(PREFIX)/share/systemd/user

.PHONY: help build test demo bench bench-peers compatibility fuzz mutants lint deny release install uninstall

help:
	@echo 'make demo                 build, then show the queue at work on real files'
	@echo 'make test                 run all tests'
	@echo 'make build                debug build of capsuled and capsule'
	@echo 'make install PREFIX=DIR   release build into DIR (default /usr/local)'
	@echo 'make lint                 format, clippy, documentation'
	@echo 'make deny                 licences, sources and bans of dependencies'
	@echo 'make bench                benchmarks'
	@echo 'make bench-peers          beside other queues, which it installs below target/'
	@echo 'make compatibility        docs/sdk-compatibility.md, held against the installed SDK'
	@echo 'make fuzz                 every reader of bytes under libFuzzer (FUZZ_SECONDS=60 each)'
	@echo 'make mutants              mutation tests of capsule-core (long)'

build:
	@scripts/needs.sh build
	$(CARGO) build --locked --bins

# The end-to-end tests run the binaries of this build, so those come first.
test:
	@scripts/needs.sh test
	$(CARGO) build --locked --bins
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	    set -x; $(CARGO) nextest run --locked --workspace --no-fail-fast; \
	else \
	    set -x; $(CARGO) test --locked --workspace --no-fail-fast; \
	fi

demo:
	@scripts/demo

bench:
	@scripts/needs.sh build
	$(CARGO) build --locked --release --workspace --bins
	target/release/capsule-bench $(ROWS)

# Installs Debian packages where it is root; everything else of the peers goes below the build.
# DIR is where all of them keep their data: the disk that is measured.
PEERS = peers-submits peers-tasks coroutines
bench-peers:
	@scripts/needs.sh peers
	$(CARGO) build --locked --release --workspace --bins
	$(TARGET)/release/capsule-bench $(if $(DIR),--dir $(DIR)) $(PEERS)

# PYTHON must be 3.11 or later; the SDK goes into an environment below the build.
compatibility:
	@scripts/needs.sh build
	$(PYTHON) -m venv $(TARGET)/compatibility
	$(TARGET)/compatibility/bin/pip install -q cpsl==$(SDK)
	$(TARGET)/compatibility/bin/python scripts/compatibility
	REWRITE_COMPATIBILITY=1 $(CARGO) test --locked -q -p capsuled --lib -- the_document_says

# What is found lies in fuzz/artifacts/; what reaches new code in the build, beside the kept inputs.
FUZZ ?= $(notdir $(wildcard fuzz/corpus/*))
FUZZ_SECONDS ?= 60
FRAMES ?= 1000000
fuzz: export CARGO_PROFILE_RELEASE_LTO = off
fuzz: export CARGO_PROFILE_RELEASE_OPT_LEVEL = 1
fuzz: export CARGO_PROFILE_RELEASE_DEBUG = 0
fuzz:
	@scripts/needs.sh fuzz
	for name in $(FUZZ); do \
	    mkdir -p $(TARGET)/fuzz/corpus/$$name; \
	    CAPSULE_FUZZ_TARGET=$$name nice $(CARGO) fuzz run -s none --target-dir $(TARGET)/fuzz \
	        --features coverage coverage $(TARGET)/fuzz/corpus/$$name fuzz/corpus/$$name -- \
	        -max_total_time=$(FUZZ_SECONDS) -timeout=60 -max_len=16384 -print_final_stats=1 || exit 1; \
	done
	CAPSULE_FUZZ_FRAMES=$(FRAMES) nice $(CARGO) test --locked -p capsule-fuzz --test it -- --nocapture memory::

mutants:
	@scripts/needs.sh mutants
	nice $(CARGO) mutants -p capsule-core -j 1 --minimum-test-timeout 60 -- --lib

lint:
	@scripts/needs.sh build
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --no-deps

deny:
	@scripts/needs.sh deny
	$(CARGO) deny --locked check --hide-inclusion-graph bans licenses sources

release:
	@scripts/needs.sh build
	$(CARGO) build --locked --release --bins
	@! grep -q CAPSULE_FAIL_AT $(TARGET)/release/capsuled || { echo 'capsuled has fail points' >&2; exit 1; }

# `capsulectl` is the same command under a name that no Python environment shadows.
install: release
	install -d $(DESTDIR)$(PREFIX)/bin $(UNITS)
	install -m 755 $(TARGET)/release/capsuled $(TARGET)/release/capsule $(DESTDIR)$(PREFIX)/bin/
	ln -sf capsule $(DESTDIR)$(PREFIX)/bin/capsulectl
	for unit in capsuled.service capsule-keeper.service; do \
	    sed 's|/usr/local/bin/|$(PREFIX)/bin/|' systemd/$$unit > $(UNITS)/$$unit && \
	    chmod 644 $(UNITS)/$$unit || exit 1; \
	done

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/capsuled $(DESTDIR)$(PREFIX)/bin/capsule \
	    $(DESTDIR)$(PREFIX)/bin/capsulectl \
	    $(UNITS)/capsuled.service $(UNITS)/capsule-keeper.service
