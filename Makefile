# make verify: one true verdict on the reference setup.   make test: everything that CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP ?= fixtures/setups/reference.toml

.DEFAULT_GOAL := verify
.PHONY: constraints verify test unit e2e scenarios mutants check fix clean bench

# Two stamps: to verify needs no linter, and a newcomer should not wait for one.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[native]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[native,docker,load,dev]'
	touch $@

constraints: $(VENV)/.installed-dev
	(head -1 constraints.txt; $(BIN)/python -m pip freeze --exclude-editable --exclude pip --exclude setuptools) > constraints.new
	mv constraints.new constraints.txt

verify: $(VENV)/.installed
	$(BIN)/harness verify $(SETUP)

test: check unit e2e scenarios mutants

unit: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests --ignore=tests/e2e

e2e: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/e2e

scenarios: $(VENV)/.installed-dev
	$(BIN)/python -m pytest scenarios --setup fixtures/setups/reference.toml
	$(BIN)/python -m pytest scenarios --setup fixtures/setups/reference-postgres.toml

mutants: $(VENV)/.installed-dev
	$(BIN)/harness mutants

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev
	for benchmark in benchmarks/*.py; do $(BIN)/python $$benchmark || exit 1; done

# What dead runs left (processes, folders), then what was built here.
clean:
	if [ -x $(BIN)/harness ]; then $(BIN)/harness clean; fi
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache *.egg-info
