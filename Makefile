# Everything here does its own set-up: Python 3.10+, git and make are all that it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := $(sort $(wildcard plugins/nectargan-*))
SOURCES := nectargan_core $(addsuffix /src,$(PLUGINS))
INSTALL := -m pip --disable-pip-version-check install --quiet
PIP := $(BIN)/python $(INSTALL) --constraint constraints.txt
FLOORS := .venv-floors
# A process for each processor, of which there may be fewer than the machine says; each takes most of a gigabyte.
PYTEST := -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal

.PHONY: help setup demo test test-all test-floors lint format tables bench docs dist clean

help:
	@echo "make setup        everything for development, in .venv; the commands below do it when it is missing"
	@echo "make demo         two objectives restore scratched photographs; see runs/demo. Installs only what it needs"
	@echo "make test         the tests that one runs all day"
	@echo "make test-all     every test, the slow ones too, and branch coverage"
	@echo "make test-floors  the tests, with the lowest release that the metadata allows of each requirement"
	@echo "make lint         ruff, mypy --strict, import-linter"
	@echo "make format       let ruff format and fix"
	@echo "make tables       rewrite what follows from the plugins: tables of READMEs and docs, the plugin directory"
	@echo "make bench        what things cost, as ratios measured in one run; rewrites docs/performance.md"
	@echo "make docs         the documentation, in docs/_build/html"
	@echo "make dist         wheels and sdists of core and all plugins, in dist"

# What `make demo` needs and no more: core, and the plugins that the demo's objectives and trainer are from. torch first:
# whatever comes after it is content with the build that is there. Without environments of their own to be built in, which
# would take longer than everything else, the plugins need hatchling here.
DEMO := $(addprefix plugins/nectargan-,gan image laplacian pix2pix schedules sobel)
$(VENV)/.demo: pyproject.toml constraints.txt $(addsuffix /pyproject.toml,$(DEMO))
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) torch
	$(PIP) hatchling editables
	$(PIP) --no-build-isolation --editable .[cli] $(foreach plugin,$(DEMO),--editable ./$(plugin)$(if $(filter %-pix2pix,$(plugin)),[demo]))
	touch $@

# The rest, in the same place.
$(VENV)/.ready: $(VENV)/.demo $(wildcard plugins/*/pyproject.toml)
	$(PIP) --no-build-isolation --group dev $(EDITABLES)
	touch $@

EXTRAS_nectargan-pix2pix := [train]
EXTRAS_nectargan-torchjd := [cagrad,fairgrad,quadprog]
EXTRAS_nectargan-vgg := [safetensors]
EDITABLES = --editable .[cli] $(foreach plugin,$(PLUGINS),--editable ./$(plugin)$(EXTRAS_$(notdir $(plugin))))

setup: $(VENV)/.ready

demo: $(VENV)/.demo
	$(BIN)/nectargan-pix2pix demo --out runs/demo

# One thread in each process of pytest: on a busy machine the threads of OpenMP spend more time waiting for each other
# than they save.
test test-all test-floors: export OMP_NUM_THREADS := 1

test: $(VENV)/.ready
	$(BIN)/python $(PYTEST)

test-all: $(VENV)/.ready
	$(BIN)/python $(PYTEST) --cov --cov-report=term -m "slow or not slow"

# A venv of its own, made anew whenever a bound changes; of Python 3.10 or 3.11, which the oldest releases have wheels for.
# The pins of constraints.txt hold for torch only: pytest and the like are whatever goes with our lower bounds.
# packaging and tomli are what floors.py reads the metadata with.
$(FLOORS)/.ready: pyproject.toml constraints.txt tests/floors.py $(wildcard plugins/*/pyproject.toml)
	$(PYTHON) -m venv --clear $(FLOORS)
	$(FLOORS)/bin/python $(INSTALL) --upgrade pip
	$(FLOORS)/bin/python $(INSTALL) --constraint constraints.txt torch packaging tomli
	$(FLOORS)/bin/python tests/floors.py > $(FLOORS)/floors.txt
	$(FLOORS)/bin/python $(INSTALL) --constraint $(FLOORS)/floors.txt --group test $(EDITABLES)
	touch $@

# Old releases do what newer ones of others have deprecated since; that is no defect of ours.
test-floors: $(FLOORS)/.ready
	$(FLOORS)/bin/python $(PYTEST) -W ignore::DeprecationWarning

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tables: $(VENV)/.ready
	$(BIN)/python docs/make_tables.py

# The libraries that this project is measured beside, apart from what the tests see. Without their requirements: torchvision
# is one, which has no part in what is measured. A library that is not there is named, with the command that installs it.
$(VENV)/bench: pyproject.toml constraints.txt $(VENV)/.ready
	$(PIP) --no-deps --target $@ --upgrade --group bench && touch $@

bench: $(VENV)/.ready
	-$(MAKE) --no-print-directory $(VENV)/bench
	PYTHONPATH=$(VENV)/bench $(BIN)/python tests/bench --write
	$(BIN)/python docs/make_tables.py

docs: tables
	$(PIP) --group docs
	$(BIN)/python docs/make_gallery.py
	$(BIN)/sphinx-build --quiet --fail-on-warning --fresh-env --write-all --builder html docs docs/_build/html
	$(BIN)/python docs/check_site.py
	@echo "docs/_build/html/index.html"

dist: $(VENV)/.ready
	rm -rf dist
	for project in . $(PLUGINS); do $(BIN)/python -m build --outdir dist $$project || exit 1; done

clean:
	rm -rf $(VENV) $(FLOORS) build dist docs/_build docs/gallery docs/readmes runs
