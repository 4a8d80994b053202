# All commands of the project. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PRESET ?= cpu
PROFILE ?= workflow/profiles/local
PORT ?= 8000
WITHIN ?= 165m
PACK ?= results-gpu.zip
# The chapters of `make long` and `make gpu`.
LONG ?= sedd ddbm egno frechet_mean ph_dimension reflected_diffusion

# User input reaches the shell only as values of variables, never as part of a command.
export LOUPE_PYTHON := $(value PYTHON)
export LOUPE_PRESET := $(value PRESET)
export LOUPE_CHAPTERS := $(value CHAPTERS)
export LOUPE_SEEDS := $(value SEEDS)
export LOUPE_JOBS := $(value JOBS)
export LOUPE_PROFILE := $(value PROFILE)
export LOUPE_PORT := $(value PORT)
export LOUPE_WITHIN := $(value WITHIN)
export LOUPE_PACK := $(value PACK)
export LOUPE_LONG := $(value LONG)
unexport PYTHON PRESET CHAPTERS SEEDS JOBS PROFILE PORT WITHIN PACK LONG

# One thread a process: two single-thread processes beat one of two threads on small models.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help env book serve test lint reproduce long gpu torture bench lock clean

help: ## list all commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

env: $(READY) ## set up .venv with the exact versions in requirements.lock

$(READY): requirements.lock pyproject.toml
	@"$$LOUPE_PYTHON" -c 'import sys; v = sys.version_info; sys.exit(not (3, 11) <= v < (3, 14) and f"Loupe needs Python 3.11, 3.12 or 3.13 and {sys.executable} is {v[0]}.{v[1]}: type make PYTHON=python3.11 instead.")'
	@echo "Setting up $(VENV) with the $$(grep -c == requirements.lock) packages of requirements.lock: this takes a few minutes, once."
	@"$$LOUPE_PYTHON" -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --no-cache-dir --disable-pip-version-check --requirement requirements.lock 2>&1 | \
	  awk '/^Collecting/ && ++n % 25 == 0 {print "  " n " packages found"; fflush()} /^Installing/ {print "  installing them"; fflush()} /ERROR|error:/'
	@$(BIN)/python -m pip install --quiet --no-cache-dir --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

book: $(READY) ## build the site into _build/html
	@$(BIN)/loupe book

serve: book ## build the site and open it in a browser
	@echo "Serving http://localhost:$$LOUPE_PORT/ until you press Ctrl-C (another port: make serve PORT=8001)."
	@$(BIN)/python -m webbrowser -t "http://localhost:$$LOUPE_PORT/" & \
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html -- "$$LOUPE_PORT"

test: $(READY) ## run all tests and list what was skipped, and why; CHAPTERS="egno book methods" runs some
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadscope --parts "$$LOUPE_CHAPTERS"

lint: $(READY) ## check style, English and the layers of the package
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports && $(BIN)/python workflow/english.py

reproduce: $(READY) ## compute, publish and render what is out of date: PRESET=cpu CHAPTERS="..."; SEEDS="..." computes only
	@$(BIN)/snakemake --profile "$$LOUPE_PROFILE" $${LOUPE_JOBS:+--cores "$$LOUPE_JOBS"} \
	  --config preset="$$LOUPE_PRESET" chapters="$$LOUPE_CHAPTERS" seeds="$$LOUPE_SEEDS"

# The clone uses the code of the last commit, so you can edit here meanwhile.
long: $(READY) ## compute what is missing at gpu, on one core, at low priority: WITHIN=165m LONG="..."; run it again to continue
	@if [ -d .loupe/long ]; then $(BIN)/loupe results import .loupe/long/results; else git clone --quiet . .loupe/long; fi
	@git -C .loupe/long fetch --quiet origin HEAD && git -C .loupe/long reset --quiet --hard FETCH_HEAD && cp -r results .loupe/long/
	@set -f; ( cd .loupe/long && PYTHONPATH=lib LOUPE_RESULTS= $(abspath $(BIN))/python -m loupe compute $$LOUPE_LONG \
	  --preset gpu --jobs 1 --nice --within "$$LOUPE_WITHIN" ); status=$$?; \
	$(BIN)/loupe results import .loupe/long/results; exit $$status

gpu: ## on a machine with CUDA: run its tests, compute what is missing at gpu, and pack it: WITHIN=8m PACK=FILE LONG="..."
	@set -f; "$$LOUPE_PYTHON" workflow/gpu.py $$LOUPE_LONG

torture: $(READY) ## test kills, damaged files and wrong input, thousands of times: about an hour
	@for script in $$(ls tests/torture/*.py | grep -v test_); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

bench: $(READY) ## measure speed against the best alternatives
	@mkdir -p results/bench
	@for script in benchmarks/*.py; do $(BIN)/python $$script --json results/bench/$$(basename $$script .py).json || exit 1; done

lock: ## rewrite requirements.lock from pyproject.toml
	@rm -rf .loupe/lock && "$$LOUPE_PYTHON" -m venv .loupe/lock
	@printf '%s\n' "torch==2.13.0" "soupsieve<3" > .loupe/lock/constraints.txt # later ones reject Python 3.11.0 to 3.11.4
	@.loupe/lock/bin/pip install --quiet --disable-pip-version-check --upgrade setuptools "torch==2.13.0"
	@.loupe/lock/bin/pip install --quiet --disable-pip-version-check -c .loupe/lock/constraints.txt --editable ".[dev]"
	@{ echo "# Exact versions of everything; written by 'make lock'. torch carries no local label: every platform takes its build."; \
	   .loupe/lock/bin/pip freeze --all --exclude pip --exclude-editable | sed -E 's/\+[a-z0-9.]+$$//' | grep -viE '^(nvidia-|triton|cuda-)'; } > requirements.lock
	@rm -rf .loupe/lock

clean: ## remove the built site and caches; results and .venv stay
	@rm -rf _build .loupe/jupyter .loupe/publish .pytest_cache .ruff_cache .hypothesis .import_linter_cache
