# make demo and make test need nothing but Python 3.11 or newer; they make their own environment in .venv.
# PYTHON=python3.12 make test  chooses another interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test docs clean

demo: $(VENV)/installed
	$(BIN)/stylegan-invert demo --outdir out/demo

test: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/python -m pytest

docs: $(VENV)/installed
	$(BIN)/python tests/test_docs.py --write

$(VENV)/installed: setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("$(PYTHON) is Python %d.%d; 3.11 or newer is needed: make PYTHON=python3.11" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) build dist out *.egg-info
