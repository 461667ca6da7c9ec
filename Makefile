# Everything works inside .venv/ in this folder. Python 3.11-3.13 is all that has to be there.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: setup setup-dev sweep test test-long lint report bench bench-road clean

setup: $(VENV)/.installed
setup-dev: $(VENV)/.installed-dev

# The lock file says which versions were tested together; pyproject.toml which ones are allowed.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

# The road from one YAML to the table, on embedded videos: minutes on two cores.
sweep: setup
	$(RUN) run_sweep.py sweeps/table3a.yaml --scale tiny

# Two files alone take as long as all others: CI, and `make test-long`, run them.
test: setup-dev
	$(RUN) -m pytest -m "not long" --numprocesses auto --dist loadfile --no-loadscope-reorder

test-long: setup-dev
	$(RUN) -m pytest -m long --numprocesses auto --dist loadfile --no-loadscope-reorder

lint: setup-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# Every table, figure and page again from the committed rows; trains and times nothing.
report: setup
	$(RUN) -m harness report --results results/reference --reports reports/reference --allow-missing

# Speed and memory beside the published operations; with nothing else running.
bench: setup
	$(RUN) -m benchmarks.speed

# The whole road's seconds and AP50, the report's, the engine's.
bench-road: setup
	$(RUN) -m benchmarks.road
	$(RUN) -m benchmarks.report
	$(RUN) -m benchmarks.engine

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
