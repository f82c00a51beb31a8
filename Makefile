# make verify: one true verdict on the reference setup.   make test: everything that CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP ?= fixtures/setups/reference.toml

# A run starts a dozen processes of Python: what is compiled once for all of them is kept, whatever this shell says.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := verify
.PHONY: constraints verify test processes beside-processes unit e2e e2e-engine e2e-rest e2e-judged-processes e2e-judged-containers scenarios scenarios-nginx scenarios-haproxy images containers containers-nginx containers-haproxy containers-swarm mutants containers-mutants check fix clean bench balancers guide_verdict frameworks sample

# Two stamps: to verify needs no linter, and a newcomer should not wait for one.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[native]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[native,docker,load,dev]'
	touch $@

constraints: $(VENV)/.installed-dev
	(head -1 constraints.txt; $(BIN)/python -m pip freeze --exclude-editable --exclude pip --exclude setuptools) > constraints.new
	mv constraints.new constraints.txt

verify: $(VENV)/.installed
	$(BIN)/harness verify $(SETUP)

# Two streams, since there may be but two cores: with three, tests of our own are late. What judges setups of processes under
# traffic has the cores first (`LATER` gives way to it); what only starts and stops things, and mostly waits for them, or starts
# nothing, is done beside it. What judges setups in containers has the machine for itself: an engine shares the cores among all
# containers as if they were one process.
LATER := nice -n 10
test:
	$(MAKE) --jobs 2 --output-sync=target processes beside-processes
	$(MAKE) e2e-judged-containers
	$(MAKE) containers-haproxy
	$(MAKE) containers-nginx
	$(MAKE) containers-swarm

# So many that each promise is seen to fail which any of them breaks, but for those that take longest because they and a twin of
# their own are replaced under traffic, and HAProxy's. `make mutants` has them all.
SOME_MUTANTS := $(addprefix --only ,'!haproxy-*' '!behind-haproxy-*' '!listener-closed-early' '!no-health-check' '!hang-not-noticed' \
	'!events-kept' '!killed-before-longest' '!session-format-upgraded' \
	'!trouble-in-log' '!cold-at-first' '!ready-before-warm-up' '!switched-before-ready' '!left-set-cut' '!half-at-once' '!secret-at-boot' \
	'!bound-by-address' '!first-forwarded-for' '!leavers-not-told' '!login-state-in-memory' '!logout-cookie-only' '!notice-cached' \
	'!other-version' '!private-pages-cached' '!ready-while-stopping' '!redirect-loses-posts' '!reload-patience-too-short' \
	'!secret-per-instance' '!session-counter-read-modify-write' '!session-ttl-differs' '!store-not-reached' '!streams-kept' \
	'!wrong-weight')

processes:
	$(MAKE) mutants MUTANTS="$(SOME_MUTANTS)"
	$(MAKE) scenarios
	$(MAKE) e2e-judged-processes
	$(MAKE) e2e-rest

beside-processes:
	$(LATER) $(MAKE) check
	$(LATER) $(MAKE) images
	$(LATER) $(MAKE) unit
	$(LATER) $(MAKE) e2e-engine

images: $(VENV)/.installed-dev
	.ci/containers $(BIN) images

unit: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests --ignore=tests/e2e --numprocesses 2

e2e: e2e-engine e2e-rest e2e-judged-processes e2e-judged-containers

e2e-engine: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/e2e -m 'engine and not judged' --durations 10

e2e-rest: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/e2e -m 'not engine and not judged' --numprocesses 2 --dist loadfile --durations 10

e2e-judged-processes: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/e2e -m 'judged and not engine' --numprocesses 2 --dist load --durations 10

e2e-judged-containers: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/e2e -m 'judged and engine' --durations 10

# Every promise is judged natively and in containers, behind nginx and behind HAProxy, with TLS and without, but not in each
# combination of these: all of them in containers behind HAProxy, and natively by the twins of the mutants; with TLS, and in
# containers behind nginx, what differs there.
OF_TLS := $(addprefix --promise ,instances.answer session.every-instance cookie.flags distribution.complete failover.kill rollout.rolling \
	shutdown.streams lb.reload lb.kill ws.fanout 'tls.*' 'headers.*' 'edge.*')
OF_CONTAINERS := $(addprefix --promise ,instances.answer failover.partition failover.new-address rollout.rolling lb.reload lb.kill)

# The reference setup itself is the healthy twin of most mutants, and judged by as much.
scenarios:
	$(MAKE) --jobs 2 --output-sync=target scenarios-nginx scenarios-haproxy

scenarios-nginx: $(VENV)/.installed-dev
	$(BIN)/python -m pytest scenarios --setup fixtures/setups/reference-tls.toml $(OF_TLS)

scenarios-haproxy: $(VENV)/.installed-dev
	$(BIN)/python -m pytest scenarios --setup fixtures/setups/reference-haproxy-tls.toml $(OF_TLS)

containers:
	$(MAKE) containers-nginx
	$(MAKE) containers-haproxy
	$(MAKE) containers-swarm
	$(MAKE) containers-mutants

containers-nginx: $(VENV)/.installed-dev
	.ci/containers $(BIN) scenarios docker fixtures/setups/reference.toml $(OF_CONTAINERS)

containers-haproxy: $(VENV)/.installed-dev
	.ci/containers $(BIN) scenarios docker fixtures/setups/reference-haproxy.toml

containers-swarm: $(VENV)/.installed-dev
	.ci/containers $(BIN) scenarios swarm fixtures/setups/reference.toml

containers-mutants: $(VENV)/.installed-dev
	.ci/containers $(BIN) mutants

mutants: $(VENV)/.installed-dev
	$(BIN)/harness mutants $(MUTANTS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Each can be run alone: python benchmarks/boot.py --quick. What is only compared with is no dependency of anything here.
bench: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt aiohttp
	$(BIN)/python benchmarks/performance.py > docs/performance.new
	mv docs/performance.new docs/performance.md

balancers: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/balancers.py > docs/balancers.new
	mv docs/balancers.new docs/balancers.md

guide_verdict: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/guide_verdict.py > docs/guide-verdict.new
	mv docs/guide-verdict.new docs/guide-verdict.md

# Small applications of Django, Flask, Express and Go, with packages from their registries: about a quarter of an hour.
frameworks: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/frameworks.py > docs/frameworks.new
	mv docs/frameworks.new docs/frameworks.md

# The reports that are kept to look at: of the reference setup and of one mutant, with their pictures for the README.
sample: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/sample.py

# What dead runs left (processes, folders), then what was built here.
clean:
	if [ -x $(BIN)/harness ]; then $(BIN)/harness clean; fi
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache *.egg-info
