# make demo: the main job on built-in data.   make test: the tests.   Each makes .venv when it is missing.
PYTHON := $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

.PHONY: demo slurm-demo test lint house lock docs bench clean

demo: .venv/installed
	@$(BIN)/python hpc/launch.py sweep=aegan_lr cluster=local data=demo budget=demo

slurm-demo: .venv/installed
	slurm/testbed up
	@$(BIN)/python hpc/launch.py sweep=aegan_lr cluster=testbed data=demo budget=micro 'classes=[df,vasc]'

test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

house:
	@$(PYTHON) tests/house.py

lock: .venv/installed
	$(BIN)/python tests/lock.py > constraints.txt

docs: .venv/installed
	$(BIN)/python -m sphinx -b html -W --keep-going -n -q docs docs/_build
	@echo "docs/_build/index.html"

bench: .venv/installed
	for b in tests/bench/bench_*.py; do $(BIN)/python $$b || exit 1; done

.venv/installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed, and none was found" >&2; exit 2; }
	@echo "installing into .venv: minutes, and 6 GB with PyTorch for CUDA. Without a GPU make .venv yourself and install"
	@echo "PyTorch for CPUs there first (pytorch.org tells how): 1.5 GB."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv build dist
