# The front door.  `make demo` shows everything once, `make test` checks everything; each does its own set-up.

PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
BENCH  ?= books

.PHONY: demo test drill setup check format records bench lock clean

demo: setup  ## Play the simulated market, or CAPTURE=venue:file, or LIVE=venue, through the whole suite
	@$(BIN)/gammaflow demo $(if $(CAPTURE),--capture $(CAPTURE)) $(if $(LIVE),--live $(LIVE)) $(if $(SPEED),--speed $(SPEED))

test: setup check  ## Lint, types, generated files, then every test
	@$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

drill: setup  ## Kill, stop and harm parts of the suite, and compare what comes out
	@$(BIN)/gammaflow drill

setup: $(VENV)/.done  ## Virtual environment, pinned requirements, jars; nothing is fetched twice
	@$(BIN)/gammaflow setup

$(VENV)/.done: requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is needed; name another one with make PYTHON=…"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing requirements into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.8
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

check: setup  ## What a reviewer would rather not have to say
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/python -m deploy.java schemas.generate --check
	@$(BIN)/python -m deploy.listed --check
	@$(BIN)/python -m deploy.manifests --check

format: setup  ## Format and sort imports
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .

records: setup  ## Write what is generated: records.py from the DDL; manifests and lists from the jobs
	@$(BIN)/python -m deploy.java schemas.generate
	@$(BIN)/python -m deploy.listed
	@$(BIN)/python -m deploy.manifests

bench: setup  ## One benchmark: BENCH=books, versus BASE=<commit>, …; ARGS are its options; results in bench/results/
	@$(BIN)/python -m bench.$(BENCH) $(BASE) $(ARGS)

lock: setup  ## Pin requirements.in, with hashes, and the jars
	@$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --python-version 3.11 --no-emit-index-url --no-header requirements.in -o requirements.txt
	@$(BIN)/python -m deploy.jars lock

clean:  ## Stop what is up and remove what was made here (the download cache stays)
	@if [ -x $(BIN)/gammaflow ]; then $(BIN)/gammaflow down; fi
	@rm -rf .run out dist $(VENV) *.egg-info
