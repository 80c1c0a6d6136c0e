# Berth: build, test, install, package. `make help` lists the targets.
GO ?= go
PREFIX ?= /usr/local
DESTDIR ?=
MODULE := github.com/berth-containers/berth
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
# The newest commit's time, so that two builds of one commit are the same bytes.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
LDFLAGS := -s -w -X $(MODULE)/internal/version.stamp=$(VERSION)

# Where the tests find the root file system that test/debian-image.sh makes.
export DEBIAN_TAR ?= $(HOME)/.cache/berth-test/debian.tar

export CGO_ENABLED := 0
export GO SOURCE_DATE_EPOCH VERSION LDFLAGS

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

.PHONY: build
build: ## berth and berth-runtime, into bin/
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

.PHONY: install
install: build ## programs and shell completions, under $(DESTDIR)$(PREFIX)
	install -d '$(DESTDIR)$(PREFIX)/bin'
	install -m 755 bin/berth bin/berth-runtime '$(DESTDIR)$(PREFIX)/bin/'
	./packaging/completions.sh bin/berth '$(DESTDIR)$(PREFIX)/share'

.PHONY: uninstall
uninstall: ## removes what install put there
	rm -f '$(DESTDIR)$(PREFIX)/bin/berth' '$(DESTDIR)$(PREFIX)/bin/berth-runtime'
	rm -f '$(DESTDIR)$(PREFIX)/share/bash-completion/completions/berth'
	rm -f '$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_berth'
	rm -f '$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/berth.fish'

.PHONY: test
test: packages vet ## everything that must pass (root; installs Debian packages)
	$(GO) test -p 2 -timeout 600s ./...

.PHONY: test-v2
test-v2: ## the kernel's and the engine's tests in a virtual machine with pure cgroup v2
	./test/vm/tests

.PHONY: test-old
test-old: ## the same on the kernel of Debian 12, Linux 6.1
	BERTH_VM_RELEASE=bookworm ./test/vm/tests

.PHONY: foreign
foreign: build ## another project's tests of OCI runtimes: SUITE=runc|crun|runtime-tools SUITE_DIR=… [RUNTIME=…]; see test/foreign/run
	./test/foreign/run

.PHONY: test-firewalls
test-firewalls: ## beside Debian's docker.io, ufw and firewalld, which have to be installed
	./test/firewalls.sh

.PHONY: packages
packages: ## Debian packages that the tests need, and a Debian root file system with real programs
	./test/install-packages.sh
	./test/debian-image.sh '$(DEBIAN_TAR)'

.PHONY: vet
vet: ## format and vet, for every system that the code builds for
	@test -z "$$(gofmt -l . | tee /dev/stderr)"
	$(GO) vet ./...
	GOARCH=arm64 $(GO) vet ./...
	GOOS=windows $(GO) vet ./...
	GOOS=darwin $(GO) vet ./...

.PHONY: bench
bench: ## start times beside other runtimes, as a table
	./test/bench/bench.sh

.PHONY: bench-life
bench-life: ## lists, stops, logs and others of running containers beside podman and docker, as a table
	./test/bench/life.sh

.PHONY: bench-network
bench-network: ## throughput, latency and start of networks, as tables
	./test/bench/network.sh

.PHONY: bench-images
bench-images: ## pull, push, load and save beside other engines, as a table
	./test/bench/images.sh

.PHONY: dist
dist: ## archives to hand out, into dist/: Linux (amd64, arm64), and the client for Windows and macOS
	./packaging/dist.sh dist

.PHONY: image
image: ## builds the default image's root file systems anew (Debian)
	./image/busybox/build.sh

.PHONY: clean
clean: ## removes bin/ and dist/
	rm -rf bin dist
