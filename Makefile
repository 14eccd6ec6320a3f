# Two commands for a newcomer: `make demo` and `make test`. Both set up what is missing.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-all lint bench clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tutelage needs Python 3.11 or newer; set PYTHON=python3.x")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(STAMP)  ## distil the quickstart and show the result
	$(BIN)/tutelage distill recipes/quickstart.yaml

test: $(STAMP)  ## the tests that every change must pass
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-all: $(STAMP)  ## and the slow ones
	$(BIN)/python -m pytest -n 2 --dist loadfile -m ''

lint: $(STAMP)  ## style and types
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

bench: $(STAMP)  ## the speed comparison of docs/results.md (about an hour)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps textbrewer
	$(BIN)/python benchmarks/encoder_kd.py

clean:  ## remove the environment and all runs
	rm -rf $(VENV) runs
