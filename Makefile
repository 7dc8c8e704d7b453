# Blindgate. Needs Python 3.11 or 3.12, make and a C library; everything else comes from the locks. A C compiler (cc, or CC=…) is optional:
# with one, nodes answer search and private forests about twice as fast.
#
#   make demo          the whole way of a prediction, on this machine, with real processes
#   make test          every test; makes the compiler's environment first
#   make check         format, lint, types, import contracts, docs and vectors up to date
#   make bench         speed, each against the direct library call
#   make models        build the demo's models again
#   make compile-env   the environment of the Concrete ML compiler (Python 3.11, 1.9 GB, apart from .venv)
#   make vectors       write docs/vectors again
#   make nightly       long campaigns: the same tests with more seeds, and the variants that `make test` skips as `in make nightly`
#   make hardware      what needs an NVIDIA GPU: plaintext models on CUDA, and what the card says of itself; skipped without one
#   make simulate      the broker under 1,000 schedules that nobody ran before; SEED=… shows what happened in one
#   make lock          resolve requirements.lock, and the gateway's part of it, again (needs uv)

PYTHON ?= $(shell for p in python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

# Concrete ML's own dependencies have no wheels for 3.12.
COMPILE_PYTHON ?= $(shell for p in python3.11 python3 $(PYTHON); do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && echo $$p && break; done)
# torch's CPU build: for plaintext models in .venv, and for Concrete ML.
TORCH ?= --no-deps --require-hashes -r requirements-torch.lock
COMPILE_TORCH ?= $(TORCH)
# pip would compile what it installs on one core, for as long as it takes to install it.
PIP_FLAGS := --disable-pip-version-check --no-compile

DEMO_DIR ?=

# `make test` runs the files of tests in so many processes at once: one more than there are cores, for a sixth of the time a test waits for
# a node or a gateway, and at most four. Libraries have one thread in each: threads that wait for each other while another process has
# their core take twice as long. What one process compiles of Blindgate and of its tests, the others read. Files run in the order of
# tests/conftest.py: those that take long first, so that no process is left alone with one, and those that wait beside those that compute.
TEST_PROCESSES ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 4 ? cores + 1 : 4)))

.PHONY: demo test check bench models compile-env vectors nightly hardware simulate lock env clean
.DELETE_ON_ERROR:

env: $(INSTALLED)

$(INSTALLED): requirements.lock requirements-torch.lock pyproject.toml hatch_build.py fhe_models/blindgate_models/native/kernel.c
	@test -n "$(PYTHON)" || { echo "Blindgate needs Python 3.11 or 3.12 on the PATH, or make PYTHON=/path/to/python"; exit 1; }
	@echo "Making $(VENV) with $(PYTHON) from requirements.lock (about three minutes the first time) ..."
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@# Three at once, where they install nothing in common: pip takes one core, whatever it installs, so that the lock is two lists.
	@lists=$$(mktemp -d) || exit 1; trap 'rm -rf "$$lists"' EXIT; \
	awk -v to="$$lists/" '/^[A-Za-z0-9]/ {packages++} {print > (to packages % 2 ".txt")}' requirements.lock; \
	install="$(PY) -m pip install --quiet $(PIP_FLAGS) --no-deps --require-hashes -r"; \
	$$install $$lists/0.txt & one=$$!; $$install $$lists/1.txt & other=$$!; both() { wait $$one && wait $$other || exit 1; }; \
	$(if $(findstring --no-deps,$(TORCH)),,both;) torch=yes; $(PY) -m pip install -qq $(PIP_FLAGS) $(TORCH) || torch=no; \
	$(if $(findstring --no-deps,$(TORCH)),both;) \
	test $$torch = yes || { \
		echo "env: pip could not get torch's CPU build. Tell it where such builds are (PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS),"; \
		echo "or take PyPI's with 2.5 GB of CUDA: make env TORCH=torch==2.13.0. Without torch, a node runs no plaintext models"; \
		echo "and the tests of them are skipped."; test -z "$$CI"; }
	@$(PY) -m pip install --quiet $(PIP_FLAGS) --no-deps --no-build-isolation --editable .
	@# Not what hardly anything imports, and what does compiles then; and some packages bring templates of modules, which are none.
	@$(PY) -m compileall -qq -j 0 -x '/tests?/|transformers/models/|torch/(_inductor|onnx|testing)/|/sympy/' $(VENV)/lib || true
	@touch $@

demo: $(INSTALLED)
	@$(PY) examples/demo.py $(if $(DEMO_DIR),--dir "$(DEMO_DIR)")

# Where there is no Python 3.11 or no CPU build of torch, the tests that compile are skipped and say so; CI insists.
test: $(INSTALLED)
	@test -z "$(COMPILE_PYTHON)" || $(MAKE) --no-print-directory compile-env || test -z "$$CI"
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
		$(PY) -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

compile-env: .venv-compile/.installed

.venv-compile/.installed: requirements-compile.lock requirements-torch.lock
	@test -n "$(COMPILE_PYTHON)" || { \
		echo "compile-env: Concrete ML needs Python 3.11 on the PATH, or make COMPILE_PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Making .venv-compile with $(COMPILE_PYTHON) from requirements-compile.lock (about a minute, 1.9 GB) ..."
	@test -x .venv-compile/bin/python || $(COMPILE_PYTHON) -m venv .venv-compile
	@.venv-compile/bin/python -m pip install -qq $(PIP_FLAGS) $(COMPILE_TORCH) || { \
		echo "compile-env: pip could not get torch's CPU build. Tell it where such builds are (PIP_EXTRA_INDEX_URL or"; \
		echo "PIP_FIND_LINKS), or take PyPI's with 2.5 GB of CUDA: make compile-env COMPILE_TORCH=torch==2.13.0"; exit 1; }
	@.venv-compile/bin/python -m pip install -qq $(PIP_FLAGS) --no-deps --require-hashes \
		-r requirements-compile.lock || { echo "compile-env: a download failed; make compile-env goes on from here"; exit 1; }
	@PYTHONDONTWRITEBYTECODE= .venv-compile/bin/python -W ignore -c 'import torch, concrete.ml'  # compiles what it needs of them
	@touch $@

models: $(INSTALLED) .venv-compile/.installed
	@cd examples && ../$(PY) -m models.build

check: $(INSTALLED)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PY) docs/vectors/make.py --check
	$(PY) docs/vectors/make_log.py --check
	$(PY) docs/vectors/make_sealing.py --check
	$(PY) docs/check.py

bench: $(INSTALLED)
	$(PY) -m bench

vectors: $(INSTALLED)
	$(PY) docs/vectors/make.py
	$(PY) docs/vectors/make_log.py
	$(PY) docs/vectors/make_sealing.py

# torch's build for CUDA is PyPI's: `pip install torch` in .venv brings it.
hardware: $(INSTALLED)
	$(PY) -m pytest tests/hardware -s -rs

nightly: $(INSTALLED)
	BLINDGATE_CAMPAIGN=20 $(PY) -m pytest --timeout=7200 tests/properties tests/attacks tests/faults tests/integration tests/unit

simulate: $(INSTALLED)
	@PYTHONPATH=tests/support $(PY) -m simulation $(if $(SEED),--seed $(SEED),--schedules $(or $(SCHEDULES),1000))

lock:
	@# rag-gpu's FAISS would lie over rag's: it is resolved with the rest and not installed.
	uv pip compile pyproject.toml --all-extras --no-emit-package torch --no-emit-package faiss-gpu --no-emit-package nvidia-curand-cu12 \
		--no-emit-package nvidia-cublas-cu12 --no-emit-package nvidia-cuda-runtime-cu12 --no-emit-package nvidia-cuda-nvrtc-cu12 \
		--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --output-file requirements.lock
	uv pip compile pyproject.toml --extra gateway --extra postgresql --extra s3 --extra oidc --extra telemetry --universal --python-version 3.11 \
		--constraint requirements.lock --generate-hashes --no-emit-index-url --no-header --no-annotate \
		--output-file requirements-gateway.lock

clean:
	rm -rf $(VENV) .venv-compile fhe_models/blindgate_models/native/libkernel.so dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
