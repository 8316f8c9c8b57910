# Two commands need nothing but Python 3.11+, make and pip: `make demo` and `make test`.
# Both may be run again at once; the virtual environment is made when pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
LINKS := build/links/stepstream
# Bytecode is kept, whatever the environment says: tests start dozens of processes, and each would compile anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test processes check chaos browser pictures api sdk example-sdk examples model storm mutations bench docs site clean

$(STAMP): pyproject.toml
	@echo "setting up .venv (once) …"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || (echo "Stepstream needs Python 3.11 or newer; call make PYTHON=python3.12"; exit 1)
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[contributing]'
	@mkdir -p $(LINKS)  # the tree as it is installed, for pyright and editors: they do not read package-dir
	@for one in bus checkpoint producers consumers web; do ln -sfn ../../../$$one $(LINKS)/$$one; done
	@for one in __init__.py __main__.py testing.py py.typed; do ln -sfn ../../../stepstream/$$one $(LINKS)/$$one; done
	@# compiled once, and not by each process of the first `make test`
	@$(BIN)/python -m pytest --collect-only -q >/dev/null || true
	@touch $(STAMP)

demo: $(STAMP)  ## bus dev with plushify, its gallery and eight photos; EXIT=1 ends when they have
	@$(BIN)/python -m examples.demo $(if $(EXIT),--exit)

# Most tests wait for a worker, not for a core: so they run in more processes than there are cores, forks of one that
# has collected them (tests/side_by_side.py). SERVERS=each runs all of them on Debian's Redis 7 too, not only those of
# which the server makes a difference.
JOBS ?= 8
CHAOS_JOBS ?= 6
test: $(STAMP)  ## unit, redis, system, guide and example tests
	@TEST_SERVERS=$(SERVERS) $(BIN)/python -m pytest --forks $(JOBS) $(ARGS)

processes: $(STAMP)  ## the tests whose claim is a process: bus dev, bus worker, commands and signals, pytest in a user's folder
	@$(BIN)/python -m pytest --forks 3 -m process $(ARGS)

check: $(STAMP)  ## format, lint, types, what type checkers say of users' code, the wheel in a project of its own
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright
	@$(BIN)/python -m pytest -q -m check $(ARGS)

TIMES ?= 20
chaos: $(STAMP)  ## the tests that kill processes; each fault TIMES times, CHAOS_SEED=n repeats one
	@TEST_SERVERS=$(SERVERS) CHAOS_TIMES=$(TIMES) $(BIN)/python -m pytest --forks $(CHAOS_JOBS) -m chaos $(ARGS)

browser: $(STAMP)  ## the tests that drive Chromium
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[contributing,browser]'
	@$(BIN)/python -m pytest -m browser $(ARGS)

api: $(STAMP)  ## schemathesis asks a running site whether what GET /openapi.json says is true
	@$(BIN)/python -m tests.openapi.environment
	@$(BIN)/python -m pytest -q -m api tests/openapi $(ARGS)

pictures: $(STAMP)  ## the pictures of the page in docs/, taken anew
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[contributing,browser]'
	@$(BIN)/python -m docs.make_pictures
	@$(BIN)/python -m docs.make_trace

sdk: $(STAMP)  ## applications of the official SDKs (npm, PyPI) as real processes; CORE=1: what they do, without their options
	@$(BIN)/python -m tests.sdk.sdks
	@$(if $(CORE),,! which npm >/dev/null || $(BIN)/python -m examples.sdk.projects)
	@# what a test lacks is said now, also of those that CORE leaves out
	@! $(BIN)/python -m pytest -q --setup-plan -m sdk tests/sdk 2>&1 | grep -E '^ERROR|fixture .* not found'
	@$(if $(CORE),SDK_CORE=1) $(BIN)/python -m pytest -q --forks 4 -m sdk $(if $(CORE),tests/sdk/test_steps.py tests/sdk/test_keys.py,tests/sdk) $(ARGS)

examples: $(STAMP)  ## the example projects from their own folders against the installed wheel: tests, types, criteria; ARGS=NAME
	@$(BIN)/python -m examples.check $(ARGS)

example-sdk: $(STAMP)  ## bus dev, with an application of the official TypeScript SDK and one of the Python SDK
	@$(BIN)/python -m examples.sdk.start

example-sdk-%: $(STAMP)  ## bus dev, with an application of examples/sdk/apps: make example-sdk-plushify
	@$(BIN)/python -m examples.sdk.start $*

example-%: $(STAMP)  ## start an example project: make example-clover-dashboard
	@$(BIN)/python -m examples.start $*

storm: $(STAMP)  ## 10,000 runs under hundreds of kills; CHAOS_SEED=n repeats one
	@CHAOS_SCALE=$${CHAOS_SCALE:-10} $(BIN)/python -m pytest -m chaos -s tests/chaos/test_storm.py tests/chaos/test_gale.py tests/chaos/test_remote.py tests/chaos/test_poison.py tests/chaos/test_races.py tests/chaos/test_limits.py

model: $(STAMP)  ## 10,000 interleavings of the scripts against a model of the design
	@MODEL_EXAMPLES=$${MODEL_EXAMPLES:-10000} $(BIN)/python -m pytest tests/redis/test_model.py -k valkey

mutations: $(STAMP)  ## break each rule in turn; the tests must notice
	@$(BIN)/python -m tests.mutations

bench: $(STAMP)  ## this engine beside the raw floor of the same server, and what a finished run keeps
	@$(BIN)/python -m bench.spine
	@$(BIN)/python -m bench.limits
	@$(BIN)/python -m bench.operations
	@$(BIN)/python -m bench.memory

docs: $(STAMP)  ## the pages that are made: docs/keys.md, docs/guide.md from tests/guide, docs/reference
	@$(BIN)/python -m docs.make_pages

site: $(STAMP)  ## the documentation as a site in build/site; a link or anchor that leads nowhere stops it
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[contributing,docs]'
	@$(BIN)/python -m docs.make_site
	@# not --quiet: warnings that are not told are not counted, and then nothing is strict
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -f docs/mkdocs.yml
	@$(BIN)/python -m docs.make_site --built
	@echo "read it: $(BIN)/python -m http.server -d build/site -b 127.0.0.1 8000"

clean:
	rm -rf .venv .bus build *.egg-info
