#!/bin/bash

# Prints where Debian's Lua module for nginx is unpacked, with what it needs;
# t/bench/limit.pl compares with it.  It is not installed: its libluajit2
# conflicts with the libluajit of wrk, which would have to go.  apt fetches
# and verifies the packages, once.

. "$(dirname "$0")/env.sh"

packages="libnginx-mod-http-lua libnginx-mod-http-ndk lua-resty-core
          lua-resty-lrucache libluajit2-5.1-2"

L=$GATE_BUILD/lua

if [ -f "$L/.complete" ]; then
    say "$L"
    exit 0
fi

[ -z "${NO_DEPS:-}" ] || die "the Lua module is not there, and NO_DEPS is set"

for tool in apt-get dpkg-deb; do
    command -v $tool >/dev/null || die "no $tool"
done

mkdir -p "$GATE_BUILD"
rm -rf "$L" "$L.new"
mkdir "$L.new"
cd "$L.new"

fetch() {
    apt-get -q -o APT::Sandbox::User= download $packages >log 2>&1
}

# lists may be old enough to name files that have gone; only root renews them

fetch || { apt-get -q update >/dev/null 2>&1; fetch; } \
    || die "apt-get could not download the Lua module: $(tail -n 1 log)"

for deb in ./*.deb; do
    dpkg-deb -x "$deb" . || die "cannot unpack $deb"
done

[ -f usr/lib/nginx/modules/ngx_http_lua_module.so ] \
    || die "no ngx_http_lua_module.so in the package"

rm -f ./*.deb log
touch .complete
mv "$L.new" "$L"

say "$L"
