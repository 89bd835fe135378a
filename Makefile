# What a newcomer needs: `make quickstart`, `make test`. Everything happens in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: quickstart test test-slow lint docs benchmarks clean

quickstart: $(VENV)/quickstart.installed
	@rm -rf runs/quickstart
	$(BIN)/sentikit train --recipe quickstart --output runs/quickstart
	$(BIN)/sentikit evaluate runs/quickstart --dataset demo --split validation
	printf '%s\n' 'I love it, every minute of it.' 'The parcel arrived on Tuesday.' 'Not worth a single cent.' \
		| $(BIN)/sentikit predict runs/quickstart
	$(BIN)/sentikit runs list

test: $(VENV)/dev.installed lint
	$(BIN)/python -m pytest -m 'not slow'

test-slow: $(VENV)/dev.installed
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/dev.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/dev.installed
	$(BIN)/python docs/generate_cli_reference.py
	$(BIN)/python docs/generate_compare_schema.py
	$(BIN)/python docs/generate_architecture.py

clean:
	rm -rf $(VENV) build dist *.egg-info runs

$(VENV)/pip.installed:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sentikit needs Python 3.11 or newer; make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/quickstart.installed: $(VENV)/pip.installed pyproject.toml setup.cfg constraints.txt
	$(PIP) --editable '.[quickstart]'
	touch $@

$(VENV)/dev.installed: $(VENV)/pip.installed pyproject.toml setup.cfg constraints.txt
	$(PIP) --editable '.[all,dev]'
	touch $@
