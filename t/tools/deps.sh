#!/bin/sh

# deps.sh GROUP...: the Debian packages for build, run, test, lint, bench or
# all.  Silent and instant if they are there; else installed with apt-get, as
# root or through sudo, and without starting what the packages would start.

set -eu

LC_ALL=C
export LC_ALL

build="nginx nginx-dev gcc libc6-dev make libjansson-dev libssl-dev
       libhiredis-dev"

run="perl curl openssl redis-server redis-tools"

test="libio-socket-ssl-perl nghttp2-client prometheus dpkg-dev xz-utils patch
      libpcre2-dev zlib1g-dev python3"

lint="perl binutils clang clang-tidy cppcheck libclang-rt-dev lua5.1
      python3"

bench="valgrind wrk python3"


die() {
    printf 'deps.sh: %s\n' "$*" >&2
    exit 1
}

missing() {
    for p in $packages; do
        s=$(dpkg-query -W -f '${db:Status-Status}\n' "$p" 2>/dev/null || :)

        case "$s" in
            installed*) ;;
            *)          echo "$p" ;;
        esac
    done
}


packages=

for group in "$@"; do
    case "$group" in
        build) packages="$packages $build" ;;
        run)   packages="$packages $run" ;;
        test)  packages="$packages $test" ;;
        lint)  packages="$packages $lint" ;;
        bench) packages="$packages $bench" ;;
        all)   packages="$build $run $test $lint $bench" ;;
        *)     die "no such group of packages: $group" ;;
    esac
done

packages=$(printf '%s\n' $packages | sort -u)

[ -z "${NO_DEPS:-}" ] || exit 0

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    printf 'deps.sh: not a Debian system, taken to be installed: %s\n' \
           "$(echo $packages)" >&2
    exit 0
fi

need=$(missing)

[ -n "$need" ] || exit 0

if [ "$(id -u)" != 0 ]; then

    if command -v sudo >/dev/null; then
        exec sudo -- "$0" "$@"
    fi

    die "these packages are missing, and there is neither root nor sudo to
install them. As root: apt-get install --no-install-recommends $(echo $need)"
fi


# One at a time: the run that set policy-rc.d up is the one that takes it
# away, and the next must not install without it.

exec 9</var/lib/dpkg
flock 9

need=$(missing)

[ -n "$need" ] || exit 0

log=$(mktemp)
policy=

cleanup() {
    [ -z "$policy" ] || rm -f "$policy"
    rm -f "$log"
}

trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

if [ ! -e /usr/sbin/policy-rc.d ]; then
    policy=/usr/sbin/policy-rc.d
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod 755 $policy
fi

apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=600 \
        -o Dpkg::Use-Pty=0 "$@" >>"$log" 2>&1 </dev/null 9<&-
}

echo "deps: installing" $need

# The lists a machine has may be old enough to name files that have gone.

apt update || echo "deps: apt-get update failed, trying without" >&2

if ! apt install -y --no-install-recommends $need; then
    tail -n 40 "$log" >&2
    die "apt-get could not install: $(echo $need)"
fi

need=$(missing)

[ -z "$need" ] || die "still missing after apt-get: $(echo $need)"
