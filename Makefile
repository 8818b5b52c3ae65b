# Complete on Linux with Python 3.11 to 3.13 and make: no compiler, no ninja, no GPU. The first one of them installs
# into .venv what constraints.txt names: 2.8 GB to download, 5.5 GB on disk, most of it torch's libraries for CUDA.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUTPUT ?= runs/nano

.PHONY: nano test test-long test-cuda

# A study that was stopped goes on; one of other code or settings is refused, and OUTPUT=FOLDER takes another folder.
nano: $(VENV)/installed
	$(BIN)/python recipes/alttrain_nano.py --output $(OUTPUT) --resume

test: $(VENV)/installed .typing/alttrain
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy recipes/*.py
	$(BIN)/python -m pytest -n 2

# What takes minutes and guards no law: whole studies, large random searches.
test-long: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 -m long

# The whole CUDA path without a GPU, at both ends of the range of versions, counted and compared. Needs a C compiler, and
# nothing of .venv; the first of them downloads 1.5 GB into .null_device and fills 5 GB there.
test-cuda:
	$(PYTHON) benchmarks/null_suite.py check

$(VENV)/installed: setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev]'
	touch $@

# mypy cannot follow an editable install; these links show it the import names.
.typing/alttrain: setup.py
	mkdir -p $@
	ln -sfn ../../engine ../../kernels ../../recipes/nano ../../recipes/command $@/
	touch $@
