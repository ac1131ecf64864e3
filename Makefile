# Every target makes its own environment: a fresh clone needs Python 3.11+ and nothing else.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: install demo test test-all lint clean

install: $(READY)

# requirements.txt pins everything, the build backend included, so nothing is resolved twice.
$(READY): requirements.txt pyproject.toml $(wildcard src/proponent/index/*.c)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -q -r requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --no-build-isolation -e .
	touch $@

demo: $(READY)
	$(BIN)/proponent demo

# One file of tests after another on each core: what a file shares is made once.  tests/conftest.py orders them.
# Threads that wait sleep: tests side by side have more of them than there are cores.
PYTEST := OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test: $(READY)
	$(PYTEST)

test-all: $(READY)
	$(PYTEST) -m ""

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy benchmarks

clean:
	rm -rf .venv build dist proponent-demo src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src -name '*.so' -delete
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
