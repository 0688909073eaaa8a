# Two commands for a newcomer: `make demo` and `make test`. Both make .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
JOBS ?= 2

.PHONY: demo test test-torch test-tipc bench lint clean

demo: $(READY)
	$(BIN)/python -m paddlevideo_skel demo

test: $(READY)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

# Conversions against PyTorch itself: a job of its own, as PyTorch is large.
test-torch: $(READY)
	$(PIP) -e '.[torch-test]'
	$(BIN)/python -m pytest tests/torch_job

# The chains of test_tipc/ for every model: a job of its own, as it takes long.
test-tipc: $(READY)
	TIPC_JOB=1 $(BIN)/python -m pytest tests/tipc_job

# What users wait for, side by side, in under ten minutes; best with nothing else running.
bench: $(READY)
	$(BIN)/python benchmarks/bench.py

lint: $(READY)
	$(BIN)/ruff check .

$(READY): pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 13) else "error: Python %d.%d found, 3.10 to 3.13 is needed; try make PYTHON=python3.12" % v)'
	@echo "Creating $(VENV) and installing the dependencies (a minute or two)"
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) --upgrade pip
	$(PIP) -e '.[onnx,plot,ray,dev]'
	@touch $(READY)

clean:
	rm -rf $(VENV) build *.egg-info output inference .ruff_cache
