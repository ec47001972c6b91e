#!/usr/bin/perl

# A canary that fails: when the request goes to stable within itself, when it
# must not, and what the evidence says of it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Test::More;

my $t = Gate->new;

my %b = map { $_ => $t->backend('ok', body => $_, name => $_) }
    qw(stable stable2 canary canary2 refusing);
my $hole = $t->blackhole;
my $ms = 500 * Gate::scale();

my %addr = map { $_ => $b{$_}->addr } keys %b;

$t->http(workers => 1, <<"EOF");
    proxy_http_version 1.1;
    proxy_set_header Connection '';
    proxy_read_timeout ${ms}ms;
    proxy_connect_timeout ${ms}ms;
    proxy_next_upstream error timeout invalid_header
                        http_500 http_502 http_503 http_504;

    upstream s { server $addr{stable}; }
    upstream s2 { server $addr{stable} max_fails=0;
                  server $addr{stable2} max_fails=0; }
    upstream sdown { server $addr{stable} down; }

    upstream c { server $addr{canary}; }
    upstream c2 { server $addr{canary} max_fails=0;
                  server $addr{canary2} max_fails=0; }
    upstream cdown { server $addr{canary} down; server $addr{canary2} down; }
    upstream cbusy { server $addr{canary} fail_timeout=600;
                     server $addr{canary2} fail_timeout=600; }
    upstream ckeep { server $addr{canary}; keepalive 4; }
    upstream chole { server 127.0.0.1:$hole; }
    upstream crefuse { server $addr{refusing}; }

    upstream one { gate_canary s c weight=100%; }
    upstream down { gate_canary s cdown weight=100%; }
    upstream busy { gate_canary s cbusy weight=100%; }
    upstream hole { gate_canary s chole weight=100%; }
    upstream many { gate_canary s2 c2 weight=100%; }
    upstream alone { gate_canary s c weight=100%; gate_fallback off; }
    upstream alone2 { gate_canary s c2 weight=100%; gate_fallback off; }
    upstream alone0 { gate_canary s cdown weight=100%; gate_fallback off; }
    upstream keep { gate_canary s ckeep weight=100%; }
    upstream outer { gate_canary s c weight=100%; keepalive 4; }
    upstream idle { gate_canary s2 c weight=0%; }
    upstream nobody { gate_canary sdown c weight=100%; }
    upstream refused { gate_canary s crefuse weight=100%; }

    server {
        listen 127.0.0.1:%%PORT:http%%;
        add_header X-Served \$gate_arm_served always;

        location /one { proxy_pass http://one; }
        location /down { proxy_pass http://down; }
        location /busy { proxy_pass http://busy; }
        location /hole { proxy_pass http://hole; }
        location /many { proxy_pass http://many; }
        location /alone { proxy_pass http://alone; }
        location /alone2 { proxy_pass http://alone2; }
        location /alone0 { proxy_pass http://alone0; }
        location /keep { proxy_pass http://keep; }
        location /outer { proxy_pass http://outer; }
        location /idle { proxy_pass http://idle; }
        location /nobody { proxy_pass http://nobody; }
        location /refused { proxy_pass http://refused; }

        location /one/off { proxy_pass http://one;
            proxy_next_upstream off; }
        location /one/default { proxy_pass http://one;
            proxy_next_upstream error timeout; }
        location /one/all { proxy_pass http://one;
            proxy_next_upstream error http_500 non_idempotent; }
        location /one/404 { proxy_pass http://one;
            proxy_next_upstream error http_404 http_429; }
        location /one/long { proxy_pass http://one;
            proxy_next_upstream_timeout 50ms; }
        location /one/unbuffered { proxy_pass http://one;
            proxy_buffering off; }
        location /one/page { proxy_pass http://one;
            proxy_next_upstream off;
            proxy_intercept_errors on;
            error_page 503 = /page; }
        location = /page { return 200 page; }
        location /one/stream { proxy_pass http://one;
            proxy_request_buffering off; }
        location /many/1 { proxy_pass http://many;
            proxy_next_upstream_tries 1; }
        location /many/2 { proxy_pass http://many;
            proxy_next_upstream_tries 2; }
        location /keep/1 { proxy_pass http://keep;
            proxy_next_upstream_tries 1; }
        location /down/1 { proxy_pass http://down;
            proxy_next_upstream_tries 1; }
        location /refused/off { proxy_pass http://refused;
            proxy_next_upstream off; }

        location /status { gate_status; }
    }
EOF

$t->start;

# What a composite counted, flat: canary.attempts, stable.fallback.failures

sub flat {
    my ($h, $prefix) = @_;
    return map { my ($k, $v) = ("$prefix$_", $h->{$_});
        ref $v eq 'HASH' ? flat($v, "$k.")
            : !ref $v && defined $v && $v =~ /^\d+$/ ? ($k => $v) : () }
        keys %$h;
}

sub evidence {
    my ($composite) = @_;
    my $ro = $t->get('/status')->json->{rollouts}{$composite};
    my %e = (flat($ro->{arms}, ''), map { $_ => $ro->{$_} } qw(saved fallbacks));
    delete @e{ grep { /_ms$|error_rate|breaker/ } keys %e };
    return \%e;
}

# Asks once; what it did to the evidence and to the backends is compared.

sub request {
    my (%opt) = @_;

    my ($uri, $method) = ($opt{uri}, $opt{method} || 'GET');
    my ($composite) = $uri =~ m{^/(\w+)};

    $_->clear for values %b;
    my $before = evidence($composite);
    my $r = $t->request($method => $uri, $opt{body} ? (body => $opt{body}) : ());
    my $after = evidence($composite);

    my %diff = map { $after->{$_} == $before->{$_} ? ()
        : ($_ => $after->{$_} - $before->{$_}) } keys %$after;
    my %asked = map { my $n = $b{$_}->requests; $n ? ($_ => $n) : () } keys %b;

    return ($r, \%diff, \%asked);
}

# served: what the client gets to see; evidence and asked: the differences

sub check {
    my ($name, %opt) = @_;

    my ($r, $diff, $asked) = request(%opt);

    subtest $name => sub {
        is($r->status, $opt{status} || 200, 'status') if !$opt{error};
        is($r->body, $opt{body_is}, 'body') if exists $opt{body_is};
        is($r->header('x-served'), $opt{served}, 'arms') if exists $opt{served};
        is_deeply($diff, $opt{evidence}, 'evidence') or diag(explain($diff))
            if $opt{evidence};
        is_deeply($asked, $opt{asked}, 'backends') if $opt{asked};
    };
    return $r;
}

sub reset_backends { $b{$_}->set('ok', body => $_) for keys %b; return }

my %ok = ('canary.requests' => 1, 'canary.attempts' => 1);
my %failed = (%ok, 'canary.failures' => 1);
my %rescued = (%failed, 'stable.fallback.attempts' => 1,
    saved => 1, fallbacks => 1);

# Nothing fails.

check('a good canary', uri => '/one', body_is => 'canary', served => 'canary',
    evidence => \%ok, asked => { canary => 1 });

check('a canary of weight 0 is not asked', uri => '/idle',
    served => 'stable', evidence => { 'stable.requests' => 1,
        'stable.attempts' => 1 });

# Everything that can fail before the body.

for (
    ['500', status => 500], ['502', status => 502], ['503', status => 503],
    ['504', status => 504], ['a reset', 'reset'],
    ['a close before the answer', 'close'], ['half a header', 'half'],
    ['a malformed header field', 'bad_header'], ['silence', 'silent'],
    ['a refused connection', 'refuse'],
) {
    my ($name, @behaviour) = @$_;

    $behaviour[0] eq 'refuse' ? $b{canary}->refuse
                              : $b{canary}->set(@behaviour);
    check("$name: stable answers", uri => '/one', body_is => 'stable',
        served => 'canary, stable', evidence => \%rescued,
        asked => { stable => 1,
            $behaviour[0] eq 'refuse' ? () : (canary => 1) });
    $b{canary}->listen;
}

reset_backends();

check('a connect timeout: stable answers', uri => '/hole', body_is => 'stable',
    served => 'canary, stable', evidence => \%rescued);

my %unavailable = (%rescued, 'canary.unavailable' => 1);

check('all servers of the canary are down: stable answers', uri => '/down',
    body_is => 'stable', served => 'stable', evidence => \%unavailable);
check('it takes no try', uri => '/down/1', body_is => 'stable',
    served => 'stable', evidence => \%unavailable);

$b{$_}->set(status => 500) for qw(canary canary2);
check("max_fails: failure $_", uri => '/busy', body_is => 'stable',
    served => 'canary, stable', evidence => \%rescued) for 1, 2;
check('max_fails: no server is left', uri => '/busy', body_is => 'stable',
    served => 'stable', evidence => \%unavailable, asked => { stable => 1 });
reset_backends();

$t->log_unlike(qr/no live upstreams/, 'none of this is an error of nginx');

# What came after the header cannot be made good.

$b{canary}->set('close_body');
my ($r, $diff) = request(uri => '/one');
is($r->error, 'eof in body', 'half a body stays half a body');
is_deeply($diff, { %failed, 'canary.broken' => 1 }, 'and is a failure');

# a chunk whose size is none: for nginx an error, though not of the connection
for my $uri ('/one', '/one/unbuffered') {
    my $bytes = join "\r\n", 'HTTP/1.1 200 OK', 'Transfer-Encoding: chunked',
        '', '4', 'good', 'none', '', '';

    $b{canary}->set('half', bytes => $bytes);
    ($r, $diff) = request(uri => $uri);
    is($r->status, 0, "$uri: a malformed body stays malformed");
    is_deeply($diff, { %failed, 'canary.broken' => 1 }, 'and is a failure');

    $b{canary}->set('ok', body => 'x' x 100_000, chunked => 1);
    check("$uri: a good one is none", uri => $uri, evidence => \%ok,
        body_is => 'x' x 100_000);

    # a client that leaves in the middle of it
    $b{canary}->set('slow_body', 30, pieces => 100, body => 'x' x 100_000);
    my $was = evidence('one');
    my $client = $t->conn;
    $client->send(GET => $uri);
    $client->read_bytes(2000);
    $client->close;
    wait_for { evidence('one')->{'canary.attempts'}
        > $was->{'canary.attempts'} } what => 'nginx to notice';
    is(evidence('one')->{'canary.failures'}, $was->{'canary.failures'},
        "$uri: a client that leaves in the body is no failure");
}

check('an answer without a body is whole', method => 'HEAD', uri => $_,
    evidence => \%ok) for '/one', '/one/unbuffered';

for my $status (204, 304) {
    $b{canary}->set(status => $status);
    check("so is a $status", uri => $_, status => $status,
        evidence => \%ok) for '/one', '/one/unbuffered';
}

$b{canary}->set('silent');
my $c = $t->conn;
$b{canary}->clear;
my $before = evidence('one');
$c->send(GET => '/one');
wait_for { $b{canary}->stats->{held} } what => 'the canary to have it';
$c->close;
wait_for { evidence('one')->{'canary.censored'}
    > $before->{'canary.censored'} } what => 'nginx to see that it left';
is(evidence('one')->{'canary.failures'}, $before->{'canary.failures'},
    'a client that leaves is no failure');
reset_backends();

# What the operator did not ask for.

$b{canary}->set(status => 503);
check('proxy_next_upstream off: the client sees it', uri => '/one/off',
    status => 503, served => 'canary', evidence => \%failed,
    asked => { canary => 1 });
check('by default a 503 is an answer', uri => '/one/default', status => 503,
    served => 'canary', evidence => \%failed, asked => { canary => 1 });
check('what error_page hides is a failure all the same', uri => '/one/page',
    body_is => 'page', served => 'canary', evidence => \%failed);
check('gate_fallback off: the client sees it', uri => '/alone',
    status => 503, served => 'canary', evidence => \%failed,
    asked => { canary => 1 });
check('gate_fallback off: other servers of the canary are asked',
    uri => '/alone2', served => 'canary, canary', body_is => 'canary2',
    evidence => { %failed, 'canary.attempts' => 2 },
    asked => { canary => 1, canary2 => 1 });
check('gate_fallback off: no server of the canary is left', uri => '/alone0',
    status => 502, served => undef, asked => {},
    evidence => { %failed, 'canary.unavailable' => 1 });

$b{canary}->set('silent');
check('proxy_next_upstream off: so is a timeout', uri => '/one/off',
    status => 504, evidence => \%failed, asked => { canary => 1 });
check('proxy_next_upstream_timeout is that of both arms', uri => '/one/long',
    status => 504, served => 'canary', evidence => \%failed,
    asked => { canary => 1 });

# Methods.

my @post = (method => 'POST', body => 'x' x 100);

$b{canary}->set('close');
check('a POST that was sent is not repeated', @post, uri => '/one',
    status => 502, evidence => \%failed, asked => { canary => 1 });
check('unless non_idempotent says so', @post, uri => '/one/all',
    body_is => 'stable', evidence => \%rescued,
    asked => { canary => 1, stable => 1 });

$b{canary}->set(status => 500);
check('nor after a 500', @post, uri => '/one', status => 500,
    evidence => \%failed, asked => { canary => 1 });
check('unless non_idempotent says so', @post, uri => '/one/all',
    body_is => 'stable', evidence => \%rescued);

$b{stable}->set('echo');
is($t->post('/one/all', body => 'y' x 100_000)->json->{body},
    'y' x 100_000, 'the whole body is sent again');

check('a PUT is repeated', method => 'PUT', uri => '/one',
    evidence => \%rescued);

# the body comes when nginx has connected: it passes it on as it comes
$before = evidence('one');
my $n = $b{canary}->connections;
$c = $t->conn;
$c->write("PUT /one/stream HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n");
wait_for { $b{canary}->connections > $n } what => 'nginx to connect';
$c->write('body');
is($c->recv->status, 500, 'a body that is not kept cannot be repeated');
$c->close;
is(evidence('one')->{fallbacks}, $before->{fallbacks}, 'it is no fallback');

$b{canary}->refuse;
check('a POST that was not sent goes to stable', @post, uri => '/one',
    evidence => \%rescued, asked => { stable => 1 });
$b{canary}->listen;

# Answers that are no failures.

for my $status (400, 404, 429) {
    $b{canary}->set(status => $status);
    check("a $status is no failure", uri => '/one', status => $status,
        evidence => \%ok);
}

for my $status (404, 429) {
    $b{canary}->set(status => $status);
    check("not even when stable is asked after a $status", uri => '/one/404',
        served => 'canary, stable',
        evidence => { %ok, 'stable.fallback.attempts' => 1 });
}
reset_backends();

# Tries.

$b{$_}->set(status => 500) for qw(canary canary2);

check('of several servers of a canary one is asked, then stable',
    uri => '/many', served => 'canary, stable', evidence => \%rescued);
check('proxy_next_upstream_tries 1: no second one', uri => '/many/1',
    status => 500, served => 'canary', evidence => \%failed);
check('proxy_next_upstream_tries 2: stable is the second', uri => '/many/2',
    served => 'canary, stable', evidence => \%rescued);

$b{$_}->set(status => 503) for qw(stable stable2);

my %both = (%failed, fallbacks => 1, 'stable.fallback.attempts' => 2,
    'stable.fallback.failures' => 2);

check('both arms fail: all of stable is tried', uri => '/many',
    status => 503, served => 'canary, stable, stable', evidence => \%both);
check('proxy_next_upstream_tries 2: both count', uri => '/many/2',
    status => 503, served => 'canary, stable',
    evidence => { %both, map { ("stable.fallback.$_" => 1) }
        qw(attempts failures) });

check('never from stable to the canary', uri => '/idle', status => 503,
    served => 'stable, stable', asked => { stable => 1, stable2 => 1 },
    evidence => { 'stable.requests' => 1, 'stable.attempts' => 2,
        'stable.failures' => 2 });

reset_backends();

$b{canary}->set(status => 500);
check('both arms fail: stable has no server left', uri => '/nobody',
    status => 502, served => 'canary',
    evidence => { %failed, fallbacks => 1, map { ($_ => 1) }
        qw(stable.fallback.attempts stable.fallback.failures
        stable.unavailable) });
reset_backends();

# A kept connection that the server has closed is no failure.

for my $how ('closed', 'reset') {
    for my $where (['/keep', 'of an arm'], ['/outer', 'of the composite'],
        ['/keep/1', 'with one try'])
    {
        my ($uri, $what) = @$where;

        $b{canary}->drop_idle;
        $b{canary}->set('stale', $how eq 'reset' ? (reset => 1) : ());
        my $name = "a kept connection $what that is $how";

        is($t->get($uri)->status, 200, "$name: it is opened");
        is($b{canary}->stats->{open}, 1, "$name: it is kept");
        check("$name: the canary is asked again, for nothing", uri => $uri,
            body_is => 'ok', served => 'canary', evidence => \%ok,
            asked => { canary => 2 });
    }
}

$b{canary}->set('stale');
$t->get('/keep');
check('a POST on such a connection is lost, as nginx has it', @post,
    uri => '/keep', status => 502, evidence => \%failed,
    asked => { canary => 1 });

$t->get('/keep');
$b{canary}->set(status => 500);
check('an error on a kept connection is a failure', uri => '/keep',
    body_is => 'stable', served => 'canary, stable', evidence => \%rescued);

$b{canary}->set('ok');
$t->get('/keep');
$b{canary}->set('silent');
check('a timeout on a kept connection is a failure', uri => '/keep',
    body_is => 'stable', served => 'canary, stable', evidence => \%rescued);

$b{canary}->set('ok');
$t->get('/keep');
$b{canary}->set('bad_header');
check('a bad header on a kept connection is a failure', uri => '/keep',
    body_is => 'stable', served => 'canary, stable', evidence => \%rescued);
reset_backends();

# The breaker: nginx would ask a server that refuses connections every time.

$b{refusing}->refuse;

sub breaker {
    return $t->get('/status')->json->{rollouts}{refused}{arms}{canary}{breaker};
}

check("a canary that refuses, time $_", uri => '/refused', body_is => 'stable',
    served => 'canary, stable', evidence => \%rescued) for 1 .. 3;

ok(breaker()->{open}, 'three times in a row open its breaker');
check('it is not asked any more', uri => '/refused', body_is => 'stable',
    served => 'stable', evidence => \%unavailable);
check('not even by those who allow no second attempt', uri => '/refused/off',
    body_is => 'stable', served => 'stable', evidence => \%unavailable);

$b{refusing}->listen;

wait_for { $t->get('/refused')->body eq 'refusing' } timeout => 30,
    what => 'the canary to be asked again';

is_deeply([@{ breaker() }{qw(open failures)}],
    [JSON::PP::false(), 0], 'one that connects closes the breaker');
check('and it is in use again', uri => '/refused', body_is => 'refusing',
    served => 'canary', evidence => \%ok);

$b{refusing}->refuse;
is($t->get('/refused')->header('x-served'), 'canary, stable',
    "refused: $_") for 1, 2;
$b{refusing}->listen;
is($t->get('/refused')->header('x-served'), 'canary', 'accepted');
$b{refusing}->refuse;
is($t->get('/refused')->header('x-served'), 'canary, stable',
    "refused: $_") for 1, 2;
$b{refusing}->listen;
ok(!breaker()->{open}, 'only refusals in a row count');
is($t->get('/refused')->header('x-served'), 'canary', 'accepted');

$t->done;
done_testing;
