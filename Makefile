# Short recipes that call real programs; `make check` is all that CI runs.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
ROOM := OMP_NUM_THREADS=1
T ?= tests
K ?=

export PATH := $(CURDIR)/$(BIN):$(PATH)

##@ Everyday

.PHONY: help
help: ## this list
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: system-deps
system-deps: ## Debian packages that the tests use (root; a desk can do without)
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv redis-server postgresql

.PHONY: setup
setup: $(BIN)/python ## virtual environment with the pinned versions; again after a new entry point
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch,local,lab,postgres,s3,dev]'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

.PHONY: format
format: $(BIN)/python ## let ruff format and mend what it can
	ruff format .
	ruff check --fix .

.PHONY: lint
lint: $(BIN)/python ## ruff, mypy strict, the rules of the house, generated code; silent when green
	@ruff format --quiet --check . || { echo 'run: make format'; exit 1; }
	@ruff check --quiet .
	@mypy --no-error-summary
	@lint-imports > .import-lint.log 2>&1 || { cat .import-lint.log; exit 1; }
	@rm -f .import-lint.log
	@$(MAKE) --no-print-directory protos CHECK=1

.PHONY: test
test: $(BIN)/python ## every test (narrow it: make test T=tests/unit K=staleness)
	$(ROOM) pytest $(T) $(if $(K),-k "$(K)")

.PHONY: chaos
chaos: $(BIN)/python ## kill, cut, fill and damage real federations and check what is left (FAULTS=200 SEED=..., LETHEON_TEST_POSTGRES=1)
	@$(ROOM) python -m tests.system.chaos --faults $(or $(FAULTS),200) $(if $(SEED),--seed $(SEED))

.PHONY: check
check: lint test ## what CI runs: lint, test, the page of results, a short demo
	@$(MAKE) --no-print-directory results CHECK=1
	$(ROOM) python -m letheon.cli.demo --short --out out/check

.PHONY: bench-resume
bench-resume: $(BIN)/python ## kill the coordinator in the middle of a 200 MB transfer and count the bytes sent again
	$(ROOM) LETHEON_RESUME_MB=200 pytest -q -s tests/system/test_interrupted_upload.py

##@ Code generation

.PHONY: protos
protos: $(BIN)/python ## regenerate letheon/v1 from protos/; CHECK=1 fails if the tree would change
	@out=$$(mktemp -d) && trap 'rm -rf "$$out"' EXIT && \
	python -m grpc_tools.protoc -Iprotos --python_out="$$out" --grpc_python_out="$$out" \
	  --mypy_out=quiet:"$$out" --mypy_grpc_out=quiet:"$$out" protos/letheon/v1/*.proto && \
	if [ -n "$(CHECK)" ]; then \
	  diff -r -x __init__.py -x __pycache__ "$$out/letheon/v1" letheon/v1 \
	    || { echo 'generated code differs from protos/: run make protos'; exit 1; }; \
	else cp "$$out"/letheon/v1/* letheon/v1/; fi

##@ Measuring

.PHONY: bench-recovery
bench-recovery: $(BIN)/python ## seconds from kill -9 to serving: 100 MB model, 1,000 retained entries
	@$(ROOM) python benchmarks/recovery.py

.PHONY: bench-straggler
bench-straggler: $(BIN)/python ## an erasure beside a 10x straggler, asynchronous against synchronous rounds (DATA=folder, SEEDS="0 1")
	@$(ROOM) python benchmarks/straggler.py $(if $(DATA),--data $(DATA)) $(if $(SEEDS),--seeds $(SEEDS))

STUDY ?= $(if $(QUICK),quick)
IMAGES := $(or $(DATA),$(LETHEON_DATA),$(wildcard ../shared/data))
STUDIES = $(or $(STUDY),$(shell awk -F'"' '/^study = / {print $$2}' benchmarks/studies/stages.toml))

.PHONY: bench-unlearning
bench-unlearning: $(BIN)/python ## every study of benchmarks/studies/stages.toml in order, or one; hours, goes on where it stopped (QUICK=1: minutes; STUDY=core DATA=folder|file.npz SEEDS=0,1 KEEP=1)
	@failed=; for study in $(STUDIES); do \
	  [ -f benchmarks/studies/$$study.toml ] || { echo "$$study: no such study yet, passed over"; continue; }; \
	  letheon simulate --config benchmarks/studies/$$study.toml --out out/studies/$$study$(if $(filter %.npz,$(DATA)),-$(basename $(notdir $(DATA)))) \
	    $(if $(IMAGES),--data $(IMAGES)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(WORKERS),--workers $(WORKERS)) \
	    $(if $(KEEP),--keep benchmarks/results/unlearning/$$study) || failed="$$failed $$study"; \
	done; \
	if [ -z "$(STUDY)$(filter %.npz,$(DATA))" ]; then for experiment in shadows statistics_leak; do \
	  $(ROOM) python -m letheon.simulation.$$experiment $(if $(IMAGES),--data $(IMAGES)) || failed="$$failed $$experiment"; \
	done; fi; \
	[ -z "$$failed" ] || { echo "not finished:$$failed"; exit 1; }

.PHONY: results
results: $(BIN)/python ## docs/results.md and its pictures from benchmarks/results/unlearning; CHECK=1 fails if they would change
	@$(ROOM) python -m letheon.simulation.report $(if $(CHECK),--check)

##@ Running

.PHONY: demo
demo: $(BIN)/python ## train five sites, forget one, show what is left (METHOD=..., CALIBRATE=1, WITH_RETRAIN=1, SEED=...)
	@$(ROOM) python -m letheon.cli.demo \
	  $(if $(METHOD),--method $(METHOD)) $(if $(CALIBRATE),--calibrate) \
	  $(if $(WITH_RETRAIN),--with-retrain) $(if $(DATASET),--dataset $(DATASET)) \
	  $(if $(SEED),--seed $(SEED)) $(if $(OUT),--out $(OUT))

.PHONY: up
up: $(BIN)/python ## a whole federation on this machine until Ctrl-C (DATA=file, SITES=5)
	letheon up --sites $(or $(SITES),5) $(if $(DATA),--data $(DATA),--synthetic)
