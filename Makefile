# nginx-gate
#
#   make                 the module, build/ngx_http_gate_module.so, the tool
#                        build/gatectl, and the drivers of the core, build/t/*
#   make demo            a gate of one's own to look at, on this machine
#   make test            unit tests, the fuzzers' corpora, t/*.t
#   make test T=t/x.t    only these files
#   make test SANITIZE=1 the same against an nginx with ASan and UBSan
#   make lint            compiler, clang-tidy, cppcheck, own style
#   make fuzz            each fuzzer for FUZZ_SECONDS
#   make bench, soak     what it costs, what it endures
#   make install         DESTDIR, PREFIX, MODULES_PATH
#   make deps            the Debian packages for all of these
#
# Each target installs the Debian packages it needs and does not find;
# NO_DEPS=1 leaves that out.  NGINX_BIN and NGINX_SRC name another nginx
# and another nginx-dev, BUILD another place for what is made.

BUILD        ?= $(CURDIR)/build
FUZZ_SECONDS ?= 20
JOBS         ?= 2
T            ?=
SANITIZE     ?=

ifneq ($(words $(CURDIR) $(abspath $(BUILD))),2)
$(error nginx's configure takes no path with a space in it: move \
"$(CURDIR)" elsewhere)
endif

override GATE_BUILD := $(abspath $(BUILD))

export GATE_BUILD FUZZ_SECONDS JOBS T SANITIZE
export NGINX_BIN NGINX_SRC NO_DEPS DESTDIR PREFIX MODULES_PATH

TOOLS = t/tools

.PHONY: all deps demo test bench soak fuzz lint install clean
.NOTPARALLEL:

all:
	@$(TOOLS)/deps.sh build
	@$(TOOLS)/build.sh
	@$(TOOLS)/ctl.sh
	@$(TOOLS)/drivers.sh

deps:
	@$(TOOLS)/deps.sh all

demo:
	@$(TOOLS)/deps.sh build run
	@$(TOOLS)/build.sh
	@$(TOOLS)/with-env.sh perl t/tools/demo.pl

test:
	@$(TOOLS)/deps.sh build run test
	@$(TOOLS)/test.sh

bench:
	@$(TOOLS)/deps.sh build run bench
	@$(TOOLS)/build.sh
	@$(TOOLS)/drivers.sh
	@$(TOOLS)/with-env.sh perl t/bench/bench.pl; a=$$?; \
	 $(TOOLS)/with-env.sh perl t/bench/fleet.pl; b=$$?; \
	 $(TOOLS)/with-env.sh perl t/bench/fleet-cost.pl; c=$$?; \
	 $(TOOLS)/with-env.sh perl t/bench/limit.pl; d=$$?; \
	 $(TOOLS)/with-env.sh perl t/bench/limit-fleet.pl; e=$$?; \
	 $(TOOLS)/with-env.sh perl t/bench/cursor.pl; f=$$?; \
	 exit $$((a | b | c | d | e | f))

soak:
	@$(TOOLS)/deps.sh build run bench
	@$(TOOLS)/build.sh
	@$(TOOLS)/with-env.sh perl t/bench/soak.pl

fuzz:
	@$(TOOLS)/deps.sh build lint
	@$(TOOLS)/fuzz.sh

lint:
	@$(TOOLS)/deps.sh build lint
	@$(TOOLS)/lint.sh

install: all
	@$(TOOLS)/install.sh

clean:
	rm -rf "$(GATE_BUILD)"
