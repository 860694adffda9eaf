# The project's commands; `make` alone lists them. They need python3 (3.11 or newer) and make; each sets up .venv once.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# What `make serve` installs beside the plain service: OpenVINO, or nothing where there is a GPU.
EXTRAS ?= $(if $(wildcard /dev/nvidia0),,cpu)
COMMA := ,
RUNTIME := $(VENV)/.runtime-$(subst $(COMMA),-,$(EXTRAS))
# An index of torch's wheels for the CPU or another CUDA (docs/install.md); by default pip's own, CUDA on Linux.
TORCH_INDEX_URL ?=
PIP_FLAGS ?= $(if $(CI),--quiet --quiet)
PYTEST_FLAGS ?=
# Two workers, a file each at a time in the order of tests/conftest.py: module fixtures are made once. One thread a worker.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# What test-fast leaves out: see the markers in pyproject.toml.
SLOW := gpu or ray or slow or network or process or browser or bench
SAMPLE := $(firstword $(wildcard samples/*.jpg samples/*.png) photo.jpg)

.PHONY: help install serve check format options proto test test-clients test-fast coverage fuzz test-gpu test-ray ray bench-replicas bench bench-gpu bench-latency bench-memory bench-peers bench-profile demo-model docs doc-tables screenshots soak lock sbom audit cuda clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

install: $(INSTALLED) ## make .venv and install everything into it, for developers (nothing where nothing changed)

$(INSTALLED): pyproject.toml client/pyproject.toml constraints.txt
	$(call pip_install,.[dev])
	@# The extra `track` without opencv-python, which would overwrite the opencv of the extra `lineage`.
	@$(BIN)/python -m pip install $(PIP_OPTIONS) --no-deps trackers
	@touch $(RUNTIME) $@

# `make serve` needs no developer's tools; a .venv that has them has all of this too.
$(RUNTIME): pyproject.toml client/pyproject.toml constraints.txt
	$(call pip_install,.$(if $(EXTRAS),[$(EXTRAS)]))
	@touch $@

define pip_install
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"rcnn-serve needs Python 3.11 or newer, $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=python3.11")'
	@[[ -x $(BIN)/python ]] || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (the first time this takes some minutes) …"
	@$(if $(TORCH_INDEX_URL),$(BIN)/python -m pip install $(PIP_OPTIONS) -i $(TORCH_INDEX_URL) torch torchvision)
	@$(BIN)/python -m pip install $(PIP_OPTIONS) -e ./client -e '$(1)'
endef
PIP_OPTIONS = --no-input --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt

serve: $(RUNTIME) ## install only what serves, then start on http://127.0.0.1:8000 (RCNN_… variables: `rcnn settings`)
	@echo 'When it is ready:  curl -F image=@$(SAMPLE) http://'"$${RCNN_HOST:-127.0.0.1}:$${RCNN_PORT:-8000}/detect"
	@exec $(BIN)/rcnn serve

check: install ## ruff and mypy --strict
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary

options: install ## write the client's and the command line's options from app.schemas.options
	@$(BIN)/python -m app.commands.shared.option_files

format: install ## let ruff lay out the code and repair what it can
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .

proto: install ## generate the code of the gRPC protocol again from its .proto
	@$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. app/protocols/openinference/grpc/proto/grpc_service.proto

test: install ## every test that needs neither a GPU nor Ray; T=tests/app/batching runs one room or file
	@$(PYTEST) $(if $(T),$(T),$(PARALLEL)) $(PYTEST_FLAGS)

test-fast: install ## the tests that need no torch network, process, browser or benchmark
	@$(PYTEST) $(PARALLEL) -m 'not ($(SLOW))' $(PYTEST_FLAGS)

coverage: install ## as test, with branch coverage
	@$(PYTEST) $(PARALLEL) --cov --cov-report=term-missing:skip-covered $(PYTEST_FLAGS)

test-clients: install ## lint /openapi.json, generate clients of it and call with them, run examples/ (needs Node.js and the package indices)
	@$(BIN)/python -m tests.generated.run
	@$(PYTEST) tests/examples $(PYTEST_FLAGS)

soak: install ## load and unload a model under load over every protocol; prints answers, errors and memory
	@$(BIN)/python -m tests.soak.run

fuzz: install ## fuzz image decoder, header readers, body parsers and gRPC for MINUTES (10) from SEED; faults go to build/fuzz
	@$(BIN)/python -m tests.fuzz.run --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

test-gpu: cuda ## the tests of the CUDA path on a device; `make test` runs those without the mark gpu with stand-ins
	@$(BIN)/python -m pytest -m 'gpu or not gpu' $(PYTEST_FLAGS) $(wildcard tests/models/test_cuda*.py tests/models/*/test_cuda*.py)

test-ray: ray ## the service on a real Ray with two replicas, in a venv of its own
	@$(VENV)/peers/ray/bin/python -m pytest -m ray tests/process/test_ray.py $(PYTEST_FLAGS)

bench-replicas: ray ## images/s of two replicas on Ray with a thread each, over one
	@$(VENV)/peers/ray/bin/python -m bench.replicas

ray: install
	@$(BIN)/python -m bench.peers.install ray --into $(VENV)/peers

bench: install ## our engine beside torchvision's own forward, in one run, on the CPU; shares of the machine's peaks
	@$(BIN)/python -m bench.engine

bench-latency: install ## what the service adds to one request, above the detector called directly
	@$(BIN)/python -m bench.latency

bench-memory: install ## RSS over 10,000 requests, beside the plain FastAPI app, and the time from start to ready
	@$(BIN)/python -m bench.memory

bench-profile: install ## time of requests by thread and function (py-spy)
	@$(BIN)/python -m bench.profile

bench-peers: install ## this service beside other servers, which it installs below .venv/peers; writes docs/performance.md; SECONDS=4 RUNS=1
	@$(BIN)/python -m bench.peers.install --into $(VENV)/peers
	@$(BIN)/python -m bench.servers --venvs $(VENV)/peers --page docs/performance.md $(if $(SECONDS),--seconds $(SECONDS)) $(if $(RUNS),--runs $(RUNS))

bench-gpu: cuda ## a CUDA device: engine, upload, HTTP, shares of its peaks, torchvision's fp16 beside it; the host's limit
	@$(BIN)/python -m bench.gpu.report
	@$(BIN)/python -m bench.gpu.host

cuda: install
	@$(BIN)/python -c 'import sys, torch; sys.exit(None if torch.cuda.is_available() else "this target needs a CUDA device, and torch sees none here")'

docs: install ## build the documentation's site into build/site, without a network; a warning is an error
	@$(BIN)/zensical build --clean --strict

screenshots: install ## take the screenshots of docs/page.md again; needs Chromium
	@$(BIN)/python -m tests.page.screenshots

doc-tables: install ## write the tables of errors, settings and metrics into docs/ again
	@$(BIN)/python -m tests.house.doc_tables

COMPILE := uv pip compile - --quiet --generate-hashes --universal --python-version 3.11 -c constraints.txt --no-header --no-annotate
lock: install ## pin what the image installs, with hashes, into docker/*.txt; needs the package index
	@$(BIN)/python docker/requirements.py | $(BIN)/$(COMPILE) -o docker/requirements.txt
	@$(BIN)/python docker/requirements.py sbom | $(BIN)/$(COMPILE) -o docker/sbom-requirements.txt

sbom: install ## list what .venv holds, as CycloneDX, in build/sbom.cdx.json (the image has its own: docs/containers.md)
	@mkdir -p build
	@$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o build/sbom.cdx.json $(BIN)/python

audit: install ## look for known vulnerabilities in the pinned versions; needs the package index
	@$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict --progress-spinner off

demo-model: install ## train the bundled shapes model again, from scratch, into runs/shapes
	@$(BIN)/python -m models.shapes.train --out runs/shapes

clean: ## remove .venv and every cache
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .coverage .coverage.* build ./*.egg-info
