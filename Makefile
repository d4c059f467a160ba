PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help gail vime test docs coverage bench clean

help:
	@echo "make gail   set up .venv, then imitate the HalfCheetah-v4 expert"
	@echo "make vime   set up .venv, then explore the sparse HalfCheetah"
	@echo "make test   set up .venv, then lint, types, import layers and tests"
	@echo "make docs   set up .venv, then build the site in docs/_build"
	@echo "make coverage  branch coverage of the tests"
	@echo "make bench  set up .venv, then measure throughput"
	@echo "make clean  remove .venv and caches"

# Installed again only when the metadata or the pinned versions change.
$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "rlgen needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -e .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(PIP_INSTALL) -e ".[test]"
	touch $@

gail: $(VENV)/installed
	$(BIN)/python scripts/gail.py --env HalfCheetah-v4 --expert expert_data/

vime: $(VENV)/installed
	$(BIN)/python scripts/vime.py --sparse

docs: $(VENV)/installed-test
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build

test: $(VENV)/installed-test docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

coverage: $(VENV)/installed-test
	$(BIN)/coverage erase
	# Coverage itself writes more than that test lets a process write.
	$(BIN)/coverage run -m pytest --deselect tests/test_faults.py::test_a_disk_that_fills_up_in_a_run_is_an_error_of_files
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --skip-covered --show-missing

bench: $(VENV)/installed-test
	$(BIN)/python benchmarks/throughput.py

clean:
	rm -rf $(VENV) docs/_build docs/api docs/commands.md .pytest_cache .mypy_cache .ruff_cache build *.egg-info
