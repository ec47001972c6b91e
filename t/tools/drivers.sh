#!/bin/bash

# Builds t/drivers/*.c into $GATE_BUILD/t: small programs that drive the core
# without nginx.  Each includes the .c files that it is about, as the unit
# tests do.  They are built as the module is, not with the sanitizers.

. "$(dirname "$0")/env.sh"

cd "$ROOT"
shopt -s nullglob

D=$GATE_BUILD/t

flags=( -std=c11 -D_GNU_SOURCE -g -O2 -Wall -Wextra -Werror -Isrc )

lock
mkdir -p "$D"

key=$(
    {
        echo "${flags[*]}"
        "$CC" --version
        cat t/tools/drivers.sh t/drivers/*.[ch] src/core/*.[ch] src/core/*.inc
    } 2>&1 | sha256sum
)

if [ "$(cat "$D/.key" 2>/dev/null)" != "$key" ]; then

    compile() {
        bin=$GATE_BUILD/t/$(basename "$1" .c)

        # a test at the same time may be running the old one
        "$CC" $flags_text -o "$bin.new" "$1" -ljansson -lcrypto -lm \
            && mv "$bin.new" "$bin"
    }

    export -f compile
    export CC
    flags_text="${flags[*]}"
    export flags_text

    printf '%s\0' t/drivers/*.c \
        | xargs -0 -n 1 -P "$JOBS" bash -c 'compile "$1"' - 8>&- \
        || die "a driver does not compile"

    echo "$key" > "$D/.key"
fi
