# Needs Python 3.11 or later, pip, git and make. Everything is installed into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= auto

# Tests start many processes. Each would compile the package anew where the environment forbids keeping what it made.
PYTEST := -m pytest -n $(WORKERS)
test test-long test-latest: export PYTHONDONTWRITEBYTECODE :=

INSTALL := --disable-pip-version-check install --quiet
PIP := -m pip $(INSTALL)
LOCKED := $(PIP) --require-hashes
LOCKS := $(sort $(wildcard benchmarks/requirements/*.in))

.PHONY: help demo test test-long test-latest check format bench dist lock clean

help:
	@echo "make demo         run the main job against a local emulator: no key, no network"
	@echo "make test         run the tests"
	@echo "make test-long    run the long forms of the tests (hundreds of kills and corruptions)"
	@echo "make test-latest  run the tests with the newest versions of everything, not the locked ones"
	@echo "make check        lint, types, layers, words"
	@echo "make format       format the code"
	@echo "make bench        measure against the reference, side by side"
	@echo "make dist         build a release: sdist, wheel, bill of materials, checksums"
	@echo "make lock         take the newest versions of everything into the lock"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# First what builds, then what is needed, then this package itself, with nothing that the lock does not name.
$(VENV)/.demo $(VENV)/.dev: $(VENV)/.%: requirements/build.txt requirements/%.txt pyproject.toml | $(BIN)/python
	$(BIN)/python $(LOCKED) --only-binary :all: -r requirements/build.txt
	$(BIN)/python $(LOCKED) --no-build-isolation -r requirements/$*.txt
	$(BIN)/python $(PIP) --no-deps --no-build-isolation -e .
	@touch $@

demo: $(VENV)/.demo
	@$(BIN)/deluge demo

test: $(VENV)/.dev
	$(BIN)/python $(PYTEST)

test-long: $(VENV)/.dev
	$(BIN)/python $(PYTEST) -m long -o faulthandler_timeout=0

test-latest:
	$(PYTHON) -m venv --clear $(VENV)-latest
	$(VENV)-latest/bin/python $(PIP) -e '.[dev]'
	$(VENV)-latest/bin/python $(PYTEST)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/words.py

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

# What is built is installed, with nothing but the lock, and has to work; that environment is the bill of materials.
dist: requirements/build.txt requirements/dist.txt requirements/demo.txt
	rm -rf dist $(VENV)-dist $(VENV)-bill
	$(PYTHON) -m venv $(VENV)-dist
	$(VENV)-dist/bin/python $(LOCKED) --only-binary :all: -r requirements/build.txt -r requirements/dist.txt
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(VENV)-dist/bin/python -m build --no-isolation --outdir dist .
	$(PYTHON) -m venv --without-pip $(VENV)-bill
	$(VENV)-dist/bin/python -m pip --python $(VENV)-bill $(INSTALL) --require-hashes --only-binary :all: -r requirements/demo.txt
	$(VENV)-dist/bin/python -m pip --python $(VENV)-bill $(INSTALL) --no-deps dist/*.whl
	$(VENV)-bill/bin/deluge demo
	$(VENV)-dist/bin/python .ci/bill.py $(VENV)-bill dist

# The tool that writes the lock is locked too. `make lock UPGRADE=` changes only what pyproject.toml asks for.
UPGRADE ?= --upgrade
COMPILE := $(VENV)-lock/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make lock" $(UPGRADE)

lock:
	$(PYTHON) -m venv --clear $(VENV)-lock
	$(VENV)-lock/bin/python $(LOCKED) --only-binary :all: -r requirements/lock.txt
	$(COMPILE) --group lock -o requirements/lock.txt
	$(COMPILE) --group build -o requirements/build.txt
	$(COMPILE) --group dist -c requirements/build.txt -o requirements/dist.txt
	$(COMPILE) --extra dev -c requirements/build.txt -o requirements/dev.txt pyproject.toml
	$(COMPILE) --extra server -c requirements/dev.txt -o requirements/demo.txt pyproject.toml
	for name in $(basename $(LOCKS)); do $(COMPILE) -o $$name.txt $$name.in || exit 1; done

clean:
	rm -rf $(VENV) $(VENV)-latest $(VENV)-lock $(VENV)-dist $(VENV)-bill benchmarks/.venvs
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
