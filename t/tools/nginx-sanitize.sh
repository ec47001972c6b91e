#!/bin/bash

# Builds $GATE_BUILD/sanitize/nginx: the nginx installed, from its source, with
# the module linked in and ASan and UBSan in both.  (A stock nginx does not
# load an instrumented module.)  What was compiled is kept; configure runs
# again when the list of sources or a flag changes.
#
# NGX_DEBUG_PALLOC makes every allocation from a pool one of malloc's, so that
# ASan sees past the end of each.  nonnull-attribute is off because nginx
# itself passes NULL, 0 to memcpy() as it starts.

. "$(dirname "$0")/env.sh"

Z=$GATE_BUILD/sanitize
OBJ=$Z/obj

cc_opt="-g -O1 -DNGX_DEBUG_PALLOC=1 -DNGX_HAVE_NONALIGNED=0"
cc_opt="$cc_opt -fsanitize=address,undefined -fno-sanitize=nonnull-attribute"
cc_opt="$cc_opt -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
cc_opt="$cc_opt -std=gnu11"

# the instrumentation makes gcc guess wrong about what may be uninitialized
cc_opt="$cc_opt -Wno-maybe-uninitialized -Wno-stringop-overflow"

options=(
    --prefix="$Z/prefix"
    --error-log-path=stderr
    --with-cc="$CC"
    --with-cc-opt="$cc_opt"
    --with-ld-opt="-fsanitize=address,undefined"
    --with-debug
    --with-threads
    --with-http_addition_module
    --with-http_auth_request_module
    --with-http_dav_module
    --with-http_realip_module
    --with-http_slice_module
    --with-http_ssl_module
    --with-http_stub_status_module
    --with-http_sub_module
    --with-http_v2_module
    --add-module="$ROOT"
    --builddir="$OBJ"
)

unset CFLAGS CPPFLAGS LDFLAGS

lock

SRC=$(exec 8>&-; "$ROOT/t/tools/nginx-source.sh")

key=$(
    {
        "$CC" --version
        echo "$SRC ${options[*]}"
        cat "$ROOT/config"
        cd "$ROOT" && find src -name '*.[ch]' -o -name '*.inc' | sort
        cat src/*/*.lua src/fleet/scripts.sh
    } | sha256sum
)

cd "$SRC"

if [ "$(cat "$Z/.key" 2>/dev/null)" != "$key" ]; then

    mkdir -p "$OBJ"

    # configure writes these anew, and nginx's makefile would then compile
    # everything for the sake of one more source: put back what is the same

    rm -rf "$Z/before"
    mkdir "$Z/before"
    cp -p "$OBJ"/*.h "$OBJ"/*.c "$Z/before/" 2>/dev/null || :

    quietly "$Z/configure.log" ./configure "${options[@]}"

    [ -f "$OBJ/Makefile" ] || die "no makefile, see $Z/configure.log"

    for file in "$Z"/before/*; do
        if cmp -s "$file" "$OBJ/${file##*/}"; then
            cp -p "$file" "$OBJ/"
        fi
    done

    rm -rf "$Z/before"

    # but not across another compiler or other flags
    flags=$("$CC" --version; echo "$SRC ${options[*]}")

    if [ "$(cat "$Z/.flags" 2>/dev/null)" != "$flags" ]; then
        find "$OBJ" -name '*.o' -exec rm -f {} +
        echo "$flags" > "$Z/.flags"
    fi

    rm -f "$OBJ/nginx"

    echo "$key" > "$Z/.key"
fi

[ -x "$OBJ/nginx" ] || say "building nginx with ASan and UBSan"

make -s -j "$JOBS" -f "$OBJ/Makefile" binary >"$Z/make.log" 2>&1 8>&- \
    || { tail -n 60 "$Z/make.log" >&2; die "build failed, see $Z/make.log"; }

if ! cmp -s "$OBJ/nginx" "$Z/nginx"; then
    cp "$OBJ/nginx" "$Z/nginx.new"
    mv "$Z/nginx.new" "$Z/nginx"
fi
