# Two commands do everything: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check lint bench bench-large bench-gpu boston boston-next-year roads test-readers test-tools clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## make up a metro, tile it, train on it, score it; prints where the map is
	$(BIN)/roadrisk demo -o demo --overwrite

test: $(VENV)/.tested ## all tests but the slow ones
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-all: $(VENV)/.tested ## every test, the slow ones too
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: lint test ## what CI runs: ruff, mypy strict, tests

lint: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.benched ## speed and memory beside their rivals, as ratios
	$(BIN)/python -m pytest tests/benchmarks/bench_*.py --benchmark-only --benchmark-columns=min,median,rounds -p no:xdist

bench-large: $(VENV)/.benched ## peak memory of cutting 100 and 10,000 km2: some 2 minutes, 4 GB of disk
	$(BIN)/python -m pytest tests/benchmarks/large_cut_memory.py --benchmark-only --benchmark-columns=min -p no:xdist

bench-gpu: $(VENV)/.tested ## pictures a second on a GPU, end to end and bare
	$(BIN)/python tests/benchmarks/gpu.py

boston: $(VENV)/.tested ## what pictures add to facts in Boston, with intervals; needs ROADRISK_DATA
	$(BIN)/python tests/real/boston_pictures.py

boston-next-year: $(VENV)/.tested ## Boston's crashes of the next year from those before; needs ROADRISK_DATA
	$(BIN)/python tests/real/boston_next_year.py --inputs both

roads: $(VENV)/.tested ## roads from pictures, pairs and Boston's sheets, with intervals; needs ROADRISK_DATA
	$(BIN)/python tests/real/roads_from_pictures.py

test-tools: ## GDAL's command-line tools, the rivals of `make bench`: Debian's gdal-bin, as root or by sudo
	@command -v gdalwarp >/dev/null && command -v gdal2tiles.py >/dev/null || { \
		command -v apt-get >/dev/null || { echo "there is no apt-get here: install gdalwarp and gdal2tiles.py by hand"; exit 1; }; \
		root=; test "$$(id -u)" = 0 || root=sudo; \
		$$root apt-get update -q && $$root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends gdal-bin python3-gdal; }
	@command -v gdalwarp
	@command -v gdal2tiles.py

test-readers: $(VENV)/.readable ## layers read by QGIS, GDAL, DuckDB, validators and Chromium; installs them, Debian's as root or by sudo
	@/usr/bin/python3 -c 'import qgis.core' 2>/dev/null && command -v chromium >/dev/null || { \
		command -v apt-get >/dev/null || { echo "there is no apt-get here: install QGIS with its Python and Chromium by hand"; exit 1; }; \
		root=; test "$$(id -u)" = 0 || root=sudo; \
		$$root apt-get update -q && $$root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3-qgis qgis-providers chromium; }
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/readers tests/test_page_browser.py tests/test_view.py

clean: ## remove what the targets here made
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks

# python3.11 by name where there is one, else whatever python3 is, if it is new enough
$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null && py=$(PYTHON) || py=python3; \
	$$py -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "roadrisk needs Python 3.11 or newer; $$py is older: make PYTHON=/path/to/python3.11"; exit 1; }; \
	$$py -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

$(VENV)/.readable: $(VENV)/.tested
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,readers]'
	@touch $@

$(VENV)/.benched: $(VENV)/.tested
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,bench,bench-duckdb]'
	@touch $@
