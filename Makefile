# Targets a person types. `make demo` needs nothing but Python 3.10 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CT ?=
BENCHMARKS := $(filter-out harness synthetic_ct training_case,$(patsubst benchmarks/%.py,%,$(sort $(wildcard benchmarks/*.py))))

.PHONY: setup demo test test-slow check bench

setup: $(STAMP)

# torchvision arrives with timm; where its binary does not fit the torch build, importing it
# fails and takes transformers with it, so it goes. timm, which nothing here needs, goes too:
# without torchvision it stops the command `accelerate`.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[cluster,llm,metrics,runtime,dev]'
	$(BIN)/python -c 'import torchvision' 2>/dev/null || $(BIN)/python -m pip uninstall --quiet --yes torchvision timm
	touch $(STAMP)

demo: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" bash runs/quickstart.sh "$(CT)"

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-slow: setup
	$(BIN)/python -m pytest -m slow

check: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" bash scripts/check

bench: setup
	@test -f "benchmarks/$(NAME).py" || { echo "usage: make bench NAME=decode [ARGS='--json FILE']"; \
	echo "NAME is one of: $(BENCHMARKS)"; exit 2; }
	$(BIN)/python benchmarks/$(NAME).py $(ARGS)
