# `make run` and `make test` set up everything they need; see deploy/setup.sh.
.DEFAULT_GOAL := help
.PHONY: help run test check format docs crash bench lock clean setup-run setup-test

BIN := .venv/bin
ARGS ?=
UV_COMPILE := $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.12 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' Makefile | while IFS='	' read -r name text; do \
		printf '  make %-8s %s\n' "$$name" "$$text"; done

run: setup-run ## run the proxy: make run ARGS="--listen 127.0.0.1:9000"
	@exec $(BIN)/fwdproxy run --certs certs $(ARGS)

test: setup-test ## run all tests: make test ARGS="-k freshness"
	@$(BIN)/python -m pytest $(ARGS)

check: setup-test ## check style (ruff) and types (mypy)
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy

format: setup-test ## put the code into ruff's format
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

docs: setup-test ## write the table of RFC requirements and their tests into docs/caching.md
	@$(BIN)/python -m tests.rfc_table

crash: setup-test ## kill the proxy 200 times under load and check every stored response
	@FWDPROXY_CRASH_ROUNDS=200 $(BIN)/python -m pytest -s -o faulthandler_timeout=0 tests/e2e/test_crash.py $(ARGS)

bench: setup-test ## measure requests per second, hits and misses
	@$(BIN)/python bench/throughput.py $(ARGS)

lock: setup-test ## resolve the dependencies anew into deploy/lock/: make lock ARGS=--upgrade
	@$(UV_COMPILE) $(ARGS) --group build pyproject.toml -o deploy/lock/runtime.txt
	@$(UV_COMPILE) $(ARGS) --constraint deploy/lock/runtime.txt --group dev pyproject.toml -o deploy/lock/dev.txt

clean: ## remove what the other targets made, the CA in certs/ excepted
	@rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis bench/results
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup-run:
	@sh deploy/setup.sh runtime

setup-test:
	@sh deploy/setup.sh dev
