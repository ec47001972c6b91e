#!/usr/bin/perl

# gate_maintenance: a request that fails before any phase has run is no way
# into a closed site, wherever its error page leads.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Test::More;

for my $case (
    ['locations alike', ''],
    ['locations that differ', 'location /free/ { gate_maintenance off; }'],
) {
    my ($name, $more) = @$case;

    # one nginx each: which phases are hooked is up to all of its servers

    my $t = Gate->new;
    my $b = $t->backend('ok', body => 'backend');

    $t->http(<<"CONF");
        gate_maintenance_file %%DIR%%/closed;

        server {
            listen 127.0.0.1:%%PORT:http%%;
            gate_maintenance on;
            error_page 400 = \@backend;

            location / { return 200 "open\\n"; }
            location \@backend { proxy_pass http://@{[ $b->addr ]}; }
            $more
        }
CONF

    $t->start;

    # two Host headers: nginx answers 400 before it looks for a location

    my $early = sub {
        return $t->raw("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n"
            . "Connection: close\r\n\r\n");
    };

    like($early->(), qr/backend\z/, "$name, open: the error page");

    $t->write_file('closed', '');
    wait_for { $t->get('/')->status == 503 } what => 'closing';
    $b->clear;

    like($early->(), qr{^HTTP/1.1 503 .*"detail"}s, "$name, closed: 503");
    is($b->requests, 0, 'and it did not get to the backend');

    $t->done;
}

done_testing;
