# Every target needs Go and make. If a target needs Docker too, its help text says so. `make` lists the targets.
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  = -X main.version=$(VERSION)
BINARY  ?= bin/outboxie
PLAYGROUND = $(dir $(BINARY))playground

# The race detector needs a C compiler (not on macOS); RACE= switches it off.
RACE    ?= $(if $(shell command -v cc || command -v gcc || command -v clang),-race)
LINT     = $(GO) tool -modfile=tools/go.mod golangci-lint

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@echo "usage: make TARGET [ARGS=…]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-23s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "variables: POSTGRES_PORT, NATS_PORT, JAEGER_PORT, OTLP_PORT, PROMETHEUS_PORT, GRAFANA_PORT (of infra-up, and of what runs on it), RACE, GO"

.PHONY: run
run: build ## Postgres, NATS, an instance and a subscriber, with data in .outboxie/; e.g. ARGS="--subscribers 2 --fresh"
	@exec $(PLAYGROUND) run $(ARGS)

.PHONY: build
build: ## compile bin/outboxie, the service, and bin/playground, which shows it
	@test -e $(BINARY) || echo "Compiling for the first time: this takes a few minutes, later runs start within seconds."
	@$(GO) build -ldflags '$(LDFLAGS)' -o $(BINARY) ./cmd/outboxie
	@$(GO) build -o $(PLAYGROUND) ./cmd/playground

.PHONY: demo
demo: build ## see delivery, leader election, fail-over and fan-out, and have them checked; in Docker if an engine answers
	@if docker version >/dev/null 2>&1; then \
		echo "A Docker engine answers, so the demo runs in containers (without: make demo-local)."; exec $(PLAYGROUND) demo --docker $(ARGS); \
	else \
		echo "No Docker engine answers, so the demo runs as processes."; exec $(PLAYGROUND) demo $(ARGS); \
	fi

.PHONY: demo-local
demo-local: build ## the demo as processes, on a Postgres and a NATS of its own; ARGS=--stay leaves it running until Ctrl-C
	@exec $(PLAYGROUND) demo $(ARGS)

# On the infrastructure: Postgres and NATS on their usual ports, in Docker with Jaeger if an engine answers.
export VERSION BINARY PLAYGROUND POSTGRES_PORT NATS_PORT JAEGER_PORT OTLP_PORT PROMETHEUS_PORT GRAFANA_PORT INFRA_DATA

.PHONY: infra-up
infra-up: build ## Postgres on 5432, NATS on 4222, Jaeger on 16686, in Docker; without an engine Postgres and NATS in the background
	@docker/infra.sh up

.PHONY: infra-down
infra-down: ## stop what infra-up started, and what runs on it in Docker; the data is kept
	@docker/infra.sh down

.PHONY: run-example
run-example: infra-up ## one instance on 8080, on infra-up
	@docker/processes.sh serve app=8080

.PHONY: run-subscriber
run-subscriber: infra-up ## one subscriber, on infra-up
	@docker/processes.sh subscribe subscriber1

.PHONY: run-distributed
run-distributed: infra-up ## three instances on 8081, 8082 and 8083, on infra-up
	@docker/processes.sh serve app1=8081 app2=8082 app3=8083

.PHONY: run-subscribers
run-subscribers: infra-up ## three subscribers, on infra-up
	@docker/processes.sh subscribe subscriber1 subscriber2 subscriber3

.PHONY: docker-build
docker-build: build ## the image, and a key for tokens of its API; then `docker compose up` runs all of the distributed set-up; needs Docker
	@docker/infra.sh key
	@docker/infra.sh compose build

.PHONY: docker-stop-distributed
docker-stop-distributed: ## stop the distributed set-up and its infrastructure; the data is kept; needs Docker
	@docker/infra.sh compose down

# `make ci` runs these tests alone on the machine, one after the other, in test-pauses, bench-short and chaos.
PAUSES  = TestHandovers|TestStalledLeader|TestKilledLeaders|TestRestartedUnderItsOwnName|TestPagesWithManyUndecidedEvents|TestBrokerRestartsKeepTheLeader|TestLeaderThatReconnects
APART   = $(if $(filter ci,$(MAKECMDGOALS) $(FOR)),-skip '^(TestFigures|TestChaos|$(PAUSES))$$')

.PHONY: test
test: ## every test, against Postgres and NATS that the tests start; with the race detector if there is a C compiler
	@test -n "$(RACE)" || echo "No C compiler: testing without the race detector."
	@$(MAKE) --no-print-directory --keep-going --jobs=2 test-postgres test-others FOR="$(MAKECMDGOALS)"
	@if [ -n "$(RACE)" ] && [ -z "$(APART)" ]; then $(MAKE) --no-print-directory test-models; fi

.PHONY: test-postgres
test-postgres: ## the tests of the Postgres adapter, which take as long as all others
	$(GO) test $(RACE) -timeout 25m $(ARGS) ./internal/adapters/postgres

.PHONY: test-others
test-others: ## the tests in test/, without the race detector, which does not see the processes that they start; then the tests beside the code
	$(GO) test -timeout 25m $(APART) $(ARGS) ./test/e2e ./test/...
	@$(MAKE) --no-print-directory test-kubernetes
	$(GO) test $(RACE) -timeout 25m $(ARGS) $$($(GO) list ./internal/... ./cmd/... ./migrations/... | grep -v /internal/adapters/postgres$$)

.PHONY: test-kubernetes
test-kubernetes: ## docker/kubernetes, built by kustomize and decoded strictly with the types of the Kubernetes API, offline
	$(GO) -C tools/kubernetes test ./...

.PHONY: test-pauses
test-pauses: ## how long delivery pauses when a leader stops, is killed or freezes, and large pages take; best on a calm machine; three minutes
	$(GO) test -timeout 10m -count=1 -run '^($(PAUSES))$$' $(ARGS) ./test/e2e

.PHONY: test-models
test-models: ## the models of relay and subscriber with their full number of runs, without the race detector, which makes them slow
	nice -n 19 $(GO) test $(ARGS) ./internal/app/relaying ./internal/app/subscribing

# The packages whose tests start no server.
QUICK = ./internal/domain/... ./internal/ports/... ./internal/app/... ./internal/config/... ./outboxietest/checker/... \
	./internal/adapters/codec ./internal/adapters/memory ./internal/adapters/console ./internal/adapters/printable ./internal/adapters/wording ./migrations ./test/arch ./test/contract

.PHONY: check
check: lint build ## before a push: lint, and the tests that start no server; some minutes. Then `make test`
	$(GO) test $(ARGS) $(QUICK)

.PHONY: test-examples
test-examples: ## examples/billing, a module of its own: tidy, vet, lint, and its tests with a short chaos run; under two minutes
	$(GO) -C examples/billing mod tidy -diff
	$(GO) -C examples/billing vet ./...
	$(GO) -C examples/billing test $(RACE) -timeout 10m $(ARGS) ./...
	cd examples/billing && $(GO) tool -modfile=../../tools/go.mod golangci-lint run --config ../../.golangci.yml

.PHONY: test-alerts
test-alerts: ## alerts, each provoked and repaired, and the dashboard, in a real Prometheus (Debian: prometheus); two minutes
	$(GO) test ./test/e2e -run '^Test(Alerts|Dashboard)' -count=1 -parallel 8 -timeout 10m -prometheus $(ARGS)

.PHONY: test-with-infra
test-with-infra: build ## every test against the servers of docker/, in a project of its own that is removed afterwards
	@docker/infra.sh during $(GO) test $(RACE) -count=1 $(ARGS) ./...

.PHONY: test-docker
test-docker: ## docs/manual-test.md, the image, stopping, restarting; needs Docker, and the ports of the set-up
	@docker/infra.sh compose version
	$(GO) test ./test/docker -docker -count=1 -timeout 20m -v $(ARGS)

.PHONY: test-jaeger
test-jaeger: ## deliveries in a real Jaeger: that of JAEGER_BIN, else from its image if Docker answers, else built (minutes, once)
	@JAEGER_BIN=$$(test/jaeger/build.sh) && export JAEGER_BIN && set -x && $(GO) test -tags jaeger ./test/jaeger -count=1 -timeout 10m -v $(ARGS)

.PHONY: test-scale
test-scale: ## a cluster of NATS, a standby of Postgres, PgBouncer, TLS, least privilege, HAProxy; needs PgBouncer and HAProxy (Debian: pgbouncer, haproxy); four minutes
	$(GO) test -tags scale ./test/scale -count=1 -parallel 4 -timeout 10m $(ARGS)

# The packages are in a folder whose name begins with a dot, so that the tools of Go do not look into it.
.node/package-lock.json: test/node/package.json test/node/package-lock.json
	@command -v npm >/dev/null || { echo "There is no npm: install Node.js 20 or later (Debian: nodejs, npm)." >&2; exit 1; }
	@mkdir -p .node && cp test/node/package.json .node/
	@cp test/node/package-lock.json .node/new-lock.json && mv .node/new-lock.json .node/package-lock.json
	npm --prefix .node ci --ignore-scripts --no-audit --no-fund --loglevel=error || { rm .node/package-lock.json; exit 1; }

.PHONY: test-node
test-node: .node/package-lock.json ## openapi.yaml by Spectral and Redocly, answers of an instance by Prism, and a TypeScript client; needs npm; a minute
	$(GO) test -tags node ./test/node -count=1 -timeout 10m $(ARGS)

DURATION ?= 60s
SEED     ?= 0

.PHONY: chaos
chaos: ## kills, cuts and stalls everything under load for DURATION=60s, then checks; SEED=… repeats a schedule of faults
	$(GO) test ./test/chaos -run TestChaos -count=1 -timeout 0 -v -duration=$(DURATION) -seed=$(SEED) $(ARGS)

.PHONY: bench
bench: ## each figure against a floor of the same run, as text and Markdown; 15 minutes, best on a calm machine
	$(GO) test ./test/bench -run TestFigures -count=1 -timeout 60m -v -full $(ARGS)

.PHONY: bench-short
bench-short: ## a short bench within a minute; it fails if a figure is far off its goal
	$(GO) test ./test/bench -run TestFigures -count=1 -v -judge $(ARGS)

.PHONY: interleavings
interleavings: ## every two writes of the program at once, in every order of their statements (`make test` runs a sample); an hour or more
	$(GO) test ./test/interleavings -run TestInterleavings -count=1 -timeout 0 -v -all $(ARGS)

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
lint: ## vet, golangci-lint, generated code up to date, go.mod and go.sum tidy, known vulnerabilities (govulncheck)
	$(GO) vet -tags jaeger,node,rename,scale ./...
	$(LINT) run
	@stamp() { find . -name '*.gen.go' ! -path './.*' | sort | xargs cksum; }; \
	before=$$(stamp) && $(GO) generate ./... && \
	if [ "$$before" != "$$(stamp)" ]; then echo "Generated code was out of date; it is up to date now: commit it." >&2; exit 1; fi
	$(GO) mod tidy -diff
	$(GO) -C tools mod tidy -diff
	$(GO) -C tools/nats-2.11 mod tidy -diff
	$(GO) -C tools/kubernetes mod tidy -diff
	@$(MAKE) --no-print-directory vulnerabilities

.PHONY: vulnerabilities
vulnerabilities: ## known vulnerabilities (govulncheck); VULNDB=required fails when their database cannot be reached
	@said=$$($(GO) tool -modfile=tools/go.mod govulncheck ./... 2>&1) || { code=$$?; case "$(VULNDB):$$said" in \
		required:*|*"Vulnerability #"*) echo "$$said" >&2; exit $$code ;; \
		*"fetching vulnerabilities"*) said="Known vulnerabilities were not looked for, because their database cannot be reached. $$said" ;; \
		*) echo "$$said" >&2; exit $$code ;; \
	esac; }; echo "$$said"

.PHONY: format
format: ## gofumpt and the order of imports, as lint wants them
	$(LINT) fmt

.PHONY: generate
generate: ## generate code from openapi.yaml again
	$(GO) generate ./...

# Another version needs other checksums, in openapi-explorer.sha256, htmx.sha256 and axe.sha256.
EXPLORER = openapi-explorer@2.4.820
HTMX     = htmx.org@2.0.11
AXE      = axe-core@4.14.1
SHA256   = $(shell command -v sha256sum || echo shasum -a 256)

# vendor fetches the script $(2) and the licence of the npm package $(1) into the folder $(4) of $(3), if they have the checksums of $(5).sha256.
define vendor
	@folder=$$(mktemp -d) && trap 'rm -r "$$folder"' EXIT && npm pack --silent --pack-destination $$folder $(1) >/dev/null && \
	tar -xzf $$folder/*.tgz -C $$folder && mkdir $$folder/$(4) && cp $$folder/package/$(2) $$folder/$(4) && \
	cp $$folder/package/LICENSE $$folder/$(4)/$(5).LICENSE && cd $(3) && \
	sums=$$PWD/$(5).sha256 && (cd $$folder && $(SHA256) -c $$sums) && cp $$folder/$(4)/* $(4)
endef

.PHONY: cli-docs
cli-docs: ## write docs/cli.md again, from the commands and flags of the program
	$(GO) test ./cmd/outboxie -run '^TestCLIDocIsCurrent$$' -count=1 -write-cli

.PHONY: docs-page
docs-page: ## fetch the files of the page at /docs again, with npm; refused if they have other checksums
	$(call vendor,$(EXPLORER),dist/browser/openapi-explorer.min.js,internal/adapters/httpapi,docs,openapi-explorer)

.PHONY: console-assets
console-assets: ## fetch the script of the console again, with npm; refused if it has another checksum
	$(call vendor,$(HTMX),dist/htmx.min.js,internal/adapters/console,static,htmx)

.PHONY: sidecar-clients
sidecar-clients: ## install what the TypeScript of docs/sidecar.md needs for its test, with npm; refused if a package has another checksum
	npm ci --prefix test/sidecar --no-audit --no-fund --loglevel=error

.PHONY: axe
axe: ## fetch the script that checks accessibility in tests again, with npm; refused if it has another checksum
	$(call vendor,$(AXE),axe.min.js,test/pages,testdata,axe)

# It needs the Go of go.mod. Building it takes some 20 minutes the first time, and seconds afterwards, so `make ci` does not: on GitHub the
# job `release` runs `make test-release` beside the others.
RELEASER = IMAGE=$(IMAGE) $(GO) run github.com/goreleaser/goreleaser/v2@v2.14.3
IMAGE ?= localhost/outboxie

.PHONY: release-check
release-check: ## is .goreleaser.yaml valid?
	$(RELEASER) check

# It works in a clone of the commit with .goreleaser.yaml as it is. So dist/ stays, and a repository without a remote, for which the releaser looks,
# is checked too.
.PHONY: test-release
test-release: ## is .goreleaser.yaml valid, does the program of this commit build with it here, and does it know its version?
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && git clone -q --no-local --depth 1 "file://$(CURDIR)" $$folder/release && \
	cp .goreleaser.yaml $$folder/release && cd $$folder/release && git remote set-url origin https://example.com/acme/outboxie.git && \
	$(RELEASER) check && $(RELEASER) build --single-target --snapshot && \
	version=$$(dist/*/outboxie version) && echo "$$version" && case "$$version" in *SNAPSHOT*) ;; \
	*) echo "The program does not know the version that .goreleaser.yaml gives it." >&2; exit 1 ;; esac && \
	for file in $$(sed -n 's/.*{ src: \([^,]*\),.*/\1/p' .goreleaser.yaml) docker/Dockerfile.release; do \
		test -f "$$file" || { echo ".goreleaser.yaml names $$file, which does not exist." >&2; exit 1; }; done

.PHONY: release-snapshot
release-snapshot: ## a release in dist/ that is not published; needs syft and Docker's buildx, or ARGS=--skip=sbom,docker
	$(RELEASER) release --snapshot --clean --skip=sign $(ARGS)

.PHONY: release
release: ## a draft of a release from the tag of this commit; needs IMAGE, GITHUB_TOKEN, syft, cosign and Docker's buildx
	$(RELEASER) release --clean $(ARGS)

.PHONY: screenshots
screenshots: ## the pictures of the console in docs/images, from a real run; needs Chromium
	@mkdir -p docs/images
	$(GO) test -count=1 ./test/pages -run '^(TestConsoleShowsWhoLeads|TestConsoleShowsTheJourney)$$' -screenshots $(CURDIR)/docs/images

# rename:cut-begin
.PHONY: rename
rename: ## make a service of your own: MODULE=example.com/acme/billing NAME=billing AGGREGATE=invoice; see docs/your-own-service.md
	@$(GO) -C tools run ./rename -root .. -module '$(MODULE)' -name '$(NAME)' -aggregate '$(AGGREGATE)' -plural '$(PLURAL)' -activity '$(ACTIVITY)'

.PHONY: test-rename
test-rename: ## rename a copy, run lint, every test and the demo there, and try each deletion of docs/your-own-service.md; two hours
	$(GO) -C tools test -count=1 ./rename ./forget
	$(GO) test -tags rename ./test/rename -count=1 -timeout 4h -v -all $(ARGS)

.PHONY: test-rename-short
test-rename-short: ## rename a copy, build, vet and lint it, and run some tests there; three minutes
	$(GO) -C tools test -count=1 ./rename ./forget
	$(GO) test -tags rename ./test/rename -count=1 -timeout 20m -v $(ARGS)
# rename:cut-end

.PHONY: ci
ci: lint build test ## lint, build, every test, alerts, scale, models, examples, contract in Node.js, pauses, bench-short, chaos: what continuous integration runs
	@$(MAKE) --no-print-directory --jobs=3 test-alerts test-scale test-models
	@$(MAKE) --no-print-directory --jobs=3 test-examples test-rename-short test-node
	@$(MAKE) --no-print-directory test-pauses bench-short chaos

.PHONY: clean
clean: ## remove bin/, and the data of `make run` and of infra-up without Docker; refused while they run
	@docker/infra.sh clean
