PYTHON ?= python3
BIN := .venv/bin
SECONDS ?= 600
.DEFAULT_GOAL := help
.PHONY: help run test lint audit format bench evaluate samples guide fuzz clean

help: ## Show these targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

run: .venv/installed ## Install what is missing and start the app on http://localhost:8501
	$(BIN)/python -m streamlit run app.py

test: .venv/installed-dev ## Run every test, those in a real browser too
	$(BIN)/python tests/e2e/browser.py --install
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: .venv/installed-dev ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive heritage pages scripts benchmarks app.py

audit: .venv/installed-dev ## Ask the advisory service about known holes in the libraries
	$(BIN)/pip-audit --requirement requirements.txt --requirement requirements-cluster.txt

format: .venv/installed-dev ## Put the code into its usual form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/installed-dev ## Print speed ratios against pytorch-grad-cam and TorchCAM
	$(BIN)/python benchmarks/heat_maps.py
	$(BIN)/python benchmarks/triage.py

evaluate: .venv/installed ## Score the checkpoints in weights/ on DATA=folder and rewrite their figures
	@test -n "$(DATA)" || { echo "name the labelled photos: make evaluate DATA=folder"; exit 2; }
	$(BIN)/python -m heritage evaluate "$(DATA)" --update-cards --heat-maps 60 --speed
	@# Where DATA are the photos that the cascade has learned from; else it says so (status 3).
	$(BIN)/python scripts/compare_cascade.py "$(DATA)" || test $$? = 3
	@# How well cracks are found, where DATA holds photos with masks.
	test ! -f "$(DATA)/localisation/manifest.csv" || $(BIN)/python -m benchmarks.localisation "$(DATA)" --update-cards
	$(BIN)/python scripts/write_figures.py

samples: .venv/installed-dev ## Draw the rendered sample photos anew
	$(BIN)/python scripts/make_samples.py

guide: .venv/installed-dev ## Take the screenshots of README and docs/guide.md anew
	$(BIN)/python scripts/make_guide.py

fuzz: .venv/installed-dev ## Fuzz the decoder and the ZIP reader for SECONDS=600, half of it each
	$(BIN)/python -m pip install --quiet 'atheris>=3,<4'
	$(BIN)/python tests/fuzz/fuzz_photos.py $$(( $(SECONDS) / 2 ))
	$(BIN)/python tests/fuzz/fuzz_zips.py $$(( $(SECONDS) / 2 ))

clean: ## Remove what make has installed
	rm -rf .venv

.venv/bin/python:
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 15) and sys.version_info[:3] != (3, 14, 1) or sys.exit("Heritage needs Python 3.11 to 3.14, and not 3.14.1: make PYTHON=python3.12 run")'
	$(PYTHON) -m venv .venv || { rm -rf .venv; echo "Python has no venv module: install it (Debian: python3-venv)"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/installed: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	@touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	@touch $@
