# causalrec: every target is a thin call of the `causalrec` command line; `make` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/sh

PYTHON ?= python3
CONFIG ?= configs/marketplace.yaml
SET ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CAUSALREC := $(BIN)/causalrec
OVERRIDES := $(foreach pair,$(SET),--set '$(pair)')
NEWEST := $(if $(filter command line environment,$(origin CONFIG)),--config $(CONFIG)) $(OVERRIDES)
SYNTHETIC := configs/marketplace.yaml
REAL := configs/hillstrom.yaml configs/online_retail.yaml configs/retailrocket.yaml
UV_VERSION := 0.13.9

.PHONY: help setup train evaluate infer pipeline ui abtest ate data-synth data-service data-real all-synth all-real \
        test test-slow lint format bench lock clean

help:  ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  CONFIG=configs/hillstrom.yaml chooses a run; SET=\"seed=1 data.options.n_users=50000\" changes keys."

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "$(PYTHON) is $$($(PYTHON) -V 2>&1); causalrec needs Python 3.11 to 3.13. Try: make setup PYTHON=python3.11"; exit 2; }
	@echo "setting up $(VENV) from requirements.lock (once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION) && \
	  VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --require-hashes -r requirements.lock || \
	  { echo "uv could not install; trying pip (slower)"; $(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock; }
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps -e . || $(BIN)/python -m pip install --quiet --no-deps -e .
	@touch $(READY)

setup: $(READY)  ## create .venv from the lock file

train: $(READY)  ## run the pipeline and track it in MLflow
	$(CAUSALREC) train --config $(CONFIG) $(OVERRIDES)

evaluate: $(READY)  ## evaluate the newest trained run on held-out data and write its report (PROMOTE=1: make it the champion)
	$(CAUSALREC) evaluate $(NEWEST) $(if $(filter-out 0 no false,$(PROMOTE)),--promote)

infer: $(READY)  ## score a batch with the newest trained run (INPUT=file.parquet, else its held-out units; VALUE, COST and BUDGET say whom to treat)
	$(CAUSALREC) infer $(NEWEST) $(if $(INPUT),--input '$(INPUT)') $(if $(OUTPUT),--output '$(OUTPUT)') \
	  $(if $(VALUE),--value '$(VALUE)') $(if $(COST),--cost '$(COST)') $(if $(BUDGET),--budget '$(BUDGET)')

pipeline: $(READY)  ## data and features only, materialised to partitioned Parquet
	$(CAUSALREC) pipeline --config $(CONFIG) $(OVERRIDES)

ui: $(READY)  ## open the MLflow UI on the runs
	$(CAUSALREC) ui

data-synth: $(READY)  ## write the simulated marketplace as Parquet under data/
	$(CAUSALREC) data synth

data-service: $(READY)  ## write the simulated A/B test of a music service under data/
	$(CAUSALREC) data service

data/service.parquet: | $(READY)
	$(CAUSALREC) data service --output $@

abtest: $(READY) $(if $(DATA)$(filter command line environment,$(origin CONFIG)),,data/service.parquet)  ## analyse an experiment (CONFIG=my.yaml DATA=file.parquet; by default the simulated one)
	$(CAUSALREC) abtest $(if $(filter command line environment,$(origin CONFIG)),--config $(CONFIG)) $(if $(DATA),--data '$(DATA)') $(OVERRIDES)

data/campaign.parquet: | $(READY)
	$(CAUSALREC) data campaign --output $@

ate: $(READY) $(if $(DATA)$(filter command line environment,$(origin CONFIG)),,data/campaign.parquet)  ## study an effect that was not randomised (CONFIG=my.yaml DATA=file.parquet; by default a simulated campaign)
	$(CAUSALREC) ate $(if $(filter command line environment,$(origin CONFIG)),--config $(CONFIG)) $(if $(DATA),--data '$(DATA)') $(OVERRIDES)

data-real: $(READY)  ## say which public data sets are at hand, and download those that have a stable address
	$(CAUSALREC) data real

all-synth: data-synth  ## train, evaluate and infer on the simulated marketplace
	for config in $(SYNTHETIC); do \
	  $(CAUSALREC) train --config $$config && $(CAUSALREC) evaluate --config $$config && $(CAUSALREC) infer --config $$config || exit $$?; done

all-real: $(READY)  ## train and evaluate on every public data set that has a config
	for config in $(REAL); do $(CAUSALREC) train --config $$config && $(CAUSALREC) evaluate --config $$config || exit $$?; done

test: $(READY)  ## the test suite
	$(BIN)/pytest -n 2 --dist loadfile

test-slow: $(READY)  ## the statistical simulations and full-size runs
	$(BIN)/pytest -n 2 --dist loadfile -m slow

lint: $(READY)  ## style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## rewrite files in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## benchmarks, as ratios against peers in one run
	for script in experiments/benchmarks/bench_*.py; do $(BIN)/python $$script || exit $$?; done

lock: $(READY)  ## resolve requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-header -q -o requirements.lock

clean:  ## remove runs, features, stores and caches (keeps .venv)
	rm -rf runs feature_store data/marketplace data/marketplace_truth data/service.parquet data/service_truth.parquet data/campaign.parquet data/campaign_truth.parquet mlflow.db mlartifacts spark-warehouse metastore_db derby.log \
	  build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find causalrec tests experiments -name __pycache__ -type d -prune -exec rm -rf {} +
