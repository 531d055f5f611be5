# Two commands do everything on a fresh machine with Python 3.11 or 3.12:
#   make demo    photographs -> 12 trained autoencoders -> a page with scaling curves
#   make test    the test suite, ruff, mypy and the import rules

PYTHON ?= python3
MINUTES ?= 20
# Processes that share the quick tests: two cores is what the project promises to work on, more has nothing to gain.
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help install demo test check slow test-faults soak counts locked audit clean

help:
	@echo "make demo   train the quick-start study on real photographs and draw its page"
	@echo "make test   install, then tests, ruff, mypy and import rules"
	@echo "make slow   the tests that take minutes"
	@echo "make test-faults   the tests that kill processes, nodes and servers, fill disks and damage files"
	@echo "make locked   the hashes of all wheels again, after changes in constraints.txt"
	@echo "make audit   look all locked packages up in the database of known vulnerabilities"
	@echo "make counts   count the models of all studies again, after changes in models/transvae"
	@echo "make soak   a small study under random kills, MINUTES=20, against its undisturbed twin"

# The stamp depends on what decides the environment; touching nothing installs nothing.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' \
	  || { echo "Python 3.11 or 3.12 is needed, $$($(PYTHON) --version) was found: make PYTHON=python3.11 ..."; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing pinned packages into $(VENV): 2 to 4 minutes, 2 GB"
	@$(BIN)/python -m pip install -qq --constraint constraints.txt --editable '.[test]'
	@touch $@

install: $(VENV)/.installed

demo: install
	@$(BIN)/transvae study submit studies/quickstart.yaml

test: install
	@$(MAKE) --no-print-directory check
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --numprocesses $(WORKERS) --dist worksteal

check: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check -q .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

slow: install
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow

test-faults: install
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m fault --durations=0 --durations-min=5

soak: install
	@SOAK_MINUTES=$(MINUTES) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m soak

locked: install
	@$(BIN)/python clusters/lock.py

# In an environment of its own: what audits shall not be audited. --strict: a database that does not answer is a failure.
audit:
	@test -x $(VENV)/audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)/audit \
	  && $(VENV)/audit/bin/python -m pip install -qq pip-audit==2.10.1; }
	@for file in locked.txt locked-cuda.txt; do \
	  $(VENV)/audit/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off --requirement $$file || exit 1; done

counts: install
	@$(BIN)/python benchmarks/count_studies.py

clean:
	rm -rf $(VENV) dist
