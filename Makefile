# Two commands on a fresh machine (Debian with python3.11+, python3-venv, make, bash):
#   make demo   see it work          make test   everything that is quick

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
SEEDS ?= 2000
MINUTES ?= 10
N ?= 5

.PHONY: help env demo cluster test lint check format integration sim soak bench clean

help:
	@echo "make demo         a node, tasks through every door, and the results"
	@echo "make cluster      N=$(N) nodes on this machine, to play with; ctrl-C stops them"
	@echo "make test         unit tests, simulation smoke, one real node"
	@echo "make check        format, lint, types, layers, quick tests: before each commit"
	@echo "make integration  real processes: kill -9, full disks, hostile input"
	@echo "make sim          the simulator, SEEDS=$(SEEDS)"
	@echo "make soak         five machines, random faults for MINUTES=$(MINUTES) (root; iproute2, nftables)"
	@echo "make bench        every figure beside its rivals"

env: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

demo: env
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python integration/demo.py

cluster: env
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python integration/play_cluster.py $(N)

test: env
	$(BIN)/python -m pytest tests integration/test_smoke.py

lint: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/shellcheck leoronic/client/shell/leoronic leoronic/client/shell/leoronic_utilities .ci/run

check: lint
	$(BIN)/python -m pytest tests -x

format: env
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Tests that do little but wait run beside the others.
integration: env
	@$(BIN)/python -m pytest integration -m patient --timeout 300 >.patient.log 2>&1 & patient=$$!; \
	$(BIN)/python -m pytest integration -m "not patient" --timeout 300 --durations 25; others=$$?; \
	wait $$patient; beside=$$?; cat .patient.log; rm -f .patient.log; \
	exit $$((others ? others : beside))

sim: env
	$(BIN)/python -m leoronic.sim --seeds $(SEEDS)

soak: env
	$(BIN)/python -m integration.soak --minutes $(MINUTES)

bench: env
	$(BIN)/python -m integration.bench

clean:
	rm -rf $(VENV) build dist cluster .mypy_cache .ruff_cache .pytest_cache .hypothesis
