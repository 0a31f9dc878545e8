# SPDX-License-Identifier: Apache-2.0
# What needs packages makes its own environment in .venv; `make gpu-check` uses PYTHON as it is.

PYTHON ?= python3
VENV ?= .venv
OUT ?= out

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.ONESHELL:

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -c constraints.txt
CONFIGURED := pyproject.toml setup.py constraints.txt
SOURCES := $(shell find csrc -name '*.cpp' -o -name '*.hpp' -o -name '*.cu' -o -name '*.cuh')
LIKE_GPU := PYTHONPATH=. $(PYTHON) -m pytest --device cuda --fail-skipped-gpu

.PHONY: help demo test lint build gpu-check clean distclean
help:
	@echo "make demo       a composite is made, harmonized and measured; see $(OUT)/demo/sheet.png"
	echo "make test       all tests, the benchmarks in short, and Triton's kernels interpreted"
	echo "make lint       ruff and clang-format"
	echo "make build      the native modules, in place"
	echo "make gpu-check  on a machine with an NVIDIA card: build for it, tests, benchmarks"
	echo "make clean      what was built; make distclean: the environment and results too"
	echo "variables: PYTHON=$(PYTHON) VENV=$(VENV) OUT=$(OUT), and those that setup.py reads"

demo: $(VENV)/.cli $(VENV)/.native
	$(BIN)/python -m vharm.cli demo --out $(OUT)/demo

test: $(VENV)/.test $(VENV)/.native
	$(BIN)/python -m pytest tests benchmarks --quick --ignore=tests/triton
	TRITON_INTERPRET=1 $(BIN)/python -m pytest tests/triton

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(SOURCES)

build: $(VENV)/.native

# Stamps: each file says that the step of its name has been done in this environment.
$(VENV)/.made:
	$(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed: is python3-venv installed?"; exit 1; }
	touch $@

$(VENV)/.tools: $(VENV)/.made $(CONFIGURED)
	$(PIP) "setuptools>=77" pybind11 ninja
	touch $@

# VHARM_BUILD=none: the modules are built by .native, which ninja keeps up to date.
$(VENV)/.cli: $(VENV)/.tools
	VHARM_BUILD=none $(PIP) --no-build-isolation -e ".[cli]"
	touch $@

$(VENV)/.test: $(VENV)/.tools
	VHARM_BUILD=none $(PIP) --no-build-isolation -e ".[test]"
	touch $@ $(VENV)/.cli

$(VENV)/.lint: $(VENV)/.made constraints.txt
	$(PIP) ruff clang-format
	touch $@

$(VENV)/.native: $(VENV)/.tools $(SOURCES)
	$(BIN)/python setup.py --quiet build_ext --inplace
	touch $@

# Needs no network: PYTHON must have torch, triton, pytest, hypothesis, setuptools, pybind11, ninja.
gpu-check:
	@mkdir -p $(OUT)/gpu-check
	nvidia-smi > $(OUT)/gpu-check/card.txt
	VHARM_BUILD=cuda VHARM_CUDA_ARCHS=native $(PYTHON) setup.py --quiet build_ext --inplace
	failed=
	$(LIKE_GPU) tests --ignore=tests/triton --junitxml=$(OUT)/gpu-check/tests.xml \
	    2>&1 | tee $(OUT)/gpu-check/tests.txt || failed="$$failed tests"
	$(LIKE_GPU) tests/triton --junitxml=$(OUT)/gpu-check/triton.xml \
	    2>&1 | tee $(OUT)/gpu-check/triton.txt || failed="$$failed triton"
	$(LIKE_GPU) benchmarks -s \
	    2>&1 | tee $(OUT)/gpu-check/benchmarks.txt || failed="$$failed benchmarks"
	if command -v compute-sanitizer > /dev/null; then
	    PYTHONPATH=. compute-sanitizer --tool memcheck --target-processes all --error-exitcode 3 \
	        $(PYTHON) -m pytest --device cuda --fail-skipped-gpu tests/ops -q -x \
	        2>&1 | tee $(OUT)/gpu-check/memcheck.txt || failed="$$failed memcheck"
	else
	    echo "compute-sanitizer is not here: memory was not checked"
	fi
	if [ -n "$$failed" ]; then echo "gpu-check: FAILED:$$failed"; exit 1; fi
	echo "gpu-check: all passed; results in $(OUT)/gpu-check"

clean:
	rm -rf build dist *.egg-info vharm/_C*.so vharm/_cuda*.so $(VENV)/.native
	rm -rf .pytest_cache .hypothesis .ruff_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf

distclean: clean
	rm -rf $(VENV) $(OUT)
