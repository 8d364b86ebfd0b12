# Every target sets itself up in .venv: with uv where it is installed, else with venv and pip.

PYTHON ?= python3
BIN := .venv/bin
UV := $(shell command -v uv 2>/dev/null)
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH

.PHONY: help train test check laws bench coverage setup lock format clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

train: setup  ## the whole pipeline on the embedded sample
	$(BIN)/ares train

test: setup  ## all tests
	$(BIN)/python -m pytest

check: setup  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

laws: setup  ## the property tests, with many more examples
	HYPOTHESIS_PROFILE=laws $(BIN)/python -m pytest -m 'laws or hypothesis'

bench: setup  ## benchmarks against peers, printed as ratios
ifdef UV
	uv pip install --quiet --python $(BIN)/python -e '.[bench]'
else
	$(BIN)/python -m pip install --quiet -e '.[bench]'
endif
	for file in benchmarks/[a-z]*.py; do $(BIN)/python $$file || exit 1; done

coverage: setup  ## branch coverage, with the kernels run as plain Python
	NUMBA_DISABLE_JIT=1 $(BIN)/coverage run -m pytest -m 'not slow and not compiled'
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

setup: .venv/.ready  ## .venv with the locked dependencies

.venv/.ready: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Ares needs Python 3.11 or later; try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
ifdef UV
	uv venv --quiet --allow-existing --python $(PYTHON) .venv
	uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock
	uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
else
	@echo 'Installing into .venv; with pip this takes about two minutes.'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
endif
	@touch $@

lock:  ## refresh requirements.lock from pyproject.toml (needs uv)
	uv pip compile --quiet pyproject.toml --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-annotate --no-header --no-emit-index-url --upgrade -o requirements.lock

format: setup  ## format and apply safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove what the targets made; runs, data and .ares stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist .coverage* htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
