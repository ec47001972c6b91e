#!/bin/bash

# Fetches Debian's source of the nginx installed, patches applied, and prints
# where it is.  apt does it, and so verifies it as it verifies everything, but
# with lists and caches of its own in $GATE_BUILD: the machine's stay as they
# are, and deb-src lines need not be configured.  Done once per version.
#
# NGINX_FULL_SRC names an unpacked source instead, for a machine without apt.

. "$(dirname "$0")/env.sh"

if [ -n "${NGINX_FULL_SRC:-}" ]; then
    [ -f "$NGINX_FULL_SRC/src/core/nginx.c" ] \
        || die "no nginx source in $NGINX_FULL_SRC"
    say "$NGINX_FULL_SRC"
    exit 0
fi

read -r source version < <(
    dpkg-query -W -f '${source:Package} ${source:Version}\n' nginx 2>/dev/null
) || die "nginx is not a Debian package here: name its source, NGINX_FULL_SRC"

S=$GATE_BUILD/nginx-source
D=$S/$version

if [ -f "$D/.complete" ]; then
    say "$D/nginx"
    exit 0
fi

A=$S/apt

rm -rf "$A" "$D" "$D.new"
mkdir -p "$A/lists/partial" "$A/cache/archives/partial" "$A/sources.d" "$D.new"

perl "$ROOT/t/tools/deb-src.pl" "$A/sources.d" \
    || die "cannot tell where Debian's sources are from"

# Read after the machine's own configuration.  The hooks are for its lists,
# not for these; and apt's own user need not be able to read a checkout.

cat > "$A/apt.conf" <<END
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$A/sources.d";
Dir::State::Lists "$A/lists";
Dir::Cache "$A/cache";
APT::Sandbox::User "";
Acquire::Retries "3";
Acquire::Languages "none";
END

# nginx is in one of them; that another one fails need not matter

apt-get -c "$A/apt.conf" -q update >"$A/log" 2>&1 || :

cd "$D.new"

fetch() {
    apt-get -c "$A/apt.conf" -q source --download-only --only-source \
            "$source=$1" >>"$A/log" 2>&1
}

taken=

if fetch "$version"; then
    taken=$version

else
    # gone from the archive: another revision of the same nginx will do, the
    # latest that can be had, for a mirror may list what it has not got yet

    upstream=${version%-*}

    for other in $(apt-cache -c "$A/apt.conf" showsrc --only-source \
                       "$source" 2>>"$A/log" \
                   | sed -n 's/^Version: //p' \
                   | grep -F -- "$upstream-" | sort -Vru)
    do
        rm -f ./*

        if fetch "$other"; then
            taken=$other
            echo "note: no source of $source $version, taking $taken" >&2
            break
        fi
    done
fi

if [ -z "$taken" ]; then
    tail -n 30 "$A/log" >&2
    die "apt could not fetch the source of $source $version"
fi

dpkg-source -x ./*.dsc nginx >>"$A/log" 2>&1 \
    || { tail -n 30 "$A/log" >&2; die "dpkg-source failed"; }

rm -f ./*.tar.* ./*.dsc ./*.diff.gz
touch .complete
cd "$S"
mv "$D.new" "$D"
rm -rf "$A"

say "$D/nginx"
