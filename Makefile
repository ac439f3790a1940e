# Everything here needs Go and make, nothing else. `make` lists the targets.
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  = -X main.version=$(VERSION)
BINARY   = bin/outboxie

# The race detector needs a C compiler (not on macOS); RACE= switches it off.
RACE    ?= $(if $(shell command -v cc || command -v gcc || command -v clang),-race)
LINT     = $(GO) tool -modfile=tools/go.mod golangci-lint

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@echo "usage: make TARGET [ARGS=…]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: build ## Postgres, NATS, API, relay and a subscriber in one process, data in .outboxie/; e.g. ARGS="--subscribers 2 --fresh"
	@exec $(BINARY) dev $(ARGS)

.PHONY: build
build: ## compile bin/outboxie
	@test -e $(BINARY) || echo "Compiling for the first time: this takes a few minutes, later runs start within seconds."
	@$(GO) build -ldflags '$(LDFLAGS)' -o $(BINARY) ./cmd/outboxie

.PHONY: test
test: ## every test, against Postgres and NATS that the tests start; with the race detector if there is a C compiler
	@test -n "$(RACE)" || echo "No C compiler: testing without the race detector."
	$(GO) test $(RACE) $(ARGS) ./...
	@if [ -n "$(RACE)" ]; then echo "the relay's model once more, with its full number of lives"; $(GO) test $(ARGS) ./internal/app/relay; fi

DURATION ?= 60s
SEED     ?= 0

.PHONY: chaos
chaos: ## kills, cuts and stalls everything under load for DURATION=60s, then checks; SEED=… repeats a schedule of faults
	$(GO) test ./test/chaos -run TestChaos -count=1 -timeout 0 -v -duration=$(DURATION) -seed=$(SEED) $(ARGS)

.PHONY: bench
bench: ## drain rate against raw batches, and latency; takes about a minute, best on a calm machine
	$(GO) test ./test/bench -run TestFigures -count=1 -timeout 10m -v -full $(ARGS)

.PHONY: requests
requests: ## 10,000 random requests made from openapi.yaml (`make test` makes 3,000)
	$(GO) test ./test/random -count=1 -v -rapid.checks=10000 $(ARGS)

FUZZTIME ?= 30s

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (30s); a finding ends it, and is kept in testdata/fuzz for `make test`
	@targets=$$(grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9]+' internal | sed 's/:func /:/' | sort); \
	test -n "$$targets" || { echo "There is nothing to fuzz." >&2; exit 1; }; \
	for target in $$targets; do \
		echo "$${target##*:} of $${target%/*}, for $(FUZZTIME)"; \
		$(GO) test "./$${target%/*}" -run '^$$' -fuzz "^$${target##*:}\$$" -fuzztime $(FUZZTIME) $(ARGS) || exit 1; \
	done

.PHONY: lint
lint: ## vet, golangci-lint, generated code up to date, go.mod and go.sum tidy
	$(GO) vet ./...
	$(LINT) run
	@stamp() { find . -name '*.gen.go' ! -path './.*' | sort | xargs cksum; }; \
	before=$$(stamp) && $(GO) generate ./... && \
	if [ "$$before" != "$$(stamp)" ]; then echo "Generated code was out of date; it is up to date now: commit it." >&2; exit 1; fi
	$(GO) mod tidy -diff
	$(GO) -C tools mod tidy -diff

.PHONY: format
format: ## gofumpt and the order of imports, as lint wants them
	$(LINT) fmt

.PHONY: generate
generate: ## generate code anew from openapi.yaml
	$(GO) generate ./...

EXPLORER = openapi-explorer@2.4.820

.PHONY: docs-page
docs-page: ## fetch anew, with npm, what the page at /docs is made of
	@folder=$$(mktemp -d) && npm pack --silent --pack-destination $$folder $(EXPLORER) >/dev/null && \
	tar -xzf $$folder/*.tgz -C $$folder && cd internal/adapters/httpapi/docs && \
	cp $$folder/package/dist/browser/openapi-explorer.min.js . && \
	cp $$folder/package/LICENSE openapi-explorer.LICENSE && rm -r $$folder

.PHONY: ci
ci: lint build test chaos ## what continuous integration runs

.PHONY: clean
clean: ## remove bin/ and the data of `make run`; stop it first
	rm -rf bin .outboxie
