# make demo: set up .venv and train the default preset. make test: set up .venv and run the tests. Each works alone.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-slow test-browser browser test-distributed test-reliability reliability-faults reliability-input lint venv clean

demo: $(READY)
	$(BIN)/python -m trainer.run demo --overwrite

# A process a core, a thread each
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8

test: $(READY)
	$(PYTEST)

# Whole runs, exports of every family, servers, a browser: under 15 minutes on two cores
test-slow: $(READY)
	$(PYTEST) -m "slow and not reliability and not distributed"

# One to four processes that train together, one test after the other: under 10 minutes on two cores
test-distributed: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m distributed tests/distributed

# Without a Chromium the tests of pages are skipped
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null 2>&1 || { test "$$(id -u)" = 0 && \
		apt-get update --quiet && apt-get install --yes --no-install-recommends chromium; } || { echo "error: no Chromium found. On Debian: \
	sudo apt-get install chromium. Else install Chromium or Chrome so that it is on PATH." >&2; exit 2; }

test-browser: $(READY) browser
	$(BIN)/python -m pytest -m browser

# Every fault and every bad input of docs/reliability.md: about a quarter of an hour on two cores, a thread each
REPORT := $(CURDIR)/build/reliability.jsonl
RELIABILITY := OMP_NUM_THREADS=1 RELIABILITY_REPORT="$(REPORT)" $(BIN)/python -m pytest -q -m "" -p no:cacheprovider

test-reliability: $(READY)
	@mkdir -p build && rm -f "$(REPORT)"
	@status=0; $(MAKE) --keep-going --jobs 2 --output-sync=target reliability-faults reliability-input || status=1; \
		$(BIN)/python -m scripts.checks.reliability_summary "$(REPORT)" || status=1; exit $$status

reliability-faults:
	$(RELIABILITY) tests/reliability/test_faults*.py tests/trainer/rundir/checkpoints/test_saving.py tests/distributed/test_lost_processes.py

reliability-input:
	$(RELIABILITY) tests/reliability/test_refused*.py tests/reliability/test_dropped*.py tests/reliability/test_fuzz*.py tests/trainer/test_resume.py tests/scripts/test_verify_run.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy

venv: $(READY)

$(READY): setup.cfg pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python >= 3.11 found. Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "error: $(PYTHON) is not a Python >= 3.11. Name another: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "error: $(PYTHON) has no venv module. On Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[synthetic,serve,onnx,s3,dev]"
	@touch $@

clean:
	rm -rf .venv cache build *.egg-info .pytest_cache .mypy_cache .ruff_cache
