SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin

.PHONY: help demo test check format bench clean

help: ## Show what can be done
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 20

demo: .venv/serve.stamp ## Read a real radiograph and show the result in a browser
	@$(BIN)/radcds demo

test: .venv/dev.stamp .cache/judges.stamp ## Set up everything and run every test
	@$(BIN)/pytest -q --numprocesses=auto --dist=worksteal tests/unit
	@$(BIN)/pytest -q --numprocesses=auto --dist=loadfile -m "not alone" tests/contract
	@$(BIN)/pytest -q -m alone tests/contract
	@$(BIN)/pytest tests/integration tests/e2e

check: .venv/dev.stamp ## Format, lint, types, import contracts, architecture and docs tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/pytest -q -p no:randomly tests/unit/test_architecture.py tests/unit/test_docs.py

format: .venv/dev.stamp ## Format the code and mend what can be mended
	@$(BIN)/ruff check --fix -q .
	@$(BIN)/ruff format .

bench: .venv/dev.stamp ## Measure speed and memory; prints the table of docs/benchmarks.md
	@for each in one_study hooks viewer pacs mllp orders_in feed delivery training; do $(BIN)/python tests/benchmarks/$$each.py || exit; echo; done

clean: ## Remove what was installed or made here
	@rm -rf .venv .cache build dist *.egg-info demo-out

.venv/serve.stamp: pyproject.toml
	@scripts/setup.sh serve

.venv/dev.stamp: pyproject.toml
	@scripts/setup.sh dev

.cache/judges.stamp: scripts/install_judges.sh tests/contract/judges/package.json
	@scripts/install_judges.sh
