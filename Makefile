# Every target makes what it needs in the cache folder. (Pulumi itself adds the stack's encryption
# salt to the stack's file in the checkout when `up` makes the stack.)
# PGHA_CACHE names the cache folder, LAB_NAME the cluster, KUBECONFIG a cluster of your own.

export PGHA_CACHE ?= $(HOME)/.cache/pgha
VENV := $(PGHA_CACHE)/venv
export VIRTUAL_ENV := $(VENV)
export PATH := $(VENV)/bin:$(PATH)
export PYTHONPATH := $(CURDIR):$(CURDIR)/operator
PYTHON := $(VENV)/bin/python
PYTEST := $(PYTHON) -m pytest -q
IN_LAB := $(PYTHON) -m lab shell --

.DEFAULT_GOAL := help
.PHONY: help venv up down test check unit component simulation sim nightly integration e2e \
	chaos-short chaos bench image packages lab-up lab-down lock

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: ## make the virtual environment
	@requirements/venv.sh $(VENV)

up: venv ## a cluster if none is configured, the images, the demo stack, and what to try next
	@$(PYTHON) -m lab demo

down: venv ## take the demo stack and the lab away
	@$(PYTHON) -m lab demo --down

test: venv ## all layers but the long chaos and bench, with what they need
	@$(PYTHON) -m tests.suite

check: venv ## ruff, mypy --strict, import contracts
	ruff check .
	mypy operator/pgha components lab
	lint-imports --no-logo

unit: venv ## pure code
	$(PYTEST) -m unit

component: venv ## the Pulumi program under mocks
	$(PYTEST) -m component

simulation: venv ## the decision code over a simulated world
	PYTHONHASHSEED=0 $(PYTEST) -m simulation

sim: venv ## random schedules on every core: SEEDS in all (500)
	PYTHONHASHSEED=0 $(PYTHON) -m tests.simulation --seeds $(or $(SEEDS),500)

nightly: ## what takes hours: 20,000 schedules, the long chaos
	$(MAKE) sim SEEDS=$(or $(SEEDS),20000)
	$(MAKE) chaos

integration: packages lab-up ## adapters against real PostgreSQL, API server and kernel
	$(IN_LAB) $(PYTEST) -m integration

e2e: packages lab-up ## the real program on the real cluster
	$(IN_LAB) $(PYTEST) -m "e2e and not chaos"

chaos-short: packages lab-up ## faults against running clusters, a few minutes
	$(IN_LAB) $(PYTEST) -m chaos -s

chaos: packages lab-up ## faults against running clusters, long: RUNS of each, NEMESES, MODES
	$(IN_LAB) $(PYTHON) -m tests.chaos --runs $(or $(RUNS),10) \
		$(if $(NEMESES),--nemeses $(NEMESES)) $(if $(MODES),--modes $(MODES))

bench: packages lab-up ## measure outages and cost, hours: TRIALS of each, FAULTS, SYSTEMS
	$(PYTHON) -m bench --trials $(or $(TRIALS),20) \
		$(if $(FAULTS),--faults $(FAULTS)) $(if $(SYSTEMS),--system $(SYSTEMS))

image: venv ## build the container images and load them into the lab if it runs
	@$(PYTHON) -m lab images

packages: venv ## install the Debian packages that the lab and the tests need
	@$(PYTHON) -m lab packages

lab-up: venv ## bring the cluster up, or repair it
	@$(PYTHON) -m lab up

lab-down: venv ## take the cluster away
	@$(PYTHON) -m lab down

lock: ## lock the versions of requirements/development.in anew
	python3.11 -m venv $(PGHA_CACHE)/lock && $(PGHA_CACHE)/lock/bin/pip install --quiet pip-tools
	cd requirements && CUSTOM_COMPILE_COMMAND="make lock" $(PGHA_CACHE)/lock/bin/pip-compile \
		--quiet --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-emit-trusted-host --allow-unsafe --strip-extras \
		--output-file development.txt development.in
