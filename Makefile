# Everything here starts from a bare clone: `make demo`, `make test`. What is up to date is not done again.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CPP_FILES := $(shell find csrc tests/cpp tests/fake_driver -name '*.cpp' -o -name '*.h' 2>/dev/null)
BUILD_INPUTS := pyproject.toml build-constraints.txt setup.py CMakeLists.txt \
	$(shell find csrc -type f 2>/dev/null)
CMAKE := $(BIN)/cmake -S . -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja \
	-DSWAPMEM_PYTHON=OFF -DSWAPMEM_TESTS=ON
# Line numbers are what a test needs of debug information.
PLAIN := $(CMAKE) -B build/cpp -DCMAKE_BUILD_TYPE=RelWithDebInfo \
	-DCMAKE_CXX_FLAGS_RELWITHDEBINFO='-O2 -g1'
CTEST := $(BIN)/ctest --output-on-failure --no-tests=error --parallel 2

# What a GPU would be needed for if the tests had no stand-in for its driver.
COVERED := csrc/cuda/(cuda_device|cuda_leaving|streams|handles|cuda_link|context)\.cpp \
	csrc/host/(pinned_store|slab_arena|tiered_store|tiered_moves)\.cpp
COVERING := cuda_.*|device|driver|fences|op_times|pinned_store|scarce_.*|store|tiered_store

.PHONY: help demo test test-nightly test-pairs lint test-cpp test-sanitizers test-address test-thread \
	test-python coverage bench gpu-check format clean

help:
	@echo "make demo             train a network in a fraction of the memory it needs"
	@echo "make test             linters, C++ suites (plain and with sanitizers), Python suites"
	@echo "make test-nightly     what takes too long for every run: simulator against engine, and test-pairs"
	@echo "make test-pairs       oldest and newest Python, NumPy and CuPy, with what depends on them"
	@echo "make lint | test-cpp | test-sanitizers | test-python     the parts of make test"
	@echo "make coverage         which lines of the CUDA device and its stores the C++ suites run"
	@echo "make bench            every benchmark against its bar (long); RECORD=1 keeps the results"
	@echo "make gpu-check        on a machine with a GPU: its tests and benchmarks, in ten minutes"
	@echo "make format           let the formatters rewrite the sources"
	@echo "make clean            remove what was built; the virtual environment stays"
	@echo "PYTHON=python3.12     which Python makes the virtual environment"

demo: $(VENV)/.installed-demo
	$(BIN)/python train/demo.py --out result/demo

test: lint test-cpp test-sanitizers test-python

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CPP_FILES)
	$(BIN)/mypy

test-cpp: $(VENV)/.installed-dev
	$(PLAIN)
	$(BIN)/cmake --build build/cpp
	$(CTEST) --test-dir build/cpp

test-sanitizers: test-address test-thread

# address: AddressSanitizer with LeakSanitizer and UndefinedBehaviorSanitizer; thread: ThreadSanitizer.
# Lightly optimized: that halves the time they take to build.
test-address test-thread: test-%: $(VENV)/.installed-dev
	$(CMAKE) -B build/cpp-$* -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS='-O1 -g1' \
		-DSWAPMEM_SANITIZE=$*
	$(BIN)/cmake --build build/cpp-$*
	$(CTEST) --test-dir build/cpp-$*

test-nightly: $(VENV)/.installed-dev test-pairs
	$(BIN)/python -m pytest -m nightly

test-pairs:
	$(PYTHON) tests/pairs.py

# The tests of the CUDA device run programs on the stand-in for its driver.
test-python: $(VENV)/.installed-dev
	$(PLAIN)
	$(BIN)/cmake --build build/cpp --target swapmem_fake_cuda swapmem_virtual_training
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --max-worker-restart 0

coverage: $(VENV)/.installed-dev
	$(PLAIN)
	$(BIN)/cmake --build build/cpp --target swapmem_counted_tests
	find build/cpp -name '*.gcda' -delete
	$(CTEST) --test-dir build/cpp --build-config Counted -R '^counted_($(COVERING))$$'
	$(BIN)/gcovr --root . $(foreach files,$(COVERED),--filter '$(files)') --fail-under-line 95 \
		--gcov-object-directory build/cpp build/cpp/tests/cpp/CMakeFiles/swapmem_counted.dir

# Some run on the stand-in, too.
bench: $(VENV)/.installed-dev
	$(PLAIN)
	$(BIN)/cmake --build build/cpp --target swapmem_fake_cuda swapmem_virtual_training
	$(BIN)/python -m pytest bench -o addopts= -o timeout=0 -o faulthandler_timeout=0 \
		--benchmark-columns=min,median,max,rounds $(if $(RECORD),--record)

gpu-check: $(VENV)/.installed-dev
	$(BIN)/python -m bench.gpu_check

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP_FILES)

clean:
	rm -rf build dist *.egg-info swapmem/_core*.so .mypy_cache .pytest_cache .ruff_cache .hypothesis

# One line for each thing that a fresh machine may lack.
$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || \
		{ echo "swapmem needs Python 3.11 or later: apt install python3 python3-venv python3-dev"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "swapmem needs Python 3.11 or later, $(PYTHON) is $$($(PYTHON) -V): make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make virtual environments: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
# The first pip that knows --build-constraint.
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.3'
	touch $@

$(VENV)/.installed-%: $(BUILD_INPUTS) | $(VENV)/.made
	@command -v $(CXX) >/dev/null || \
		{ echo "swapmem needs a C++20 compiler: apt install g++ (or make CXX=clang++)"; exit 1; }
	@test -f "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" || \
		{ echo "swapmem needs Python's headers: apt install python3-dev"; exit 1; }
	CXX=$(CXX) $(BIN)/python -m pip install --quiet --build-constraint build-constraints.txt \
		--editable '.[$*]'
# Whoever has the tools of a developer has all that the demo needs.
	touch $(VENV)/.installed-demo $@

.PRECIOUS: $(VENV)/.installed-%
