# The commands that people type. CONTRIBUTING.md says when to use which.
#   make test PKG=./shared/...     the tests of some packages
#   make e2e RUN=Console           some end-to-end tests
#   make bench BENCH=ExportLatency one benchmark
PKG ?= work
RUN ?= .
BENCH ?= .

.PHONY: serve test race e2e bench lint docs ci

serve: ## the sandbox on http://127.0.0.1:8888
	go run ./api

test:
	go test $(PKG)

race:
	go test -race -timeout 60m $(PKG)

e2e:
	go test ./api/e2e -run '$(RUN)'

bench:
	go test -run '^$$' -bench '$(BENCH)' ./bench

lint:
	gofmt -l api auth bench deploy exporter shared
	go vet work
	go tool staticcheck work

docs: ## write what is generated from the code: configuration, rules, routes, metrics, dashboards, operator's alerts
	go test ./api -run 'Reference|Rule' -update
	go test ./api/server -run RouteReference -update
	go test ./shared/telemetry -run Documented -update
	go test ./deploy/grafana -run Rendered -update
	go test ./deploy -run Operators -update

ci: ## everything that must hold before a change lands
	.ci/run
