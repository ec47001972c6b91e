# What the scripts here have in common; read with "." by each of them.
#
# Sets and exports what t/lib and the tools written in Perl rely on:
#
#   GATE_BUILD  where everything that is made goes
#   NGINX_BIN   the nginx under test
#   MODULE_SO   the module to load, or empty if it is built into NGINX_BIN
#   SANITIZE    1 if NGINX_BIN carries ASan and UBSan, else empty

set -eu

LC_ALL=C
export LC_ALL

ROOT=$(cd "$(dirname "$0")/../.." && pwd)

GATE_BUILD=${GATE_BUILD:-$ROOT/build}
NGINX_SRC=${NGINX_SRC:-/usr/share/nginx/src}
SANITIZE=${SANITIZE:-}
JOBS=${JOBS:-2}

MODULE_SO=$GATE_BUILD/ngx_http_gate_module.so

case "$SANITIZE" in
    0 | no) SANITIZE= ;;
esac

if [ -z "${NGINX_BIN:-}" ]; then
    NGINX_BIN=/usr/sbin/nginx

    if [ ! -x $NGINX_BIN ]; then
        NGINX_BIN=$(command -v nginx || echo $NGINX_BIN)
    fi
fi

if [ -z "${CC:-}" ] || [ "$CC" = cc ]; then
    CC=gcc
fi

# nothing of the make that called decides how nginx's makefiles run
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES

export GATE_BUILD NGINX_BIN MODULE_SO SANITIZE


say() {
    printf '%s\n' "$*"
}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# One at a time among the runs in this checkout: unlocks as fd 8 is closed.
lock() {
    mkdir -p "$GATE_BUILD"
    exec 8>"$GATE_BUILD/.lock"
    flock 8
}

unlock() {
    exec 8>&-
}

# Runs a command, whose output is of interest only when it fails.
quietly() {
    quietly_log=$1
    shift

    if ! "$@" >"$quietly_log" 2>&1 8>&-; then
        tail -n 15 "$quietly_log" >&2
        die "$1 failed, all of it is in $quietly_log"
    fi
}
