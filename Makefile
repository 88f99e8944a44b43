# Python 3.11 or newer; the first of these that is. Another: make PYTHON=/path/to/python
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
# A process takes 1 to 2 GiB, and a file's tests share what they compile.
PARALLEL ?= -n auto --maxprocesses 4 --dist loadfile
# TYPES=1 also checks shapes and types at every call.
JAXTYPING = --jaxtyping-packages=jaxconv,beartype.beartype(conf=beartype.BeartypeConf(violation_type=TypeError, is_pep484_tower=True))

.DEFAULT_GOAL := help

.PHONY: help
help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

.PHONY: train
train: $(VENV)/.installed  ## train lab6 on MNIST; options: make train ARGS="--epochs 1"
	$(BIN)/python experiments/lab6.py $(ARGS)

.PHONY: test
test: $(VENV)/.installed-test  ## run the tests, but for the slow ones
	$(BIN)/python -m pytest -q $(PARALLEL) $(if $(TYPES),"$(JAXTYPING)") $(ARGS)

.PHONY: test-slow
test-slow: $(VENV)/.installed-test  ## run the slow tests, and hypothesis with many examples
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(BIN)/python -m pytest -q $(PARALLEL) -m "slow and not hypothesis" $(ARGS)
	HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest -q $(PARALLEL) -m hypothesis $(ARGS)

.PHONY: check
check: $(VENV)/.installed-dev  ## lint, format check, types, floors; pre-commit and CI run the same
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

.PHONY: format
format: $(VENV)/.installed-dev  ## mend what check can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: table
table: $(VENV)/.installed  ## the README's accuracy table: every net, 5 or 10 seeds
	$(BIN)/python experiments/accuracy_table.py $(ARGS)

.PHONY: clean
clean:  ## delete the environment and caches, not the runs
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# An environment is installed anew only when pyproject.toml changes.
$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "Installing jaxconv[run] and the packages it needs into $(VENV): a minute or two"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[run]'
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	@echo "Installing jaxconv[test] and the packages it needs into $(VENV): a minute or two"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	@echo "Installing jaxconv[dev] and the packages it needs into $(VENV): a minute or two"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-test
