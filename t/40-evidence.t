#!/usr/bin/perl

# Evidence: what an attempt on an arm counts as.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Rollout;
use POSIX ();
use Test::More;
use Time::HiRes ();

my $t = Gate->new;
my $g = Gate::Rollout->new($t);

my $stable = $t->backend('ok', body => 'stable', name => 'stable');
my $canary = $t->backend('ok', body => 'canary', name => 'canary');
my $ws = $t->backend('websocket', name => 'ws');
my $quick = $t->backend('ok', name => 'quick');
my $hole = $t->blackhole;

# weight=100%: every request is the canary's, without being forced there

$t->http(workers => 2, access => '$uri $upstream_header_time', <<"EOF_CONF");
    proxy_http_version 1.1;
    proxy_set_header Connection '';
    proxy_next_upstream off;

    upstream s { server @{[ $stable->addr ]}; keepalive 4; }
    upstream c { server @{[ $canary->addr ]}; keepalive 4; }
    upstream hole { server 127.0.0.1:$hole; }
    upstream down { server 127.0.0.1:$hole down; }
    upstream ws { server @{[ $ws->addr ]}; }
    upstream quick { server @{[ $quick->addr ]}; }

    upstream shop { gate_canary s c weight=100%; gate_force \$http_x_force; }
    upstream other { gate_canary c s weight=0%; }
    upstream nobody { gate_canary s hole weight=100%; }
    upstream gone { gate_canary s down weight=100%; }
    upstream chat { gate_canary s ws weight=100%; }
    upstream clock { gate_canary s quick weight=100%; }

    map \$upstream_http_x_verdict \$judged { default \$upstream_http_x_verdict; }
    upstream judged { gate_canary s c weight=100%; gate_failure \$judged; }

    map \$http_upgrade \$link { default upgrade; "" ""; }

    server {
        listen 127.0.0.1:%%PORT:http%%;
@{[ $g->endpoints ]}
        location / { proxy_pass http://shop; proxy_read_timeout 150ms; }
        location /patient/ { proxy_pass http://shop; }
        location /early/ {
            set \$arm \$gate_arm_shop;
            proxy_pass http://shop;
        }
        location /raw/ { proxy_pass http://shop; proxy_buffering off; }
        location /next/ {
            proxy_pass http://shop;
            proxy_read_timeout 150ms;
            proxy_next_upstream error timeout invalid_header http_500 http_502
                http_503 http_504 http_403 http_404 http_429 non_idempotent;
        }
        location /nobody/ {
            proxy_pass http://nobody;
            proxy_connect_timeout 100ms;
        }
        location /gone/ { proxy_pass http://gone; }
        location /judged/ { proxy_pass http://judged; }
        location /clock { proxy_pass http://clock; }
        location /ws {
            proxy_pass http://chat;
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection \$link;
        }
        location /closed/ { gate_maintenance shut; proxy_pass http://shop; }

        location /inner/ {
            proxy_pass http://shop;
            proxy_intercept_errors on;
            error_page 404 /static;
            error_page 500 = \@again;
        }
        location \@again { proxy_pass http://shop; }
        location /static { return 200 "static\\n"; }

        location /guarded/ {
            auth_request /auth;
            proxy_pass http://shop;
        }
        location = /auth {
            internal;
            proxy_pass http://shop;
            proxy_pass_request_body off;
        }
        location /ssi/ { ssi on; ssi_types *; proxy_pass http://shop; }
    }
EOF_CONF

$t->start;

my %one = (canary => { requests => 1, attempts => 1 });
my %bad = (canary => { requests => 1, attempts => 1, failures => 1 });

subtest 'an answer below 500 is no failure' => sub {
    for my $status (200, 301, 400, 404, 418, 429, 499) {
        $canary->next('status', $status);
        $g->counted('shop', sub { is($t->get('/')->status, $status) },
            { %one }, "a $status");
    }
};

subtest 'an answer of 500 and above is one' => sub {
    for my $status (500, 502, 503, 504, 599) {
        $canary->next('status', $status);
        $g->counted('shop', sub { is($t->get('/')->status, $status) },
            { %bad }, "a $status");
    }
};

subtest 'an attempt without an answer is a failure' => sub {
    for (['close', 502], ['reset', 502], ['silent', 504], ['bad_header', 502])
    {
        my ($way, $status) = @$_;
        $canary->next($way);

        # not over a kept connection, where nginx would ask again
        $canary->drop_idle;
        $g->counted('shop', sub { is($t->get('/')->status, $status) },
            { %bad }, $way);
    }

    $g->counted('nobody', sub { is($t->get('/nobody/')->status, 504) },
        { %bad }, 'a connect that hangs');

    $canary->refuse;
    $canary->drop_idle;
    $g->counted('shop', sub { is($t->get('/', timeout => 20)->status, 502) },
        { %bad }, 'a connect that is refused');
    $canary->listen;
};

subtest 'a failure is counted also where stable makes good for it' => sub {
    for my $way (['status', 500], ['status', 503], ['close'], ['silent'],
        ['bad_header'])
    {
        $canary->next(@$way);
        $canary->drop_idle;
        $g->counted('shop',
            sub { is($t->get('/next/')->body, 'stable') },
            { canary => { requests => 1, attempts => 1, failures => 1 },
              stable => { 'fallback.attempts' => 1 },
              saved => 1, fallbacks => 1 }, "@$way");
    }
};

subtest 'a 4xx that nginx asks another server for is none all the same' => sub {
    for my $status (403, 404, 429) {
        $canary->next('status', $status);
        $g->counted('shop',
            sub { is($t->get('/next/')->body, 'stable') },
            { %one, stable => { 'fallback.attempts' => 1 } }, "a $status");
    }
};

subtest 'a canary whose servers are all down fails every attempt' => sub {
    $g->counted('gone', sub { is($t->get('/gone/')->body, 'stable') },
        { canary => { requests => 1, attempts => 1, failures => 1,
              unavailable => 1 },
          stable => { 'fallback.attempts' => 1 },
          saved => 1, fallbacks => 1 }, 'unavailable');
};

subtest 'a body that breaks off is a failure' => sub {
    for my $uri ('/patient/', '/raw/') {
        for my $way ('reset_body', 'close_body') {
            for my $chunked (0, 1) {
                $canary->next($way, $chunked
                    ? (body => "4e20\r\n" . 'x' x 15000,
                        headers => { 'Transfer-Encoding' => 'chunked' })
                    : (body => 'x' x 20000));
                $g->counted('shop',
                    sub { isnt($t->get($uri)->error, undef) },
                    { canary => { requests => 1, attempts => 1,
                        failures => 1, broken => 1 } },
                    "$uri $way" . ($chunked ? ', chunked' : ''));
            }
        }
    }

    $canary->next('stall_body', body => 'x' x 20000);
    $g->counted('shop', sub { $t->get('/') },
        { canary => { requests => 1, attempts => 1, failures => 1,
            broken => 1 } }, 'one that stops until the timeout');
};

subtest 'a client that leaves is no failure' => sub {
    my $c = $t->conn;
    $canary->next('hold');
    $g->counted('shop', sub {
        my $seen = $canary->requests;
        $c->send(GET => '/patient/');
        wait_for { $canary->requests > $seen } what => 'the request';
        $c->close;
    }, { canary => { requests => 1, attempts => 1, censored => 1 } },
        'before the header: censored');
    $canary->release;

    for my $uri ('/patient/', '/raw/') {
        $canary->next('stall_body', body => 'x' x 20000);
        $c = $t->conn;
        $g->counted('shop', sub {
            $c->send(GET => $uri);
            $c->read_bytes(200);
            $c->close;
        }, { %one }, "in mid-body, $uri");
    }
};

subtest 'forced requests are no evidence' => sub {
    $canary->next('status', 500);
    $g->counted('shop',
        sub { $t->get('/', headers => { 'X-Force' => 'always' }) },
        { canary => { 'forced.attempts' => 1, 'forced.failures' => 1 } },
        'always');

    $g->counted('shop',
        sub { $t->get('/', headers => { 'X-Force' => 'never' }) },
        { stable => { 'forced.attempts' => 1 } }, 'never');
};

subtest 'a failure of stable after one of the canary is no evidence' => sub {
    $canary->next('status', 500);
    $stable->next('status', 503);
    $g->counted('shop', sub { is($t->get('/next/')->status, 503) },
        { canary => { requests => 1, attempts => 1, failures => 1 },
          stable => { 'fallback.attempts' => 1, 'fallback.failures' => 1 },
          fallbacks => 1 }, 'a fallback that fails');
};

subtest "the gate's own answers are nobody's" => sub {
    $g->api('maintenance/shut', 'on');
    $g->counted('shop', sub { is($t->get('/closed/')->status, 503) }, {},
        'a 503 of maintenance');
    $g->api('maintenance/shut', 'off');
};

subtest 'gate_failure decides what is a failure' => sub {
    $canary->next('ok', headers => { 'X-Verdict' => 1 });
    $g->counted('judged', sub { is($t->get('/judged/')->status, 200) },
        { %bad }, 'a 200 that says so');

    $canary->next('status', 500, headers => { 'X-Verdict' => 0 });
    $g->counted('judged', sub { is($t->get('/judged/')->status, 500) },
        { %one }, 'a 500 that says it is none');

    $canary->next('status', 500);
    $g->counted('judged', sub { is($t->get('/judged/')->status, 500) },
        { %bad }, 'a 500 without a word');

    $canary->next('ok');
    $g->counted('judged', sub { is($t->get('/judged/')->status, 200) },
        { %one }, 'a 200 without a word');
};

subtest 'one request is counted once, whatever nginx makes of it' => sub {
    $canary->next('status', 404);
    $g->counted('shop', sub { is($t->get('/inner/')->body, "static\n") },
        { %one }, 'error_page');

    $canary->next('status', 500);
    $g->counted('shop', sub { is($t->get('/inner/')->body, 'canary') },
        { canary => { requests => 1, attempts => 2, failures => 1 } },
        'error_page to another attempt');

    $g->counted('shop', sub { is($t->get('/guarded/')->body, 'canary') },
        { canary => { requests => 1, attempts => 2 } }, 'auth_request');

    $canary->next('ok', body => '<!--# include virtual="/patient/a" -->'
        . '<!--# include virtual="/patient/b" -->');
    $g->counted('shop', sub { is($t->get('/ssi/')->body, 'canarycanary') },
        { canary => { requests => 1, attempts => 3 } }, 'SSI');

    $canary->next('ok', headers => { 'X-Accel-Redirect' => '/patient/x' });
    $g->counted('shop', sub { is($t->get('/')->body, 'canary') },
        { canary => { requests => 1, attempts => 2 } }, 'X-Accel-Redirect');

    $canary->drop_idle;
    $canary->next('stale');
    is($t->get('/')->status, 200, 'the next connection is closed later');
    $g->counted('shop', sub { is($t->get('/')->body, 'canary') },
        { %one }, 'a kept connection that was dead');
};

# How many samples the histogram has, and the sum of them in seconds.

sub histogram {
    my ($name) = @_;
    my $text = $t->get('/gate-metrics')->body;
    return map {
        $text =~ /^nginx_gate_response_header_seconds_$_\{[^}]*upstream=
            "$name"[^}]*arm="canary"[^}]*\}\ (\S+)$/mx
            ? $1 : die "no $_ of $name\n" } qw(count sum);
}

subtest 'latency ends with the header' => sub {
    my $c = $t->conn;
    $c->send(GET => '/ws', headers => { Upgrade => 'websocket',
        Connection => 'upgrade', 'Sec-WebSocket-Key' => 'x',
        'Sec-WebSocket-Version' => 13 });
    like($c->read_bytes(12), qr/101/, 'upgraded');

    # the life of a connection cannot be had any cheaper than by living it
    my $since = Time::HiRes::time();
    wait_for { Time::HiRes::time() > $since + 1.5 } what => 'its life';

    $g->counted('chat', sub { $c->close }, { canary => { attempts => 1 } },
        'a WebSocket is one attempt when it ends');

    my ($count, $sum) = histogram('chat');
    is($count, 1, 'one sample');
    cmp_ok($sum, '<', 1.4, 'its life is no latency');

    $canary->next('slow_body', 1500, body => 'abc', pieces => 3);
    my ($n, $before) = histogram('judged');
    $g->counted('judged', sub { cmp_ok($t->get('/judged/')->time, '>', 1) },
        { %one }, 'a long body');
    ($count, $sum) = histogram('judged');
    is($count, $n + 1, 'one sample');
    cmp_ok($sum - $before, '<', 0.9, 'its length is no latency');
};

subtest 'percentiles are within 5 %' => sub {
    my @delays = (5, 11, 23, 47, 95, 190);
    my @conns = map { $t->conn(timeout => 30) } 1 .. 8;

    for my $i (0 .. 15) {
        my @plan = map { $delays[($i * 8 + $_) * 7 % @delays] } 1 .. @conns;
        $quick->next('slow', $_) for @plan;
        $_->send(GET => '/clock') for @conns;
        $_->recv for @conns;
    }

    my $n = 16 * @conns;
    wait_for { $g->arm('clock', 'canary')->{attempts} == $n }
        what => 'the attempts to be counted';
    my $arm = $g->arm('clock', 'canary');

    # nginx's own figures, of the very same attempts
    my @ms;
    wait_for {
        @ms = sort { $a <=> $b } map { 1000 * $_ }
            Gate::slurp($t->dir . '/access.log') =~ m{^/clock ([\d.]+)$}mg;
        @ms == $n;
    } what => 'the access log';

    for (['p50_ms', 0.5], ['p95_ms', 0.95], ['p99_ms', 0.99]) {
        my ($key, $q) = @$_;
        my $true = $ms[POSIX::ceil($q * $n) - 1];
        my $off = abs($arm->{$key} - $true);
        cmp_ok($off, '<=', $true * 0.05 + 0.51, "$key: $arm->{$key}, $true");
    }
};

subtest 'a new weight begins a new step with fresh evidence' => sub {
    my $before = $g->rollout('shop');
    cmp_ok($before->{arms}{canary}{attempts}, '>', 40, 'there is evidence');

    $g->api('canary/shop/weight', { weight => '50%' });
    my $now = $g->rollout('shop');

    is($now->{step}, $before->{step} + 1, 'a new step');
    is($now->{epoch}, $before->{epoch}, 'of the same epoch');
    is($now->{weight}, 50, 'at the new weight');
    is($now->{arms}{$_}{attempts}, 0, "$_: no attempts") for qw(stable canary);
    is($now->{arms}{canary}{p50_ms}, undef, 'no latency');
    is_deeply($now->{totals}, $before->{totals}, 'totals stay');

    $t->get('/') for 1 .. 20;
    my ($sum, $total);
    wait_for {
        $now = $g->rollout('shop');
        $sum = $total = 0;
        $sum += $now->{arms}{$_}{attempts} for qw(stable canary);
        $total += $now->{totals}{$_}{attempts} for qw(stable canary);
        $sum >= 20;
    } what => 'the attempts';
    is($sum, 20, 'attempts of the new step');
    is($total, 20 + $before->{totals}{canary}{attempts}
        + $before->{totals}{stable}{attempts}, 'totals go on');

    # more steps than there are blocks of evidence
    $g->api('canary/shop/weight', { weight => $_ }) for 10, 20, 30, 40, 50, 60;
    is($g->rollout('shop')->{totals}{canary}{attempts},
        $now->{totals}{canary}{attempts}, 'totals stay over many steps');
};

subtest 'an attempt that outlives its step counts for no other' => sub {
    $g->api('canary/shop/weight', { weight => 99.99 });
    my $n = $g->rollout('shop')->{totals}{canary}{attempts};
    my $f = $g->rollout('shop')->{totals}{canary}{failures};

    my $c = $t->conn(timeout => 30);
    $canary->next('hold', status => 500);
    my $seen = $canary->requests;
    $c->send(GET => '/patient/');
    wait_for { $canary->requests > $seen } what => 'the request';

    $g->api('canary/shop/weight', { weight => $_ }) for 10, 20, 30, 40, 50;
    $canary->release;
    is($c->recv->status, 500, 'it ends five steps later');

    wait_for { $g->rollout('shop')->{totals}{canary}{failures} == $f + 1 }
        what => 'the total';
    my $now = $g->rollout('shop');
    is($now->{totals}{canary}{attempts}, $n + 1, 'it is in the totals');
    is($now->{arms}{canary}{failures}, 0, 'and in no other step');
};

subtest 'nor does one whose arm was chosen many steps before' => sub {
    $g->api('canary/shop/weight', { weight => 100 });
    my $n = $g->rollout('shop')->{totals}{canary};

    my $c = $t->conn(timeout => 30);
    $c->write("POST /early/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
        . "Expect: 100-continue\r\n\r\n");
    like($c->read_bytes(25), qr/100 Continue/, 'it is chosen');

    # as many as there are blocks of evidence: the first is in use again
    $g->api('canary/shop/weight', { weight => $_ }) for 10, 20, 30, 40;
    $canary->next('status', 500);
    $c->write('ab');
    like($c->read_bytes(12), qr/500/, 'the answer');

    my $now;
    wait_for {
        $now = $g->rollout('shop');
        $now->{totals}{canary}{failures} == $n->{failures} + 1;
    } what => 'the total';
    is($now->{totals}{canary}{requests}, $n->{requests} + 1, 'requests');
    is($now->{arms}{canary}{$_}, 0, "$_ of this step")
        for qw(requests attempts failures);
};

$t->done;
done_testing;
