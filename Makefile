# Two commands, on a machine that has only Python 3.11+, make and git:
#
#   make draw     a picture of two characters, drawn by the model in the package
#   make test     the tests that need no GPU
#
# and for those who change the code: make check, make docs, make test-long, make test-batch,
# make test-server, make test-wild.

VENV    ?= .venv
PROMPT  := examples/two_characters.xml
PICTURE := out/two_characters.png

PYTHON  := $(VENV)/bin/python
INSTALL := $(PYTHON) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PACKAGE := $(shell find src/sakuga -type f -not -path '*/__pycache__/*')

.PHONY: help draw test test-long test-wild test-batch test-server check docs
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# \{0,1\}//; 1,7p' Makefile

draw: $(VENV)/.installed-draw
	@if $(MAKE) --no-print-directory --question $(PICTURE); then \
		echo "$(PICTURE) is up to date: prompt, model and code are as when it was drawn."; \
	else \
		$(MAKE) --no-print-directory $(PICTURE); \
	fi

$(PICTURE): $(PROMPT) $(PACKAGE) | $(VENV)/.installed-draw
	@mkdir -p $(@D)
	@$(VENV)/bin/sakuga draw $(PROMPT) --seed 8 --out $@ --force

test: $(VENV)/.installed-test
	@scripts/test

# All of it: what takes long, and every example.
test-long: $(VENV)/.installed-test
	@scripts/test-long

# Against real files, which it fetches (500 MB); not part of the tests.
test-wild: $(VENV)/.installed-test
	@scripts/test-wild

# Kills at 300 points of a batch, about ten minutes; the tests have a few of them.
test-batch: $(VENV)/.installed-test
	@scripts/test-batch

# Against clients of other people, faults and clocks; not part of the tests.
test-server: $(VENV)/.installed-test
	@scripts/test-server

check: $(VENV)/.installed-test
	@scripts/check

docs: $(VENV)/.installed-test
	@scripts/docs

# A stamp is as new as what it was installed from, so nothing is installed twice.
$(VENV)/.installed-draw: pyproject.toml constraints.txt | $(PYTHON)
	@echo "Installing sakuga into $(VENV) (a few minutes the first time) ..."
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(PYTHON)
	@echo "Installing sakuga and its test tools into $(VENV) (a few minutes the first time) ..."
	@$(INSTALL) --editable '.[test]'
	@$(INSTALL) --no-deps spandrel einops  # without torchvision, which wants the torch it was built for
	@touch $@ $(VENV)/.installed-draw

$(PYTHON):
	@scripts/venv $(VENV)
