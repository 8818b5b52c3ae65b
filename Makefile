# Two targets, each complete on a machine with Python 3.11 or later and make: no compiler, no ninja, no GPU.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: nano test

nano: $(VENV)/installed
	rm -rf runs/nano
	$(BIN)/python recipes/alttrain_nano.py --output runs/nano

test: $(VENV)/installed .typing/alttrain
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy recipes/*.py
	$(BIN)/python -m pytest -n 2

$(VENV)/installed: setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# mypy cannot follow an editable install; these links show it the import names.
.typing/alttrain:
	mkdir -p $@
	ln -sfn ../../engine ../../kernels ../../recipes/nano ../../recipes/command $@/
