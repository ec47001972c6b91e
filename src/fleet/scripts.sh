#!/bin/sh

# scripts.sh DIR: the scripts in DIR as C strings, for ngx_gate_script.c.
# scripts.sh DIR NAME: one of them as it is sent to Redis.
#
# A script that begins with "-- include: a b" is a.lua, b.lua and itself.
# Comments and indentation stay behind: they only make it longer.

set -eu

LC_ALL=C
export LC_ALL

dir=$1

whole() {
    set -- "$1" $(sed -n '1s/^-- include: //p' "$dir/$1.lua")
    name=$1
    shift

    for part in "$@" "$name"; do
        sed -e 's/^ *//' -e '/^--/d' -e '/^$/d' "$dir/$part.lua"
    done
}

if [ $# = 2 ]; then
    whole "$2"
    exit 0
fi

for name in observe restore put rollout evidence beat limit override \
    take; do
    printf '\nstatic const char  ngx_gate_script_%s[] =\n' $name
    whole $name | sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/.*/    "&\\n"/'
    printf '    ;\n'
done
