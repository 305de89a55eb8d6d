# symfield: everything a newcomer or a maintainer runs, in one word each.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory --no-builtin-rules
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV ?= .venv
OUT ?= demo
JOBS ?= 2
PIP_FLAGS ?=
PYTEST_FLAGS ?=

BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test slow lint docs bench clean distclean

help: ## Show this list
	@echo "symfield: symmetry in neural networks"
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "Variables: PYTHON=python3.12  VENV=.venv  OUT=demo  JOBS=2  PIP_FLAGS=  PYTEST_FLAGS="

demo: $(READY)-demo ## Compute the teacher-student results and write a report (under three minutes)
	@$(BIN)/symfield run maass2024_laws --preset quick --jobs $(JOBS) --out $(OUT)
	@$(BIN)/symfield run maass2024_clouds --preset quick --jobs $(JOBS) --out $(OUT)
	@$(BIN)/symfield report maass2024_laws maass2024_clouds --out $(OUT)
	@echo "Open $(OUT)/report.html in a browser; it needs no network."

test: $(READY)-dev ## Run the tests (PYTEST_FLAGS="-k laws" for a part of them)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal $(PYTEST_FLAGS)

slow: $(READY)-dev ## Run the full statistical versions of the claims (minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal -m slow $(PYTEST_FLAGS)

lint: $(READY)-dev ## Check style, format, layers and types
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { echo "run '$(BIN)/ruff format' to put the files in shape" >&2; exit 1; }
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/mypy

docs: $(READY)-docs ## Build the documentation into site/, warnings as errors
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict 2>&1 | sed '/^INFO /d'  # --quiet would hide warnings from --strict
	@echo "documentation: site/index.html"

bench: $(READY)-bench ## Run the benchmarks, each beside its peers where they are installed
	@for script in benchmarks/*.py; do echo "== $$script"; OMP_NUM_THREADS=1 $(BIN)/python $$script; done

clean: ## Remove what was built, the folder demo/ and the caches (keeps the environment)
	@rm -rf build dist site demo .pytest_cache .ruff_cache .mypy_cache .hypothesis .benchmarks .import_linter_cache
	@find src tests benchmarks docs -type d -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## Remove the environment too
	@if [ -f '$(VENV)/pyvenv.cfg' ]; then rm -rf '$(VENV)'; fi

# The environment: one stamp for each set of extras, renewed when the requirements change.

$(READY):
	@command -v $(PYTHON) >/dev/null || \
	  { echo "symfield needs Python 3.11 or newer, and '$(PYTHON)' was not found: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "symfield needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1): make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(READY)-demo: EXTRAS :=
$(READY)-dev: EXTRAS := [dev]
$(READY)-docs: EXTRAS := [docs]
$(READY)-bench: EXTRAS := [bench]

$(READY)-%: pyproject.toml constraints.txt | $(READY)
	@echo "installing symfield$(EXTRAS) into $(VENV) ..."
	@$(BIN)/python -m pip install -qq $(PIP_FLAGS) -c constraints.txt -e '.$(EXTRAS)'
	@touch $@ $(READY)-demo
