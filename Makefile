# Every target does its own set-up first, which takes no time when nothing has changed. ARGS reaches the command behind a target.
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev run test lint soak live bench docs lock clean
MAKEFLAGS += --no-print-directory
# Else every process that a test starts would compile the program anew.
export PYTHONDONTWRITEBYTECODE :=
BIN := .venv/bin
ARGS ?=

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1 \t/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## make .venv with .venv/bin/heliograph
	@scripts/setup.sh run

setup-dev: ## the same with everything that tests and linters need
	@scripts/setup.sh dev

run: setup ## start Heliograph with the demo fleet; ends with Ctrl-C
	@exec $(BIN)/heliograph up --demo $(ARGS)

test: lint ## run every check and every test
	@echo "test: pytest"
	@$(BIN)/python -m pytest -n 5 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: setup-dev ## check style, types and the direction of imports
	@echo "lint: ruff"
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@echo "lint: mypy"
	@$(BIN)/mypy --no-error-summary
	@echo "lint: imports"
	@$(BIN)/lint-imports --no-logo

soak: setup-dev ## run the tests that take minutes
	@echo "soak: pytest -m soak"
	@$(BIN)/python -m pytest -m soak $(ARGS)

live: setup-dev ## record from a real Google project what the emulator guesses; docs/lab.md says how
	@echo "live: pytest -m live"
	@$(BIN)/python -m pytest -m live -s tests/live $(ARGS)

bench: setup-dev ## measure the targets, on a PostgreSQL of its own
	@echo "bench: starting PostgreSQL"
	@$(BIN)/python -m tests.support.postgres --run $(BIN)/python -m bench $(ARGS)

docs: setup-dev ## build the documentation into site/
	@echo "docs: building site/"
	@$(BIN)/zensical build --clean --strict

LOCK := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --group build

lock: setup-dev ## renew the requirement locks; ARGS=--upgrade takes newer versions
	@echo "lock: requirements/run.txt, requirements/dev.txt, tests/npm/package-lock.json"
	@$(LOCK) $(ARGS) -o requirements/run.txt
	@$(LOCK) $(ARGS) --group dev --constraint requirements/run.txt -o requirements/dev.txt
	@$(BIN)/python -m tests.support.node --lock

clean: ## remove all that set-up, tests and builds have made; keeps var/
	@echo "clean: .venv, caches, builds"
	@rm -rf .venv .venv.lock build dist site tests/npm/node_modules .cache .hypothesis .import_linter_cache \
		.mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
