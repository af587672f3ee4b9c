# Kindred: `make` shows what there is. `make demo` and `make test` set themselves up.

# The first that runs and is new enough; a name on the path may be a shim for a version that is not installed.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
VENV   := .venv
RUN    := $(VENV)/bin/python
STAMP  := $(VENV)/.installed

export HF_HUB_OFFLINE ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-kafka test-fault soak test-compose check bench default-blend constraints clean

help: ## Show this text.
	@echo "Kindred: useful recommendations for a newcomer, from the first sentence they write."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "PYTHON=... chooses the interpreter (3.11 or newer), now: $(PYTHON)"

setup: $(STAMP) ## Make .venv and install Kindred with all it needs for development (5 GB with torch).

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python found. Install Python 3.11 or newer, or name one: make setup PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is too old. Install Python 3.11 or newer, or name one: make setup PYTHON=..." >&2; exit 1; }
	test -x $(RUN) || "$(PYTHON)" -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	@touch $(STAMP)

demo: $(STAMP) ## Start a stack, feed it real posts, show what newcomers are given and why; leaves nothing running.
	$(VENV)/bin/kindred demo

test: $(STAMP) ## Run all tests; those that mostly wait for a consumer group run four at a time.
	$(RUN) -m pytest -q -n 2 -m "not apache" tests/unit tests/property tests/contract tests/security
	$(RUN) -m pytest -q -n 4 --dist worksteal -m embedded tests/fault
	$(RUN) -m pytest -q -m "not apache" tests/e2e

test-kafka: export KINDRED_TEST_BROKER := apache
test-kafka: $(STAMP) ## Run the tests that speak to a broker on Apache Kafka (Java 17; Maven fetches it once).
	$(RUN) -m pytest -q -m apache tests/unit/ops/stack
	$(RUN) -m pytest -q tests/contract/test_broker.py tests/contract/test_shadow.py \
		tests/contract/test_transactions.py tests/contract/test_turn.py
	$(RUN) -m pytest -q -n 2 tests/security/test_kafka.py
	$(RUN) -m pytest -q tests/e2e

test-fault: export KINDRED_TEST_BROKER := apache
test-fault: $(STAMP) ## Run all fault tests on Apache Kafka and Redis 8, each fault a few times, each ended by an audit.
	$(RUN) -m pytest -q -n 2 --dist worksteal tests/fault

soak: export KINDRED_TEST_BROKER := apache
soak: export KINDRED_SOAK := 1
soak: export KINDRED_FAULT_ROWS := $(CURDIR)/build/soak.jsonl
soak: $(STAMP) ## The same with full counts (over an hour); leaves the table of docs/failures.md in build/soak.md.
	mkdir -p build && rm -f build/soak.*
	$(RUN) -m pytest -q -n 2 --dist worksteal tests/fault; status=$$?; \
		$(RUN) -m tests.fault.table build/soak.jsonl | tee build/soak.md; exit $$status

test-compose: export KINDRED_TEST_BROKER := apache
test-compose: $(STAMP) ## Run the tests of docker-compose.yml and those on containers (Docker with compose).
	$(RUN) -m pytest -q tests/compose tests/containers

check: $(STAMP) ## Format, lint, types (strict, tests included) and the direction of imports.
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(RUN) -m mypy --strict
	$(VENV)/bin/lint-imports

default-blend: $(STAMP) ## Fit the shipped blend anew: make default-blend SETS="FILE.jsonl.gz …".
	$(RUN) -m benchmarks.default_blend --write $(SETS)

bench: $(STAMP) ## Run the benchmarks of docs/benchmarks.md.
	$(RUN) -m benchmarks

# Left out: what torch pins exactly by itself, and only on the platforms that have it.
constraints: $(STAMP) ## Renew constraints.txt from what is installed in .venv: names and versions only.
	$(RUN) -m pip freeze --exclude-editable | sed -n 's/^\([A-Za-z0-9._-]*==[^+ ]*\).*/\1/p' \
		| grep -vE '^(nvidia-|cuda-|triton==)' > constraints.txt.new
	mv constraints.txt.new constraints.txt
	@touch $(STAMP)

clean: ## Remove .venv, caches and the data of an embedded stack in .kindred (which must not be running).
	rm -rf $(VENV) .kindred build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
