#!/bin/sh

# Installs the module, the tool gatectl and, as Debian's own module packages
# do, the line that loads the module; enabling it is left to whoever runs the
# machine.

. "$(dirname "$0")/env.sh"

DESTDIR=${DESTDIR:-}

if [ -z "${MODULES_PATH:-}" ]; then

    if [ -n "${PREFIX:-}" ]; then
        MODULES_PATH=$PREFIX/lib/nginx/modules
    else
        MODULES_PATH=$("$NGINX_BIN" -V 2>&1 \
            | sed -n 's/.*--modules-path=\([^ ]*\).*/\1/p')
        MODULES_PATH=${MODULES_PATH:-/usr/lib/nginx/modules}
    fi
fi

conf=${PREFIX:-/usr}/share/nginx/modules-available/mod-http-gate.conf

# nginx reads "modules/" below its own prefix, which links to its modules path
case "$MODULES_PATH" in
    /usr/lib/nginx/modules) so=modules/ngx_http_gate_module.so ;;
    *)                      so=$MODULES_PATH/ngx_http_gate_module.so ;;
esac

bin=${PREFIX:-/usr}/bin

install -d "$DESTDIR$MODULES_PATH" "$DESTDIR${conf%/*}" "$DESTDIR$bin"

# the new file takes the old one's name in one step: nginx may have it mapped
install -m 644 "$MODULE_SO" "$DESTDIR$MODULES_PATH/.ngx_http_gate_module.so.new"
mv "$DESTDIR$MODULES_PATH/.ngx_http_gate_module.so.new" \
   "$DESTDIR$MODULES_PATH/ngx_http_gate_module.so"

echo "load_module $so;" > "$DESTDIR$conf"
chmod 644 "$DESTDIR$conf"

install -m 755 "$GATE_BUILD/gatectl" "$DESTDIR$bin/.gatectl.new"
mv "$DESTDIR$bin/.gatectl.new" "$DESTDIR$bin/gatectl"

say "installed $DESTDIR$MODULES_PATH/ngx_http_gate_module.so"
say "installed $DESTDIR$bin/gatectl"
say "to enable it: ln -s $conf /etc/nginx/modules-enabled/50-mod-http-gate.conf"
