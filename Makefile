# Two commands do everything: `make run` and `make test`. Both start from Python 3.11+ and pip alone.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test clients lint types contracts check demo model docs clean
.DEFAULT_GOAL := run

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Ringfence needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

model: $(STAMP)
	@$(BIN)/ringfence model pull

run: $(STAMP) model
	@$(BIN)/ringfence serve

CLIENTS := tests/clients/others
CLIENTS_STAMP := .venv-clients/.installed

$(CLIENTS_STAMP): $(CLIENTS)/requirements.txt $(CLIENTS)/package.json
	@test -x .venv-clients/bin/python || $(PYTHON) -m venv .venv-clients
	.venv-clients/bin/pip install --quiet --disable-pip-version-check -r $(CLIENTS)/requirements.txt
	npm install --prefix $(CLIENTS) --silent --no-package-lock --no-audit --no-fund
	@touch $@

# Other people's OpenAI clients, for the tests that would be skipped without them; needs npm.
clients: $(CLIENTS_STAMP)

# Two at a time, a file in one piece: what a file's tests share is started once.
test: $(STAMP) model
	$(BIN)/pytest -n 2 --dist loadfile

demo: $(STAMP) model
	@$(BIN)/python -m demo

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

contracts: $(STAMP)
	$(BIN)/lint-imports

docs: $(STAMP)
	$(BIN)/python -m tests.reference_pages

check: lint types contracts test

clean:
	rm -rf $(VENV) .venv-clients $(CLIENTS)/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
