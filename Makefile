# What a newcomer types is `make demo` and `make test`; both install what a bare Debian lacks. `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.ONESHELL:
.DEFAULT_GOAL := help

# rustup puts cargo here; a shell that was open before has not seen it yet.
export PATH := $(HOME)/.cargo/bin:$(PATH)

# Commands, not packages: .ci/setup knows which package brings which.
BUILD_TOOLS := cc c++ cmake
TEST_TOOLS  := $(BUILD_TOOLS) git curl nginx h2load nghttp openssl chromium \
  node npm python3 pip prometheus promtool systemd-analyze kill docker-compose redis-server redis-sentinel
BENCH_TOOLS := $(BUILD_TOOLS) nginx haproxy h2load taskset redis-server

# Judges licences, bans and sources by deny.toml. Built from its sources on first use, with the optimiser held
# back: it runs for a second, its release profile would compile for three minutes.
CARGO_DENY  := 0.20.2

# Apart from target/, so that make check can run clippy beside the tests. CI has them share what both compile.
export CLIPPY_DIR ?= target/clippy

FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 600
CHAOS_SECONDS ?= 10
SOAK_CASES   ?= 1000000

.PHONY: help demo run check test proof fuzz soak chaos bench count lines setup tools lint fmt fmt-check docs docs-check deny ci

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 18

demo: tools ## a gateway before an upstream that misbehaves: try the printed curl lines
	@echo "building (some minutes the first time)"
	cargo build --locked
	exec target/debug/statusquo demo

run: tools ## serve a configuration of yours: make run CONFIG=statusquo.yaml
	@if [ -z "$(CONFIG)" ]; then echo "make run needs a file: make run CONFIG=statusquo.yaml" >&2; exit 2; fi
	cargo build --release --locked
	exec target/release/statusquo run "$(CONFIG)"

check: tools ## after an edit, a minute: formatting, clippy on the library, unit tests, architecture
	@.ci/check

test: setup ## every test but those of make proof: units, black box, real nginx, curl, h2load and Chromium, doc tests
	@.ci/test

# The tests marked #[ignore = "make proof: ..."]. One small case of each kind stays in `make test`.
proof: setup ## the heavy tests that make test leaves out: SDKs, browsers, Prometheus, pairings, fleets, chaos
	@.ci/test --ignored --test-threads=1

# The engine of tests/fuzz.rs is bolero's own: random inputs, on the compiler that everything else is built with.
fuzz: tools ## every fuzz target, a minute for each: make fuzz FUZZ_SECONDS=60
	@export BOLERO_RANDOM_ITERATIONS=18446744073709551615 BOLERO_RANDOM_TEST_TIME_MS=$$(($(FUZZ_SECONDS) * 1000))
	cargo test --locked --test fuzz -- --nocapture

# Optimised, because it is about load; the tests themselves are the same.
soak: tools ## faults at full load for ten minutes, and a million cases: make soak SOAK_SECONDS=600 SOAK_CASES=1000000
	@export SOAK_SECONDS=$(SOAK_SECONDS) SOAK_CASES=$(SOAK_CASES) PROPERTY_SEED=$${PROPERTY_SEED:-$$(date +%s)}
	cargo test --release --locked --test it -- property::soak --nocapture --test-threads=1

chaos: setup ## a real Redis that ails under load, with a table, and the bounds of memory: make chaos CHAOS_SECONDS=10
	@export CHAOS_SECONDS=$(CHAOS_SECONDS)
	cargo test --locked --test it -- redis_failures::requests_neither_fail redis_failures::many_clients --include-ignored --nocapture --test-threads=1
	cargo bench --locked --bench pure -- --bounds

# For a quiet machine. What is printed stands in docs/performance.md.
bench: ## time the pure parts, decisions a second, then the gateway beside nginx and HAProxy: five minutes and the build
	@.ci/setup $(BENCH_TOOLS)
	cargo bench --locked --bench pure
	cargo bench --locked --bench pure -- --bounds
	cargo bench --locked --bench pure -- --rates
	cargo bench --locked --bench peers

count: ## count system calls and instructions a request; fails above the committed figures: make count [UPDATE=1]
	@.ci/setup $(BENCH_TOOLS) strace valgrind
	cargo bench --locked --bench peers -- --count $(if $(UPDATE),--update)

lines: ## production lines and public items by room, and the files above 400 lines
	@.ci/lines

setup: ## install what the build and the tests need and this machine lacks
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

docs: docs-check ## write the generated pages of docs/ again, and check the documentation of the code
	@UPDATE_DOCS=1 cargo test -q --locked --lib -- codes_page metrics_page configuration_page config_schema faults_page
	git --no-pager diff --stat -- docs

# Private items are documented too: this is for those who change the code, so links to them are welcome.
docs-check: tools
	@RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc -q --no-deps --document-private-items --locked

deny: ## licences, bans and sources of the dependencies, by deny.toml
	@if [ "$$(cargo deny --version 2>/dev/null)" != "cargo-deny $(CARGO_DENY)" ]; then
	  .ci/setup $(BUILD_TOOLS)
	  echo "installing cargo-deny $(CARGO_DENY)" >&2
	  CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
	    cargo install -q --locked --version =$(CARGO_DENY) cargo-deny
	fi
	cargo deny --locked check licenses bans sources

ci: ## everything that must pass before a change lands
	@bash .ci/run
