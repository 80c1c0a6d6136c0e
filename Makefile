# Berth: build, test, install. `make help` lists the targets.
GO ?= go
export CGO_ENABLED := 0

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

.PHONY: test
test: packages vet ## everything that must pass (root; installs Debian packages)
	$(GO) test -p 2 -timeout 300s ./...

.PHONY: packages
packages: ## Debian packages that the tests need
	./test/install-packages.sh

.PHONY: vet
vet: ## format and vet, for every system that the code builds for
	@test -z "$$(gofmt -l . | tee /dev/stderr)"
	$(GO) vet ./...
	GOARCH=arm64 $(GO) vet ./...
	GOOS=windows $(GO) vet ./...
	GOOS=darwin $(GO) vet ./...
