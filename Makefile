# `make run` and `make test` need git, make and any CPython from 3.10 to 3.13; they build the rest.
# GPU=1: MXNet on NVIDIA cards from Maxwell to Ada. GPU=new: newer cards, for all that needs no training.
# TRAINER=torch: PyTorch trains, on all cards. TASK=collar: `make run` runs one task only.
GPU     ?=
TRAINER ?= mxnet
ifeq ($(TRAINER),torch)
VENV   ?= .venv-torch
OTHER  := mxnet requirements/torch.txt
TESTED := - requirements/torch.txt
# Where MXNet is installed too, for tests that compare both.
RUN    := --set runtime.trainer=torch
FILES  := $(wildcard tests/*/test_torch_*.py) tests/unit/test_model_zoo_files.py tests/unit/test_published.py
else ifneq ($(TRAINER),mxnet)
$(error TRAINER=$(TRAINER): expected TRAINER=mxnet or TRAINER=torch)
else ifeq ($(GPU),1)
VENV   ?= .venv-gpu
OTHER  := mxnet requirements/gpu.txt
else ifeq ($(GPU),new)
VENV   ?= .venv-gpu-new
OTHER  := onnxruntime requirements/gpu-new.txt
else ifneq ($(GPU),)
$(error GPU=$(GPU): expected GPU=1 (cards from Maxwell to Ada) or GPU=new (Hopper, Blackwell))
endif
VENV   ?= .venv
PYTHON ?= $(shell sh tools/find-python)
BIN    := $(VENV)/bin

AUDIT  ?= .audit
TESTED ?= $(OTHER)

.PHONY: run test coverage soak lint audit install lock test-bare clean

run: $(VENV)/.run
	$(BIN)/python pipeline.py run $(if $(TASK),--task $(TASK),--all) $(RUN)

TESTS := -m pytest -n 2 --dist loadfile --no-loadscope-reorder
test: $(VENV)/.test
	$(BIN)/python $(TESTS) $(FILES)

# Of the pure parts, by their own tests: measuring it takes two fifths more time.
PURE := bootstrap calibration class_folders coco comparison component cvat dataset ensemble exclusions fusion \
  groups heatmaps images invisible label_studio labels listing metadata packed parquet pooling readers rule score \
  selective several_roots splits square submissions suspects tables tasks unused writers
coverage: $(VENV)/.test
	$(BIN)/python $(TESTS) $(PURE:%=tests/unit/test_%.py) --cov --cov-report=term

# Long tests: those marked so, fuzzing, full disks, runs killed at random moments (two tiny runs a size, two a
# moment), prediction in a new environment without MXNet, and the environment for GPUs, about 5 GB.
MOMENTS ?= 100
INPUTS  ?= 100000
SIZES   ?= 20
soak: $(VENV)/.test
	$(BIN)/python -m pytest -m soak
	$(BIN)/python -m tests.soak.fuzzing --inputs $(INPUTS)
	$(BIN)/python -m tests.soak.resource_limits --sizes $(SIZES)
	$(BIN)/python -m tests.soak.crash --moments $(MOMENTS)
	$(BIN)/python -m tests.soak.onnx_only
	$(BIN)/python -m pytest tests/soak/backbones.py
	$(BIN)/python -m tests.soak.gpu

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Known vulnerabilities of what is locked, in an environment of its own. docs/dependencies.md lists the accepted ones.
# --strict: fail where a package could not be checked.
audit:
	test -x $(AUDIT)/bin/pip-audit || { "$(PYTHON)" -m venv $(AUDIT) && $(AUDIT)/bin/pip install --quiet pip-audit; }
	$(AUDIT)/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/dev.txt

install: $(VENV)/.run

$(VENV)/.run: requirements/run.txt $(filter %.txt,$(OTHER))
	sh tools/install $(VENV) requirements/run.txt "$(PYTHON)" $(OTHER)
	@touch $@

$(VENV)/.test: requirements/dev.txt $(filter %.txt,$(TESTED))
	sh tools/install $(VENV) requirements/dev.txt "$(PYTHON)" $(TESTED)
	@touch $@ $(VENV)/.run

# Needs uv: one lock file for all Pythons and platforms, with hashes, without any index's address.
# What is locked stays where it can; `make lock UPGRADE=--upgrade` takes the newest of everything.
lock:
	cd requirements && for f in run dev; do \
	  uv pip compile $(UPGRADE) --quiet --no-header --universal --python-version 3.10 --generate-hashes \
	    --override overrides.txt $$f.in -o $$f.txt; done
	cd requirements && for f in tensorboard gpu uv; do \
	  uv pip compile $(UPGRADE) --quiet --no-header --universal --python-version 3.10 --generate-hashes --no-deps \
	    $$f.in -o $$f.txt; done
	cd requirements && uv pip compile $(UPGRADE) --quiet --no-header --universal --python-version 3.11 \
	  --generate-hashes --no-deps gpu-new.in -o gpu-new.txt
	cd requirements && uv pip compile $(UPGRADE) --quiet --no-header --universal --python-version 3.10 \
	  --generate-hashes torch.in -o torch.txt
	cd requirements && uv pip compile $(UPGRADE) --quiet --no-header --universal --python-version 3.10 \
	  --generate-hashes onnx.in -o onnx.txt

# A bare Debian with its own Python 3.13, made by debootstrap; needs root.
test-bare:
	sh tools/test-bare

clean:
	rm -rf $(VENV) .venv-gpu .venv-gpu-new .venv-torch $(AUDIT)
