#!/usr/bin/perl

# What "nginx -t" says of limits: the shortest configuration that works, and
# for each mistake the place and the remedy.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Test::More;

my $t = Gate->new;

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
    my ($zone, $use) = @_;
    $use //= 'gate_limit zone=z;';
    return "$zone\nserver { listen 127.0.0.1:%%PORT:http%%;\n"
        . "location / { $use } }";
}

sub good {
    my ($name, @site) = @_;
    my ($code, $out) = $t->test_http(site(@site));
    is($code, 0, $name) or diag($out);
    return $out;
}

sub bad {
    my ($name, $mark, $re, @site) = @_;

    my $text = $t->http_text(site(@site));
    my ($code, $out) = $t->test_conf($text);

    subtest $name => sub {
        is($code, 1, 'refused');
        like($out, $re, 'reason and remedy');

        my $line = line_of($text, $mark);
        like($out, qr/\[emerg\][^\n]* in \S*test\.conf:$line$/m,
            'file and line') or diag($out);
        unlike($out, qr/signal|Sanitizer/, 'no crash');
    };
}

sub zone { return 'gate_limit_zone z ' . join(' ', @_) . ';' }

my $key = 'key=$http_x_key';

good('the shortest zone', zone($key, 'rate=10r/s'));

good("rate=$_", zone($key, "rate=$_"))
    for qw(1r/s 100r/s 60r/m 5000r/h 10r/d 15r/10s 1000000r/s 1r/60d);

good("parameters in any order: $_->[0]", zone(@$_)) for (
    ['burst=20', 'rate=10r/s', $key],
    ['on_empty=refuse', 'on_full=refuse', 'max_keys=64', $key, 'rate=1r/m'],
    ['on_empty=limit', 'on_full=admit', 'max_keys=100', $key, 'rate=1r/m'],
    ['sync=off', 'on_redis_loss=local', $key, 'rate=1r/m', 'on_empty=skip'],
);

good('a key made of several variables',
    zone('"key=$host|$remote_addr"', 'rate=1r/s'));
good('a rate by request', zone($key, 'rate=$arg_rate', 'default=1r/s'));
good('a rate with a variable in it',
    zone($key, 'rate=${arg_rate}r/s', 'default=1r/s burst=4'));

my @uses = (
    'gate_limit zone=z cost=5;', 'gate_limit zone=z cost=0;',
    'gate_limit zone=z cost=$arg_cost;', 'gate_limit zone=z status=503;',
    'gate_limit zone=z headers=ietf;', 'gate_limit zone=z headers=legacy;',
    'gate_limit zone=z headers=both;', 'gate_limit zone=z headers=off;',
    'gate_limit observe zone=z;', 'gate_limit off;',
);

good($_, zone($key, 'rate=60r/m'), $_) for @uses;

is(($t->test_http(<<'EOF'))[0], 0, 'a zone may be used before it is defined');
    server { listen 127.0.0.1:%%PORT:http%%; gate_limit zone=later; }
    gate_limit_zone later key=$arg_k rate=1r/s;
EOF

like(good('a zone that nobody uses', zone($key, 'rate=1r/s'), ''),
    qr/successful/, 'is no mistake');

# what is refused: the zone

bad("zone: $_->[0]", 'gate_limit_zone', $_->[1], $_->[2]) for (
    ['no key', qr/needs "key=", as in/, zone('rate=1r/s', 'burst=4')],
    ['no rate', qr/needs "rate=", as in/, zone($key, 'burst=4')],
    ['an empty key', qr/invalid parameter "key=", it must be a value/,
        zone('key=', 'rate=1r/s')],
    ['a parameter twice', qr/duplicate parameter "burst=2"/,
        zone($key, 'rate=1r/s', 'burst=1', 'burst=2')],
    ['an unknown parameter', qr/invalid parameter "colour=red", allowed are/,
        zone($key, 'rate=1r/s', 'colour=red')],
    ['a parameter without a value', qr/invalid parameter "observe", allowed/,
        zone($key, 'rate=1r/s', 'observe')],
    ['a rate of zero', qr{rate "0r/s" is zero}, zone($key, 'rate=0r/s')],
    ['a rate in zero seconds', qr{rate "1r/0s" is zero},
        zone($key, 'rate=1r/0s')],
    ['a rate that is no rate', qr{rate "10" is not like "100r/s"},
        zone($key, 'rate=10')],
    ['a rate with another unit', qr{rate "1r/w" has a unit other than},
        zone($key, 'rate=1r/w')],
    ['a rate that overflows', qr{rate "99999999999999999999r/s" is of more},
        zone($key, 'rate=99999999999999999999r/s')],
    ['a period that overflows', qr{rate "1r/99999999999999999999d" has a},
        zone($key, 'rate=1r/99999999999999999999d')],
    ['a rate above a million a second', qr{rate "1000001r/s" is of more},
        zone($key, 'rate=1000001r/s')],
    ['a budget of more than 60 days', qr{gives a burst back only in more},
        zone($key, 'rate=1r/d', 'burst=100')],
    ['a negative burst', qr/"burst=-1", it must be a number from 0/,
        zone($key, 'rate=1r/s', 'burst=-1')],
    ['a burst that overflows', qr/"burst=10000000", it must be a number/,
        zone($key, 'rate=1r/s', 'burst=10000000')],
    ['a rate by request without a default', qr/needs "default="/,
        zone($key, 'rate=$arg_r')],
    ['a default for a fixed rate', qr/"default=" is for a "rate=" with/,
        zone($key, 'rate=1r/s', 'default=2r/s')],
    ['a default that is no rate', qr{rate "fast" is not like},
        zone($key, 'rate=$arg_r', 'default=fast')],
    ['too few keys', qr/"max_keys=63", it must be a number from 64/,
        zone($key, 'rate=1r/s', 'max_keys=63')],
    ['too many keys', qr/"max_keys=268435457", it must be a number/,
        zone($key, 'rate=1r/s', 'max_keys=268435457')],
    ['on_empty', qr/"on_empty=no", it must be "skip", "limit" or "refuse"/,
        zone($key, 'rate=1r/s', 'on_empty=no')],
    ['on_full', qr/"on_full=no", it must be "admit" or "refuse"/,
        zone($key, 'rate=1r/s', 'on_full=no')],
    ['on_redis_loss', qr/it must be "share", "local", "deny" or "allow"/,
        zone($key, 'rate=1r/s', 'on_redis_loss=no')],
    ['sync', qr/"sync=5ms", it must be "exact", "off", or a time from 10ms/,
        zone($key, 'rate=1r/s', 'sync=5ms')],
    ['sync of more than 10 s', qr/"sync=11s", it must be/,
        zone($key, 'rate=1r/s', 'sync=11s')],
    ['timeout', qr/"timeout=0", it must be a time from 1ms to 10s/,
        zone($key, 'rate=1r/s', 'timeout=0')],
    ['exact without Redis', qr/"z" has "sync=", but there is no "gate_redis"/,
        zone($key, 'rate=1r/s', 'sync=exact')],
    ['sync without Redis', qr/only "sync=off" is allowed/,
        zone($key, 'rate=1r/s', 'sync=100ms')],
    ['timeout without exact', qr/"timeout=", which is only for "sync=exact"/,
        zone($key, 'rate=1r/s', 'timeout=10ms')],
    ['a name with a space', qr/invalid name of a limit zone "a b"/,
        'gate_limit_zone "a b" key=$arg_k rate=1r/s;'],
    ['the name "off"', qr/invalid name of a limit zone "off"/,
        'gate_limit_zone off key=$arg_k rate=1r/s;'],
    ['a name of 65 letters', qr/must be of up to 64 letters/,
        'gate_limit_zone ' . 'n' x 65 . ' key=$arg_k rate=1r/s;'],
    ['defined twice', qr/limit zone "z" is defined already/,
        zone($key, 'rate=1r/s') . "\n" . zone($key, 'rate=2r/s')],
);

# and its use

bad("use: $_->[0]", 'location', $_->[1], zone($key, 'rate=1r/s'), $_->[2])
    for (
    ['no zone', qr/needs "zone=", the name of/, 'gate_limit cost=2;'],
    ['an unknown zone', qr/"y" is used, but no "gate_limit_zone" defines it/,
        'gate_limit zone=y;'],
    ['an empty zone', qr/invalid name of a limit zone ""/,
        'gate_limit zone=;'],
    ['a zone twice', qr/limit zone "z" is used here already/,
        'gate_limit zone=z; gate_limit zone=z cost=2;'],
    ['an unknown parameter', qr/invalid parameter "burst=5", allowed are/,
        'gate_limit zone=z burst=5;'],
    ['a negative cost', qr/"cost=-1", it must be a number from 0/,
        'gate_limit zone=z cost=-1;'],
    ['a cost that is none', qr/"cost=", it must be a number/,
        'gate_limit zone=z cost=;'],
    ['a status of 200', qr/"status=200", it must be a status from 400/,
        'gate_limit zone=z status=200;'],
    ['a status of 600', qr/"status=600", it must be a status from 400/,
        'gate_limit zone=z status=600;'],
    ['a status that is none', qr/"status=no", it must be a status from 400/,
        'gate_limit zone=z status=no;'],
    ['headers', qr/it must be "ietf", "legacy", "both" or "off"/,
        'gate_limit zone=z headers=all;'],
    ['"off" and something', qr/"off" must be the only "gate_limit"/,
        'gate_limit zone=z; gate_limit off;'],
    ['something and "off"', qr/"off" must be the only "gate_limit"/,
        'gate_limit off; gate_limit zone=z;'],
    ['"off" with a parameter', qr/"off" must be the only "gate_limit"/,
        'gate_limit off zone=z;'],
    ['a fixed cost that nobody can pay',
        qr/"cost=2" is more than all that limit zone "z" allows at once/,
        'gate_limit zone=z cost=2;'],
);

my @nine = map { "z$_" } 1 .. 9;

bad('nine limits in one place', 'location', qr/there may be up to 8/,
    join("\n", map { "gate_limit_zone $_ key=\$arg_k rate=1r/s;" } @nine),
    join(' ', map { "gate_limit zone=$_;" } @nine));

my ($code, $out) = $t->test_http(<<'EOF');
    gate_limit_zone z key=$arg_k rate=1r/s;
    server {
        listen 127.0.0.1:%%PORT:http%%;
        location / { if ($arg_a) { gate_limit zone=z; } }
    }
EOF

is($code, 1, 'not in "if"');
like($out, qr/"gate_limit" directive is not allowed here/, 'it says so');

($code, $out) = $t->test_http(site(zone('key=$nonesuch', 'rate=1r/s')));

is($code, 1, 'an unknown variable is refused');
like($out, qr/unknown "nonesuch" variable/, 'by nginx');

# with Redis there is more to choose

my $redis = "gate_redis redis://127.0.0.1:1;\n";

good("with Redis: $_", $redis . zone($key, 'rate=1r/s', $_))
    for 'sync=exact', 'sync=exact timeout=5ms', 'sync=10ms', 'sync=10s',
        'sync=off', 'on_redis_loss=deny', 'on_redis_loss=allow';

$t->done;
done_testing;
