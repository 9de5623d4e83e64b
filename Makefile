# Everything runs from a virtual environment of its own; a second make installs nothing.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/installed
# Two busy thread pools on two cores wait for each other: waiting threads give way.
export OMP_WAIT_POLICY ?= PASSIVE
export TOKENIZERS_PARALLELISM ?= false

.PHONY: finetune test test-all lint benchmark clean

finetune: $(READY)
	$(BIN)/etude finetune

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not all"

# timm and TensorFlow bring packages that must not meet the others: each has a folder of its own.
test-all: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[everything]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --target build/timm --no-deps timm==1.0.31 torchvision==0.28.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --target build/tensorflow tensorflow-cpu==2.21.0
	OMP_NUM_THREADS=1 ETUDE_TIMM=build/timm ETUDE_TENSORFLOW=$(CURDIR)/build/tensorflow $(BIN)/python -m pytest -n 2

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyrefly check

benchmark: $(READY)
	for job in benchmarks/*.py; do $(BIN)/python $$job; done

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all]'
	touch $(READY)

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis build dist
