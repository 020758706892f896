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
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv redis-server postgresql systemd prometheus
	@# Node has npm in it or not, by where it comes from: the two must not be mixed.
	command -v npm > /dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm

.PHONY: setup
setup: $(BIN)/python ## virtual environment with the pinned versions; again after a new entry point
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch,dicom,nifti,local,lab,report,postgres,s3,tracing,privacy,dev]'
	@if command -v npm > /dev/null; then $(MAKE) --no-print-directory deploy/helm/crds/node_modules; \
	else echo 'npm is not installed: tests of the chart and of compose will be passed over'; fi

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
	@$(MAKE) --no-print-directory dashboards CHECK=1

.PHONY: test
test: $(BIN)/python ## every test (narrow it: make test T=tests/unit K=staleness)
	$(ROOM) $(if $(filter-out tests,$(T)),pytest $(T),tests/all_parts.sh) $(if $(K),-k "$(K)")

.PHONY: chaos
chaos: $(BIN)/python ## kill, cut, fill and damage real federations and check what is left (FAULTS=200 SEED=..., LETHEON_TEST_POSTGRES=1)
	@$(ROOM) python -m tests.system.chaos --faults $(or $(FAULTS),200) $(if $(SEED),--seed $(SEED))

.PHONY: attack
attack: $(BIN)/python ## attack a federation that has everything switched on, and say what became of each attack (QUICK=1, ONLY=words, PAGE=1: into docs/security/attacks.md)
	@$(ROOM) python -m tests.system.attack $(if $(QUICK),--quick) $(if $(ONLY),--only "$(ONLY)") $(if $(PAGE),--page)

.PHONY: fuzz
fuzz: $(BIN)/python ## readers of foreign bytes under atheris, one after the other (SECONDS=600 for each, TARGETS="uploads notes"; extra fuzz)
	@$(ROOM) python -m tests.fuzz $(TARGETS) --seconds $(or $(SECONDS),600)

.PHONY: check
check: lint test ## what CI runs: lint, test, the page of results, a short demo
	@$(MAKE) --no-print-directory results CHECK=1
	$(ROOM) python -m letheon.cli.demo --short --out out/check

.PHONY: bench-resume
bench-resume: $(BIN)/python ## kill the coordinator in the middle of a 200 MB transfer and count the bytes sent again
	$(ROOM) LETHEON_RESUME_MB=200 pytest -q -s tests/system/test_interrupted_upload.py

.PHONY: bench-network
bench-network: $(BIN)/python ## an agent at 2 Mbit/s on which 5 % of the pieces break their connection, 20 rounds of a 500 kB model
	$(ROOM) LETHEON_POOR_LINK_WIDTH=16 pytest -q -s tests/system/test_poor_link.py

.PHONY: boot-unit
boot-unit: $(BIN)/python ## boot a real systemd with the agent's unit in it (root; Debian package systemd-container)
	@python tests/system/nspawn_boot.py

.PHONY: alerts
alerts: $(BIN)/python ## promtool checks the rules and runs the unit tests of every alert
	@promtool check config deploy/prometheus/prometheus.yml
	@promtool test rules deploy/prometheus/tests/*.yml

.PHONY: observe
observe: $(BIN)/python ## a federation under a real Prometheus: every panel's query, pictures of every dashboard (OUT=folder, KEEP=1: docs/images)
	@$(ROOM) python -m tests.system.observe --out $(or $(OUT),out/observe) $(if $(KEEP),--keep docs/images/dashboards)

.PHONY: check-verifier
check-verifier: $(BIN)/python ## check a certificate in a fresh environment that holds cryptography alone (needs a package index; DEMO=folder: what a demo left, too)
	@python tests/system/bare_verifier.py $(DEMO)

.PHONY: doctor-examples
doctor-examples: $(BIN)/python ## what `letheon-agent doctor` says of a healthy and of broken set-ups; docs/doctor.md has it
	@$(ROOM) python tests/contract/doctor_examples.py

.PHONY: chart
chart: $(BIN)/python deploy/helm/crds/node_modules ## lint the Helm chart, render it with every file of values, validate each object (node, npm)
	@python -m tests.chart

deploy/helm/crds/node_modules: deploy/helm/crds/package-lock.json
	@cd deploy/helm/crds && npm ci --silent --ignore-scripts --no-audit --no-fund && touch node_modules

.PHONY: images
images: ## build the container images with buildah and start each as Kubernetes would (root; Debian packages buildah, crun, debootstrap)
	@deploy/docker/images.sh

.PHONY: images-federation
images-federation: $(BIN)/python ## deploy/compose.yaml out of the images of `make images`: three sites, an erasure, its certificate (root)
	@$(ROOM) python -m tests.system.composed

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

.PHONY: dashboards
dashboards: $(BIN)/python ## Grafana dashboards and the table of docs/monitoring.md from code; CHECK=1 fails if they would change
	@python deploy/grafana/source $(if $(CHECK),--check)

.PHONY: permissions
permissions: $(BIN)/python ## docs/security/permissions.md from the table of permissions; CHECK=1 fails if it would change
	@python -m coordinator.rpc.permissions_page $(if $(CHECK),--check)

##@ Measuring

.PHONY: bench
bench: $(BIN)/python ## what taking a delta in costs, beside bounds of the same run (QUICK=1: minutes; SIZES="1 25", PARTS="delta small", PAGE=1: into docs/performance.md)
	@$(ROOM) python -m benchmarks.ingestion $(if $(QUICK),--quick) $(if $(SIZES),--sizes $(SIZES)) $(if $(PARTS),--parts $(PARTS)) $(if $(PAGE),--page)

.PHONY: bench-scale
bench-scale: $(BIN)/python ## cost, memory, disk and recovery after 10,000 deltas of 500 sites; 10,000 simulated sites (QUICK=1, WORKERS=2|ray, PAGE=1)
	@$(ROOM) python -m benchmarks.scale $(if $(QUICK),--quick) $(if $(WORKERS),--workers $(WORKERS)) $(if $(PAGE),--page)

.PHONY: bench-peers
bench-peers: $(BIN)/python ## the same deltas to Flower, NVFlare and APPFL, installed under out/peers (PEERS="flower", SIZES="1 25", REPEATS=3, QUICK=1, PAGE=1)
	@$(ROOM) python -m benchmarks.peers $(if $(QUICK),--quick) $(if $(REPEATS),--repeats $(REPEATS)) $(if $(PEERS),--peers $(PEERS)) $(if $(SIZES),--sizes $(SIZES)) $(if $(PAGE),--page)

.PHONY: bench-recovery
bench-recovery: $(BIN)/python ## seconds from kill -9 to serving: 100 MB model, 1,000 retained entries
	@$(ROOM) python benchmarks/recovery.py

.PHONY: bench-encryption
bench-encryption: $(BIN)/python ## encryption at rest against none: an upload of 100 MB, its reading, and a change of the wrapping key
	@$(ROOM) python benchmarks/encryption.py

.PHONY: bench-screening
bench-screening: $(BIN)/python ## screening: honest sites taken for attackers, poisoned deltas found (DATA=folder of the data sets)
	@$(ROOM) python benchmarks/screening.py --data $(or $(DATA),$(LETHEON_DATA),../shared/data)

.PHONY: bench-privacy
bench-privacy: $(BIN)/python ## accuracy against epsilon, all sites private or none, on two sets of data (DATA=folder, SEEDS="0 1")
	@$(ROOM) python -m benchmarks.privacy --data $(or $(DATA),$(LETHEON_DATA),../shared/data) $(if $(SEEDS),--seeds $(SEEDS))

.PHONY: bench-tls
bench-tls: $(BIN)/python ## uploads over mutual TLS against plain ones, in pairs: 12 deltas of 32 MB
	@$(ROOM) python benchmarks/tls.py

.PHONY: bench-failover
bench-failover: $(BIN)/python ## kill -9 of the leading coordinator on PostgreSQL: seconds to the next accepted update (KILLS=20, LEASE=10)
	@$(ROOM) LETHEON_FAILOVER_KILLS=$(or $(KILLS),20) LETHEON_FAILOVER_LEASE=$(or $(LEASE),10) \
	  pytest -q -s tests/system/test_failover.py -k takes_over

.PHONY: bench-straggler
bench-straggler: $(BIN)/python ## an erasure beside a 10x straggler, asynchronous against synchronous rounds (DATA=folder, SEEDS="0 1")
	@$(ROOM) python benchmarks/straggler.py $(if $(DATA),--data $(DATA)) $(if $(SEEDS),--seeds $(SEEDS))

.PHONY: bench-encodings
bench-encodings: $(BIN)/python ## bytes of a delta against accuracy, for every encoding (DATA=folder, SEEDS="0 1")
	@$(ROOM) python benchmarks/encodings.py $(if $(DATA),--data $(DATA)) $(if $(SEEDS),--seeds $(SEEDS))

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

##@ Supply chain

.PHONY: lock
lock: $(BIN)/python ## write deploy/locks anew: every package by version and hash, for images, machines and development
	@BIN=$(BIN) deploy/locks.sh

BILLS := coordinator torch-cpu torch-cuda
TOOLS := out/tools/bin

.PHONY: sbom
sbom: $(BIN)/python $(TOOLS)/cyclonedx-py ## out/sbom: what each lock installs, with hashes, and what is installed here, with licences (CycloneDX 1.6)
	@mkdir -p out/sbom
	@for bill in $(BILLS); do \
	  $(TOOLS)/python -W ignore $(TOOLS)/cyclonedx-py requirements --spec-version 1.6 --output-reproducible \
	    --pyproject pyproject.toml --output-file out/sbom/$$bill.json deploy/locks/$$bill.txt || exit 1; \
	done
	@$(TOOLS)/cyclonedx-py environment --spec-version 1.6 --output-reproducible \
	  --pyproject pyproject.toml --output-file out/sbom/development.json $(BIN)/python
	@python deploy/sbom.py "$$(python -c 'from letheon.version import __version__; print(__version__)')" \
	  $(foreach bill,$(BILLS) development,out/sbom/$(bill).json)

$(TOOLS)/cyclonedx-py:
	@$(PYTHON) -m venv out/tools && $(TOOLS)/python -m pip install --quiet 'cyclonedx-bom==7.5.0'

##@ Running

.PHONY: demo
demo: $(BIN)/python ## train five sites, forget one, show what is left (METHOD=..., CALIBRATE=1, WITH_RETRAIN=1, SECURE=1, SEED=...)
	@$(ROOM) python -m letheon.cli.demo \
	  $(if $(METHOD),--method $(METHOD)) $(if $(CALIBRATE),--calibrate) \
	  $(if $(WITH_RETRAIN),--with-retrain) $(if $(SECURE),--secure) $(if $(DATASET),--dataset $(DATASET)) \
	  $(if $(SEED),--seed $(SEED)) $(if $(OUT),--out $(OUT))

.PHONY: up
up: $(BIN)/python ## a whole federation on this machine until Ctrl-C (DATA=file, SITES=5)
	letheon up --sites $(or $(SITES),5) $(if $(DATA),--data $(DATA),--synthetic)
