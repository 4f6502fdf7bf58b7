# Everything needs only python3 (3.11 or later), make and pip; each target sets up .venv when it is missing or stale.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help quickstart test test-common style readme models

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

quickstart: $(READY)  ## train ICL-MoE and plain cross-entropy on images that ship with the project (3 minutes on 2 cores)
	$(BIN)/tailmoe train quickstart --overwrite

test: $(READY)  ## run the tests
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

test-common: $(READY)  ## fetch transformers' own common model tests and run them on both models
	$(BIN)/python tests/common/fetch.py
	$(BIN)/python -m pytest -m "" -rs tests/common

style: $(READY)  ## check and format the code, and check who imports whom
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/lint-imports

readme: $(READY)  ## render the tables of all pages from files in hub_cards
	$(BIN)/python -m tailmoe.hub_cards.readme .

models: $(READY)  ## bring hub_cards/models to the present modeling code and render their cards, if they answer as before
	$(BIN)/python -m tailmoe.hub_cards.published_models hub_cards/models

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"tailmoe needs Python 3.11 or later, $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)
