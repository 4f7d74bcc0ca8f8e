# make demo and make test need nothing but Python 3.11 or newer; they make their own environment in .venv.
# PYTHON=python3.12 make test  chooses another interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Each of the WORKERS test processes computes with one thread, so two cores are used by two of them.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

.PHONY: demo test test-all fuzz fuzz-guided docs release-check bench reproduce clean

demo: $(VENV)/installed
	$(BIN)/stylegan-invert demo --outdir out/demo

test: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/python tools/check_types.py
	$(PYTEST) -m 'not slow'

# All tests, with the sweeps that "make test" leaves out, and the building of the site.
test-all: $(VENV)/docs-installed
	$(BIN)/ruff check .
	$(BIN)/python tools/check_types.py
	$(PYTEST)

# make fuzz N=100000 SEED=7 tries so many damaged files, of every kind that is read; a minute is about 4,000.
N ?= 10000
SEED ?= 0

fuzz: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz.py --count $(N) --seed $(SEED)

# make fuzz-guided SECONDS=3600 TARGET=safetensors searches for inputs that reach new code, with the package atheris.
SECONDS ?= 600
TARGET ?= pickle

fuzz-guided: $(VENV)/installed
	$(BIN)/python -m pip install --quiet atheris
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz_atheris.py $(TARGET) $(SECONDS)

# The site in out/site, and docs/cli.md, which has the same commands for readers of the repository.
docs: $(VENV)/docs-installed
	$(BIN)/python tests/test_docs.py --write
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html -d build/site docs out/site
	@echo "look at out/site/index.html"

# What a release would consist of is built, checked and tried in fresh environments; nothing is published. TORCH=2.4.1 tries
# that version of torch.
release-check:
	$(PYTHON) tools/release_check.py $(if $(TORCH),--torch $(TORCH))

# make bench OFFICIAL=../stylegan2-ada-pytorch times this project beside the official code.
bench: $(VENV)/installed
	$(BIN)/python benchmarks/bench.py $(if $(OFFICIAL),--official $(OFFICIAL)) --outdir docs/benchmarks

# The papers' experiments, in hours: make reproduce CATS=cats64.zip; docs/reproduce/README.md says what each is.
REPRODUCE := $(BIN)/stylegan-invert reproduce
CATS ?= ../shared/data/cats64.zip

reproduce: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt scikit-image
	$(BIN)/python docs/reproduce/make_faces.py out/faces
	$(REPRODUCE) direction -n cats32-de --data $(CATS) --pictures 15300: -o out/reproduce/direction
	$(REPRODUCE) head --data $(CATS) -o out/reproduce/head
	$(REPRODUCE) head -n cats32 --data $(CATS) --kimg 8 --seeds 1 -o out/reproduce/head-attached
	$(REPRODUCE) dense -n faces64 --data out/faces/faces --generated 20 --steps 200 -o out/reproduce/dense
	$(REPRODUCE) dense -n faces64 --data out/faces/astronaut --generated 2 --steps 200 -o out/reproduce/dense-astronaut
	$(REPRODUCE) dense -n cats32-de --data $(CATS) --pictures 15300: --generated 20 --real 40 --layer b8.conv1 --steps 200 --layer-steps 300 --lambda-delta 0.1 -o out/reproduce/dense-cats
	$(REPRODUCE) depth -n faces64 --data out/faces/faces -o out/reproduce/depth
	$(REPRODUCE) features -n faces64 --data out/faces/faces -o out/reproduce/features
	$(REPRODUCE) penalty -n faces64 --data out/faces/faces -o out/reproduce/penalty
	$(REPRODUCE) penalty -n cats32-de --layer b8.conv1 --data $(CATS) --pictures 15300: -o out/reproduce/penalty-cats32
	$(REPRODUCE) penalty -n cats64-de --layer b8.conv1 --data $(CATS) --pictures 15600: -o out/reproduce/penalty-cats64
	$(REPRODUCE) clipping -n faces64 --generated 20 -o out/reproduce/clipping
	$(REPRODUCE) prior -n cats32-de --data $(CATS) --pictures 15300: -o out/reproduce/prior
	$(REPRODUCE) compression -n cats32-de --data $(CATS) --pictures 0:15300 -o out/reproduce/compression
	$(REPRODUCE) tuning -n cats64-de --data $(CATS) --pictures 15600: -o out/reproduce/tuning
	$(REPRODUCE) tuning -n cats64-de --data pretrained -o out/reproduce/tuning-chelsea
	$(REPRODUCE) speed -n cats32-de --data $(CATS) --pictures 15600: -o out/reproduce/speed-cats32-de
	$(REPRODUCE) speed -n cats32 --data $(CATS) --pictures 15600: -o out/reproduce/speed-cats32
	$(REPRODUCE) encoder -n cats64-de --encoder cats64-de --data $(CATS) --pictures 15300: -o out/reproduce/encoder

$(VENV)/installed: setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("$(PYTHON) is Python %d.%d; 3.11 or newer is needed: make PYTHON=python3.11" % sys.version_info[:2])'
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@echo "installing torch and what else constraints.txt names into $(VENV); this takes a minute or more"
	@$(BIN)/python -m pip install -qq --constraint constraints.txt --editable '.[test]'  # -qq prints errors, no warnings
	@echo "installed"
	@touch $@

$(VENV)/docs-installed: $(VENV)/installed
	@$(BIN)/python -m pip install -qq --constraint constraints.txt --editable '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) build dist out *.egg-info
