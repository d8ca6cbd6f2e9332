# Thin targets over `python -m bench` and `python -m reports`; `make help` lists them.
# Variables: SUITE METHODS DATASETS BACKBONES SEEDS TUNE CLUSTER PARTITION JOBS DATA ARGS
SHELL := /bin/bash
PY := .venv/bin/python
export METHODS DATA
STAMP := .venv/.installed

SET = $(if $(SUITE),--suite $(SUITE)) $(if $(DATASETS),--datasets $(DATASETS)) $(if $(METHODS),--methods "$$METHODS") \
      $(if $(BACKBONES),--backbones $(BACKBONES)) $(if $(DATA),--root "$$DATA") $(if $(JOBS),--jobs $(JOBS))
WHAT = $(SET) $(if $(SEEDS),--seeds $(SEEDS)) $(ARGS)
# To a scheduler: CLUSTER=slurm or local; submit alone takes slurm unasked.
SENT = $(if $(CLUSTER),--cluster $(CLUSTER)) $(if $(PARTITION),--partition $(PARTITION))
# With TUNE=16: search 16 settings per method and data set on validation, choose, test the chosen ones on SEEDS.
TUNED = $(SET) $(if $(SEEDS),--seeds $(SEEDS)) --tuned

.PHONY: help setup bench test lint perf report plan submit status check clean
.DEFAULT_GOAL := help

help: ## what there is
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10
	@echo 'variables: SUITE METHODS DATASETS BACKBONES SEEDS TUNE CLUSTER PARTITION JOBS DATA ARGS, for instance'
	@echo '  make bench METHODS="lora lora+pace" DATASETS="svhn dtd" SEEDS="0 1 2"'
	@echo '  make bench TUNE=16 METHODS="linear lora" SEEDS="0 1 2"'

setup: $(STAMP) ## make .venv and install what is needed

# Newest torch and torchvision together by plain name: a pair that matches, with or without a GPU.
$(STAMP): pyproject.toml
	@command -v python3 >/dev/null || { echo 'regatta: python3 (3.11 or newer) is needed'; exit 2; }
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "regatta: Python 3.11 or newer is needed, this is $$(python3 -V)"; exit 2; }
	python3 -m venv .venv
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet -e '.[test]' $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
	@touch $@

bench: setup ## run a suite (default: demo) and write the tables
	@$(if $(TUNE),$(PY) -m bench tune $(SET) --budget $(TUNE) $(ARGS) && $(PY) -m bench select $(SET) $(ARGS) &&) \
		$(PY) -m bench $(if $(CLUSTER),submit $(SENT),run) $(if $(TUNE),$(TUNED),$(WHAT))

plan: setup ## what is done, what is missing, what it would cost; runs nothing
	@$(PY) -m bench plan $(WHAT)

submit: setup ## hand what is missing to SLURM (CLUSTER=local: to processes of this machine) and return
	@$(PY) -m bench submit $(WHAT) $(SENT)

status: setup ## how far a suite is; ARGS=--watch follows it
	@$(PY) -m bench status $(WHAT)

report: setup ## rewrite the tables from the records; SUITE= narrows
	@$(PY) -m reports build $(if $(SUITE),--suite $(SUITE)) $(ARGS)

check: setup ## prove that the committed tables follow from the committed records
	@$(PY) -m reports check $(ARGS)

test: setup ## the tests
	@$(PY) -m pytest $(ARGS)

perf: setup ## time a step of every method, loaders, caches, store, reports; then methods in turns (writes results/perf)
	@mkdir -p results/perf
	@$(PY) -m pytest tests/perf --benchmark-only -o addopts= --benchmark-json=results/perf/benchmark.json
	@$(PY) -m bench perf $(if $(SUITE),--suite $(SUITE)) $(if $(METHODS),--methods "$$METHODS") \
		$(if $(BACKBONES),--backbone $(BACKBONES)) $(ARGS)

lint: setup ## ruff and mypy
	@$(PY) -m ruff check .
	@$(PY) -m mypy

clean: ## remove temporary files; never results
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .cache
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
