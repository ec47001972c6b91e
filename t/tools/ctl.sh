#!/bin/bash

# Builds $GATE_BUILD/gatectl, the command-line tool, of src/ctl and what it
# needs of src/core.

. "$(dirname "$0")/env.sh"

cd "$ROOT"
shopt -s nullglob

flags=( -std=c11 -D_GNU_SOURCE -g -O2 -fPIE -pie -Wall -Wextra -Werror -Isrc )

sources=( src/ctl/*.c src/core/gate_{base64,float,hmac,parse}.c
          src/core/gate_{cursor,json}*.c )

lock

key=$(
    {
        echo "${flags[*]} ${sources[*]}"
        "$CC" --version
        cat t/tools/ctl.sh "${sources[@]}" src/ctl/*.h src/core/*.{h,inc}
    } 2>&1 | sha256sum
)

if [ "$(cat "$GATE_BUILD/.ctl.key" 2>/dev/null)" != "$key" ] \
    || [ ! -x "$GATE_BUILD/gatectl" ]
then
    # a test at the same time may be running the old one
    "$CC" "${flags[@]}" -o "$GATE_BUILD/gatectl.new" "${sources[@]}" \
          -lcrypto -lm || die "gatectl does not compile"
    mv "$GATE_BUILD/gatectl.new" "$GATE_BUILD/gatectl"

    echo "$key" > "$GATE_BUILD/.ctl.key"
fi
