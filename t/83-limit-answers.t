#!/usr/bin/perl

# What a client is told of its limits, and what others are told of it: the
# answer to who is refused, headers, status and metrics.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Rollout;
use JSON::PP ();
use Test::More;
use Time::HiRes qw(time sleep);

my $t = Gate->new;
my $g = Gate::Rollout->new($t);

my $b = $t->backend('ok', body => 'backend');
my $bp = $b->addr;

my ($crt, $crt_key) = $t->cert;

$t->write_file('html/429.html', "slow down\n");
$t->write_file('html/503.html', "closed\n");
$t->write_file('closed', "off\n");

$t->http(workers => 1, access => '$request_uri $status', <<"EOF_CONF");
    gate_maintenance_file %%DIR%%/closed switch=site;

    gate_limit_zone per_key key=\$arg_k  rate=15r/10s burst=20;
    gate_limit_zone hour    key=\$arg_k  rate=10r/h;
    gate_limit_zone day     key=\$arg_k  rate=100r/d;
    gate_limit_zone one     key=\$arg_k  rate=1r/h;
    gate_limit_zone host    key=\$host   rate=100r/d;
    gate_limit_zone never   key=\$arg_k  rate=1r/h on_empty=refuse;
    gate_limit_zone wait1   key=\$arg_k  rate=1r/s burst=0;
    gate_limit_zone wait2   key=\$arg_k  rate=30r/m burst=1;
    gate_limit_zone tier    key=\$arg_k  rate=\$arg_r default=1r/h;
    gate_limit_zone header  key=\$http_x_key rate=1r/h;
    gate_limit_zone two     key=\$arg_k  rate=2r/h;
    gate_limit_zone secret  key=\$http_x_key rate=2r/h;
    gate_limit_zone a.b_c-d key=\$arg_k  rate=1r/h;

    server {
        listen 127.0.0.1:%%PORT:http%%;
        listen 127.0.0.1:%%PORT:h2%% ssl http2;
        ssl_certificate $crt;
        ssl_certificate_key $crt_key;
        root %%DIR%%/html;
@{[ $g->endpoints ]}
        location = /ietf { gate_limit zone=per_key; empty_gif; }
        location = /hour { gate_limit zone=hour headers=both; empty_gif; }
        location = /legacy { gate_limit zone=hour headers=legacy; empty_gif; }
        location = /off { gate_limit zone=hour headers=off; empty_gif; }
        location = /three {
            gate_limit zone=hour headers=both;
            gate_limit zone=day;
            gate_limit zone=one headers=off;
            empty_gif;
        }
        location = /both {
            gate_limit zone=host headers=both;
            gate_limit zone=hour headers=both;
            empty_gif;
        }
        location = /observe { gate_limit zone=one observe; empty_gif; }
        location = /never { gate_limit zone=never; empty_gif; }
        location = /tier { gate_limit zone=tier; empty_gif; }
        location = /name { gate_limit zone=a.b_c-d; empty_gif; }
        location = /wait1 { gate_limit zone=wait1; empty_gif; }
        location = /wait2 { gate_limit zone=wait2; empty_gif; }
        location = /403 { gate_limit zone=one status=403; empty_gif; }
        location = /503 { gate_limit zone=one status=503; empty_gif; }
        location = /418 { gate_limit zone=one status=418; empty_gif; }
        location = /444 { gate_limit zone=one status=444; empty_gif; }
        location = /proxy { gate_limit zone=hour; proxy_pass http://$bp; }
        location = /small {
            client_max_body_size 1g;
            gate_limit zone=one;
            proxy_pass http://$bp;
        }
        location = /secret { gate_limit zone=secret; empty_gif; }

        location = /page {
            error_page 429 /429.html;
            gate_limit zone=one;
            empty_gif;
        }
        location = /page200 {
            error_page 429 =200 /429.html;
            gate_limit zone=one;
            empty_gif;
        }
        location = /named {
            error_page 429 \@slow;
            gate_limit zone=one;
            empty_gif;
        }
        location \@slow { proxy_pass http://$bp; }
        location = /other {
            error_page 503 /429.html;
            gate_limit zone=one;
            empty_gif;
        }

        location = /dear {
            gate_limit zone=two headers=both;
            gate_limit zone=hour cost=8 headers=both;
            empty_gif;
        }
        location = /closed {
            gate_maintenance site;
            error_page 503 /limited.html;
            gate_limit zone=header;
            empty_gif;
        }
        location = /limited.html {
            gate_limit zone=header;
            alias %%DIR%%/html/503.html;
        }
    }
EOF_CONF

$t->start;

my $key = 'a000';
sub fresh { return $key++ }

sub heads {
    my ($r, @names) = @_;
    return join ' | ', map { $r->header($_) // '-' } @names;
}

my @ietf = qw(RateLimit-Policy RateLimit Retry-After);
my @legacy = map { "X-RateLimit-$_" } qw(Limit Remaining Reset);

# headers, of who is admitted and who is not

{
    my $r = $t->get('/ietf?k=' . fresh());
    is(heads($r, @ietf, @legacy),
        '"per_key";q=15;w=10 | "per_key";r=20;t=1 | - | - | - | -',
        'the first request of 15r/10s burst=20');

    my $k = fresh();
    my @seen = map { $t->get("/hour?k=$k") } 1 .. 11;

    is(heads($seen[0], @ietf, @legacy),
        '"hour";q=10;w=3600 | "hour";r=9;t=360 | - | 10 | 9 | 360',
        'the first of ten an hour, both kinds of headers');
    is(heads($seen[9], @ietf, @legacy),
        '"hour";q=10;w=3600 | "hour";r=0;t=3600 | - | 10 | 0 | 3600',
        'the tenth');
    is(heads($seen[10], @ietf, @legacy),
        '"hour";q=10;w=3600 | "hour";r=0;t=3600 | 360 | 10 | 0 | 3600',
        'the one too many');
    is($seen[10]->status, 429, 'is refused');
    is($seen[10]->header('Cache-Control'), 'no-store', 'and not kept');
    is($seen[9]->header('Cache-Control'), undef, 'those before are as ever');

    $k = fresh();
    @seen = map { $t->get("/legacy?k=$k") } 1 .. 11;
    is(heads($seen[0], @ietf, @legacy), '- | - | - | 10 | 9 | 360',
        'headers=legacy');
    is(heads($seen[10], @ietf, @legacy), '- | - | 360 | 10 | 0 | 3600',
        'of who is refused');

    $k = fresh();
    @seen = map { $t->get("/off?k=$k") } 1 .. 11;
    is(heads($seen[0], @ietf, @legacy), '- | - | - | - | - | -',
        'headers=off');
    is(heads($seen[10], @ietf, @legacy), '- | - | 360 | - | - | -',
        'when to come back is told all the same');

    is(heads($t->get('/proxy?k=' . fresh()), @ietf),
        '"hour";q=10;w=3600 | "hour";r=9;t=360 | -', 'of a backend\'s answer');
    is(heads($t->get('/name?k=' . fresh()), @ietf),
        '"a.b_c-d";q=1;w=3600 | "a.b_c-d";r=0;t=3600 | -', 'any name');
    is(heads($t->get('/tier?r=100r/d&k=' . fresh()), @ietf),
        '"tier";q=100;w=86400 | "tier";r=99;t=864 | -',
        'a rate by request');
    is(heads($t->get('/tier?r=off&k=' . fresh()), @ietf), '- | - | -',
        'without a limit');
    is(heads($t->get('/ietf'), @ietf), '- | - | -', 'without a key');
}

# several

{
    my $k = fresh();
    my $r = $t->get("/three?k=$k");
    is(heads($r, @ietf, @legacy),
        '"hour";q=10;w=3600, "day";q=100;w=86400 | '
        . '"hour";r=9;t=360, "day";r=99;t=864 | - | 10 | 9 | 360',
        'an item for each limit that shows headers');

    $r = $t->get("/three?k=$k");
    is($r->status, 429, 'refused by the one that shows none');
    is(heads($r, @ietf, @legacy),
        '"hour";q=10;w=3600, "day";q=100;w=86400 | '
        . '"hour";r=9;t=360, "day";r=99;t=864 | 3600 | 10 | 9 | 360',
        'nothing is taken from the others, and that is what they say');

    is(heads($t->get("/both?k=$k"), @legacy), '10 | 8 | 720',
        'the old headers are of the limit with the least left');
}

{
    my $k = fresh();
    is(heads($t->get("/dear?k=$k"), @legacy), '2 | 1 | 1800',
        'here it is the first one');
    my $r = $t->get("/dear?k=$k");
    is($r->status, 429, 'the second one refuses');
    is(heads($r, @legacy), '10 | 2 | 2880',
        'the old headers are of that, though the other has less left');
}

is(heads($t->get('/observe?k=a'), @ietf), '- | - | -',
    'a limit that is observed is not mentioned');
is(heads($t->get('/observe?k=a'), @ietf), '- | - | -', 'nor if it is over');

{
    my $r = $t->get('/never');
    is($r->status, 429, 'never admitted');
    is(heads($r, @ietf), '- | - | -', 'there is nothing to wait for');
}

# Retry-After is true

for my $uri ('/wait1', '/wait2') {
    my $k = fresh();
    my $r;

    do { $r = $t->get("$uri?k=$k") } while $r->status == 200;

    my $wait = $r->header('Retry-After');
    is($wait, $uri eq '/wait1' ? 1 : 2, "$uri: Retry-After is $wait");
    sleep $wait;
    is($t->get("$uri?k=$k")->status, 200,
        'who waits exactly that long is admitted');
}

# the answer

{
    my $k = fresh();
    $t->get("/name?k=$k");
    my $r = $t->get("/name?k=$k");

    is($r->body, '{"detail":"Rate limit exceeded"}', 'the body');
    is($r->header('Content-Type'), 'application/json', 'its type');
    is($r->reason, 'Too Many Requests', 'the reason phrase');

    my %accept = (
        'application/problem+json' => 1,
        'application/json' => 0,
        '*/*' => 0,
        'application/*' => 0,
        'application/problem+json, application/json' => 1,
        'application/json, application/problem+json' => 1,
        'application/json, application/problem+json;q=0.5' => 0,
        'application/problem+json;q=0' => 0,
        'text/html, application/problem+json;q=0.9, */*;q=0.1' => 1,
        'APPLICATION/PROBLEM+JSON' => 1,
        'application/problem+json;' . 'x' x 3000 => 0,
        'nonsense' => 0,
        '' => 0,
    );

    for my $accept (sort keys %accept) {
        $r = $t->get("/name?k=$k", headers => [Accept => $accept]);
        my $name = 'Accept: ' . substr $accept, 0, 50;

        is($r->header('Content-Type'), $accept{$accept}
            ? 'application/problem+json' : 'application/json', $name);
    }

    $r = $t->get("/name?k=$k",
        headers => [Accept => 'application/problem+json']);
    is_deeply($r->json, { type => 'about:blank', status => 429,
        title => 'Too Many Requests', detail => 'Rate limit exceeded' },
        'RFC 9457');

    $r = $t->request(HEAD => "/name?k=$k");
    is($r->status, 429, 'HEAD');
    is($r->body, '', 'without a body');
    is($r->header('Content-Length'), 32, 'but with its length');
    is($r->header('Retry-After'), 3600, 'and headers');

    $r = $t->get("/name?k=$k", version => '1.0');
    is($r->status, 429, 'HTTP/1.0');
}

for my $status (403, 503, 418) {
    my $k = fresh();
    $t->get("/$status?k=$k");
    my $r = $t->get("/$status?k=$k",
        headers => [Accept => 'application/problem+json']);
    is($r->status, $status, "status=$status");
    is($r->json->{status}, $status, 'also in the body');
    is($r->header('Retry-After'), 3600, 'with Retry-After');
}

{
    my $k = fresh();
    $t->get("/444?k=$k");
    my $raw = $t->raw("GET /444?k=$k HTTP/1.1\r\nHost: a\r\n\r\n");
    is($raw, '', 'status=444 closes the connection');
}

# error pages

{
    my ($k, $r) = (fresh());
    $t->get("/page?k=$k");
    $r = $t->get("/page?k=$k");
    is($r->status, 429, 'error_page: the status');
    is($r->body, "slow down\n", 'the page');
    is(heads($r, @ietf), '"one";q=1;w=3600 | "one";r=0;t=3600 | 3600',
        'and the headers');

    is($t->get("/page200?k=$k")->status, 200, 'another status');

    $r = $t->get("/named?k=$k");
    is($r->status, 429, 'a named location');
    is($r->body, 'backend', 'that goes to a backend');
    is(heads($r, @ietf), '"one";q=1;w=3600 | "one";r=0;t=3600 | 3600',
        'has the headers');

    is($t->get("/other?k=$k")->body, '{"detail":"Rate limit exceeded"}',
        'an error_page for another status is not meant');
}

# in maintenance nobody pays for the page that says so

{
    my @k = (headers => ['X-Key' => fresh()]);
    $t->write_file('closed', "on\n");
    wait_for { $t->get('/closed')->status == 503 } what => 'maintenance';

    for (1 .. 3) {
        my $r = $t->get('/closed', @k);
        is($r->status . $r->body, "503closed\n", 'closed is not limited');
    }

    $t->write_file('closed', "off\n");
    wait_for { $t->get('/closed')->status == 200 } what => 'open again';
    is($t->get('/closed', @k)->status, 200, 'and costs nothing');
    is($t->get('/closed', @k)->status, 429, 'the next one does');
}

# bodies that nobody reads, and connections that go on

{
    my $k = fresh();
    $t->get("/small?k=$k");

    my $c = $t->conn;
    my $body = 'x' x 100_000;

    for my $n (1 .. 3) {
        $c->write("POST /small?k=$k HTTP/1.1\r\nHost: a\r\n"
            . 'Content-Length: ' . length($body) . "\r\n\r\n$body");
        my $r = $c->recv;
        is($r->status, 429, "POST $n with a body, on one connection");
    }

    $c->write("POST /small?k=$k HTTP/1.1\r\nHost: a\r\n"
        . "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    is($c->recv->status, 429, 'a chunked one');

    $c->write("GET /name?k=" . fresh() . " HTTP/1.1\r\nHost: a\r\n\r\n");
    is($c->recv->status, 200, 'and then something else');
    $c->close;

    $c = $t->conn;
    $c->write("POST /small?k=$k HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
        . "Content-Length: 1000000\r\n\r\n");
    is($c->read_bytes(12), 'HTTP/1.1 429',
        'who asks first is told not to send');
    $c->close;

    $c = $t->conn;
    $c->write("GET /name?k=$k HTTP/1.1\r\nHost: a\r\n\r\n" x 5);
    is(join(' ', map { $c->recv->status } 1 .. 5), '200 429 429 429 429',
        'pipelined requests');
    $c->close;
}

# HTTP/2

SKIP: {
    skip_unless_cmd('curl', 5);

    my $k = fresh();
    my $port = $t->port('h2');
    my $curl = sub {
        my (@args) = @_;
        open my $fh, '-|', 'curl', '-sk', '--http2', '-i', '-m', 10, @args
            or die "curl: $!\n";
        local $/;
        my $out = <$fh>;
        close $fh;
        return $out;
    };

    skip 'curl without HTTP/2', 5
        if $curl->("https://127.0.0.1:$port/name?k=$k") !~ m{^HTTP/2 200}i;

    my $out = $curl->("https://127.0.0.1:$port/name?k=$k");
    like($out, qr{^HTTP/2 429}i, 'HTTP/2');
    like($out, qr/^retry-after: 3600\r$/mi, 'has the headers');
    like($out, qr/^ratelimit: "a\.b_c-d";r=0;t=3600\r$/mi, 'all of them');
    like($out, qr/\{"detail":"Rate limit exceeded"\}$/, 'and the body');

    my $file = $t->write_file('upload', 'x' x 300_000);
    like($curl->('--data-binary', "\@$file",
        "https://127.0.0.1:$port/name?k=$k"), qr{^HTTP/2 429}i,
        'with a body that nobody reads');
}

# status

my $secret = 'do-not-tell-anybody-0123456789';
my @h = (headers => ['X-Key' => $secret]);
$t->get('/secret', @h) for 1 .. 5;
$t->get('/secret');

my $s = $g->status->{limits};

is_deeply([ sort keys %$s ], [ sort qw(per_key hour day one host never wait1
    wait2 tier header two secret a.b_c-d) ], 'the status has all zones');

is_deeply($s->{secret}, {
    rate => '2r/h', capacity => 2, variable => JSON::PP::false,
    on_empty => 'skip', on_full => 'admit', on_redis_loss => 'share',
    keys => { max => 100000, used => 1, in_debt => 1 },
    passed => 2, limited => 3, observed => 0, unlimited => 1, shared => 0,
    fallback => 0, full_passed => 0, full_limited => 0, evicted => 0,
    dropped => 0, bad_rate => 0, bad_cost => 0,
    sync => { mode => 'off' }, overrides => { n => 0, fields => 0,
    errors => 0 }, exact => { asked => 0, timeouts => 0 },
}, 'a zone in the status');

is($s->{per_key}{rate}, '15r/10s', 'a rate as it was configured');
is($s->{per_key}{capacity}, 21, 'and its capacity');
is($s->{tier}{variable}, JSON::PP::true, 'a rate by request');

# metrics

my $m = $t->get('/gate-metrics')->body;

like($m, qr/^\Q$_\E$/m, $_) for (
    'nginx_gate_limit_requests_total{zone="secret",decision="passed"} 2',
    'nginx_gate_limit_requests_total{zone="secret",decision="limited"} 3',
    'nginx_gate_limit_requests_total{zone="secret",decision="observed"} 0',
    'nginx_gate_limit_requests_total{zone="secret",decision="unlimited"} 1',
    'nginx_gate_limit_keys{zone="secret",kind="max"} 100000',
    'nginx_gate_limit_keys{zone="secret",kind="used"} 1',
    'nginx_gate_limit_keys{zone="secret",kind="in_debt"} 1',
    'nginx_gate_limit_evictions_total{zone="secret"} 0',
    'nginx_gate_limit_full_total{zone="secret",decision="limited"} 0',
);

SKIP: {
    skip_unless_cmd('promtool', 1);

    my $file = $t->write_file('metrics', $m);
    my $out = `promtool check metrics < $file 2>&1`;
    is("$? $out", '0 ', 'promtool has nothing to say');
}

# in a fleet

{
    my $f = Gate->new;
    my $redis = $f->redis;
    my $fg = Gate::Rollout->new($f);

    $f->http(workers => 1, <<"EOF_CONF");
    gate_redis redis://@{[ $redis->addr ]};
    gate_limit_zone async key=\$arg_k rate=10r/h;
    gate_limit_zone exact key=\$arg_k rate=10r/h sync=exact timeout=5s;
    gate_limit_zone alone key=\$arg_k rate=10r/h sync=off on_redis_loss=deny;

    server {
        listen 127.0.0.1:%%PORT:http%%;
        location = /async { gate_limit zone=async; empty_gif; }
        location = /exact { gate_limit zone=exact; empty_gif; }
        location = /alone { gate_limit zone=alone; empty_gif; }
@{[ $fg->endpoints ]}
    }
EOF_CONF

    $f->start;

    wait_for { my $s = $fg->status->{limits};
        $s->{async}{sync}{online} && $s->{exact}{sync}{online}
    } what => 'zones that share';

    $f->get('/async?k=a') for 1 .. 3;
    $f->get('/alone?k=a') for 1 .. 3;

    wait_for { $fg->status->{limits}{async}{sync}{unsent} == 0
        && $fg->status->{limits}{async}{sync}{keys} } what => 'a batch';
    wait_for { $f->get('/exact?k=' . rand);
        $fg->status->{limits}{exact}{exact}{asked} } what => 'a question';

    my $s = $fg->status->{limits};

    is($s->{async}{sync}{mode}, '100ms', 'fleet: the default');
    is($s->{async}{sync}{nodes}, 1, 'one node');
    cmp_ok($s->{async}{sync}{age_ms}, '>=', 0, 'Redis acknowledged');
    cmp_ok($s->{async}{sync}{batches}, '>=', 1, 'a batch');
    is($s->{exact}{sync}{mode}, 'exact', 'exact');
    is($s->{exact}{exact}{timeouts}, 0, 'no timeouts');
    is_deeply($s->{alone}{sync}, { mode => 'off' }, 'alone');
    is($s->{alone}{on_redis_loss}, 'deny', 'on_redis_loss');

    my $m = $f->get('/gate-metrics')->body;

    like($m, qr/^nginx_gate_limit_$_$/m, $_) for (
        'online\{zone="async"\} 1', 'online\{zone="exact"\} 1',
        'batches_total\{zone="async"\} [1-9]\d*',
        'batch_keys_total\{zone="async"\} [1-9]\d*',
        'batches_resent_total\{zone="async"\} 0',
        'sync_age_seconds\{zone="async"\} \d+\.\d+',
        'overrides\{zone="async"\} 0', 'keys\{zone="async",kind="unsent"\} 0',
        'redis_asked_total\{zone="exact"\} [1-9]\d*',
        'redis_timeouts_total\{zone="exact"\} 0',
    );

    unlike($m, qr/online\{zone="alone"\}/, 'who is alone is not part of it');

  SKIP: {
        skip_unless_cmd('promtool', 1);

        my $file = $f->write_file('metrics', $m);
        my $out = `promtool check metrics < $file 2>&1`;
        is("$? $out", '0 ', 'promtool has nothing to say');
    }

    $f->done;
}

# the key is nowhere

unlike($_->[1], qr/\Q$secret\E/, "the key is not in $_->[0]") for (
    ['the log', Gate::slurp($t->dir . '/error.log')],
    ['the status', $t->get('/gate')->body],
    ['the metrics', $m],
);

$t->done;
done_testing;
