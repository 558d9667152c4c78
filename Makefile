# Every target sets up .venv from the pinned constraints if it is not there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test shapes slow bench docs lint format release clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	@# torch first and pinned: without it, pip would bring the newest build with gigabytes of CUDA
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@# peers of losses, selectors and formats in tests; without dependencies: these want a torchvision, which has no CPU build
	@# in the registry (tests/peers.py), jupyter, or an old structlog
	$(BIN)/python -m pip install -q --no-deps -c constraints.txt lightly baal structlog batchbald-redux toma psutil kmedoids \
		perch-hoplite
	@touch $(STAMP)

demo: install
	$(BIN)/audiorep demo out=runs/demo/latest overwrite=true

# one process a core and one more, as some wait; one thread each; a file's tests stay together, as they share what they train
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist loadfile --no-loadscope-reorder

test: install
	$(PYTEST)

# some of them again, with the shapes and types in every signature checked at every call, which takes half as long again
SHAPED := $(addprefix tests/,active augment data encoders evaluate losses objectives select semi tasks) \
	$(patsubst %,tests/test_%.py,assign compress frontend learner masks pooling queues spectra transfer)
shapes: install
	$(PYTEST) $(SHAPED) \
		'--jaxtyping-packages=audiorep,beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))'

slow: install
	$(BIN)/python -m pytest -m slow

# speed and memory beside peers, into benchmarks/results; QUICK=1: a short form, into runs/bench; ONLY=selection: some of it
BENCHED := $(VENV)/.benched
bench: $(BENCHED)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks $(if $(QUICK),quick=true) $(if $(ONLY),only=$(ONLY))
	$(if $(ONLY),,OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.scaling $(if $(QUICK),quick=true))

$(BENCHED): $(STAMP)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[bench]'
	@# without dependencies: torchvision and CUDA, jupyter and wandb, or an older soxr, would come with them
	$(BIN)/python -m pip install -q --no-deps -c constraints.txt audiomentations numpy-minmax numpy-rms python-stretch \
		opensoundscape aru-metadata-parser pytz noisereduce pywavelets scikit-image
	@touch $(BENCHED)

# the documentation as a site, into site/, to be read without internet; SERVE=1: at http://127.0.0.1:8000, anew at each change
DOCUMENTED := $(VENV)/.documented
docs: $(DOCUMENTED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs $(if $(SERVE),serve,build --strict)

$(DOCUMENTED): $(STAMP)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[docs]'
	@touch $(DOCUMENTED)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@# what nothing calls, not even a config or a template; and dependencies that nothing imports
	grep -rhoE 'audiorep(\.\w+)+' configs recipes --include=*.yaml | sed 's/.*\.//' | sort -u > $(VENV)/named.py
	grep -rhoE '\.[a-z_]+' audiorep/*/templates | sed 's/^\.//' | sort -u | grep -vE '^(in|is|not|or|and|if)$$' >> $(VENV)/named.py
	$(BIN)/vulture audiorep benchmarks tests $(VENV)/named.py
	$(BIN)/deptry .

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# what would be published: the sdist, and the wheel built from it
release: install
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

clean:
	rm -rf $(VENV) dist build site runs
