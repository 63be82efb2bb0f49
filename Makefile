# Needs Python 3.11 or later, pip, git and make. Everything is installed into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= auto

.PHONY: help demo test test-long check format bench clean

help:
	@echo "make demo       run the main job against a local emulator: no key, no network"
	@echo "make test       run the tests"
	@echo "make test-long  run the long forms of the tests (hundreds of kills and corruptions)"
	@echo "make check      lint, types, layers"
	@echo "make format     format the code"
	@echo "make bench      measure against the reference, side by side"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[server]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev,bench]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	@$(BIN)/deluge demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS)

test-long: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) -m long

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
