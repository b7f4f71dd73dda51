# Every task of the project; `make help` lists them. Needs Python 3.11+ (venv, pip) and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export QALQAN_HOME ?= .qalqan

.DEFAULT_GOAL := help
.PHONY: help install demo test contract chaos composition check format bench screenshots steady lock clean fuzz

help: ## List the tasks
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(VENV)/.installed ## Make .venv with everything, and .venv/bin/qalqan

$(VENV)/.installed: requirements.lock pyproject.toml shared/pyproject.toml
	@echo "Installing into $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e shared -e .
	@touch $@

demo: install ## Start everything, replay a real disaster, check it, report, stop
	@$(BIN)/qalqan demo

test: install ## Run the tests on a real broker and database
	@$(BIN)/python -m pytest -n $(if $(KAFKA_BOOTSTRAP_SERVERS),0,2) --dist loadfile

check: install ## Format check, lint, types, architecture
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: install ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

contract: install ## Write docs/contract anew: AsyncAPI, schemas, OpenAPI of every service
	@$(BIN)/qalqan contract export docs/contract

chaos: install ## Kill and freeze every process, 20 times each, while 300 requests run
	@QALQAN_CHAOS_REQUESTS=300 QALQAN_CHAOS_KILLS=20 $(BIN)/python -m pytest tests/chaos -s

composition: install ## Run compose.yaml's own settings on real processes: three brokers, PostgreSQL, five services
	@QALQAN_COMPOSITION=1 $(BIN)/python -m pytest tests/deploy/test_composition.py

bench: install ## Measure, both sides in one run (ONLY=name for one benchmark)
	@$(BIN)/python -m tests.bench $(if $(ONLY),--only $(ONLY))

screenshots: install ## Play a busy day and renew the pictures in docs/page (needs Chromium)
	@$(BIN)/python -m tests.browser.screenshots

steady: install ## An hour of steady load on a system of its own: is it flat? (MINUTES=60, RATE=10)
	@$(BIN)/python -m tests.bench.steady --minutes $(or $(MINUTES),60) --rate $(or $(RATE),10)

fuzz: install ## Send 100,000 mutated submissions to a system of its own (N=, SEED=)
	@$(BIN)/python -m tests.fuzz $(if $(N),--records $(N)) $(if $(SEED),--seed $(SEED))

lock: install ## Renew requirements.lock from requirements.in, and the benchmark peer's
	@$(BIN)/python -m pip install --quiet uv
	@for name in requirements tests/bench/quix; do \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes $$name.in -o $$name.lock; \
	done

clean: ## Remove the virtual environment and the local network
	rm -rf $(VENV) $(QALQAN_HOME)
