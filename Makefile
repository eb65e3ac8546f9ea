# `make demo`: from a bare clone to pictures. `make test`: the whole stack and the whole suite. `make help`: the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The interpreter for .venv. Python 3.11 is the one that is tested. A pyenv shim may exist but not run, so it is tried.
ifndef PYTHON
PYTHON := $(shell for p in python3.11 python3; do "$$p" -c '' >/dev/null 2>&1 && { echo "$$p"; break; }; done || true)
endif
VENV ?= .venv
PYTEST_ARGS ?=

PY := $(abspath $(VENV))/bin/python
# Libraries write their caches into the clone. pip keeps the cache that it has.
CACHE := $(CURDIR)/.cache
RUN := env XDG_CACHE_HOME="$(CACHE)" MPLCONFIGDIR="$(CACHE)/matplotlib" TORCH_HOME="$(CACHE)/torch" \
	TORCHINDUCTOR_CACHE_DIR="$(CACHE)/inductor" TRITON_CACHE_DIR="$(CACHE)/triton" MPLBACKEND=Agg "$(PY)"
# No setting of the shell sends packages elsewhere. Temporary files stay in the clone: /tmp is often too small for torch.
INSTALL := env -u PYTHONPATH -u PYTHONHOME -u PIP_TARGET -u PIP_PREFIX -u PIP_ROOT -u PIP_NO_BINARY -u PIP_ONLY_BINARY \
	PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 TMPDIR="$(CACHE)/tmp" "$(PYTHON)" tools/dev/install.py
# A stamp tells make that this Python installed a target in this place, and when.
STAMP := $(VENV)/.a2mim/$(shell { "$(PYTHON)" -V; pwd; } 2>&1 | cksum | cut -d' ' -f1)
DEPENDS := setup.py pyproject.toml requirements.txt $(wildcard requirements/*.txt tools/dev/*.py)

.PHONY: help demo test test-slow lint format install-demo install-test install-lint python-fits missing clean distclean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22
	@echo "  variables: PYTHON=$(PYTHON) VENV=$(VENV) PYTEST_ARGS='...' (for test and test-slow)"

demo: install-demo  ## install what pre-training needs, pre-train on sample photos, draw what was learnt
	@$(RUN) tools/demo.py

test: install-test  ## install the whole stack (compiles the mmcv ops once) and run the suite
	@$(RUN) -m pytest -n 2 $(PYTEST_ARGS)

test-slow: install-test  ## the tests marked slow
	@$(RUN) -m pytest -m slow $(PYTEST_ARGS)

lint: install-lint  ## what pre-commit checks
	@"$(PY)" -m ruff check . && "$(PY)" -m ruff format --check .

format: install-lint  ## sort imports, fix what ruff can fix, format
	@"$(PY)" -m ruff check --fix . && "$(PY)" -m ruff format .

install-demo install-test install-lint: install-%: $(STAMP)-%

$(STAMP)-%: $(DEPENDS) $(if $(wildcard $(VENV)/bin/python),,missing) | python-fits
	@mkdir -p "$(CACHE)/tmp"
	@$(INSTALL) $* "$(VENV)"
	@touch $@

# An mmcv without ops may have taken the place of the one with them.
$(STAMP)-test: $(if $(wildcard $(VENV)/lib/python*/site-packages/mmcv/_ext*.so),,missing)

python-fits:
	@[ -n "$(PYTHON)" ] || { echo 'no python3.11 or python3 found: make PYTHON=/path/to/python3.11 ...' >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "Python 3.10 or newer is needed, $(PYTHON) is $$("$(PYTHON)" --version 2>&1): make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }

clean:  ## remove caches and build leftovers; keeps .venv, the mmcv wheels and work_dirs
	@rm -rf .cache .pytest_cache .ruff_cache .hypothesis build dist a2mim_mm.egg-info
	@find a2mim_mm configs tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## remove .venv and the mmcv wheels too
	@rm -rf "$(VENV)" .wheels
