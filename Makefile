# Everything a newcomer needs. `make help` lists the targets.

SHELL := /bin/bash
FIXTURES ?= ../shared/fixtures
export HEDDLE_FIXTURES ?= $(abspath $(FIXTURES))
CARGO ?= cargo
PORT ?= 8545
BUNDLES ?= $(HEDDLE_FIXTURES)/mainnet

.DEFAULT_GOAL := help
DIR ?= $(HEDDLE_FIXTURES)/blockchain-tests.tar.zst
.PHONY: help run test test-fast test-rust test-model test-clients endurance fuzz stress conformance bench replay simulation lint fmt fixtures contracts clients faults

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Builds Heddle and starts a development node on http://127.0.0.1:8545
	$(CARGO) build --release --locked --bin heddle
	$${CARGO_TARGET_DIR:-target}/release/heddle node --dev --http.port $(PORT) $(ARGS)

test: lint test-rust test-model test-clients ## Runs everything: lints, unit and property tests, model checks, real clients
	@echo "make test: passed"

test-fast: ## Runs the unit and property tests of the crates, without real clients
	HEDDLE_GAUNTLET_BLOCKS=600 $(CARGO) test --workspace --locked

test-rust: fixtures clients
	$(CARGO) test --workspace --locked

# With the binary's features of what both use, most of which test-rust has built so.
test-model: ## Model-checks the parallel executor's scheduler and memory
	$(CARGO) test --locked -p heddle-parallel -p heddle --features heddle-parallel/shuttle --lib model

stress: ## Runs 100,000 small adversarial blocks with threads held up at random: make stress [BLOCKS=N]
	HEDDLE_GAUNTLET_BLOCKS=$(or $(BLOCKS),100000) $(CARGO) test --locked -p heddle-parallel --features delays --test gauntlet -- --nocapture

# Built as test-rust builds it: by itself the binary would have libraries of its own, with other features of theirs.
test-clients: clients ## Runs cast, forge, Hardhat, ethers, viem and MetaMask against a node, and looks at reports in Chromium
	$(CARGO) build --workspace --tests --bins --locked
	HEDDLE_BIN=$$(realpath $${CARGO_TARGET_DIR:-target}/debug/heddle) npm --prefix tests test

endurance: clients ## Sends 200,000 random requests to a release build, with 100 stuck clients, and compares memory and speed
	$(CARGO) build --release --locked --bin heddle
	HEDDLE_BIN=$$(realpath $${CARGO_TARGET_DIR:-target}/release/heddle) HEDDLE_ENDURANCE_REQUESTS=$(or $(REQUESTS),200000) node --test --test-force-exit tests/endurance.test.mjs

fuzz: ## Sends random parameters to every method for so many minutes: make fuzz [MINUTES=30]
	@end=$$(( $$(date +%s) + 60 * $(or $(MINUTES),30) )); seed=$$(date +%s); while [ $$(date +%s) -lt $$end ]; do \
	  HEDDLE_FUZZ_REQUESTS=200000 HEDDLE_FUZZ_SEED=$$((seed += 10)) $(CARGO) test --locked -p heddle-rpc --test fuzz -- --nocapture | grep requests: || exit 1; done

faults: clients ## Kills a node a hundred times under load, takes its power and damages its file thousands of times: make faults [ROUNDS=N]
	HEDDLE_POWER_LOSS_CASES=5000 $(CARGO) test --locked -p heddle-store --lib power_loss
	HEDDLE_DAMAGE_CASES=2000 $(CARGO) test --locked -p heddle-store --test damage
	$(CARGO) build --release --locked --bin heddle
	cd tests && HEDDLE_BIN=$$(realpath $${CARGO_TARGET_DIR:-../target}/release/heddle) HEDDLE_KILL_ROUNDS=$(or $(ROUNDS),100) HEDDLE_DAY_BLOCKS=86400 node --test faults.test.mjs

clients: tests/node_modules/.package-lock.json

tests/node_modules/.package-lock.json: tests/package.json tests/package-lock.json tests/hardhat/package-lock.json
	npm ci --prefix tests --no-audit --no-fund

conformance: ## Runs all Ethereum blockchain tests below DIR (a directory or .tar.zst) through the import path
	$(CARGO) run --release --locked -p heddle-conformance -- $(DIR)

bench: clients ## Measures sequential against parallel execution
	$(CARGO) build --release --locked --bin heddle
	$${CARGO_TARGET_DIR:-target}/release/heddle bench $(ARGS)

replay: fixtures ## Replays historical blocks: make replay [BUNDLES=DIR] [ARGS="--json --report out.html"]
	$(CARGO) build --release --locked --bin heddle
	$${CARGO_TARGET_DIR:-target}/release/heddle replay --repeat 5 $(ARGS) $(BUNDLES)

simulation: fixtures ## Holds the simulated against the measured parallel times of historical blocks; wants a quiet machine
	$(CARGO) build --release --locked --bin heddle
	$${CARGO_TARGET_DIR:-target}/release/heddle replay --repeat 9 --check-simulation $(ARGS) $(BUNDLES)

lint: ## Checks formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

fmt: ## Formats the code
	$(CARGO) fmt --all

contracts: clients ## Checks that our contracts compile to the committed bytes
	node contracts/compile.mjs --check

fixtures: ## Says whether the public test data is there
	@if [ -d "$(HEDDLE_FIXTURES)" ]; then echo "fixtures: $(HEDDLE_FIXTURES)"; \
	else echo "fixtures: $(HEDDLE_FIXTURES) is not there; the tests that need it are SKIPPED (set HEDDLE_FIXTURES)"; fi
