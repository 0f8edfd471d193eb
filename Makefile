# Two commands need nothing but python3 (3.11 or newer), pip and make:
#   make course    set up, run the notebooks in order, say where the plots lie
#   make test      set up, unit tests, and every notebook against its stored outputs
PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.ready

.PHONY: course test fuzz mutants test-colab test-lowest rehearsal reproduce lab notebooks figures web site lint format clean help
.DEFAULT_GOAL := help

help:
	@echo "make course     set up, run the notebooks in order (quick preset), say where the plots lie"
	@echo "make test       set up, unit tests, and every notebook against its stored outputs"
	@echo "make test-colab, make test-lowest  run all chapters with Colab's versions, and with the lowest allowed ones"
	@echo "make rehearsal  walk the road of FreiHAND on Colab without either: all chapters, a kill, a resume"
	@echo "make fuzz       set up, ten times as many damaged files as make test tries (FIRST=seed)"
	@echo "make mutants    set up, put small faults into the library and see which the tests notice (hours; MODULES=\"loader\")"
	@echo "make reproduce  set up, train the full preset on FreiHAND (resumes), write its per-keypoint table and plot"
	@echo "make lab        set up, open JupyterLab on notebooks/"
	@echo "make notebooks  run the notebooks and store their outputs (CHAPTER=05 for one)"
	@echo "make figures    redraw the README's pictures and tables from the files in figures/"
	@echo "make web        put the page for the browser together in build/web (needs npm); handpose web serves it"
	@echo "make site       README, chapters as stored, glossary and API reference as static pages in build/site"
	@echo "make lint       ruff on modules and notebooks; make format mends what it can"
	@echo "make clean      remove .venv and runs/"

# uv, itself from the registry, installs in half a minute what takes pip several; it is told to trust the
# certificates that the system trusts, as pip does. Nothing is installed the second time until pyproject.toml or the
# tested versions change. What is installed is compiled at once: where Python may write no bytecode
# (PYTHONDONTWRITEBYTECODE, as in many containers), each process would compile torch and torchvision again, for some
# ten seconds.
$(SETUP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "handpose-lib needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	test -x $(BIN)/pip || { rm -rf .venv; $(PYTHON) -m venv .venv; } \
		|| { rm -rf .venv; $(PYTHON) -m pip install --user virtualenv && $(PYTHON) -m virtualenv .venv; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	UV_SYSTEM_CERTS=1 $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraints constraints.txt --editable '.[notebooks,dev,docs,export]'
	touch $(SETUP)

course: $(SETUP)
	$(BIN)/python notebooks/run.py

# Two test processes on two cores: one thread each, or torch's threads wait for each other most of the time.
test: export OMP_NUM_THREADS = 1
test: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m compileall -q handpose_lib
	$(BIN)/pytest tests --numprocesses 3 --dist loadfile --no-loadscope-reorder -p no:nbval
	$(BIN)/pytest notebooks --numprocesses 2 --dist loadfile --no-loadscope-reorder -p no:cacheprovider \
		--nbval-lax --nbval-current-env --nbval-cell-timeout=900 --nbval-sanitize-with=tests/nbval_sanitize.cfg

# All chapters with the versions of Colab's image, and with the lowest that pyproject.toml allows, each in an
# environment of its own (several GB, since torch brings its CUDA libraries).
test-colab: $(SETUP)
	UV_SYSTEM_CERTS=1 $(BIN)/uv venv --quiet --allow-existing .venv-colab
	UV_SYSTEM_CERTS=1 $(BIN)/uv pip install --quiet --python .venv-colab/bin/python --constraints tests/constraints-colab.txt --editable '.[notebooks]'
	.venv-colab/bin/python notebooks/run.py

test-lowest: $(SETUP)
	UV_SYSTEM_CERTS=1 $(BIN)/uv venv --quiet --allow-existing .venv-lowest
	UV_SYSTEM_CERTS=1 $(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct --editable '.[notebooks]'
	.venv-lowest/bin/python notebooks/run.py

rehearsal: $(SETUP)
	$(BIN)/python benchmarks/rehearsal.py
fuzz: $(SETUP)
	HANDPOSE_FUZZ=2000 HANDPOSE_FUZZ_SEED=$(or $(FIRST),10000) $(BIN)/pytest tests/test_fuzz.py --numprocesses 2 -q

# A seeded sample of faults per module, then the sabotages; writes the tables in CONTRIBUTING.md.
mutants: $(SETUP)
	UV_SYSTEM_CERTS=1 $(BIN)/uv pip install --quiet --python $(BIN)/python --constraints constraints.txt --editable '.[mutants]'
	$(BIN)/python benchmarks/mutants.py run $(if $(MODULES),--modules $(MODULES))
	$(BIN)/python benchmarks/sabotages.py
	$(BIN)/python benchmarks/tried.py

reproduce: $(SETUP)
	$(BIN)/handpose reproduce

lab: $(SETUP)
	$(BIN)/jupyter lab notebooks

# Chapter 07 leaves the per-keypoint table that the README's plot is drawn from.
notebooks: $(SETUP)
	$(BIN)/python notebooks/run.py --store $(CHAPTER)
	$(if $(filter-out 7 07,$(CHAPTER)),,$(BIN)/handpose figures --results runs/results)

figures: $(SETUP)
	$(BIN)/handpose figures

web: $(SETUP)
	$(BIN)/handpose web --build

# Nothing is executed: chapters are shown as they are stored. What `make web` put together becomes the demo.
site: $(SETUP)
	$(BIN)/python -m sphinx -b html -W --keep-going -q -c docs -d build/doctrees . build/site
	@echo "the site's first page: build/site/index.html"

lint: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(SETUP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv runs
