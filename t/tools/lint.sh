#!/bin/bash

# make lint: compiler, clang-tidy, cppcheck, Lua, the style check, the symbols.
# Everything is looked at before it fails, so that one run shows it all.

. "$(dirname "$0")/env.sh"

"$ROOT/t/tools/build.sh"

cd "$ROOT"
shopt -s nullglob

OBJ=$GATE_BUILD/obj
failed=

sources=( src/{core,node,fleet,http,ctl}/*.c )
pure=( src/core/*.c )

# nginx's include directories as it has them, but as system ones: what we are
# stricter about than nginx is then not reported in its headers.

incs=$(cd "$NGINX_SRC" \
       && printf 'include %s\n.PHONY: gate_incs\ngate_incs:\n\t@echo $(ALL_INCS)\n' \
                 "$OBJ/Makefile" | make -s -f - gate_incs)

flags=( -Isrc )

for dir in $incs; do
    case "$dir" in
        -I)        ;;
        "$ROOT"/src) ;;
        /*)        flags+=( -isystem "$dir" ) ;;
        *)         flags+=( -isystem "$NGINX_SRC/$dir" ) ;;
    esac
done

warn=( -Wall -Wextra -Werror -Wno-unused-parameter -Wshadow -Wpointer-arith
       -Wstrict-prototypes -Wmissing-prototypes -Wundef
       -Wvla )

step() {
    say "lint: $1"
}

fail() {
    say "lint: FAILED: $1" >&2
    failed=1
}

each() {
    printf '%s\0' "${@:2}" | xargs -0 -n 1 -P "$JOBS" bash -c "$1" -
}


step compiler

export CC FLAGS="${flags[*]}" WARN="${warn[*]}"

each '"$CC" -std=gnu11 -O2 -fsyntax-only $WARN $FLAGS "$1"' "${sources[@]}" \
    || fail compiler

# src/core needs nothing of nginx, neither of GNU C

[ ${#pure[@]} = 0 ] || each '"$CC" -std=c11 -D_GNU_SOURCE -pedantic -O2 \
                             -fsyntax-only $WARN -Isrc "$1"' "${pure[@]}" \
    || fail "compiler, src/core alone"

# a header must be enough by itself

headers=( src/{core,node,fleet,http,ctl}/*.h )

[ ${#headers[@]} = 0 ] || each '
    case "$1" in
        src/core/* | src/ctl/*)
                    first= ;;
        *)          first="-include ngx_config.h -include ngx_core.h
                           -include ngx_http.h" ;;
    esac
    "$CC" -std=gnu11 -fsyntax-only -x c $WARN $FLAGS $first "$1"' \
    "${headers[@]}" || fail "compiler, headers"


step clang-tidy

each 'out=$(clang-tidy --quiet "$1" -- -std=gnu11 -Wall -Wextra \
                -Wno-unused-parameter $FLAGS 2>&1) && exit 0
      printf "%s\n" "$out" | grep -v "warnings\? generated\|^Suppressed\|^Use "
      exit 1' "${sources[@]}" \
    || fail clang-tidy


step cppcheck

cppcheck -q -j "$JOBS" --std=c11 --enable=warning,portability,performance \
         --inline-suppr --error-exitcode=1 \
         --suppressions-list=t/tools/cppcheck.supp -Isrc "${sources[@]}" \
    || fail cppcheck


step style

perl t/tools/style.pl --selftest || fail "the style check's own test"
perl t/tools/style.pl src || fail style


step lua

# As Redis runs them: whole, with its own Lua.  Nothing may be global but what
# Redis gives, and that is only read.

globals="ARGV KEYS _G ipairs math pairs pcall redis string table tonumber"
globals="$globals rawget setmetatable struct type unpack"

for file in src/fleet/*.lua; do
    name=$(basename "$file" .lua)

    sh src/fleet/scripts.sh src/fleet "$name" > "$GATE_BUILD/lint.lua"

    if ! out=$(luac5.1 -l -p "$GATE_BUILD/lint.lua" 2>&1); then
        printf '%s: %s\n' "$file" "$out"
        fail "lua, $file"
        continue
    fi

    # a part that is included uses what stands before it

    case "$name" in
        hash) continue ;;
    esac

    strange=$(printf '%s\n' "$out" | awk -v known="$globals" '
        BEGIN { split(known, list, " "); for (i in list) ok[list[i]] = 1 }
        /\tSETGLOBAL/ { print "sets " $NF }
        /\tGETGLOBAL/ && !ok[$NF] { print "reads " $NF }' | sort -u | xargs)

    [ -z "$strange" ] || fail "lua, $file: $strange"
done

rm -f "$GATE_BUILD/lint.lua"


step python

for file in t/lib/*.py; do
    python3 -c 'import sys; compile(open(sys.argv[1]).read(), *sys.argv[1:],
                                    "exec")' "$file" || fail "python, $file"
done


step symbols

# nginx loads modules into one namespace

shown=$(nm -D --defined-only "$MODULE_SO" | awk '{ print $3 }' | sort | xargs)
want="ngx_http_gate_module ngx_module_names ngx_module_order ngx_modules"

[ "$shown" = "$want" ] || fail "the module shows other symbols: $shown"

# linked in statically, only a prefix keeps ours apart from everyone else's

others=$(find "$OBJ/addon" -name '*.o' -exec nm -g --defined-only {} + \
         | awk 'NF == 3 && $3 !~ /^(gate_|ngx_gate_|ngx_http_gate_)/ { print $3 }' \
         | sort -u | xargs)

[ -z "$others" ] || fail "symbols without our prefix: $others"


[ -z "$failed" ] || exit 1

say "lint: ok, ${#sources[@]} sources"
