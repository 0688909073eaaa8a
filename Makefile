# `make demo` and `make test` need nothing but Python: both create .venv and install what they need into it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

.PHONY: demo test test-slow test-torch test-tipc bench lint clean

demo: $(VENV)/.demo
	$(BIN)/python -m paddlevideo_skel demo

# Everything in about ten minutes on 2 cores; what takes longer is marked slow.
test: $(VENV)/.test
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/.test
	$(PYTEST) -m slow

# Conversions compared with PyTorch itself: a job of its own, because PyTorch is large.
test-torch: $(VENV)/.test
	$(PIP) -e '.[torch-test]'
	$(BIN)/python -m pytest tests/torch_job

# The TIPC chains of every model: a job of its own, because they take long.
test-tipc: $(VENV)/.test
	TIPC_JOB=1 $(BIN)/python -m pytest tests/tipc_job

# The times users notice, measured side by side in under ten minutes; best on an idle machine.
bench: $(VENV)/.test
	$(BIN)/python benchmarks/bench.py

lint: $(VENV)/.test
	$(BIN)/ruff check .

# One .venv for all: `make test` after `make demo` adds only what is missing.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 13) else "error: found Python %d.%d, expected 3.10 to 3.13; try make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) --upgrade pip
	@touch $@

$(VENV)/.demo: pyproject.toml setup.py | $(VENV)/.created
	@echo "Installing into $(VENV) (about a minute)"
	$(PIP) -e '.[onnx,plot]'
	@touch $@

$(VENV)/.test: pyproject.toml setup.py | $(VENV)/.created
	@echo "Installing into $(VENV), with the test tools (a minute or two)"
	$(PIP) -e '.[onnx,plot,curves,ray,dev]'
	@touch $(VENV)/.demo $@

clean:
	rm -rf $(VENV) build *.egg-info output inference .ruff_cache
