#!/bin/bash

# Builds the module out of tree against nginx-dev, with the configure flags of
# that nginx, into $GATE_BUILD/obj.  Debian's trimmed configure writes nothing
# outside of its --builddir.  configure runs again only when something it has
# looked at has changed; nginx's makefile does the rest.

. "$(dirname "$0")/env.sh"

OBJ=$GATE_BUILD/obj
NAME=ngx_http_gate_module

[ -x "$NGINX_BIN" ] || die "no nginx at $NGINX_BIN: say which with NGINX_BIN"
[ -x "$NGINX_SRC/configure" ] \
    || die "no nginx headers in $NGINX_SRC: install nginx-dev or say NGINX_SRC"

have=$("$NGINX_BIN" -v 2>&1 | sed -n 's,^nginx version: [^/]*/\([0-9.]*\).*,\1,p')
want=$(sed -n 's/^#define NGINX_VERSION *"\(.*\)"/\1/p' \
           "$NGINX_SRC/src/core/nginx.h")

[ "$have" = "$want" ] \
    || die "$NGINX_BIN is nginx $have, the headers in $NGINX_SRC are of $want"

if [ -f "$NGINX_SRC/conf_flags" ]; then
    . "$NGINX_SRC/conf_flags"
else
    # a source tree of one's own: the binary knows how it was configured
    args=$("$NGINX_BIN" -V 2>&1 | sed -n 's/^configure arguments: //p')
    eval "NGX_ARGS=( $args )"
    NGX_CONF_FLAGS=()

    for arg in "${NGX_ARGS[@]}"; do
        case "$arg" in
            --add-*module=* | --with-cc-opt=* | --with-ld-opt=*) ;;
            --*=dynamic) ;;
            *) NGX_CONF_FLAGS+=( "$arg" ) ;;
        esac
    done
fi

cc_opt="-std=gnu11 -Wall -Wextra -Werror -Wno-unused-parameter -fPIC"
cc_opt="$cc_opt -ffile-prefix-map=$ROOT=."
cc_opt="$cc_opt ${CFLAGS:--g -O2 -fstack-protector-strong -Wformat
                 -Werror=format-security}"
cc_opt="$cc_opt ${CPPFLAGS:--D_FORTIFY_SOURCE=2}"
ld_opt="${LDFLAGS:--Wl,-z,relro -Wl,-z,now} -fPIC"
cc_opt=$(echo $cc_opt)

# a request crosses a dozen of our files: linked as one they are 6 % shorter

if "$CC" --version | grep -q 'Free Software Foundation'; then
    cc_opt="$cc_opt -flto=auto"
fi

unset CFLAGS CPPFLAGS LDFLAGS

key=$(
    {
        "$NGINX_BIN" -V
        "$CC" --version
        dpkg-query -W -f '${Version}\n' nginx-dev
        echo "$NGINX_SRC $ROOT $cc_opt $ld_opt ${NGX_CONF_FLAGS[*]}"
        cat "$ROOT/config"
        cd "$ROOT" && find src -name '*.[ch]' -o -name '*.inc' | sort
        cat src/*/*.lua src/fleet/scripts.sh
    } 2>&1 | sha256sum
)

lock

if [ "$(cat "$OBJ/.key" 2>/dev/null)" != "$key" ]; then

    rm -rf "$OBJ"
    mkdir -p "$OBJ"

    cd "$NGINX_SRC"
    quietly "$GATE_BUILD/configure.log" \
        ./configure "${NGX_CONF_FLAGS[@]}" --with-cc="$CC" \
                    --with-cc-opt="$cc_opt" --with-ld-opt="$ld_opt" \
                    --add-dynamic-module="$ROOT" --builddir="$OBJ"

    [ -f "$OBJ/Makefile" ] || die "no makefile, see $GATE_BUILD/configure.log"

    echo "$key" > "$OBJ/.key"
fi

cd "$NGINX_SRC"

make -s -j "$JOBS" -f "$OBJ/Makefile" modules 8>&- || die "build failed"

# A running nginx may have the old file mapped: replace it, never rewrite it.

if ! cmp -s "$OBJ/$NAME.so" "$GATE_BUILD/$NAME.so"; then
    cp "$OBJ/$NAME.so" "$GATE_BUILD/$NAME.so.new"
    mv "$GATE_BUILD/$NAME.so.new" "$GATE_BUILD/$NAME.so"
    say "built ${GATE_BUILD#"$ROOT"/}/$NAME.so for nginx $have"
fi
