# guestd: build, test and measure. `make help` explains every target.

# Nothing is fetched or built outside the checkout but Go's own caches.
ROOT   := $(CURDIR)
BIN    := $(ROOT)/bin
TOOLS  := $(ROOT)/.tools/bin
GO     ?= go

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

# The guest binary: static, no cgo, no debug tables, no gRPC tracing (which
# would pull in html/template: 3 MB of binary, 2 MB of resident memory).
GUESTD_TAGS := grpcnotrace
LDFLAGS     := -s -w -X main.version=$(VERSION)
BUILD       := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -tags $(GUESTD_TAGS) -ldflags "$(LDFLAGS)"

TESTFLAGS ?=

.DEFAULT_GOAL := help

.PHONY: help
help: ## Explain the targets.
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@ /          {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Build

.PHONY: build
build: guestd guestctl ## Build bin/guestd (for the guest) and bin/guestctl (for the host).

.PHONY: guestd
guestd:
	$(BUILD) -o $(BIN)/guestd ./cmd/guestd

.PHONY: guestctl
guestctl:
	$(BUILD) -o $(BIN)/guestctl ./cmd/guestctl

.PHONY: cross
cross: ## Build both for arm64, and vet the host's side for macOS.
	GOARCH=arm64 GOOS=linux $(BUILD) -o $(BIN)/guestd-arm64 ./cmd/guestd
	GOARCH=arm64 GOOS=linux $(BUILD) -o $(BIN)/guestctl-arm64 ./cmd/guestctl
	GOOS=darwin GOARCH=arm64 CGO_ENABLED=0 $(GO) vet ./client ./cmd/guestctl ./vsock

.PHONY: install
install: build ## Install guestctl with its manual and completions below PREFIX (/usr/local).
	scripts/install.sh "$(or $(PREFIX),/usr/local)" "$(DESTDIR)"

##@ Try

.PHONY: demo
demo: build ## Show the main job in a sandbox: a microVM if QEMU is here, else namespaces.
	$(GO) run ./internal/demo -guestd $(BIN)/guestd -guestctl $(BIN)/guestctl

##@ Test

.PHONY: test
test: ## Unit and conformance tests on this machine, with the race detector.
	$(GO) test -race -timeout 20m $(TESTFLAGS) ./...

.PHONY: shake
shake: ## Tests whose goroutines hesitate at random, for races of order: PKG=./client RUN=TestNet COUNT=100 LEVEL=long.
	$(GO) run ./internal/shake -level $(or $(LEVEL),short) -- -timeout 60m -run '$(RUN)' -count $(or $(COUNT),1) $(or $(PKG),./...)

.PHONY: setup-vm
setup-vm: ## Install what the microVM needs: QEMU, a kernel, busybox, vhost-device-vsock.
	scripts/setup-vm.sh

.PHONY: e2e
e2e: guestd guestctl ## Boot a microVM: the conformance suite and OpenSSH's clients, over vsock.
	GUESTD_E2E=1 $(GO) test -count=1 -timeout 25m -v $(TESTFLAGS) ./e2e/...

.PHONY: clients
clients: guestd tools ## Stock gRPC clients: grpcurl by reflection, and Python's grpcio.
	scripts/test-clients.sh

# The laboratory in which stock SSH clients meet a server: guestd's, or with
# DOOR=stock OpenSSH's own sshd, to see that the tests are right.
.PHONY: sshlab
sshlab:
	$(GO) build -trimpath -buildvcs=false -o $(BIN)/sshlab ./internal/sshlab

.PHONY: setup-ssh
setup-ssh: ## Install the stock SSH clients and OpenSSH's own tests.
	scripts/setup-ssh-clients.sh

.PHONY: ssh-clients
ssh-clients: guestd guestctl sshlab ## Stock SSH clients, each checked on content, status, modes and times.
	scripts/test-ssh.sh $(CLIENTS)

.PHONY: ssh-regress
ssh-regress: guestd guestctl sshlab ## OpenSSH's own regress scripts (docs/ssh-regress.md).
	scripts/openssh-regress.sh $(SCRIPTS)

.PHONY: ssh-pair
ssh-pair: ## The same client commands against guestd and OpenSSH's sshd, compared.
	$(GO) test -count=1 -timeout 20m -run TestPairGuestd ./internal/sshlab

.PHONY: fuzz
fuzz: ## Run every fuzzer for FUZZTIME (10s) each.
	scripts/fuzz.sh "$(or $(FUZZTIME),10s)"

.PHONY: bench
bench: build ## Measure the goals of docs/benchmarks.md side by side, and rewrite it.
	-scripts/setup-ssh-clients.sh # the sshd to compare with; without it those rows say so
	$(GO) run ./internal/bench -guestd $(BIN)/guestd -out docs/benchmarks.md

.PHONY: limits
limits: guestd guestctl ## Check the size of the binary, the memory of an idle agent, and 10 GB of output.
	scripts/check-limits.sh $(BIN)/guestd
	scripts/check-output.sh $(BIN)/guestd $(BIN)/guestctl

##@ Check

.PHONY: tools
tools: $(TOOLS)/.stamp
$(TOOLS)/.stamp: tools/go.mod tools/go.sum
	GOBIN=$(TOOLS) $(GO) install -modfile=tools/go.mod tool
	@touch $@

.PHONY: lint
lint: tools ## golangci-lint (with the arrows between packages) and buf.
	$(TOOLS)/golangci-lint run ./...
	PATH=$(TOOLS):$$PATH buf lint
	PATH=$(TOOLS):$$PATH buf format --diff --exit-code
	PATH=$(TOOLS):$$PATH buf breaking --against proto/baseline.binpb

.PHONY: proto
proto: tools ## Generate code from proto/.
	PATH=$(TOOLS):$$PATH buf format -w
	PATH=$(TOOLS):$$PATH buf generate

.PHONY: proto-baseline
proto-baseline: tools ## At a release: freeze today's contract for the breaking-change check.
	PATH=$(TOOLS):$$PATH buf build -o proto/baseline.binpb

.PHONY: check-proto
check-proto: proto ## Fail if the generated code is stale.
	@git diff --exit-code --stat -- proto || { echo "generated code is stale: commit what 'make proto' wrote"; exit 1; }

.PHONY: tidy
tidy: ## Fail if go.mod is not tidy.
	$(GO) mod tidy -diff

.PHONY: ci
ci: ## Everything that CI runs.
	bash .ci/run

.PHONY: clean
clean: ## Remove what was built.
	rm -rf $(BIN)
