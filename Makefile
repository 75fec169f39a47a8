# Needs python3 (3.11 or newer) and nothing else: the environment is made in .venv on first use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PHOTO ?=
CONTENT ?=
STYLE ?= starry_night

.PHONY: demo test check bench ablation clean

demo: $(VENV)/demo.stamp  ## restyle a bundled photo, or PHOTO=..., with STYLE=...
	$(BIN)/python scripts/demo.py --style $(STYLE) $(if $(PHOTO),"$(PHOTO)")

test: $(VENV)/dev.stamp  ## every test, in minutes
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

check: $(VENV)/dev.stamp  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/dev.stamp  ## time instance norm and the network on this machine
	$(BIN)/python scripts/bench_instance_norm.py

ablation: $(VENV)/dev.stamp  ## STYLE=painting.jpg with three norms, small, in minutes
	@test -f "$(STYLE)" || { echo "make ablation STYLE=painting.jpg [CONTENT=photos/]: no file $(STYLE)" >&2; exit 2; }
	$(BIN)/stylize ablate --style "$(STYLE)" $(if $(CONTENT),--content "$(CONTENT)") \
		--steps 100 --size 128 --seeds 2 --set held_out_photos=8

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis demo

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# Each stamp is newer than pyproject.toml when the environment fits it.
$(VENV)/demo.stamp: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	touch $@

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ $(VENV)/demo.stamp
