# DPO Lab: `make` alone lists what can be made. Everything is installed into .venv; nothing else on the machine changes.
#
#   ARGS         what follows `python train.py`:              make run ARGS="loss=ipo seed=1"
#   TORCH_INDEX  where torch comes from; empty: where the rest comes from, which on Linux brings CUDA:
#                                                             make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu
#   PYTHON       a Python 3.11 to 3.13 to use:                 make setup PYTHON=/opt/python/bin/python3.12
#   PAIRS        the file of pairs that `make bands` trains on

SHELL := /bin/sh
.DEFAULT_GOAL := help

ARGS ?=
TORCH_INDEX ?=
PYTHON ?=
PAIRS ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
UV := $(shell command -v uv 2>/dev/null)
INSTALL = $(if $(UV),uv pip install --python $(BIN)/python,$(BIN)/python -m pip install --disable-pip-version-check) \
	--quiet --constraint constraints.txt
# newest first; the same as in pyproject.toml and dpo_lab/start.py
PYTHONS := 3.13 3.12 3.11
SUPPORTED := import sys; sys.exit("%d.%d" % sys.version_info[:2] not in "$(PYTHONS)".split())
HAS_VENV := import ensurepip, venv

.PHONY: help setup run test e2e versions bands tables format clean

help:  ## list what can be made
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## make .venv with everything that training needs

run: $(READY)  ## train: make run ARGS="loss=ipo seed=1"
	@$(BIN)/python train.py $(ARGS)

test: $(READY_DEV)  ## lint, types and the fast tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	@echo "$(BIN)/mypy, which takes minutes on one core without its cache, beside $(BIN)/python -m pytest --numprocesses auto"
	@$(BIN)/mypy >$(VENV)/.types 2>&1 & types=$$!; code=0; trap "kill $$types; exit 130" INT TERM; \
	$(BIN)/python -m pytest --numprocesses auto || code=$$?; \
	wait $$types || code=$$?; cat $(VENV)/.types; exit $$code

e2e: $(READY_DEV)  ## the slow tests: whole runs against their bands
	$(BIN)/python -m pytest -m slow --numprocesses auto --dist loadfile --no-loadscope-reorder

versions: $(READY_DEV)  ## the fast tests on the oldest and the newest supported libraries
	$(BIN)/python scripts/check_versions.py

bands: $(READY)  ## seeds 0, 1, 2 of both kinds of run, as a table for docs/benchmarks.md
	@pairs="$(PAIRS)"; $(BIN)/python scripts/bands.py 0 1 2 --pairs "$${pairs:-$$($(BIN)/python tests/e2e/preference.py)}"

tables: $(READY)  ## bring the tables of README.md and docs/method.md up to date with conf/ and the code
	$(BIN)/python scripts/tables.py

format: $(READY_DEV)  ## rewrite the code in the project's format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:  ## remove .venv and caches; outputs/ stays
	rm -rf $(VENV) .versions dist .mypy_cache .ruff_cache .pytest_cache
	find dpo_lab scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The file .ready is written last. Without it whatever lies in .venv was cut short and is made anew; with an old one
# (pyproject.toml or constraints.txt changed) the packages are brought up to date in place.
$(READY): pyproject.toml constraints.txt
	@if [ ! -e $@ ]; then rm -rf $(VENV); $(MAKE) --no-print-directory $(VENV)-new; fi
	@echo "installing into $(VENV): the first time some minutes ..."
	@$(if $(TORCH_INDEX),$(INSTALL) --no-deps --index-url $(TORCH_INDEX) torch)
	@$(INSTALL) --editable .
	@touch $@

$(READY_DEV): $(READY)
	@$(INSTALL) --editable '.[dev]'
	@touch $@

.PHONY: $(VENV)-new
$(VENV)-new:
ifneq ($(UV),)
	@python='$(PYTHON)'; for version in $(PYTHONS); do \
		python=$${python:-$$(uv python find --system --no-python-downloads "$$version" 2>/dev/null)}; done; \
	uv venv --quiet --seed --python "$${python:-$(firstword $(PYTHONS))}" $(VENV)
else
	@python= without=; for name in $(or $(PYTHON),$(PYTHONS:%=python%) python3 python); do \
		"$$name" -c '$(SUPPORTED)' 2>/dev/null || continue; \
		if "$$name" -c '$(HAS_VENV)' 2>/dev/null; then python=$$name; break; fi; \
		without=$${without:-$$name}; done; \
	if [ -z "$$python$$without" ]; then \
		echo "DPO Lab needs Python $(lastword $(PYTHONS)) to $(firstword $(PYTHONS)); found: $$($(or $(PYTHON),python3) --version 2>&1 | head -1)." >&2; \
		echo "Install one (Debian, Ubuntu: apt install python3 python3-venv) or name one: make setup PYTHON=..." >&2; \
		exit 1; fi; \
	if [ -z "$$python" ]; then \
		echo "$$without cannot make a virtual environment: its module venv is not installed." >&2; \
		echo "Debian, Ubuntu: apt install python3-venv   (for this Python: $$("$$without" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'))" >&2; \
		exit 1; fi; \
	"$$python" -m venv $(VENV)
endif
