#!/usr/bin/perl

# gate_health: alive, and ready for traffic.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Test::More;

my $t = Gate->new;
my $token = 'health-test-token-0123';
chmod 0600, $t->write_file('token', $token);

$t->http(workers => 1, <<'EOF');
    server {
        listen 127.0.0.1:%%PORT:http%%;
        gate_maintenance on;
        location / { gate_maintenance shop; return 200; }
        location = /health { gate_health; }
        location = /ready { gate_health ready; }
        location = /ready/global { gate_health ready global; }
        location = /ready/shop { gate_health ready shop; }
        location /gate/api/ { gate_api token_file=%%DIR%%/token; }
    }
EOF
$t->start;

sub set {
    my ($body, $switch) = @_;
    my $r = $t->post('/gate/api/maintenance' . ($switch ? "/$switch" : ''),
        headers => { Authorization => "Bearer $token",
            'Content-Type' => 'application/json' }, body => $body);
    die $r->as_text if $r->status != 200;
}

# status of /health, /ready, /ready/global and /ready/shop

sub all {
    return join ' ', map { $t->get($_)->status }
        qw(/health /ready /ready/global /ready/shop);
}

subtest 'open' => sub {
    is(all(), '200 200 200 200', 'all are well');

    for my $uri (qw(/health /ready)) {
        my $r = $t->get($uri);
        is($r->header('content-type'), 'application/json', "$uri: type");
        is($r->header('cache-control'), 'no-store', "$uri: not to be stored");
        is($r->json->{status}, 'ok', "$uri: status");
        is($r->json->{maintenance}, JSON::PP::false, "$uri: maintenance");
        ok(length $r->json->{node}, "$uri: node");
        ok(exists $r->json->{redis} && !defined $r->json->{redis},
            "$uri: no Redis is configured");
    }

    wait_for { $t->get('/health')->json->{agent} } what => 'the agent';
};

subtest 'the global switch takes the node out' => sub {
    set('{"retry_after": 33}');
    is(all(), '200 503 503 503', 'alive, but not ready');

    my $r = $t->get('/ready');
    is($r->header('retry-after'), 33, 'Retry-After');
    is($r->json->{status}, 'maintenance', 'status');
    is($r->json->{maintenance}, JSON::PP::true, 'maintenance');
    is($t->get('/health')->json->{maintenance}, JSON::PP::true,
        'who is alive tells it too');
    set('false');
    is(all(), '200 200 200 200', 'back');
};

subtest 'a named switch is asked for by name' => sub {
    set('true', 'shop');
    is(all(), '200 200 200 503', 'only there');
    is($t->get('/ready/shop')->header('retry-after'), 60, 'Retry-After');
    set('false', 'shop');
};

subtest 'read_only leaves it in' => sub {
    set('{"read_only": true}');
    is(all(), '200 200 200 200', 'the global one');
    is($t->get('/ready')->json->{maintenance}, JSON::PP::true, 'but says so');
    set('{"read_only": true}', 'shop');
    is(all(), '200 200 200 200', 'both');
    set('true', 'shop');
    is(all(), '200 200 200 503', 'and one that is closed');
    set('false');
    set('false', 'shop');
};

subtest 'how it is asked' => sub {
    is($t->request(HEAD => '/ready')->status, 200, 'HEAD');
    set('true');
    my $r = $t->request(HEAD => '/ready');
    is($r->status, 503, 'HEAD, closed');
    is($r->header('retry-after'), 60, 'Retry-After');
    $r = $t->post('/health', body => 'x');
    is($r->status, 405, 'POST');
    is($r->header('allow'), 'GET, HEAD', 'Allow');
};

for (['gate_health alive', qr/invalid parameter "alive"/],
    ['gate_health ready a b', qr/invalid number of arguments/],
    ['gate_health ready on', qr/invalid name of a switch "on"/],
    ['gate_health ready a/b', qr{invalid name of a switch "a/b"}],
    ['gate_health; gate_health', qr/endpoints already/])
{
    my ($code, $out) = $t->test_http(
        "server { location /a { $_->[0]; } }");
    is($code, 1, "$_->[0] is refused");
    like($out, $_->[1], 'why');
}

$t->done;
done_testing;
