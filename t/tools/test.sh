#!/bin/bash

# make test: the module, the unit tests of src/core and the fuzzers' corpora
# (both with ASan and UBSan always), then t/*.t by prove.  With T, these files
# and nothing else.  With SANITIZE=1, t/*.t against the nginx built by
# nginx-sanitize.sh.

. "$(dirname "$0")/env.sh"

cd "$ROOT"

if [ -n "$SANITIZE" ]; then
    t/tools/nginx-sanitize.sh

    NGINX_BIN=$GATE_BUILD/sanitize/nginx
    MODULE_SO=
else
    t/tools/build.sh
fi

t/tools/drivers.sh
t/tools/ctl.sh

if [ -z "${T:-}" ]; then
    t/tools/unit.sh

    shopt -s nullglob
    files=( t/*.t )
else
    files=( $T )
fi

if [ ${#files[@]} = 0 ]; then
    say "no t/*.t"
    exit 0
fi

if [ -n "$SANITIZE" ]; then
    # no log_path: reports go to stderr, which is where the harness looks
    opt=detect_leaks=0:detect_odr_violation=0:abort_on_error=0:halt_on_error=1
    export ASAN_OPTIONS=$opt
    export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
fi

exec prove -j"$JOBS" -It/lib "${files[@]}"
