# The commands of this project. Each does its own set-up, or says exactly what to install.
#
#   make demo     runs the whole bridge with an embedded broker: ARGS="--events 100000" passes options on
#   make test     runs every test, with real ActiveMQ and Kafka: ARGS="mirrors" runs those with that in their name
#   make bench    measures the speed, compared with a bare consumer and in parts: prints a document like those in
#                 docs/results
#   make bench-sinks   measures the speed into Kafka and JetStream, near and far, compared with bare producers
#   make bench-protocols   compares STOMP and OpenWire: speed, and processor time per event of bridge and broker
#   make bench-rivals   compares the bridge with what a user could write instead: latency, speed, what a kill costs
#   make performance   writes the tables of docs/performance.md from the results of bench-rivals
#   make bench-cost   counts instructions and allocations per event of each part of the hot path, with Valgrind
#   make bench-admin  measures what the status page and the metrics cost in processor time and memory
#   make simulate   runs whole bridges in simulated time, with faults drawn from seeds: SEEDS=100000 SEED=1
#   make soak     ten minutes with a held sink and a flapping connection: measures memory, audits the output
#   make exactly-once   kills a bridge with three sinks 500 times, runs special cases, audits each sink: ARGS="--case frozen"
#   make campaign   rounds of faults that a seed draws, on real servers of three nodes: --seed, --events, --faults, --round
#                 in ARGS; campaign-totals adds up the results in docs/results
#   make apiserver-test   tests the Helm chart with a real Kubernetes API server; its first build takes minutes
#   make rehearsal   runs the chart's pods as processes, rolls, scales and replaces them under load, audits the output
#   make image-test   builds and runs the container image without a registry: ARGS=arm64 for the other architecture
#   make publish-test   publishes a release into a registry on this machine and verifies it as a user, from dist/, which
#                 release/build.sh makes, or ARGS="--stand-in PROGRAM"; its first build takes minutes
#   make release-test   builds a release twice and compares the files, checks the bills of materials: ARGS=amd64 for one
#                 architecture; a build takes 18 minutes of processor time
#   make fuzz     fuzzes everything that parses bytes from outside: ARGS="600 decoder" sets seconds and targets
#   make lint     checks formatting and clippy, without a warning
#   make policy   checks the licences, sources and bans of the dependencies, and that each is used
#   make chart    generates the schema of the Helm chart's values, and the table in its README
#   make docs     builds the documentation of the library, in target/doc
#   make brokers  installs the servers of the tests (make test does it too)

ARGS ?=
# The one that takes longest is the first. Those of apiserver/, cargo/ and release/ take minutes too, and one target
# needs each.
LONGEST := tests/kit/kubernetes/provision.sh
PROVISION := $(LONGEST) $(filter-out $(LONGEST) %/apiserver/provision.sh %/cargo/provision.sh %/release/provision.sh, \
	$(wildcard tests/kit/*/provision.sh))

.PHONY: demo test bench bench-sinks bench-protocols bench-rivals bench-cost bench-admin soak apiserver-test fuzz lint policy docs chart brokers toolchain linters
.DEFAULT_GOAL := help

.PHONY: help
help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

# Without the Kafka sink, which the demo does not use: librdkafka and OpenSSL take most of a first build. The profile
# has a directory of its own, so that this program never takes the place of one that has the sink.
demo: TOOLS = cc
demo: PACKAGES = gcc libc6-dev
demo: toolchain
	@cargo run --profile demo --locked --no-default-features -- demo $(ARGS)

# The integration tests wait for servers most of the time, so two run at once for each processor, and all other tests,
# which compute, run beside them.
test: export RUST_TEST_THREADS ?= $(shell echo $$(($$(nproc) * 2)))
# The tests are compiled while the servers are made. What is missing is told after both. Selected tests make only the
# servers that they use, when they start.
test: toolchain
ifeq ($(strip $(ARGS)),)
	@$(MAKE) --no-print-directory --jobs=2 servers built-tests
	@$(TELL_MISSING)
	@$(MAKE) --no-print-directory --jobs=2 waiting-tests computing-tests
else
	PROVISION_ON_DEMAND=1 cargo test --locked --workspace -- $(ARGS)
endif

bench bench-sinks bench-protocols bench-rivals bench-cost bench-admin soak: toolchain brokers
	@cargo bench --locked --quiet --bench $(patsubst bench-%,%,$(patsubst bench,speed,$@)) -- $(ARGS)

# Here, a missing server or tool is a failure.
apiserver-test: export REQUIRE_BROKERS = 1
apiserver-test: toolchain
	@tests/kit/kubernetes/provision.sh
	@tests/kit/apiserver/provision.sh
	@cargo test --locked --quiet --test apiserver -- $(ARGS)

# Writes the tables of docs/performance.md from docs/results/rivals*.md.
.PHONY: performance
performance: export WRITE_PERFORMANCE = 1
performance: toolchain
	@cargo test --locked --quiet --test repository performance::

# Optimised, a simulated seed takes a third of the time, and the bridges of a campaign leave the processors to its
# servers.
OPTIMISED := --config profile.dev.package.atdata-bridge.opt-level=2

.PHONY: simulate campaign
simulate: toolchain
	@cargo test --locked --quiet $(OPTIMISED) --test simulation -- no_seed
campaign: toolchain brokers
	@cargo test --locked --quiet $(OPTIMISED) --test $@ -- $(ARGS)

.PHONY: rehearsal exactly-once image-test
rehearsal exactly-once: toolchain brokers
	@cargo test --locked --quiet --test $@ -- $(ARGS)

# Writes docs/results/campaign.md from docs/results/campaign-*.md.
.PHONY: campaign-totals
campaign-totals: export WRITE_CAMPAIGN = 1
campaign-totals: toolchain
	@cargo test --locked --quiet --test repository campaign::

image-test: toolchain
	@tests/image/run.sh $(ARGS)

.PHONY: publish-test
publish-test:
	@tests/release/run.sh $(ARGS)

.PHONY: release-test
release-test: toolchain
	@ARGS="$(ARGS)" tests/reproduce/run.sh $(ARGS)

fuzz: toolchain
	@tests/fuzz/run.sh $(ARGS)

# The fuzz targets are a separate package, whose lock file must match the bridge's dependencies.
lint: toolchain linters
	cargo fmt --all --check
	cargo fmt --check --manifest-path tests/fuzz/Cargo.toml
	cargo metadata --locked --format-version 1 --manifest-path tests/fuzz/Cargo.toml >/dev/null
	cargo clippy --locked --workspace --all-targets -- --deny warnings
	cargo clippy --locked --no-default-features -- --deny warnings # as `make demo` builds it
	cargo clippy --locked --test exactly-once --test campaign --test rehearsal --test apiserver -- --deny warnings # not among all

# The database of advisories is on the Internet. Where it can't be had, the rest is checked, unless REQUIRE_ADVISORIES
# is set, as in the pipeline.
policy: toolchain
	@tests/kit/cargo/provision.sh
	@deny=$$(tests/kit/cargo/provision.sh --where deny)/bin/cargo-deny; \
	machete=$$(tests/kit/cargo/provision.sh --where machete)/bin/cargo-machete; \
	set -e; $$deny --locked check bans licenses sources; \
	if $$deny --locked fetch db >/dev/null 2>&1; then $$deny --locked check advisories; \
	else echo 'advisories: not checked, the database is not available' >&2; [ -z "$$REQUIRE_ADVISORIES" ]; fi; \
	$$machete --with-metadata

docs: toolchain
	RUSTDOCFLAGS='--deny warnings' cargo doc --locked --no-deps

# With ARGS=--check, prints what is stale instead.
chart: toolchain
	@cargo run --locked --quiet -- config --reference=schema | helm/generate.py $(ARGS)

brokers: servers
	@$(TELL_MISSING)

TELL_MISSING := status=0; for script in $(PROVISION); do $$script --missing || status=1; done; exit $$status

# As many at once as there are processors.
.PHONY: servers built-tests
servers:
	@printf '%s\n' $(PROVISION) | xargs -P "$$(nproc)" -I {} env {} --make

# With MAKEFLAGS, cargo would share the two jobs of make test, here and below.
built-tests:
	@MAKEFLAGS= cargo test --locked --workspace --no-run

.PHONY: waiting-tests computing-tests
waiting-tests:
	MAKEFLAGS= cargo test --locked --test it

# All tests but those above, with a lower priority. Their output is shown when they have ended.
COMPUTING := --lib --bins --test campaign-parts --test chart --test repository --test simulation --bench cost
computing-tests:
	@log=$$(mktemp); trap 'rm -f "$$log"' EXIT; status=0; \
	MAKEFLAGS= nice cargo test --locked --workspace --no-fail-fast $(COMPUTING) >"$$log" 2>&1 || status=$$?; \
	echo 'cargo test --locked --workspace $(COMPUTING)'; cat "$$log"; exit $$status

# librdkafka and OpenSSL are compiled in, so that the program needs no system library.
TOOLS = cc c++ cmake perl
PACKAGES = gcc g++ libc6-dev make cmake perl

# Rust is never installed from here: Debian's is too old, and the user chooses where to install another.
toolchain:
	@command -v cargo >/dev/null || { echo 'Rust is missing: install 1.95 or newer, see https://rustup.rs' >&2; exit 1; }
	@$(foreach tool,$(TOOLS),command -v $(tool) >/dev/null &&) true || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get -q update >&2; DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends $(PACKAGES) >&2; \
		else \
			echo 'one of these is missing: $(TOOLS); on Debian: apt-get install --no-install-recommends $(PACKAGES)' >&2; exit 1; \
		fi; }

linters:
	@cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 || { \
		echo 'rustfmt or clippy is missing: rustup component add rustfmt clippy' >&2; exit 1; }
