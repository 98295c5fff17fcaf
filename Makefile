# From a bare machine with Python (3.11 to 3.13) and make: every target makes its own environment in .venv first.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
MINUTES ?= 10
NODES ?= 1
SEED ?=
RUNS ?=
KIND ?=
LINKS ?=

.DEFAULT_GOAL := help
.PHONY: test-failed help install demo cluster cluster-up cluster-down test check format bench torture sim soak mutants powerloss clean

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## the environment in .venv, with tq and its tools

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; (3, 11) <= v < (3, 14) or sys.exit("tq needs Python 3.11 to 3.13, this is %d.%d: make PYTHON=python3.12 ..." % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)  ## index the standard library while a worker and the leader of three brokers are killed
	$(BIN)/python -m cluster.demo

cluster: $(INSTALLED)  ## three nodes with their logs, until Ctrl-C; data below data/ [LINKS=1: they can be cut off]
	@$(BIN)/python -m cluster.up $(if $(LINKS),--links)

cluster-up: $(INSTALLED)  ## the same in the background; returns when a leader is elected
	@$(BIN)/python -m cluster.up --background $(if $(LINKS),--links)

cluster-down: $(INSTALLED)  ## stop the three nodes
	@$(BIN)/python -m cluster.up --down

test: $(INSTALLED)  ## all tests, in their short forms
	$(BIN)/python -m tests

test-failed: $(INSTALLED)  ## the tests that failed the last time, once more
	$(BIN)/python -m tests --failed

check: $(INSTALLED)  ## types, lint, format
	$(BIN)/python -m mypy
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

format: $(INSTALLED)  ## format the code and mend what the linter can
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

bench: $(INSTALLED)  ## measure, and write docs/performance.md [NODES=3]
	$(BIN)/tq bench --nodes $(NODES) --output docs/performance.md

torture: $(INSTALLED)  ## kill, stop and cut off real brokers and workers for MINUTES=10, and judge what they did [NODES=3] [SEED=n]
	$(BIN)/python -m tests.torture --nodes $(NODES) --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

sim: $(INSTALLED)  ## simulated stories for MINUTES=10, new seeds [SEED=first] [RUNS=seeds, instead of minutes] [KIND=cluster]
	$(BIN)/python -m tests.sim --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(RUNS),--runs $(RUNS)) \
		$(addprefix --kind ,$(KIND))

soak: $(INSTALLED)  ## a steady load for MINUTES=10, and what creeps up meanwhile [NODES=3] [RATE=tasks a second]
	$(BIN)/python -m tests.soak --nodes $(NODES) --minutes $(MINUTES) $(if $(RATE),--rate $(RATE))

mutants: $(INSTALLED)  ## plant bugs in a copy of the code, and show what catches each
	$(BIN)/python -m tests.mutants
	$(BIN)/python -m tests.mutants.cluster

powerloss: $(INSTALLED)  ## rebuild the disk as of each sync of a real store, and start from each
	$(BIN)/python -m tests.powerloss

clean:  ## remove the environment and what tools left behind
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
