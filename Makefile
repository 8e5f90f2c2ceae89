# The ways into this project; each does all of its own set-up, or says exactly what to install.
#
#   make demo     the whole bridge against a broker of its own: ARGS="--events 100000" passes options on
#   make test     every test, against real ActiveMQ and Kafka: ARGS="mirrors" runs those with that in their name
#   make bench    how fast it is, against a bare consumer and in parts: prints a document, as those in docs/results
#   make bench-sinks   how fast it writes into Kafka and JetStream, near and far, against bare producers
#   make bench-protocols   STOMP against OpenWire on one broker: speed, and what an event costs bridge and broker
#   make soak     ten minutes with a sink that is held and a connection that flaps: its memory, and an audit
#   make apiserver-test   the Helm chart before a real API server of Kubernetes, which the first time takes minutes to build
#   make rehearsal   the chart's pods as processes: rolled, scaled and replaced under load, and an audit
#   make image-test   the container image, built and run without a registry: ARGS=arm64 is the other architecture
#   make fuzz     everything that parses bytes from the network: ARGS="600 decoder" is seconds and targets
#   make lint     formatting and clippy, without a warning
#   make policy   licences, sources and bans of the dependencies, and whether one is unused
#   make chart    what in the Helm chart is made of something else: the schema of its values, its table of values
#   make docs     the documentation of the library, in target/doc
#   make brokers  gets the servers that the tests start (make test does it too)

ARGS ?=
# These take minutes to build, and only one target wants each.
PROVISION := $(filter-out %/apiserver/provision.sh %/cargo/provision.sh,$(wildcard tests/kit/*/provision.sh))

.PHONY: demo test bench bench-sinks bench-protocols soak apiserver-test fuzz lint policy docs chart brokers toolchain linters
.DEFAULT_GOAL := help

.PHONY: help
help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

demo: toolchain
	@cargo run --release --locked --quiet -- demo $(ARGS)

test: toolchain brokers
	cargo test --locked --workspace -- $(ARGS)

bench bench-sinks bench-protocols soak: toolchain brokers
	@cargo bench --locked --quiet --bench $(patsubst bench-%,%,$(patsubst bench,speed,$@)) -- $(ARGS)

# What is missing is a failure here.
apiserver-test: export REQUIRE_BROKERS = 1
apiserver-test: toolchain
	@tests/kit/kubernetes/provision.sh
	@tests/kit/apiserver/provision.sh
	@cargo test --locked --quiet --test apiserver -- $(ARGS)

.PHONY: rehearsal image-test
rehearsal: toolchain brokers
	@cargo test --locked --quiet --test rehearsal -- $(ARGS)

image-test: toolchain
	@tests/image/run.sh $(ARGS)

fuzz: toolchain
	@tests/fuzz/run.sh $(ARGS)

# The fuzz targets are a package of their own, which must keep up with what the bridge depends on.
lint: toolchain linters
	cargo fmt --all --check
	cargo fmt --check --manifest-path tests/fuzz/Cargo.toml
	cargo metadata --locked --format-version 1 --manifest-path tests/fuzz/Cargo.toml >/dev/null
	cargo clippy --locked --workspace --all-targets -- --deny warnings

# The database of advisories is on the Internet. Where it can't be had, the rest is checked.
policy: toolchain
	@tests/kit/cargo/provision.sh
	@deny=$$(tests/kit/cargo/provision.sh --where deny)/bin/cargo-deny; \
	machete=$$(tests/kit/cargo/provision.sh --where machete)/bin/cargo-machete; \
	set -e; $$deny --locked check bans licenses sources; \
	if $$deny --locked fetch db >/dev/null 2>&1; then $$deny --locked check advisories; \
	else echo 'advisories: not checked, the database is not available' >&2; fi; \
	$$machete --with-metadata

docs: toolchain
	RUSTDOCFLAGS='--deny warnings' cargo doc --locked --no-deps

# ARGS=--check tells what is stale instead.
chart: toolchain
	@cargo run --locked --quiet -- config --reference=schema | helm/generate.py $(ARGS)

brokers:
	@status=0; for script in $(PROVISION); do $$script || status=1; done; exit $$status

# librdkafka and OpenSSL are built in, so that the program needs no library of the system.
BUILD_TOOLS := gcc g++ libc6-dev make cmake perl

# Rust is never installed from here: Debian's is too old, and where to put another is the user's choice.
toolchain:
	@command -v cargo >/dev/null || { echo 'Rust is missing: install 1.95 or newer, see https://rustup.rs' >&2; exit 1; }
	@$(foreach tool,cc c++ cmake perl,command -v $(tool) >/dev/null &&) true || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get -q update >&2; DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends $(BUILD_TOOLS) >&2; \
		else \
			echo 'a C or C++ compiler, CMake or Perl is missing; on Debian: apt-get install --no-install-recommends $(BUILD_TOOLS)' >&2; exit 1; \
		fi; }

linters:
	@cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 || { \
		echo 'rustfmt or clippy is missing: rustup component add rustfmt clippy' >&2; exit 1; }
