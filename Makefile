# make demo    the main job on real purchases, from nothing to demo/report.html
# make test    every test
# Both do all set-up first. The rest: setup lint native-test door-test fuzz accuracy crash soak bench bench-service control proto clean

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell .ci/find-python)
SOURCES := $(shell find engine training native proto -type f ! -name '*.so' ! -name '*.nb?' ! -path '*/__pycache__/*') setup.py pyproject.toml
HOUSEHOLDS ?= 0
MINUTES ?= 10
OPERATIONS ?= 10000000
KILLS ?= 1000
DATA ?=

# One BLAS thread: the kernels and the trainer bring their own.
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: setup demo test lint native-test door-test fuzz fuzz-nightly accuracy crash soak bench bench-service control proto check-proto clean

setup: $(VENV)/.package

$(VENV)/.requirements: requirements.lock .ci/system-packages
	@.ci/system-packages
	"$$(.ci/find-python)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

$(VENV)/.package: $(VENV)/.requirements $(SOURCES)
	HEADRACE_NO_NATIVE=$$(command -v g++ >/dev/null || echo 1) \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --force-reinstall .
	@touch $@

demo: setup
	$(BIN)/python demo/run.py $(if $(DATA),--data "$(DATA)") $(if $(filter-out 0,$(HOUSEHOLDS)),--households $(HOUSEHOLDS))

test: setup
	$(BIN)/python -m pytest -q

lint: setup check-proto
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

native-test: setup
	$(MAKE) -C native/tests check

# the native door under AddressSanitizer: two minutes
door-test: setup
	$(MAKE) -C native/tests door

fuzz fuzz-nightly:
	@if .ci/system-packages fuzz; then $(MAKE) -C native/tests $@; else test -z "$$CI"; fi

accuracy: setup
	$(BIN)/python benchmarks/bench_evaluate.py
	$(BIN)/python benchmarks/bench_sequences.py
	$(BIN)/python benchmarks/bench_baskets.py
	$(BIN)/python benchmarks/bench_offpolicy.py
	$(BIN)/python benchmarks/bench_replay.py
	$(BIN)/python benchmarks/bench_price.py --seeds 3

# ten million operations on the ledger, a thousand kills: make crash OPERATIONS=1000000 KILLS=100 is a tenth of it
crash: setup
	HEADRACE_CRASH_RUNS=$$(( $(KILLS) / 10 )) $(BIN)/python -m pytest -q tests/e2e/test_ledger_crash.py tests/e2e/test_authority_crash.py
	$(BIN)/python benchmarks/crash.py --operations $(OPERATIONS) --kills $(KILLS)

soak: setup
	@.ci/system-packages bench
	$(BIN)/python benchmarks/soak.py --minutes $(MINUTES)

bench: setup
	$(BIN)/python -m pytest -q benchmarks/bench_recommend.py --benchmark-columns=median,iqr,min,rounds
	$(BIN)/python benchmarks/bench_topk.py $(if $(DATA),--data "$(DATA)")
	$(BIN)/python -m pip install --quiet --disable-pip-version-check irspack==0.5.2
	$(BIN)/python benchmarks/bench_ials.py
	$(BIN)/python benchmarks/bench_search.py --most 1000000
	$(BIN)/python benchmarks/bench_ledger.py
	$(BIN)/python benchmarks/bench_bid.py
	$(BIN)/python benchmarks/bench_strategy.py
	$(BIN)/python benchmarks/bench_pace.py
	$(BIN)/python benchmarks/bench_authority.py
	$(BIN)/python benchmarks/bench_records.py

# the whole service, asked from another core: 20 minutes
bench-service: setup
	@.ci/system-packages bench
	$(BIN)/python benchmarks/bench_door.py
	$(BIN)/python benchmarks/bench_service.py
	$(BIN)/python benchmarks/bench_openrtb.py
	$(BIN)/python benchmarks/bench_overload.py
	$(BIN)/python benchmarks/bench_swap.py --share 0.25

# the simulated market's days, for three seeds, as a table: 10 minutes on two cores
control: setup
	$(BIN)/python benchmarks/bench_control.py

proto: setup
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=engine --pyi_out=engine $$(find proto -name '*.proto' | sort)

check-proto: setup
	@rm -rf build/proto && mkdir -p build/proto
	@$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=build/proto --pyi_out=build/proto $$(find proto -name '*.proto' | sort)
	@for file in $$(cd build/proto && find . -type f); do cmp "build/proto/$$file" "engine/$$file" || { echo "stale: run make proto"; exit 1; }; done

clean:
	rm -rf build dist $(VENV) demo/out demo/report.html *.egg-info
