# `make run` and `make test` need git, make and any CPython from 3.10 to 3.13; they build the rest.
VENV   ?= .venv
PYTHON ?= $(shell sh tools/find-python)
BIN    := $(VENV)/bin

.PHONY: run test lint install lock test-bare clean

run: $(VENV)/.run
	$(BIN)/python pipeline.py run --all

test: $(VENV)/.test
	$(BIN)/python -m pytest

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/.run

$(VENV)/.run: requirements.txt
	sh tools/install $(VENV) requirements.txt "$(PYTHON)"
	@touch $@

$(VENV)/.test: requirements-dev.txt
	sh tools/install $(VENV) requirements-dev.txt "$(PYTHON)"
	@touch $@ $(VENV)/.run

# Needs uv: one lock file for all Pythons and platforms, with hashes, without any index's address.
lock:
	for f in requirements requirements-dev; do \
	  uv pip compile --quiet --no-header --universal --python-version 3.10 --generate-hashes \
	    --override overrides.txt $$f.in -o $$f.txt; done
	uv pip compile --quiet --no-header --universal --python-version 3.10 --generate-hashes --no-deps \
	  requirements-tensorboard.in -o requirements-tensorboard.txt

# A bare Debian with its own Python 3.13, made by debootstrap; needs root.
test-bare:
	sh tools/test-bare

clean:
	rm -rf $(VENV)
