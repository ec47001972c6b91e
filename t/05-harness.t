#!/usr/bin/perl

# The harness itself, on plain nginx: what the other tests rely on.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Test::More;
use Time::HiRes ();

my $t = Gate->new(module => 0);

my %b = map { $_ => $t->backend('ok', body => $_, name => $_) } qw(a b);
my $fcgi = $t->backend('echo', fastcgi => 1);
my $uwsgi = $t->backend('echo', uwsgi => 1);
my $tls = eval { require IO::Socket::SSL; 1 } && $t->backend('echo', tls => 1);

my $https = $tls ? $tls->addr : '127.0.0.1:1';
my $hole = $t->blackhole;
my ($crt, $key) = $t->cert;

$t->http(workers => 2, access => '$status $uri', <<"EOF");
    proxy_http_version 1.1;
    proxy_next_upstream off;
    proxy_read_timeout 300ms;

    upstream a { server @{[ $b{a}->addr ]}; keepalive 4; }

    server {
        listen 127.0.0.1:%%PORT:http%%;
        listen 127.0.0.1:%%PORT:https%% ssl;
        ssl_certificate $crt;
        ssl_certificate_key $key;

        add_header X-Worker \$pid always;
        add_header X-Arm \$arg_arm always;

        location /a { proxy_pass http://a; proxy_set_header Connection ''; }
        location /b { proxy_pass http://@{[ $b{b}->addr ]}; }
        location /f { fastcgi_pass @{[ $fcgi->addr ]};
            fastcgi_param REQUEST_METHOD \$request_method;
            fastcgi_param REQUEST_URI \$request_uri;
            fastcgi_param CONTENT_LENGTH \$content_length; }
        location /u { uwsgi_pass @{[ $uwsgi->addr ]};
            uwsgi_param REQUEST_METHOD \$request_method;
            uwsgi_param REQUEST_URI \$request_uri;
            uwsgi_param CONTENT_LENGTH \$content_length; }
        location /s { proxy_pass https://$https; }
        location /hole { proxy_pass http://127.0.0.1:$hole;
            proxy_connect_timeout 100ms; }
        location /ws { proxy_pass http://@{[ $b{b}->addr ]};
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection upgrade; }
        location /ok { return 200 "ok\\n"; }
    }
EOF

subtest 'configuration test' => sub {
    my ($code, $out) = $t->test_conf;
    is($code, 0, 'good');
    like($out, qr/syntax is ok/, 'output');

    ($code, $out) = $t->test_http('nonsense;');
    is($code, 1, 'bad');
    like($out, qr/unknown directive "nonsense"/, 'reason');
};

$t->start;

subtest 'client' => sub {
    my $r = $t->get('/ok');
    is($r->status, 200, 'status');
    is($r->reason, 'OK', 'reason');
    is($r->body, "ok\n", 'body');
    is($r->header('content-length'), 3, 'header');
    is($r->header('nope'), undef, 'missing header');
    ok($r->time < 5, 'time');
    is($t->request(HEAD => '/ok')->body, '', 'HEAD');

    my $c = $t->conn;
    is($c->request(GET => '/ok')->status, 200, "keepalive $_") for 1 .. 2;
    ok($c->is_open, 'connection is open');
    is($c->request(GET => '/ok', headers => { Connection => 'close' })->status,
        200, 'last');
    ok(!$c->is_open, 'connection is closed');

    like($t->raw("GET /ok HTTP/1.0\r\n\r\n"), qr/^HTTP.* 200 .*ok\n$/s, 'raw');
    like($t->raw("nonsense\r\n\r\n"), qr/400 Bad Request/, 'raw, bad');

    $r = $t->get('/ok', port => $t->port('nobody'));
    is($r->status, 0, 'no server');
    like($r->error, qr/refused/, 'error');

    is($t->get('/ok', port => 'https', tls => 1)->status, 200, 'tls') if $tls;

    # straight from a backend
    $b{b}->set('ok', body => 'x' x 100, chunked => 1);
    is($t->get('/', port => $b{b}->port)->body, 'x' x 100, 'chunked');
    $b{b}->set('close_body');
    $r = $t->get('/', port => $b{b}->port);
    is_deeply([$r->status, $r->head_status, $r->error],
        [0, 200, 'eof in body'], 'truncated body is an error');
};

subtest 'backend answers' => sub {
    my $b = $b{b};
    my $n = $b->clear->requests;
    is($n, 0, 'clear');

    $b->set('ok', body => 'hi', headers => { 'X-A' => [1, 2] });
    my $r = $t->get('/b');
    is($r->body, 'hi', 'ok');
    is_deeply([$r->header_all('x-a')], [1, 2], 'headers');
    is($b->requests, 1, 'counted');
    is($b->last->{uri}, '/b', 'seen');

    for (204, 404) {
        $b->set(status => $_);
        is($t->get('/b')->status, $_, "status $_");
    }

    $b->set('echo');
    my $e = $t->post('/b?x', body => 'data', headers => { 'X-B' => 'b' })->json;
    is_deeply([@$e{qw(method uri body)}, $e->{headers}{'x-b'}],
        ['POST', '/b?x', 'data', 'b'], 'echo');

    $b->set('ok')->next(status => 500)->next(status => 404);
    is_deeply([map { $t->get('/b')->status } 1 .. 3], [500, 404, 200], 'next');

    $b->on('/b/x', status => 410);
    is_deeply([map { $t->get($_)->status } '/b/x', '/b'], [410, 200], 'on');

    my $code = $t->backend(sub {
        my ($req) = @_;
        return $req->{uri} =~ /bad/ ? ('status', 500) : { body => 'code' };
    });
    is($t->get('/', port => $code->port)->body, 'code', 'callback');
    is($t->get('/bad', port => $code->port)->status, 500, 'callback, list');
};

subtest 'backend failures' => sub {
    my $b = $b{b};

    for ([close => 502], [reset => 502], [half => 502], [bad_header => 502],
        [silent => 504])
    {
        my ($what, $status) = @$_;
        my $n = $b->set($what)->requests;
        is($t->get('/b')->status, $status, $what);
        is($b->requests, $n + 1, 'one request');
    }

    wait_for { $b->stats->{aborted} } what => 'nginx to give up';

    for (qw(close_body reset_body)) {
        $b->set($_);
        my $r = $t->get('/b');
        is($r->head_status, 200, "$_: header");
        like($r->error, qr/eof in body|reset/, "$_: cut off");
    }

    # nginx takes what has no status line for HTTP/0.9
    $b->set('garbage');
    like($t->raw("GET /b HTTP/1.0\r\n\r\n"), qr/expected/, 'garbage');

    $b->refuse;
    is($t->get('/b')->status, 502, 'refuse');
    $b->listen->set('ok');
    is($t->get('/b')->status, 200, 'listen again');

    is($t->get('/hole')->status, 504, 'connect timeout');
    $t->log_like(qr/upstream timed out .* while connecting to upstream/);
};

subtest 'backend timing' => sub {
    my $b = $b{b};

    $b->set(slow => 200);
    my $r = $t->get('/b');
    is($r->status, 200, 'slow');
    cmp_ok($r->time, '>=', 0.2, 'time');

    $b->set(slow_body => 40, pieces => 5, body => 'abcde');
    $r = $t->get('/b');
    is($r->body, 'abcde', 'slow body');
    cmp_ok($r->time, '>=', 0.2, 'time');

    $b->set('hold', body => 'held');
    my @c = map { $t->conn } 1 .. 3;
    $_->send(GET => '/b') for @c;
    wait_for { $b->stats->{held} == 3 } what => 'three requests';
    is($b->release, 3, 'release');
    is($_->recv->body, 'held', 'answer') for @c;

    $b->set('stale');
    my $c = $t->conn(port => $b->port);
    is($c->request(GET => '/')->status, 200, 'stale: first');
    is($c->request(GET => '/')->error, 'eof before answer', 'stale: second');

    $b{a}->clear->set('ok');
    $t->get('/a') for 1 .. 10;
    cmp_ok($b{a}->connections, '<', 10, 'upstream keepalive');
};

subtest 'other protocols' => sub {
    for ([f => $fcgi], [u => $uwsgi]) {
        my ($uri, $b) = ("/$_->[0]", $_->[1]);
        my $e = $t->post($uri, body => 'x' x 70_000)->json;
        is_deeply([@$e{qw(method uri)}, length $e->{body}],
            ['POST', $uri, 70_000], "$uri: echo");
        $b->set(status => 503);
        is($t->get($uri)->status, 503, 'status');
        $b->set('close');
        is($t->get($uri)->status, 502, 'close');
    }

    my $c = $t->conn;
    $b{b}->set('websocket');
    my $r = $c->request(GET => '/ws', headers => { Upgrade => 'websocket',
        Connection => 'upgrade', 'Sec-WebSocket-Key' => 'eA==' });
    is($r->status, 101, 'websocket');
    for (qw(one two)) {
        $c->write($_);
        is($c->read_bytes(3), $_, 'bytes come back');
    }
    $c->close;

  SKIP: {
        skip('no IO::Socket::SSL', 1) unless $tls;
        is($t->get('/s')->json->{uri}, '/s', 'tls');
    }
};

subtest 'load' => sub {
    my $b = $b{b};
    my $res = $t->load(rate => 500, duration => 0.6, conns => 10, uri =>
        '/ok?arm=%d', value => ['X-Arm', 'X-Worker'])->result;

    is($res->{answered}, $res->{sent}, "all $res->{sent} answered");
    cmp_ok($res->{sent}, '>=', 290, 'the rate');
    is_deeply($res->{status}, { 200 => $res->{sent} }, 'status');
    is_deeply([grep { $_ } values %{ $res->{errors} }], [], 'no errors');
    is($res->{values}{'X-Arm'}{7}, 1, 'running number');
    is($res->{connections}, 10, 'keepalive');

    my $sum = 0;
    $sum += $_ for values %{ $res->{values}{'X-Worker'} };
    is($sum, $res->{sent}, 'values');

    for ([close => 'eof_before_answer'], [reset => 'reset'],
        [close_body => 'eof_mid_body'], [silent => 'timeout'],
        [reset_body => 'reset'], [garbage => 'bad_response'],
        [bad_header => 'bad_response'], [refuse => 'connect_refused'])
    {
        my ($what, $error) = @$_;
        $b->set($what);
        my $load = $t->load(port => $b->port, rate => 100, duration => 0.15,
            timeout => 200, log => 1);
        my $n = $load->result->{sent};
        cmp_ok($n, '>', 0, "$what: sent");
        is($load->result->{errors}{$error}, $n, "$what: $error");
        is(scalar(grep { ($_->{err} || '') eq $error } $load->log), $n, 'log');
    }

    $b->set('stale');
    my %opt = (port => $b->port, rate => 200, duration => 0.2, conns => 2);
    $res = $t->load(%opt)->result;
    is($res->{answered}, $res->{sent}, 'stale connections');

    # the load generator sees no close before it reuses the connection
    cmp_ok($res->{retried}, '>', 10, 'retried');
    $res = $t->load(%opt, no_retry => 1)->result;
    cmp_ok($res->{errors}{eof_before_answer}, '>', 10, 'not retried');

    $b->set('ok', chunked => 1);
    $res = $t->load(%opt, close => 1)->result;
    is($res->{answered}, $res->{sent}, 'chunked');
    is($res->{connections}, $res->{sent}, 'no keepalive');
};

subtest 'workers' => sub {
    my $load = $t->load(rate => 1000, uri => '/a');
    wait_for { $b{a}->requests > 50 } what => 'load';

    cmp_ok($t->reload, '<', 5 * Gate::scale(), 'reload');
    my %old = map { $_ => 1 } $t->workers;
    my $pid = $t->pid;
    isnt($t->upgrade, $pid, 'upgrade');
    is(scalar(grep { $old{$_} } $t->workers), 0, 'new workers');

    my $res = $load->stop;
    is($res->{answered}, $res->{sent}, "all $res->{sent} answered")
        or diag(explain($res));
    is_deeply([keys %{ $res->{status} }], [200], 'well');

    my @old = $t->workers;
    is(@old, 2, 'two workers');
    my $victim = $t->kill_worker;
    is($victim, $old[0], 'victim');
    is(scalar $t->workers, 2, 'again two workers');
    $t->wait_log(qr/worker process $victim exited on signal 9/);
    $t->log_unlike(qr/exited on signal 11/);

    $t->conf('nonsense;');
    is($t->reload(may_fail => 1), undef, 'failed reload');
    $t->allow(qr/unknown directive "nonsense"/);
    $t->http('server { listen 127.0.0.1:%%PORT:http%%; return 418; }');
    $t->reload;
    is($t->get('/')->status, 418, 'new configuration');
};

my $second = Gate->new(module => 0);
$second->http(workers => 1, 'server { listen 127.0.0.1:%%PORT:http%%; }');
isnt($second->start->port, $t->port, 'second instance');
is($second->stop, 0, 'stop');
$second->done;

# Each of these little tests (but the first) must fail, and all must leave
# nothing behind.

my $lib = "$FindBin::Bin/lib";
my $head = <<"PERL";
use lib '$lib';
use Gate;
use Test::More;
my \$t = Gate->new(module => 0);
diag('dir ' . \$t->dir);
my \$b = \$t->backend;
\$t->http('server { listen 127.0.0.1:%%PORT:http%%; }');
\$t->start;
diag("started \$_") for \$t->pid, \$t->workers, \$b->pid;
sub logs { open my \$f, '>>', \$t->dir . '/error.log'; print \$f "\@_\\n" }
PERL

for (
    ['good', '', undef],
    ['alert', 'logs("[alert] x");', 'no alert, crit or emerg'],
    ['sanitizer', 'logs("AddressSanitizer: x");', 'no sanitizer report'],
    ['socket', 'logs("[alert] 7: open socket #3 left");',
        'no socket left open'],
    # not SEGV, which a sanitizer turns into an exit
    ['crash', 'my ($w) = $t->workers; kill ABRT => $w;'
        . '$t->wait_log(qr/exited on signal/);', 'no alert, crit or emerg'],
    ['killed master', 'kill KILL => $t->pid;', 'nginx exited with 0'],
    ['exception', 'die "oops\n";', undef, 'oops'],
    ['signal', 'kill TERM => $$; sleep 5;', undef, ''],
    ['killed test', 'kill KILL => $$; sleep 5;', undef, ''],
    ['forgotten', 'logs("[crit] x"); ok(1); done_testing; exit;',
        undef, 'not ok - no alert'],
) {
    my ($name, $code, $check, $says) = @$_;

    my $file = $t->write_file('child.t',
        "$head $code\n\$t->done;\ndone_testing;\n");
    my $out = `$^X $file 2>&1`;
    my $status = $?;

    is(!!$status, $name ne 'good', "$name: exit code");
    like($out, qr/^not ok \d+ - \Q$check\E/m, "$name: check") if $check;
    like($out, qr/\Q$says\E/, "$name: message") if $says;

    my ($dir) = $out =~ /^# dir (.*)/m;
    my @pids = $out =~ /^# started (\d+)/mg;
    is(scalar @pids, 4, "$name: was running");
    ok(eval { wait_for { !grep { Gate::Proc::running($_) } @pids } },
        "$name: all gone");
    File::Path::remove_tree($dir) if $dir && -d $dir;
}

$t->done;
done_testing;
