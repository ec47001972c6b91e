#!/usr/bin/perl

# Connections are kept by the arms, each by its own rules, and not by the
# composite, also where nginx keeps them unless told otherwise; a "keepalive"
# in the composite is one more cache, for both arms.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Test::More;

my $t = Gate->new;
my $b = $t->backend('ok');

$t->http(workers => 1, <<"EOF");
    proxy_http_version 1.1;
    proxy_set_header Connection '';

    upstream pairs { server @{[ $b->addr ]}; keepalive 4;
        keepalive_requests 2; }
    upstream brief { server @{[ $b->addr ]}; keepalive 4;
        keepalive_timeout 50ms; }
    upstream plain { server @{[ $b->addr ]}; keepalive 1;
        keepalive_requests 1; }
    upstream other { server @{[ $b->addr ]}; }

    upstream stable { gate_canary pairs other weight=0%; }
    upstream canary { gate_canary other pairs weight=100%; }
    upstream timeout { gate_canary brief other weight=0%; }
    upstream outer { gate_canary plain other weight=0%; keepalive 4; }

    server {
        listen 127.0.0.1:%%PORT:http%%;

        location /stable { proxy_pass http://stable; }
        location /canary { proxy_pass http://canary; }
        location /timeout { proxy_pass http://timeout; }
        location /outer { proxy_pass http://outer; }
    }
EOF

$t->start;

sub connections {
    my ($uri, $requests) = @_;

    $b->clear;
    $t->get($uri)->status == 200 or return 'no answer' for 1 .. $requests;
    return $b->connections;
}

is(connections('/stable', 6), 3, 'keepalive_requests of stable');
is(connections('/canary', 6), 3, 'keepalive_requests of the canary');

is(connections('/timeout', 1), 1, 'a connection is made');
ok(eval { wait_for { $b->stats->{open} == 0 } timeout => 5 },
    'and closed after keepalive_timeout of the arm');

is(connections('/outer', 6), 1,
    'a keepalive in the composite is asked before that of the arm');

$t->done;
done_testing;
