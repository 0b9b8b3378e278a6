# make demo    caption a dozen photographs with the embedded model (installs no TensorFlow)
# make test    lint, types, requirements, tests, and the runtime on its own in a clean environment
# make test-all  the same with the proofs at full size, and the runtime with onnxruntime's GPU build
# make bench   how fast this machine captions
# make setup   everything for development
# make docs    write the tables in docs/ that are made from the code
# make clean   remove what the commands above made; `make distclean` also removes .venv
.DELETE_ON_ERROR:
.PHONY: demo checks test test-all alone alone-gpu setup bench docs clean distclean

# Tests start hundreds of processes: what Python has compiled is kept, whatever the environment says.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
ALONE := .venv-alone
ALONE_GPU := .venv-alone-gpu
INSTALL := -m pip install --quiet --constraint constraints.txt
TESTED := python3.13 python3.12 python3.11
SUITABLE := import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))
# The newest Python of the tested ones, else any that is new enough. `make PYTHON=/path/to/python3` chooses another.
PYTHON ?= $(shell for p in $(TESTED) python3 python; do "$$p" -c '$(SUITABLE)' 2>/dev/null && echo "$$p" && break; done)
# The build of onnxruntime: cpu, gpu, or cuda (with NVIDIA's libraries). `make ENGINE=cpu` chooses another.
ENGINE ?= $(if $(shell command -v nvidia-smi),cuda,cpu)
SOURCES = $(shell find batchcap export -type f -not -path '*/__pycache__/*')

demo: .venv/.demo
	@$(BIN)/python examples/demo.py

# A file's tests share what they have made, so a file stays in one process. Slow files come first: see tests/conftest.py.
PYTEST := $(BIN)/pytest --numprocesses=auto --maxprocesses=8 --dist=loadfile --no-loadscope-reorder

test: checks
	$(PYTEST) -m 'not full'
	@$(MAKE) --no-print-directory alone

test-all: checks
	$(PYTEST)
	@$(MAKE) --no-print-directory alone alone-gpu

checks: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/deptry batchcap export examples benchmarks

# The built wheel in an environment of its own, where TensorFlow is not installed.
alone: $(ALONE)/.wheel
	$(ALONE)/bin/python tests/runtime_alone.py

# The same with the build of onnxruntime that has CUDA: it runs on the CPU too.
alone-gpu: $(ALONE)/.wheel
	@rm -rf $(ALONE_GPU) && $(BIN)/python -m venv $(ALONE_GPU)
	@$(ALONE_GPU)/bin/python $(INSTALL) "$$(ls build/alone/batchcap-*.whl)[gpu]"
	$(ALONE_GPU)/bin/batchcap doctor
	$(ALONE_GPU)/bin/python tests/runtime_alone.py

bench: .venv/.demo
	$(BIN)/batchcap bench

setup: .venv/.dev

docs: .venv/.dev
	$(BIN)/python docs/tables.py

# Where the other build is installed both go: they share files, which the one that goes takes with it.
OTHER = onnxruntime$(if $(filter cpu,$(ENGINE)),-gpu)
ONE_ENGINE = if $(BIN)/python -m pip show --quiet $(OTHER) 2> /dev/null; then \
	$(BIN)/python -m pip uninstall --quiet --yes onnxruntime onnxruntime-gpu 2> /dev/null; fi

.venv/.created:
	@test -n "$(PYTHON)" || { echo "batchcap needs Python 3.11 or newer with venv; none was found. Set PYTHON=/path/to/python3."; exit 1; }
	@"$(PYTHON)" -c '$(SUITABLE)' || { echo "$(PYTHON) is not Python 3.11 or newer with venv and pip."; exit 1; }
	@echo "Making .venv with $$("$(PYTHON)" --version) ..."
	@"$(PYTHON)" -m venv .venv
	@touch $@

.venv/.demo: pyproject.toml constraints.txt | .venv/.created
	@echo "Installing the runtime ..."
	@$(ONE_ENGINE)
	@$(BIN)/python $(INSTALL) --editable '.[$(ENGINE),demo]'
	@touch $@

.venv/.dev: pyproject.toml constraints.txt | .venv/.created
	@echo "Installing the runtime, the export stage and the tools ..."
	@$(ONE_ENGINE)
	@$(BIN)/python $(INSTALL) --editable '.[$(ENGINE),export,eval,demo,parquet,watch,dev]'
	@touch $@ .venv/.demo

$(ALONE)/.runtime: pyproject.toml constraints.txt .venv/.dev
	@echo "Installing the runtime alone ..."
	@rm -rf $(ALONE) && $(BIN)/python -m venv $(ALONE)
	@$(ALONE)/bin/python $(INSTALL) '.[$(ENGINE)]'
	@touch $@

$(ALONE)/.wheel: $(SOURCES) $(ALONE)/.runtime
	@rm -rf build/alone
	@$(BIN)/python -m build --no-isolation --wheel --outdir build/alone . > /dev/null
	@$(ALONE)/bin/python -m pip install --quiet --no-deps --force-reinstall build/alone/batchcap-*.whl
	@touch $@

clean:
	rm -rf $(ALONE) $(ALONE_GPU) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis examples/photos examples/captions.jsonl*
	find batchcap export tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv
