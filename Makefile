# Everything runs from a virtual environment in .venv, made on first use.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
DATA ?= ../shared/data
CONFIG ?=
ONESHOT ?=
ENCODER ?=
# A port of your own counts for serve too; without one, its config's does.
SERVE_PORT := $(PORT)
PORT ?= 8080

.PHONY: help demo serve test check fmt bench soak docs packs lock clean

help: ## What there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(VENV)/.serve: requirements.lock pyproject.toml
	@echo "Installing into $(VENV): about a minute, once ..."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.serve requirements-dev.lock
	@echo "Installing what tests and checks need: some minutes, once ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@

demo: $(VENV)/.serve ## Start the gateway, send real conversations, show what was decided (ONESHOT=1: then stop)
	$(BIN)/doorman demo --port $(PORT) $(if $(ONESHOT),--oneshot)

serve: $(VENV)/.serve ## Start the gateway on 127.0.0.1:8080 (PORT=8081; CONFIG=config.yaml for your own settings)
	$(BIN)/doorman serve $(if $(CONFIG),--config $(CONFIG)) $(if $(SERVE_PORT),--port $(SERVE_PORT))

test: $(VENV)/.dev ## Run the tests
	$(BIN)/python -m pytest -q -n 3

check: $(VENV)/.dev ## Format, lint, types, layers, generated docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/cog --check README.md docs/*.md docs/packs/*.md

fmt: $(VENV)/.dev ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.dev ## Rewrite the generated parts of the docs
	$(BIN)/cog -r README.md docs/*.md docs/packs/*.md

bench: $(VENV)/.dev ## Measure latency, quality and false positives (DATA=folder of the public data sets)
	$(BIN)/python -m benchmarks.run --data $(DATA)

soak: $(VENV)/.dev ## Mixed load against the real gateway: nothing lost, doubled or mixed up (SECONDS=60)
	$(BIN)/python -m benchmarks.soak --seconds $(or $(SECONDS),60)

packs: $(VENV)/.dev ## Retrain every shipped pack (DATA=folder of the public data sets; ENCODER=folder of another encoder)
	$(BIN)/python -m classifiers.training.build --data $(DATA) $(if $(ENCODER),--encoder $(ENCODER))

lock: $(VENV)/.dev ## Renew the lock files after a change of the dependencies
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes -q --custom-compile-command "make lock" -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes -q --custom-compile-command "make lock" -c requirements.lock -o requirements-dev.lock
	printf 'transformers>=4.57\nonnx>=1.17\n' | $(BIN)/uv pip compile - --universal --python-version 3.11 --generate-hashes -q --custom-compile-command "make lock" -c requirements-dev.lock -o requirements-train.lock

clean: ## Remove the environment and what tools left behind
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
