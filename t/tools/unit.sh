#!/bin/bash

# Builds and runs t/unit/test_*.c, and t/fuzz/fuzz_*.c over their corpora.
# Each test includes the .c files it is about, so each is one compiler call.

. "$(dirname "$0")/env.sh"

cd "$ROOT"
shopt -s nullglob

U=$GATE_BUILD/unit

flags=( -std=c11 -D_GNU_SOURCE -g -O1 -Wall -Wextra -Werror
        -fsanitize=address,undefined -fno-sanitize-recover=undefined
        -fno-omit-frame-pointer -Isrc )

lock
mkdir -p "$U"

# whatever a test includes is below these
newest=$(find src t/unit t/fuzz t/tools/unit.sh \
              \( -name '*.[ch]' -o -name '*.inc' \) -newer \
              "$U/.stamp" -print -quit 2>/dev/null) || newest=all
key=$(ls -d t/unit/*.c t/fuzz/*.c t/fuzz/corpus/* 2>/dev/null
      find src -name '*.[ch]' | sort; cat t/tools/unit.sh; "$CC" --version)

[ -e "$U/.stamp" ] && [ "$(cat "$U/.stamp")" = "$key" ] || newest=all

if [ -n "$newest" ]; then

    rm -rf "$U"
    mkdir -p "$U/bin"
    touch "$U/.started"

    for src in t/unit/test_*.c; do
        printf '%s\0%s\0%s\0' "$src" "$U/bin/$(basename "$src" .c)" ""
    done >"$U/jobs"

    for src in t/fuzz/fuzz_*.c; do
        name=$(basename "$src" .c)
        corpus=$ROOT/t/fuzz/corpus/${name#fuzz_}

        [ -d "$corpus" ] || corpus=$ROOT/t/fuzz/corpus/$name

        printf '%s\0%s\0%s\0' "$src" "$U/bin/replay_${name#fuzz_}" "$corpus"
    done >>"$U/jobs"

    compile() {
        if [ -n "$3" ]; then
            set -- "$1" "$2" t/fuzz/replay_main.c "-DCORPUS=\"$3\""
        else
            set -- "$1" "$2"
        fi

        "$CC" "${flags[@]}" "${@:3}" -o "$2" "$1" \
              -ljansson -lcrypto -l:libhiredis.a -lm
    }

    export -f compile
    export CC
    flags_text="${flags[*]}"
    export flags_text

    if [ -s "$U/jobs" ]; then
        xargs -0 -n 3 -P "$JOBS" \
            bash -c 'flags=( $flags_text ); compile "$@"' - <"$U/jobs" 8>&- \
            || die "a unit test does not compile"
    fi

    printf 'int main(void) { return 0; }\n' > "$U/leaks.c"
    "$CC" -fsanitize=address -o "$U/leaks" "$U/leaks.c"

    if ASAN_OPTIONS=detect_leaks=1 "$U/leaks" >/dev/null 2>&1 8>&-; then
        echo 1 > "$U/.leaks"
    else
        echo 0 > "$U/.leaks"
    fi

    printf '%s\n' "$key" > "$U/.stamp"
    touch -r "$U/.started" "$U/.stamp"
fi

unlock

tests=( "$U"/bin/* )

if [ ${#tests[@]} = 0 ]; then
    say "no unit tests"
    exit 0
fi

# Leaks count, where the machine lets the leak checker work at all.

leaks=$(cat "$U/.leaks")

export ASAN_OPTIONS=detect_leaks=$leaks:halt_on_error=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1

prove -j"$JOBS" -e '' "${tests[@]}"
