# `make demo` and `make test` install what a bare Debian lacks. `make help` lists all targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.ONESHELL:
.DEFAULT_GOAL := help

# rustup installs cargo here; shells that were started earlier do not have it in PATH.
export PATH := $(HOME)/.cargo/bin:$(PATH)

# Commands, not packages: .ci/setup maps commands to packages.
BUILD_TOOLS := cc c++ cmake
TEST_TOOLS  := $(BUILD_TOOLS) git curl nginx h2load nghttp openssl chromium \
  node npm python3 pip prometheus promtool systemd-analyze kill docker-compose redis-server redis-sentinel
# In front of and behind the gateway in tests/deployments.
PROOF_TOOLS := haproxy apache-php nginx-stream
BENCH_TOOLS := $(BUILD_TOOLS) nginx haproxy h2load taskset redis-server

# Checks licences, bans and sources against deny.toml. Built from source on first use, with little optimisation: it runs for a
# second, and its release profile would take three minutes.
CARGO_DENY  := 0.20.2

# Separate from target/, so that make check can run clippy in parallel with the tests. CI shares one directory.
export CLIPPY_DIR ?= target/clippy

FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 600
CHAOS_SECONDS ?= 10
SOAK_CASES   ?= 1000000

.PHONY: help demo run check test proof fuzz soak chaos bench count lines setup tools lint fmt fmt-check docs docs-check deny ci

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 18

demo: tools ## start a gateway in front of a faulty upstream and print curl commands to try
	@echo "building (a few minutes the first time)"
	cargo build --locked
	exec target/debug/statusquo demo

run: tools ## serve a configuration: make run CONFIG=statusquo.yaml
	@if [ -z "$(CONFIG)" ]; then echo "make run needs a file: make run CONFIG=statusquo.yaml" >&2; exit 2; fi
	cargo build --release --locked
	exec target/release/statusquo run "$(CONFIG)"

check: tools ## quick check after an edit (a minute): formatting, clippy on the library, unit tests, architecture
	@.ci/check

test: setup ## every test except those of make proof: units, black box, nginx, curl, h2load, Chromium, doc tests
	@.ci/test

# The tests marked #[ignore = "make proof: ..."]. One small case of each kind stays in `make test`.
proof: setup ## the heavy tests that make test leaves out: SDKs, browsers, Prometheus, pairings, several gateways, chaos
	@.ci/setup $(PROOF_TOOLS)
	.ci/test --ignored --test-threads=1

# tests/fuzz.rs uses the built-in engine of bolero: random inputs, with the compiler of the rest of the build.
fuzz: tools ## run every fuzz target for a minute: make fuzz FUZZ_SECONDS=60
	@export BOLERO_RANDOM_ITERATIONS=18446744073709551615 BOLERO_RANDOM_TEST_TIME_MS=$$(($(FUZZ_SECONDS) * 1000))
	cargo test --locked --test fuzz -- --nocapture

# Optimised, because it tests under load; the tests are the same.
soak: tools ## faults under full load for ten minutes, then a million cases: make soak SOAK_SECONDS=600 SOAK_CASES=1000000
	@export SOAK_SECONDS=$(SOAK_SECONDS) SOAK_CASES=$(SOAK_CASES) PROPERTY_SEED=$${PROPERTY_SEED:-$$(date +%s)}
	cargo test --release --locked --test it -- property::soak --nocapture --test-threads=1

chaos: setup ## servers and a Redis that fail under load, verify without flaky rows, memory bounds: make chaos CHAOS_SECONDS=10
	@export CHAOS_SECONDS=$(CHAOS_SECONDS)
	cargo test --locked --test it -- redis_failures::requests_neither_fail redis_failures::many_clients server_chaos::table retry_after::table verify::example verify::verify_uses --include-ignored --nocapture --test-threads=1
	cargo bench --locked --bench pure -- --bounds

# Needs a quiet machine. The output goes into docs/performance.md.
bench: ## time the pure functions, then the gateway beside nginx and HAProxy: five minutes plus the build
	@.ci/setup $(BENCH_TOOLS)
	cargo bench --locked --bench pure
	cargo bench --locked --bench pure -- --bounds
	cargo bench --locked --bench pure -- --rates
	cargo bench --locked --bench peers

count: ## count system calls and instructions per request; fails above the committed figures: make count [UPDATE=1]
	@.ci/setup $(BENCH_TOOLS) strace valgrind
	cargo bench --locked --bench peers -- --count $(if $(UPDATE),--update)

lines: ## production lines and public items per module, and files above 400 lines
	@.ci/lines

setup: ## install the missing tools for build and tests
	@.ci/setup $(TEST_TOOLS)
	.ci/packages
	cargo fetch -q --locked

tools:
	@.ci/setup $(BUILD_TOOLS)

lint: tools ## clippy, warnings are errors
	@cargo clippy --all-targets --locked --target-dir $(CLIPPY_DIR) -- -D warnings

fmt: ## format the sources
	@cargo fmt --all

fmt-check:
	@cargo fmt --all --check

docs: docs-check ## write the generated pages of docs/, and check the code's documentation
	@UPDATE_DOCS=1 cargo test -q --locked --lib -- codes_page metrics_page configuration_page config_schema faults_page
	@UPDATE_DOCS=1 cargo test -q --locked --test it -- upstream_errors_page
	git --no-pager diff --stat -- docs

# Private items are documented too, for contributors; links to them are allowed.
docs-check: tools
	@RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc -q --no-deps --document-private-items --locked

deny: ## check licences, bans and sources of the dependencies against deny.toml
	@if [ "$$(cargo deny --version 2>/dev/null)" != "cargo-deny $(CARGO_DENY)" ]; then
	  .ci/setup $(BUILD_TOOLS)
	  echo "installing cargo-deny $(CARGO_DENY)" >&2
	  CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
	    cargo install -q --locked --version =$(CARGO_DENY) cargo-deny
	fi
	cargo deny --locked check licenses bans sources

ci: ## everything that must pass before a change is merged
	@bash .ci/run
