# Everything a person types is a target with a `##` line: make help

PORTS ?=
ONCE ?=
WORKERS ?=
CONCURRENCY ?=
ARGS ?=
DURATION ?= 60
QUICK ?=
SEED ?=

VENV := .venv
RUN := $(VENV)/bin/python
CLIENTS ?= var/clients
DESCRIPTION := clients/openapi.json
DESCRIBE = $(RUN) manage.py spectacular --format openapi-json --validate --fail-on-warn
REQUIREMENTS := requirements/base.txt requirements/embedded.txt
UP := $(if $(PORTS),--ports $(PORTS)) $(if $(ONCE),--once) $(if $(WORKERS),--workers $(WORKERS)) \
	$(if $(CONCURRENCY),--concurrency $(CONCURRENCY)) $(ARGS)

# A name on PATH may be a shim that fails, or a Python without `venv`: the first that proves itself.
define find_python
for name in $(PYTHON) python3.12 python3.11 python3 python; do \
	if "$$name" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
		>/dev/null 2>&1; then found="$$name"; break; fi; \
done; \
if [ -z "$$found" ]; then \
	echo "error: needs Python 3.11 or 3.12 with its venv module on PATH, or PYTHON=/path/to/python" >&2; \
	exit 1; \
fi
endef

# uv where it is there (seconds), pip otherwise; the hashes are checked by both.
define install
if command -v uv >/dev/null 2>&1 \
	&& uv pip install --quiet --python $(RUN) --require-hashes $(foreach file,$(1),-r $(file)); \
then :; else \
	$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes $(foreach file,$(1),-r $(file)); \
fi
endef

.DEFAULT_GOAL := help
.PHONY: help run install tracing test test-system test-chaos chaos bench check audit openapi dashboards clients format requirements \
	clean
.DELETE_ON_ERROR:

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[36m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make run PORTS=+100 shifts every port, ONCE=1 stops after the report,"
	@echo "  WORKERS=2 CONCURRENCY=4 size it; DATABASE_URL and REDIS_URL replace the embedded servers."

run: $(VENV)/.installed ## Start everything on this machine and make the sample report; Ctrl-C stops it
	@$(RUN) manage.py up $(UP)

install: $(VENV)/.installed ## Create .venv with what the platform needs

tracing: $(VENV)/.installed ## Add OpenTelemetry, for OTEL_EXPORTER_OTLP_ENDPOINT
	@$(call install,$(REQUIREMENTS) requirements/tracing.txt)

test: $(VENV)/.installed-dev ## Run the tests, unit to acceptance
	@$(RUN) -m pytest tests/unit tests/architecture tests/integration tests/acceptance $(ARGS)

test-system: $(VENV)/.installed-dev ## Watch a running platform by Prometheus while its parts fail; needs prometheus, alertmanager
	@$(RUN) -m pytest tests/system $(ARGS)

test-chaos: $(VENV)/.installed-dev ## Kill, freeze and cut off real processes at every crash point
	@$(RUN) -m pytest -s tests/chaos $(ARGS)

chaos: $(VENV)/.installed-dev ## Soak: load while everything is killed, DURATION=60 seconds, SEED=N
	@$(RUN) -m tests.chaos.soak --duration $(DURATION) $(if $(SEED),--seed $(SEED)) $(ARGS)

bench: $(VENV)/.installed-dev ## Measure beside plain Celery; QUICK=1 in two minutes, exit 1 on a missed target
	@found=0; $(RUN) -m tests.bench $(if $(QUICK),--quick) $(if $(SEED),--seed $(SEED)) $(ARGS) || found=$$?; \
	$(if $(QUICK)$(ARGS),,$(RUN) -m tests.bench growth || found=$$?;) exit $$found

check: $(VENV)/.installed-dev ## Check format, lint, types, security, import contracts and migrations
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy .
	$(RUN) -m bandit -q -c pyproject.toml -r config orchestration departments engine manage.py
	$(RUN) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()'
	$(RUN) manage.py check
	$(RUN) manage.py makemigrations --check --dry-run
	@$(DESCRIBE) | cmp -s - $(DESCRIPTION) || { echo "error: $(DESCRIPTION) is not the API's: make openapi" >&2; exit 1; }

openapi: $(VENV)/.installed-dev ## Write clients/openapi.json anew after a change of the API
	@$(DESCRIBE) > $(DESCRIPTION).new && mv $(DESCRIPTION).new $(DESCRIPTION)

dashboards: $(VENV)/.installed-dev ## Write deploy/observability/grafana/*.json anew after a change of their code
	@$(RUN) -m deploy.observability.dashboards

clients: $(VENV)/.installed-dev ## Generate the Python client and the TypeScript types into CLIENTS=var/clients; needs npm
	@command -v npm >/dev/null || { echo "error: needs npm on PATH for the TypeScript types" >&2; exit 1; }
	@rm -rf $(CLIENTS)/python $(CLIENTS)/typescript && mkdir -p $(CLIENTS)
	@$(VENV)/bin/openapi-python-client generate --path $(DESCRIPTION) --config clients/python.yml \
		--output-path $(CLIENTS)/python >/dev/null
	@cp -R clients/typescript $(CLIENTS)/typescript && cp $(DESCRIPTION) $(CLIENTS)/typescript/
	@cd $(CLIENTS)/typescript && npm ci --silent --no-audit --no-fund && npm run --silent generate && npm run --silent check
	@echo "  $(CLIENTS)/python: pip install it; $(CLIENTS)/typescript/api.d.ts: import it, smoke.ts shows how"

audit: $(VENV)/.installed-dev ## Look every required package up among known vulnerabilities; needs the advisory service
	@$(RUN) -m tests.audit $(REQUIREMENTS) requirements/dev.txt

format: $(VENV)/.installed-dev ## Format the code
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

requirements: $(VENV)/.installed-dev ## Compile requirements/*.in to hashed *.txt (UPGRADE=1 for newer versions)
	@constraint=; for name in base embedded tracing dev; do \
		$(RUN) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
			--no-emit-index-url --custom-compile-command "make requirements" \
			$(if $(UPGRADE),--upgrade) $$constraint -o requirements/$$name.txt requirements/$$name.in \
			|| exit 1; \
		constraint="$$constraint --constraints requirements/$$name.txt"; \
	done

clean: ## Remove .venv and caches; the data in var/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './var/*' -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(find_python); rm -rf $(VENV); "$$found" -m venv $(VENV)

$(VENV)/.installed: $(REQUIREMENTS) | $(VENV)/bin/python
	@echo "  Installing into $(VENV), once …"
	@$(call install,$(REQUIREMENTS))
	@touch $@

$(VENV)/.installed-dev: requirements/dev.txt $(VENV)/.installed
	@$(call install,$(REQUIREMENTS) requirements/dev.txt)
	@touch $@
