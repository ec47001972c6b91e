#!/bin/bash

# make fuzz: each t/fuzz/fuzz_*.c under libFuzzer for FUZZ_SECONDS.  It starts
# from the corpus of the checkout and what former runs found, in a copy: the
# checkout stays as it is.

. "$(dirname "$0")/env.sh"

cd "$ROOT"
shopt -s nullglob

F=$GATE_BUILD/fuzz
SECONDS_EACH=${FUZZ_SECONDS:-20}

drivers=( t/fuzz/fuzz_*.c )

if [ ${#drivers[@]} = 0 ]; then
    say "no fuzzers"
    exit 0
fi

mkdir -p "$F/crashes"

fuzz() {
    src=$1
    name=$(basename "$src" .c)
    corpus=$F/corpus/$name
    bin=$F/$name

    mkdir -p "$corpus"

    for dir in "t/fuzz/corpus/$name" "t/fuzz/corpus/${name#fuzz_}"; do
        [ ! -d "$dir" ] || cp -R "$dir/." "$corpus/"
    done

    # a run at the same time may be using the old one
    clang -std=c11 -D_GNU_SOURCE -g -O1 -Wall -Wextra -Werror \
          -fsanitize=fuzzer,address,undefined \
          -fno-sanitize-recover=undefined -Isrc -o "$bin.$$" "$src" \
          -ljansson -lcrypto -l:libhiredis.a -lm || return 1
    mv "$bin.$$" "$bin"

    if ! "$bin" -max_total_time="$SECONDS_EACH" -timeout=5 \
                -rss_limit_mb=1024 -print_final_stats=1 \
                -artifact_prefix="$F/crashes/$name-" "$corpus" \
                >"$F/$name.log" 2>&1
    then
        tail -n 60 "$F/$name.log" >&2
        echo "$name: FAILED, the input is in $F/crashes" >&2
        return 1
    fi

    echo "$name: ok," "$(sed -n 's/^stat::number_of_executed_units: *//p' \
                             "$F/$name.log") runs"
}

export -f fuzz
export F SECONDS_EACH

printf '%s\0' "${drivers[@]}" \
    | xargs -0 -n 1 -P "$JOBS" bash -c 'set -u; fuzz "$1"' - \
    || die "a fuzzer found something"
