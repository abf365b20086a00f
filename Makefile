# Two commands for a newcomer: `make demo` and `make test`. Each sets up what it needs; so does
# `make demo-hyperspectral`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CODE := src tests scripts benchmarks recipes  # not what a user fits in this folder
PIP := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo demo-hyperspectral test slow reference clean

$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed: make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.runs: $(VENV)/.made pyproject.toml constraints.txt
	$(BIN)/python $(PIP) --editable '.[samples]'
	touch $@

$(VENV)/.scenes: $(VENV)/.made pyproject.toml constraints.txt
	$(BIN)/python $(PIP) --editable '.[hyperspectral]'
	touch $@

$(VENV)/.tests: $(VENV)/.made pyproject.toml constraints.txt
	$(BIN)/python $(PIP) --editable '.[dev,detection,hyperspectral,openvino,tensorboard]'
	touch $@

# Fits a network to 1,797 handwritten digits (scikit-learn's) and prints where the report is.
demo: $(VENV)/.runs
	@test ! -e demo/fitted/record.json || (echo "demo/ is done already; remove it to run it again." && exit 2)
	test -e demo/digits || $(BIN)/pocketvision sample digits demo/digits
	$(BIN)/pocketvision fit demo/digits --out demo/fitted $(DEMO)

DEMO := --latency 0.5ms --size 2MB --time 3m --runtime onnxruntime --no-flip

# Fits networks to a hyperspectral scene (tensorly's Indian Pines), maps it, says where the report is.
demo-hyperspectral: $(VENV)/.scenes
	@test ! -e demo/scene/record.json || (echo "demo/scene is done already; remove it to run it again." && exit 2)
	test -e demo/pines || $(BIN)/pocketvision sample indian-pines demo/pines
	$(BIN)/pocketvision fit demo/pines --task hyperspectral --time 5m --out demo/scene
	$(BIN)/pocketvision map demo/scene demo/pines/cube.npy --out demo/map.png

# Lint, types, and the default tests, in two processes of one thread each.
test: $(VENV)/.tests
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

slow: $(VENV)/.tests
	$(BIN)/python $(PIP) --editable '.[cluster]'
	$(BIN)/pytest -m slow

# Compares with torchvision and timm, which live in an environment of their own.
reference: .venv-reference/.installed
	.venv-reference/bin/pytest -m reference tests/reference

.venv-reference/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-reference
	.venv-reference/bin/python $(PIP) --editable '.[dev,detection,openvino]'
	.venv-reference/bin/python $(PIP) --no-deps torchvision timm
	.venv-reference/bin/python $(PIP) huggingface_hub pyyaml
	touch $@

clean:
	rm -rf $(VENV) .venv-reference demo
