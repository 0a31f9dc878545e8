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
LIKE_GPU := env PYTHONPATH=. $(PYTHON) -m pytest --device cuda --fail-skipped-gpu

.PHONY: help demo test lint build gpu-check clean distclean
help:
	@echo "make demo       a composite is made, harmonized and measured; see $(OUT)/demo/sheet.png"
	echo "make test       all tests, the benchmarks in short, the kernels for older"
	echo "                processors, and Triton's interpreted"
	echo "make lint       ruff and clang-format"
	echo "make build      the native modules, in place"
	echo "make gpu-check  on a machine with an NVIDIA card: build for it, tests, benchmarks"
	echo "make clean      what was built; make distclean: the environment and results too"
	echo "variables: PYTHON=$(PYTHON) VENV=$(VENV) OUT=$(OUT), and those that setup.py reads"

demo: $(VENV)/.cli $(VENV)/.native
	$(BIN)/python -m vharm demo --out $(OUT)/demo

test: $(VENV)/.test $(VENV)/.native
	$(BIN)/python -m pytest tests benchmarks --quick --ignore=tests/triton
	for isa in avx2 baseline; do
	    VHARM_CPU_ISA=$$isa $(BIN)/python -m pytest tests/ops
	done
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
	VHARM_BUILD=none $(PIP) --no-build-isolation -e ".[cli,fast]"
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

# Needs no network: PYTHON must have torch, pytest, hypothesis, setuptools, pybind11 and ninja.
# Each step is tried, whatever became of the one before; the summary comes last.
gpu-check:
	@mkdir -p $(OUT)/gpu-check
	nvidia-smi > $(OUT)/gpu-check/card.txt
	VHARM_BUILD=cuda VHARM_CUDA_ARCHS=native $(PYTHON) setup.py --quiet build_ext --inplace
	summary=$(OUT)/gpu-check/summary.txt
	: > $$summary
	step() {
	    name=$$1; shift
	    if "$$@" > $(OUT)/gpu-check/$$name.txt 2>&1; then result=passed; else result=FAILED; fi
	    tail -n 3 $(OUT)/gpu-check/$$name.txt
	    echo "$$name: $$result ($$(tail -n 1 $(OUT)/gpu-check/$$name.txt))" >> $$summary
	}
	step tests $(LIKE_GPU) tests/ops --junitxml=$(OUT)/gpu-check/tests.xml
	step triton $(LIKE_GPU) tests/triton --junitxml=$(OUT)/gpu-check/triton.xml
	step benchmarks $(LIKE_GPU) benchmarks -s
	if command -v compute-sanitizer > /dev/null; then
	    for tool in memcheck racecheck; do
	        step $$tool compute-sanitizer --tool $$tool --target-processes all \
	            --error-exitcode 3 env PYTHONPATH=. $(PYTHON) -m pytest --device cuda -q tests/ops -k cuda
	    done
	else
	    echo "compute-sanitizer: not on this machine, memory was not checked" >> $$summary
	fi
	echo "--- gpu-check, all results in $(OUT)/gpu-check:"
	cat $$summary
	! grep -q FAILED $$summary

clean:
	rm -rf build dist *.egg-info vharm/_C*.so vharm/_cuda*.so $(VENV)/.native
	rm -rf .pytest_cache .hypothesis .ruff_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf

distclean: clean
	rm -rf $(VENV) $(OUT)
