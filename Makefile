# make demo    two jobs with deadlines share four CPU slots, in about two minutes
# make test    the tests, those of real processes included, in less than ten minutes on two cores
# make test-long   the tests that take a minute each: the whole demo, each benchmark, an audit
# make check   linters, types, borders between the parts, and the quick tests
# make docs    the documentation site, into site/; a warning fails it
# make test-newest   the quick tests with the newest version of everything, in .venv-newest
# make test-oldest   the quick tests with the oldest versions that setup.py allows, in .venv-oldest
# make lock    requirements/lock.txt anew: the newest versions, with their hashes
# make clean   remove what the others made
#
# The first of them makes .venv and installs the versions of requirements/lock.txt into it. torch is
# not locked: its build, CPU or CUDA, is yours to choose. Settings, on the command line or exported:
#   PYTHON  the Python (3.10 or newer) that .venv is made with
#   TORCH   what pip installs when .venv has no torch. For a CUDA build, take the index that
#           pytorch.org ("Get started") names for your CUDA version:
#             make demo TORCH='torch==2.13.0 --index-url URL'
#   PYTHON_OLDEST, TORCH_OLDEST   the same for test-oldest; without them, PYTHON and TORCH
#   PYTEST_ARGS  handed to pytest, such as PYTEST_ARGS='-k digits'
PYTHON ?= python3
TORCH ?= torch==2.13.0
PYTHON_OLDEST ?= $(PYTHON)
TORCH_OLDEST ?= $(TORCH)
PYTEST_ARGS ?=
UV := uv==0.13.9

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.eflib-installed
NEWEST := .venv-newest
OLDEST := .venv-oldest
LOCKING := .venv-lock
VENVS := $(VENV) $(NEWEST) $(OLDEST) $(LOCKING)
LOCK := requirements/lock.txt
PIP := -m pip --disable-pip-version-check install --progress-bar off
# A constraint that keeps pip from taking another torch for the sake of another package.
KEEP_TORCH := from importlib.metadata import version; print("torch==" + version("torch"))
FAST := $(wildcard tests/unit tests/properties)
ALL_CORES := -n logical --maxprocesses 4 --dist worksteal
# Processes under test get one thread each, or they crowd out one another on a small machine.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-long test-newest test-oldest check lint fast-test docs lock clean help
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# \{0,1\}//p;/^PYTHON/q' Makefile

demo: $(READY)
	$(BIN)/python examples/demo

# Linters run first, so that the last lines of `make check` are those of pytest.
check: lint fast-test

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fast-test: $(READY)
	$(BIN)/python -m pytest -m "not slow" $(FAST) $(PYTEST_ARGS)

# Tests that hold a promise about wall time (marked "alone") have the machine to themselves. Pytest
# says 5 where PYTEST_ARGS leave none of them.
test: $(READY)
	$(BIN)/python -m pytest $(ALL_CORES) -m "not alone and not long" $(PYTEST_ARGS)
	$(BIN)/python -m pytest -m "alone and not long" $(PYTEST_ARGS) || [ $$? -eq 5 ]

test-long: $(READY)
	$(BIN)/python -m pytest -m long $(PYTEST_ARGS)

# The variable silences a notice of mkdocs-material about the time after mkdocs 1.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "== the site is in site/: open site/index.html"

clean:
	rm -rf $(VENVS) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# All is resolved anew each time, but for torch.
test-newest: $(NEWEST)/bin/python
	@$(NEWEST)/bin/python -c 'import torch' 2>/dev/null || { set -x; $(NEWEST)/bin/python $(PIP) $(TORCH); }
	$(NEWEST)/bin/python -c '$(KEEP_TORCH)' > $(NEWEST)/constraints.txt
	$(NEWEST)/bin/python $(PIP) --quiet --upgrade --upgrade-strategy eager -c $(NEWEST)/constraints.txt -e '.[test]'
	@echo "== quick tests with the newest versions, and torch as TORCH chooses it:"
	@$(NEWEST)/bin/python -m pip --disable-pip-version-check list --format freeze | paste -sd ' ' | fold -sw 100
	$(NEWEST)/bin/python -m pytest $(ALL_CORES) -m "not slow" $(FAST) $(PYTEST_ARGS)

test-oldest: $(OLDEST)/.eflib-installed
	@echo "== quick tests with the oldest versions that setup.py allows, and torch as TORCH_OLDEST chooses it:"
	@$(OLDEST)/bin/python -m pip --disable-pip-version-check list --format freeze | paste -sd ' ' | fold -sw 100
	$(OLDEST)/bin/python -m pytest $(ALL_CORES) -m "not slow" $(FAST) $(PYTEST_ARGS)

# uv comes from PyPI. --universal: one file for every Python that setup.py allows.
lock: $(LOCKING)/bin/python
	$(LOCKING)/bin/python $(PIP) --quiet $(UV)
	$(LOCKING)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.10 --no-python-downloads \
	  --all-extras --overrides requirements/no-torch.txt --generate-hashes --custom-compile-command 'make lock' \
	  setup.py requirements/torch.in -o $(LOCK)

$(OLDEST)/bin/python: PYTHON := $(PYTHON_OLDEST)
$(VENVS:%=%/bin/python): %/bin/python:
	@echo "== making $* with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "eflib needs Python 3.10 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $*

# The stamp: installed once, and again when what is to be installed has changed. What torch needs is
# there before torch comes, so that nothing but torch is outside the lock.
$(READY): setup.py pyproject.toml $(LOCK) | $(BIN)/python
	@echo "== installing what $(LOCK) names, then torch where it is missing, then eflib, into $(VENV)"
	$(BIN)/python $(PIP) --quiet --no-deps --require-hashes -r $(LOCK)
	@$(BIN)/python -c 'import torch' 2>/dev/null || { set -x; $(BIN)/python $(PIP) $(TORCH); }
	$(BIN)/python $(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(OLDEST)/.eflib-installed: setup.py pyproject.toml | $(OLDEST)/bin/python
	@$(OLDEST)/bin/python -c 'import torch' 2>/dev/null || { set -x; $(OLDEST)/bin/python $(PIP) $(TORCH_OLDEST); }
	$(OLDEST)/bin/python -c '$(KEEP_TORCH)' > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m tests.helpers.oldest setup.py >> $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python $(PIP) --quiet -c $(OLDEST)/constraints.txt -e '.[test]'
	@touch $@
