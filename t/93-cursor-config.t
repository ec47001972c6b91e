#!/usr/bin/perl

# What "nginx -t" says of cursors: the shortest configuration that works, and
# for each mistake the place and the remedy.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Test::More;

my $t = Gate->new;

my $secret = 'cursor-config-secret-of-36-characters';
my $file = $t->write_file('cursor.key', "$secret\n");
chmod 0600, $file or die "chmod $file: $!\n";

my $pem = $t->write_file('public.pem', <<'EOF_PEM');
-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
EOF_PEM
chmod 0600, $pem or die "chmod $pem: $!\n";

my $key = "gate_cursor_key file=$file;\n";

# The file is test.conf; the number of the last line with that text.

sub line_of {
    my ($text, $mark) = @_;
    my ($n, $found) = (0, 0);
    for my $line (split /\n/, $t->expand($text)) {
        $n++;
        $found = $n if index($line, $mark) >= 0;
    }
    return $found || die "no line has $mark\n";
}

sub site {
    my ($use, %o) = @_;
    return ($o{http} // $key) . "server { listen 127.0.0.1:%%PORT:http%%;\n"
        . ($o{server} // '') . "\nlocation / {\n$use\n} }";
}

sub good {
    my ($name, @site) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($code, $out) = $t->test_http(site(@site));
    is($code, 0, $name) or diag($out);
    unlike($out, qr/\Q$secret\E/, "$name: without the key");
    return $out;
}

sub bad {
    my ($name, $re, $use, %o) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $text = $t->http_text(site($use, %o));
    my ($code, $out) = $t->test_conf($text);

    subtest $name => sub {
        is($code, 1, 'refused');
        like($out, $re, 'reason and remedy');

        my $line = line_of($text, $o{mark} // $use);
        like($out, qr/\[emerg\][^\n]* in \S*test\.conf:$line$/m,
            'file and line') or diag($out);
        unlike($out, qr/signal|Sanitizer|\Q$secret\E/, 'no crash, no key');
    };
}

good($_, $_) for (
    'gate_cursor cursor;', 'gate_cursor off;', 'gate_cursor arg:cursor;',
    'gate_cursor arg:off;', 'gate_cursor "arg:$x=1&:";',
    'gate_cursor page[cursor];', 'gate_cursor header:X-Cursor;',
    'gate_cursor header:off;', 'gate_cursor cookie:cursor_2;',
    (map { "gate_cursor cursor $_;" } qw(
        format=envelope format=detached format=jws
        mode=strict mode=compat mode=observe
        ttl=1s ttl=10m ttl=90 ttl=1h30m skew=0 skew=0s skew=5m
        when=$http_x_api_key when=1 when=a$arg_b
        duplicate=reject duplicate=last duplicate=first
        expired_status=400 expired_status=410
        max_length=1 max_length=4096 max_depth=2 max_depth=32
        max_members=2 max_members=64 max_digits=1 max_digits=4300)),
    'gate_cursor cursor ttl=1h max_digits=20 format=jws when=$arg_a skew=1s'
        . ' mode=compat duplicate=last expired_status=410 max_length=100;',
    'gate_cursor_claim a b;', 'gate_cursor_claim "a b" "$host$uri";',
    join("\n", map { "gate_cursor_claim c$_ \$arg_c;" } 1 .. 8),
);

# the place

my $place = qr/invalid place of the cursor "[^"]*", allowed are the name of an argument, "arg:NAME", "header:NAME" and "cookie:NAME", or "off" alone/;

bad("the place: $_", $place, "gate_cursor $_;")
    for qw($arg_cursor ttl=10m body:cursor Header:X a=b a&b format=jws);

bad("the place: \"$_\"", qr/invalid name in "$_", it must be of one character at least/,
    "gate_cursor \"$_\";") for '', 'arg:';

bad("the place: \"$_\"", qr/invalid name in "\Q$_\E", it must be of letters, digits, "-", "_" and the like/,
    "gate_cursor \"$_\";") for 'header:', 'cookie:', 'header:a b', 'cookie:a=b',
    'cookie:a;b', 'header:a:', "header:\xc3\xa4", 'header:a,b';

# parameters

bad("$_->[0]", qr/invalid parameter "\Q$_->[0]\E", it must be $_->[1]/,
    "gate_cursor cursor $_->[0];") for (
    ['format=', qr/"envelope", "detached" or "jws"/],
    ['format=jwt', qr/"envelope", "detached" or "jws"/],
    ['format=JWS', qr/"envelope", "detached" or "jws"/],
    ['mode=', qr/"strict", "compat" or "observe"/],
    ['mode=off', qr/"strict", "compat" or "observe"/],
    ['ttl=0', qr/a time in whole seconds of at least 1s/],
    ['ttl=', qr/a time in whole seconds of at least 1s/],
    ['ttl=500ms', qr/a time in whole seconds/],
    ['ttl=1.5s', qr/a time in whole seconds/],
    ['ttl=-1s', qr/a time in whole seconds/],
    ['ttl=99999999999999999999s', qr/a time in whole seconds/],
    ['skew=', qr/a time in whole seconds, as in "60s"/],
    ['skew=x', qr/a time in whole seconds, as in "60s"/],
    ['when=', qr/a value, as in "when=\$http_x_api_key"/],
    ['duplicate=all', qr/"reject", "last" or "first"/],
    ['expired_status=404', qr/400 or 410/],
    ['expired_status=4100', qr/400 or 410/],
    ['expired_status=', qr/400 or 410/],
    ['max_length=0', qr/a number from 1 to 4096/],
    ['max_length=4097', qr/a number from 1 to 4096/],
    ['max_length=4k', qr/a number from 1 to 4096/],
    ['max_depth=1', qr/a number from 2 to 32/],
    ['max_depth=33', qr/a number from 2 to 32/],
    ['max_members=1', qr/a number from 2 to 64/],
    ['max_members=65', qr/a number from 2 to 64/],
    ['max_digits=0', qr/a number from 1 to 4300/],
    ['max_digits=4301', qr/a number from 1 to 4300/],
    ['max_digits=-1', qr/a number from 1 to 4300/],
);

my $allowed = qr/allowed are "format=", "mode=", "ttl=", "skew=", "when=", "duplicate=", "expired_status=", "max_length=", "max_depth=", "max_members=" and "max_digits="/;

bad("$_", qr/invalid parameter "$_", $allowed/, "gate_cursor cursor $_;")
    for qw(colour=red off second TTL=1m key=x);

bad('a parameter twice', qr/duplicate parameter "ttl=2m"/,
    'gate_cursor cursor ttl=1m ttl=2m;');

# several

bad('"off" with more', qr/"gate_cursor" directive has parameters after "off"/,
    'gate_cursor off ttl=1m;');
bad('twice', qr/"gate_cursor" directive is duplicate/,
    "gate_cursor a;\ngate_cursor b;", mark => 'gate_cursor b;');
bad('off and on', qr/"gate_cursor" directive is duplicate/,
    "gate_cursor off;\ngate_cursor b;", mark => 'gate_cursor b;');
bad('nothing', qr/invalid number of arguments in "gate_cursor" directive/,
    'gate_cursor ;');

# places

bad("$_->[0] in $_->[1]", qr/"\Q$_->[0]\E" directive is not allowed here/,
    "$_->[1] {\n$_->[0] a b;\n}", mark => "$_->[0] a b;") for (
    ['gate_cursor', 'if ($arg_a)'], ['gate_cursor', 'limit_except GET'],
    ['gate_cursor_claim', 'if ($arg_a)'],
    ['gate_cursor_claim', 'limit_except GET'],
);

is(($t->test_conf("events {}\ngate_cursor cursor;\nhttp {}"))[0], 1,
    'not outside of http');

good('in http', '', http => "$key gate_cursor cursor; gate_cursor_claim a b;");
good('in a server', '', server => 'gate_cursor cursor; gate_cursor_claim a b;');
good('an "if" and a "limit_except" inherit',
    'gate_cursor cursor; if ($arg_a) { set $b 1; } limit_except GET { deny all; }');

# claims

bad("claims: $_->[0]", $_->[1], $_->[2], mark => $_->[3]) for (
    ['no value', qr/invalid number of arguments in "gate_cursor_claim"/,
        'gate_cursor_claim a;', 'gate_cursor_claim a;'],
    ['a third one', qr/invalid number of arguments in "gate_cursor_claim"/,
        'gate_cursor_claim a b c;', 'gate_cursor_claim a b c;'],
    ['an empty name', qr/needs the name of a claim and a value/,
        'gate_cursor_claim "" b;', 'gate_cursor_claim "" b;'],
    ['an empty value', qr/needs the name of a claim and a value/,
        'gate_cursor_claim a "";', 'gate_cursor_claim a "";'],
    ['a name twice', qr/claim "a" is named here already/,
        "gate_cursor_claim a b;\ngate_cursor_claim a c;",
        'gate_cursor_claim a c;'],
    ['nine', qr/is one too many, there may be up to 8 at one place/,
        join("\n", map { "gate_cursor_claim c$_ v;" } 1 .. 9),
        'gate_cursor_claim c9 v;'],
    ['$ alone', qr/invalid variable name/, 'gate_cursor_claim a "$";',
        'gate_cursor_claim a "$";'],
);

# keys

my $no_key = sub {
    return qr/"gate_cursor" has no "gate_cursor_key" that fits "format=$_[0]"/
};

bad('no key', $no_key->('envelope'), 'gate_cursor cursor;', http => '');
bad('no key in the location that inherits', $no_key->('jws'), '',
    http => '', server => "gate_cursor cursor format=jws;\n",
    mark => 'gate_cursor cursor');
bad('a public key cannot verify an envelope', $no_key->('envelope'),
    'gate_cursor cursor;', http => "gate_cursor_key file=$pem;\n");
bad('nor what is detached', $no_key->('detached'),
    'gate_cursor cursor format=detached;',
    http => "gate_cursor_key file=$pem;\n");
bad('keys are inherited as a whole', $no_key->('envelope'),
    "gate_cursor cursor;\ngate_cursor_key file=$pem;",
    mark => 'gate_cursor cursor;');

good('a JWS', 'gate_cursor cursor format=jws;',
    http => "gate_cursor_key file=$pem;\n");
good('one of several fits', 'gate_cursor cursor;',
    http => "gate_cursor_key file=$pem;\n$key");
good('a key where it is used', "gate_cursor cursor;\n$key", http => '');
good('a key for each location, none for the server', $key, http => '',
    server => 'gate_cursor cursor;');
bad('a server with a place for requests needs one', $no_key->('envelope'), '',
    http => '', mark => 'gate_cursor cursor;', server =>
    "gate_cursor cursor; location = /a { $key } }\nserver { ");
good('nobody needs a key', 'gate_cursor off;', http => '');
good('an endpoint needs none', 'gate_status;', http => '',
    server => 'gate_cursor cursor;');
bad('an endpoint that checks does', $no_key->('envelope'),
    "gate_status;\ngate_cursor cursor;", http => '',
    mark => 'gate_cursor cursor;');

# variables need no cursor at all

is(($t->test_http(<<'EOF'))[0], 0, 'variables without any gate_cursor');
    server {
        listen 127.0.0.1:%%PORT:http%%;
        return 200 "$gate_cursor_status$gate_cursor_key_id$gate_cursor_claim_x";
    }
EOF

done_testing;
