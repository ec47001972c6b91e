#!/bin/sh

# Runs a command in the environment of env.sh, at the top of the checkout.

. "$(dirname "$0")/env.sh"

cd "$ROOT"

[ -f "$2" ] || die "no $2 in this checkout"

exec "$@"
