# `make help` lists what there is. Everything happens in a virtual environment of its own.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: help demo serve test lint docs vendor screenshots fuzz soak bench bench-quick clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.tests-installed: $(VENV)/.installed
	$(PIP) -e '.[test,lint]'
	touch $@

# What cannot live in one environment has each its own: vendors' SDKs, the tool that fuzzes the API, a broker to
# compare with.
ALONE_tb := tb-mqtt-client==1.13.14 mmh3
ALONE_tb-gateway := thingsboard-gateway==3.8.5 python-dateutil==4.0.0
ALONE_tb-rest-42 := tb-rest-client==4.2.1
ALONE_tb-rest-44 := tb-rest-client==4.4
ALONE_tb-ce := tb-ce-client==4.4.0
ALONE_fuzz := schemathesis==4.32.5 openapi-spec-validator==0.9.0
ALONE_amqtt := amqtt==0.12.1
ALONE_aiocoap := aiocoap==0.4.17
ALONE_crossbar := crossbar==26.10.1
ALONE := tb tb-gateway tb-rest-42 tb-rest-44 tb-ce fuzz
ALONE_PYTHONS = $(foreach each,$(ALONE),$(shell echo $(each) | tr a-z- A-Z_)_PYTHON=$(CURDIR)/$(VENV)-$(each)/bin/python)

CONSTRAINTS := -c constraints.txt
# It wants an older idna than all else.
$(VENV)-crossbar/.installed: CONSTRAINTS :=

$(VENV)-%/.installed: constraints.txt
	$(PYTHON) -m venv $(VENV)-$*
	$(VENV)-$*/bin/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) $(ALONE_$*)
	touch $@

# What is no Python: programs of the system, each with the package that has it, and packages of npm.
FOREIGN := chromium:chromium mosquitto:mosquitto mosquitto_rr:mosquitto-clients curl:curl node:nodejs npm:npm \
	coap-client-notls:libcoap3-bin coap-client-openssl:libcoap3-bin coap-server-notls:libcoap3-bin \
	/usr/lib/postgresql/*/bin/initdb:postgresql
JS := tests/interop/js/node_modules/.installed

demo: $(VENV)/.installed  ## start a broker and a simulated device, call it, show what happens
	$(BIN)/rpcbroker demo

serve: $(VENV)/.installed  ## the same broker and device, and they stay
	$(BIN)/rpcbroker demo --stay

# Tests without processes, browsers and clocks of their own: many at once.
AT_ONCE := $(addprefix tests/,api core feed rules simulator store transports web wire) $(wildcard tests/test_*.py)

test: $(VENV)/.tests-installed $(ALONE:%=$(VENV)-%/.installed) $(JS) peers  ## install what the tests need, run them all
	$(BIN)/python -m pytest -m "not soak" -n auto $(AT_ONCE)
	$(ALONE_PYTHONS) $(BIN)/python -m pytest -m "not soak" $(AT_ONCE:%=--ignore=%)

.PHONY: foreign
foreign:
	@for each in $(FOREIGN); do \
		PATH=$$PATH:/usr/sbin command -v $${each%:*} >/dev/null || missing="$$missing $${each##*:}"; done; \
		test -z "$$missing" || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q $$missing; }

$(JS): tests/interop/js/package.json | foreign
	npm --prefix $(<D) install --silent --no-package-lock --no-audit --no-fund --ignore-scripts
	touch $@

vendor:  ## fetch the console's foreign modules from npm again, as they are pinned
	$(PYTHON) tools/vendor.py

screenshots: $(VENV)/.tests-installed $(JS)  ## make the docs' pictures of the console again
	SCREENSHOTS=1 $(BIN)/python -m pytest -m screenshots tests/console

fuzz: $(VENV)/.tests-installed $(VENV)-fuzz/.installed  ## fuzz the API for long, with a seed of its own
	FUZZ_EXAMPLES=100 $(ALONE_PYTHONS) $(BIN)/python -m pytest tests/interop/test_fuzz.py

soak: $(VENV)/.tests-installed  ## long fuzzing and many kills
	$(BIN)/python -m pytest -m soak

lint: $(VENV)/.tests-installed  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.docs-installed: $(VENV)/.installed
	$(PIP) -e '.[docs]'
	touch $@

docs: $(VENV)/.docs-installed  ## build the manual into docs/_build
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build

# What is measured beside the broker, each in an environment of its own.
BESIDE := amqtt aiocoap crossbar
BENCH = $(foreach each,$(BESIDE),$(shell echo $(each) | tr a-z A-Z)_PYTHON=$(CURDIR)/$(VENV)-$(each)/bin/python) $(BIN)/python bench/results.py $(if $(ONLY),--only $(ONLY))
BENCH_NEEDS := $(VENV)/.installed $(BESIDE:%=$(VENV)-%/.installed) peers

bench: $(BENCH_NEEDS)  ## measure everything, also beside other brokers; writes bench/RESULTS.md
	$(BENCH)

bench-quick: $(BENCH_NEEDS)  ## the same in a minute: what tells most, printed only
	$(BENCH) --quick

.PHONY: peers
peers:
	@command -v cc >/dev/null && { command -v mosquitto >/dev/null || test -x /usr/sbin/mosquitto; } && \
		command -v coap-server-notls >/dev/null && command -v openssl >/dev/null && \
		echo "#include <openssl/ssl.h>" | cc -E - >/dev/null 2>&1 || \
		{ $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q gcc libc6-dev libssl-dev openssl mosquitto libcoap3-bin; }

clean:  ## remove what was made here
	rm -rf $(VENV) $(ALONE:%=$(VENV)-%) $(BESIDE:%=$(VENV)-%) $(dir $(JS)) build dist docs/_build docs/_settings.md *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
