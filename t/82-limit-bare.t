#!/usr/bin/perl

# Limits that tell nobody anything, headers=off and no variable that would ask
# how it stands: nothing is kept of a request that passes, and all is counted
# once and refused as ever.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Rollout;
use Test::More;

my $t = Gate->new;
my $g = Gate::Rollout->new($t);

my $b = $t->backend('ok', body => 'backend');
my $bp = $b->addr;

$t->write_file('html/x.html', "x\n");

$t->http(workers => 1, access => '$request_uri $status $gate_limit_status',
    <<"EOF_CONF");
    gate_limit_zone bare key=\$http_x_key rate=10r/h;
    gate_limit_zone addr key=\$arg_k      rate=3r/h;
    gate_limit_zone long key=\$http_x_api_key rate=3r/h;
    gate_limit_zone more key=\$http_x_key rate=100r/h;

    server {
        listen 127.0.0.1:%%PORT:http%%;
        root %%DIR%%/html;
@{[ $g->endpoints ]}
        location = /bare { gate_limit zone=bare headers=off; empty_gif; }
        location = /addr { gate_limit zone=addr headers=off; empty_gif; }
        location = /long { gate_limit zone=long headers=off; empty_gif; }
        location = /none { empty_gif; }
        location = /early {
            set \$early "\$gate_limit_status";
            gate_limit zone=bare headers=off;
            empty_gif;
        }
        location /try/ {
            gate_limit zone=bare headers=off;
            try_files /no \@named;
        }
        location \@named {
            gate_limit zone=bare headers=off;
            proxy_pass http://$bp;
        }
        location /two/ {
            gate_limit zone=bare headers=off;
            try_files /no \@two;
        }
        location \@two {
            gate_limit zone=bare headers=off;
            gate_limit zone=more headers=off;
            proxy_pass http://$bp;
        }
        location /back/ {
            gate_limit zone=bare headers=off;
            gate_limit zone=more headers=off;
            try_files /no \@named;
        }
        location /failed/ {
            gate_limit zone=bare headers=off;
            error_page 404 /bare;
        }
        location /page {
            gate_limit zone=addr headers=off status=503;
            error_page 503 /bare;
            empty_gif;
        }
        location /mirror/ {
            gate_limit zone=bare headers=off;
            mirror /bare;
            alias %%DIR%%/html/;
        }
    }
EOF_CONF

$t->start;

my $key = 'a000';
sub fresh { return $key++ }

sub passed { return $g->status->{limits}{ $_[0] // 'bare' }{passed} }

sub ask {
    my ($n, $uri, @h) = @_;
    my %seen;
    $seen{ $t->get($uri, headers => [@h])->status }++ for 1 .. $n;
    return join ' ', map { "$_:$seen{$_}" } sort keys %seen;
}

is(ask(13, '/bare', 'X-Key' => 'a'), '200:10 429:3', 'a key in a header');
is(ask(3, '/bare', 'x_key' => 'a'), '200:3', 'what is no header is no key');
is(ask(5, '/addr?k=a'), '200:3 429:2', 'a key in a variable');
is(ask(5, '/addr'), '200:5', 'without a key there is no limit');
is(ask(12, '/early', 'X-Key' => 'b'), '200:10 429:2',
    'a variable that was asked before does not let anybody in');

is(ask(1, '/bare', (map { ("X-H$_" => 'x') } 1 .. 40), 'X-Key' => 'a'),
    '429:1', 'behind many headers');
is(ask(1, '/bare', 'Y-Key' => 'b', 'X-Kez' => 'c', 'X-KEY' => 'a'),
    '429:1', 'beside names of the same length');

is(ask(5, '/long', 'X-Api-Key' => 'a'), '200:3 429:2', 'a longer name');
is(ask(5, '/long', 'X-Api-Kez' => 'b'), '200:5', 'another one of that length');
is(ask(5, '/long', 'Y-Api-Key' => 'b'), '200:5', 'and one more');
is(ask(1, '/long', 'Y-Api-Key' => 'b', 'X-API-KEY' => 'a'), '429:1',
    'before the one that counts');
is(ask(1, '/long', 'X-Api-Key' => 'a', 'X-Api-Kez' => 'b'), '429:1',
    'and behind it');

{
    my $r = $t->get('/addr?k=a');
    is($r->header('Retry-After'), 1200, 'Retry-After is there');
    is($r->header('Cache-Control'), 'no-store', 'and Cache-Control');
    is($r->header('RateLimit'), undef, 'the others are not');
    is($r->body, '{"detail":"Rate limit exceeded"}', 'the body is');
    is(scalar(() = $r->as_text =~ /retry-after/gi), 1, 'once')
        if $r->as_text =~ /retry-after/i;
}

for (
    ['/try/', 200, 'a named location'],
    ['/two/', 200, 'one with two limits'],
    ['/back/', 200, 'two limits, then one'],
    ['/failed/', 404, 'error_page'],
    ['/mirror/x.html', 200, 'a mirror'],
) {
    my ($uri, $status, $what) = @$_;
    my $before = passed();
    is($t->get($uri, headers => ['X-Key' => fresh()])->status, $status,
        "$what: works");
    is(passed() - $before, 1, "$what: counts once");
}

{
    my $k = fresh();
    my $before = passed();

    ask(3, "/page?k=$k", 'X-Key' => $k);
    is(ask(2, "/page?k=$k", 'X-Key' => $k), '503:2',
        'who is refused is not asked again for the error page');
    is(passed(), $before, 'nor counted');
}

{
    $g->api('modes/limit', { mode => 'observe' });
    is(ask(2, '/bare', 'X-Key' => 'a'), '200:2', 'mode observe');
    $g->api('modes/limit', { mode => 'off' });
    is(ask(2, '/bare', 'X-Key' => 'a'), '200:2', 'mode off');
    $g->api('modes/limit', { mode => 'enforce' });
    is(ask(2, '/bare', 'X-Key' => 'a'), '429:2', 'mode enforce');
}

{
    my $c = $t->conn;
    $c->write("GET /bare HTTP/1.1\r\nHost: a\r\nX-Key: pipe\r\n\r\n" x 12);
    is(join(' ', map { $c->recv->status } 1 .. 12),
        join(' ', ('200') x 10, ('429') x 2),
        'each request of a connection is asked');
    $c->close;
}

$t->get('/none');

wait_for { Gate::slurp($t->dir . '/access.log') =~ m{^/none }m }
    what => 'the log';

my $log = Gate::slurp($t->dir . '/access.log');

like($log, qr{^/bare 200 passed$}m, '$gate_limit_status: passed');
like($log, qr{^/bare 429 limited$}m, 'limited');
like($log, qr{^/bare 200 observed$}m, 'observed');
like($log, qr{^/addr 200 unlimited$}m, 'unlimited');
like($log, qr{^/try/ 200 passed$}m, 'after a redirect');
like($log, qr{^/none 200 -$}m, 'and nothing where no limit was asked');

$t->done;
done_testing;
