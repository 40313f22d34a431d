# make demo    two jobs with deadlines share four CPU slots, in about two minutes
# make test    the tests, those of real processes included, in less than ten minutes on two cores
# make test-long   the tests that take a minute each: the whole demo, each benchmark, an audit
# make check   linters, types, borders between the parts, and the quick tests
# make docs    the documentation site, into site/; a warning fails it
# make clean   remove what the others made
#
# The first of them makes .venv and installs into it. Settings, on the command line or exported:
#   PYTHON  the Python (3.10 or newer) that .venv is made with
#   TORCH   what pip installs when .venv has no torch. For a CUDA build, take the index that
#           pytorch.org ("Get started") names for your CUDA version:
#             make demo TORCH='torch==2.13.0 --index-url URL'
#   PYTEST_ARGS  handed to pytest, such as PYTEST_ARGS='-k digits'
PYTHON ?= python3
TORCH ?= torch==2.13.0
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.eflib-installed
DOCS_READY := $(VENV)/.eflib-docs-installed
PIP := $(BIN)/python -m pip --disable-pip-version-check install --progress-bar off
FAST := $(wildcard tests/unit tests/properties)
# Processes under test get one thread each, or they crowd out one another on a small machine.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-long check lint fast-test docs clean help
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
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal -m "not alone and not long" $(PYTEST_ARGS)
	$(BIN)/python -m pytest -m "alone and not long" $(PYTEST_ARGS) || [ $$? -eq 5 ]

test-long: $(READY)
	$(BIN)/python -m pytest -m long $(PYTEST_ARGS)

# The variable silences a notice of mkdocs-material about the time after mkdocs 1.
docs: $(DOCS_READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "== the site is in site/: open site/index.html"

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@echo "== making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "eflib needs Python 3.10 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The stamp: installed once, and again when what is to be installed has changed.
$(READY): setup.py pyproject.toml | $(BIN)/python
	@echo "== installing eflib and what its tests need into $(VENV)"
	@$(BIN)/python -c 'import torch' 2>/dev/null || { set -x; $(PIP) $(TORCH); }
	$(PIP) -e '.[test,lint,examples,plot,simulator]'
	@touch $@

$(DOCS_READY): $(READY)
	@echo "== installing what the documentation needs into $(VENV)"
	$(PIP) -e '.[docs]'
	@touch $@
