#!/usr/bin/perl

# gate_breach: what rolls a canary back, what does not, and what it leaves.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Rollout;
use JSON::PP ();
use Test::More;
use Time::HiRes ();

my $t = Gate->new;
my $g = Gate::Rollout->new($t);

my $stable = $t->backend('ok', body => 'stable', name => 'stable');
my $canary = $t->backend('status', 500, name => 'canary');
my $slow = $t->backend('slow', 200, name => 'slow');
my $hung = $t->backend('hold', name => 'hung');
my $refusing = $t->backend('refuse', name => 'refusing');
$refusing->refuse;

# a service that fails one request in 20, by chance, but always the same ones

my $noisy = $t->backend(sub {
    my ($req) = @_;
    our %seed;
    my ($who) = $req->{uri} =~ m{^/(\w+)};
    my $x = \$seed{$who};
    $$x = 12345 unless defined $$x;
    $$x = ($$x * 1103515245 + 12345) % 2147483648;
    return $$x / 2147483648 < 0.05 ? ('status', 500) : ('ok');
}, name => 'noisy');

my $key = $t->write_file('sticky.key', 'a key that only this test knows, 1');
chmod 0600, $key or die;

# name => [canary's upstream, weight, directives]

my %composite = (
    rate     => ['c', '100%', 'gate_breach error_rate=5% min=20;'],
    p50      => ['w', '100%', 'gate_breach p50=100ms min=20;'],
    p95      => ['w', '100%', 'gate_breach p95=100ms min=20;'],
    p99      => ['w', '100%', 'gate_breach p99=100ms min=20;'],
    fast     => ['c', '100%', 'gate_breach p50=5s min=20;
                               gate_breach p95=5s min=20;'],
    ratio    => ['c', '50%', 'gate_breach error_ratio=2 min=20;'],
    lratio   => ['w', '50%', 'gate_breach latency_ratio=2 quantile=p50
                              min=20;'],
    second   => ['c', '100%', 'gate_breach p95=30s min=5;
                               gate_breach error_rate=5% min=20;'],
    exact    => ['c', '100%', 'gate_breach error_rate=10% min=10 exact;'],
    inexact  => ['c', '100%', 'gate_breach error_rate=10% min=10;'],
    held     => ['c', '100%', 'gate_breach error_rate=5% min=5 hold=3s;'],
    unheld   => ['c', '100%', 'gate_breach error_rate=5% min=5 window=1s
                               hold=2s;'],
    window   => ['c', '100%', 'gate_breach error_rate=50% min=10 window=1s
                               exact;'],
    gap      => ['c', '100%', 'gate_breach error_rate=50% min=10 window=1s
                               exact;'],
    silent   => ['c', '100%', 'gate_breach error_rate=5% min=1;
                               gate_breach p95=10ms min=1;
                               gate_breach error_ratio=1 min=1 exact;
                               gate_breach latency_ratio=1 min=1 exact;'],
    edge     => ['n', '100%', 'gate_breach error_rate=5% min=20;'],
    bare     => ['n', '100%', 'gate_breach error_rate=5% min=20 exact;'],
    hung     => ['h', '100%', 'gate_breach p95=200ms min=5;'],
    down     => ['d', '100%', 'gate_breach error_rate=5% min=20;'],
    refused  => ['r', '100%', 'gate_breach error_rate=5% min=20;'],
    paused   => ['c', '100%', 'gate_breach error_rate=5% min=10;'],
    promoted => ['c', '50%', 'gate_breach error_rate=5% min=10;'],
    idle     => ['c', '0%', 'gate_breach error_rate=5% min=1;'],
    sticky   => ['c', '99.99%', "gate_breach error_rate=5% min=20;
                               gate_sticky cookie=arm key_file=$key;"],
    record   => ['c', '50%', 'gate_breach p99=30s min=50;
                              gate_breach error_rate=5% window=1m min=50;
                              gate_label deployment=4711 env=prod;'],
);

my $upstreams = join "\n", map { my $c = $composite{$_};
    "    upstream $_ { gate_canary s $c->[0] weight=$c->[1] id=$_-1; $c->[2]
        gate_force \$http_x_force; }" } sort keys %composite;

my $locations = join "\n", map {
    "        location /$_ { proxy_pass http://$_; add_header X-Arm
            \$gate_arm_$_ always; add_header X-Worker \$pid always; }" } sort keys %composite;

$t->http(workers => 4, <<"EOF_CONF");
    proxy_http_version 1.1;
    proxy_set_header Connection '';
    proxy_next_upstream error timeout http_500;

    upstream s { server @{[ $stable->addr ]}; keepalive 16; }
    upstream c { server @{[ $canary->addr ]}; keepalive 16; }
    upstream w { server @{[ $slow->addr ]}; }
    upstream h { server @{[ $hung->addr ]}; }
    upstream n { server @{[ $noisy->addr ]}; keepalive 16; }
    upstream r { server @{[ $refusing->addr ]}; }
    upstream d { server @{[ $canary->addr ]} down;
                 server @{[ $stable->addr ]} down; }
$upstreams

    server {
        listen 127.0.0.1:%%PORT:http%%;
@{[ $g->endpoints ]}
$locations
    }
EOF_CONF

$t->start;

# So many requests, one after another.

sub ask {
    my ($name, $n, %opt) = @_;
    my $c = $t->conn;
    return map { $c->request(GET => "/$name", %opt)->status } 1 .. $n;
}

# So many at once; their connections.

sub crowd {
    my ($name, $n) = @_;
    my @conns = map { $t->conn(timeout => 30) } 1 .. $n;
    $_->send(GET => "/$name") for @conns;
    return @conns;
}

# Waits until so many attempts on the canary have been counted.

sub counted {
    my ($name, $n) = @_;
    wait_for { $g->arm($name, 'canary')->{attempts} >= $n }
        what => "$n attempts of $name";
}

# Every rule has been looked at since: the agent counts its turns by beats.

sub looked_at {
    my $n = 0;
    my $last = 1e9;
    wait_for {
        my $age = $g->status->{agent}{beat_age_ms};
        $n++ if $age < $last;
        $last = $age;
        $n > 4;
    } what => 'the agent to look';
}

sub flipped {
    my ($name, $rule, $title) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $rollout = $g->wait_state($name, 'rolled_back');
    wait_for { ($rollout = $g->rollout($name))->{last_record} }
        what => 'the record';

    is_deeply([@$rollout{qw(state weight reason source verdict)}],
        ['rolled_back', 0, $rule, 'verdict', 'fail'], $title);
    return $rollout;
}

sub stands {
    my ($name, $title) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is($g->rollout($name)->{state}, 'progressing', $title);
}

# The rule as the status shows it.

sub text {
    my ($name, $i) = @_;
    my @rules = $composite{$name}[2] =~ /gate_breach\s+([^;]+);/g;
    (my $text = $rules[$i || 0]) =~ s/\s+/ /g;
    return $text;
}

subtest 'error_rate: at the minimum, and not one attempt before' => sub {
    ask('rate', 19);
    counted('rate', 19);
    looked_at();
    stands('rate', '19 failures of 19 are not enough');

    my ($rule) = @{ $g->rollout('rate')->{rules} };
    is($rule->{enough}, JSON::PP::false, 'the status says why');
    is($rule->{value}, 1, 'and what it sees');

    ask('rate', 1);
    my $r = flipped('rate', text('rate'), 'the 20th flips it');
    is($r->{last_record}{value}, 1, 'its value');
    is($r->{last_record}{bound}, 0.05, 'its bound');
};

subtest 'p50, p95, p99: slow answers' => sub {
    $canary->on('/fast', 'ok');
    my @conns = map { crowd($_, 30) } qw(p50 p95 p99 fast);
    $_->recv for @conns;
    flipped($_, text($_), $_) for qw(p50 p95 p99);
    counted('fast', 30);
    looked_at();
    stands('fast', 'quick ones stay');
};

subtest 'error_ratio: against stable' => sub {
    $stable->on('/ratio', 'status', 503);
    my $load = $t->load(uri => '/ratio', rate => 100 / Gate::scale(),
        duration => 1 * Gate::scale());
    $load->result;
    counted('ratio', 20);
    looked_at();
    stands('ratio', 'both fail all the time');

    $g->api('canary/ratio/start');
    $stable->on('/ratio', 'ok');
    $t->load(uri => '/ratio', rate => 100 / Gate::scale(),
        duration => 1 * Gate::scale())->result;
    flipped('ratio', text('ratio'), 'only the canary does');
};

subtest 'latency_ratio: against stable' => sub {
    $_->recv for map { crowd('lratio', 40) } 1 .. 2;
    my $r = flipped('lratio', text('lratio'), 'so many times slower');
    cmp_ok($r->{last_record}{value}, '>', 2, 'by so much');
};

subtest 'the rule that fired is the one that is named' => sub {
    ask('second', 20);
    flipped('second', text('second', 1), 'the second of two');
};

subtest 'exact asks for the bare value, by default noise is none' => sub {
    for my $name (qw(inexact exact)) {
        $canary->on("/$name", 'ok');
        ask($name, 8);
        $canary->on("/$name", 'status', 500);
        ask($name, 2);
        counted($name, 10);
    }

    flipped('exact', text('exact'), '2 of 10 are more than 10 %');
    looked_at();
    stands('inexact', 'but that may be chance');
    is($g->rollout('inexact')->{rules}[0]{value}, 0.2, 'the same value');
};

subtest 'hold: broken for so long without a break' => sub {
    ask('unheld', 10);
    my $start = Time::HiRes::time();
    ask('held', 10);
    counted('held', 10);
    looked_at();
    stands('held', 'not at once');
    is($g->rollout('held')->{rules}[0]{over}, JSON::PP::true, 'it is over');

    flipped('held', text('held'), 'later');
    cmp_ok(Time::HiRes::time() - $start, '>=', 3, 'not before its time');

    # the failures of this one have left the window before the hold was over
    wait_for { !$g->rollout('unheld')->{rules}[0]{over} } what => 'a break';
    wait_for { Time::HiRes::time() > $start + 2.5 } what => 'the hold';
    looked_at();
    stands('unheld', 'not when it ended before');
};

subtest 'window: what is long over is over' => sub {
    ask('window', 9);
    counted('window', 9);
    wait_for { !defined $g->rollout('window')->{rules}[0]{value} }
        what => 'the failures to leave the window';

    $canary->on('/window', 'ok');
    ask('window', 3);
    counted('window', 12);
    looked_at();
    stands('window', 'old failures count no more');
    is($g->rollout('window')->{arms}{canary}{failures}, 9, 'though known');

    $canary->on('/window', 'status', 500);
    ask('window', 20);
    flipped('window', text('window'), 'new ones do');
};

subtest 'nor does it come back when there is no agent for a while' => sub {
    ask('gap', 9);
    counted('gap', 9);
    wait_for { !defined $g->rollout('gap')->{rules}[0]{value} }
        what => 'the failures to leave the window';

    my $agent = $g->status->{agent}{pid};
    my $c;
    wait_for {
        $c = $t->conn(timeout => 30);
        $c->request(GET => '/gap', headers => { 'X-Force' => 'never' })
            ->header('x-worker') != $agent;
    } what => 'a connection to another worker';

    # longer than the window, and nobody notes down where it begins
    kill 'STOP', $agent or die;
    my $end = Time::HiRes::time() + 1.2;
    wait_for { Time::HiRes::time() > $end } what => 'the window';

    $canary->on('/gap', 'ok');
    $c->request(GET => '/gap') for 1 .. 3;
    $canary->on('/gap', 'status', 500);
    $c->request(GET => '/gap');
    my $state = $c->request(GET => '/gate')->json->{rollouts}{gap};
    kill 'CONT', $agent;

    is($state->{state}, 'progressing', 'it stands');
    wait_for { $g->status->{agent}{alive} } what => 'an agent';
};

subtest 'no data is no breach' => sub {
    looked_at();
    stands('silent', 'nobody was there');
    my $r = $g->rollout('silent');
    is($r->{verdict}, 'inconclusive', 'the verdict says so');
    is($_->{value}, undef, "$_->{rule}: no value") for @{ $r->{rules} };
};

subtest 'a canary exactly on the bound stays' => sub {
    my $n = 3000;
    my @load = map { $t->load(uri => "/$_", rate => 1000 / Gate::scale(),
        conns => 20, duration => $n / 1000 * Gate::scale()) } qw(edge bare);
    $_->result for @load;

    counted('edge', $n * 0.9);
    my $arm = $g->arm('edge', 'canary');
    note "edge: $arm->{failures} of $arm->{attempts} attempts";
    stands('edge', "$arm->{attempts} attempts, one failure in 20");
    cmp_ok($arm->{error_rate}, '>', 0.04, 'it is on the bound');
    flipped('bare', text('bare'), 'the bare value was above it sometime');
};

subtest 'attempts that hang are slow before they end' => sub {
    my @conns = crowd('hung', 12);
    my $r = flipped('hung', text('hung'), 'flipped');
    is($r->{arms}{canary}{attempts}, 0, 'though none has ended');
    $hung->release;
    is($_->recv->status, 200, 'they get their answer') for @conns;
};

subtest 'a canary that is not there at all' => sub {
    my %got;
    $got{$_}++ for ask('down', 20);
    is_deeply(\%got, { 200 => 20 }, 'all its servers are down: served');
    my $r = flipped('down', text('down'), 'and flipped');
    is($r->{last_record}{canary_arm}{unavailable}, 20, 'unavailable');

    %got = ();
    $got{$_}++ for ask('refused', 20);
    is_deeply(\%got, { 200 => 20 }, 'it refuses connections: served');
    $r = flipped('refused', text('refused'), 'and flipped');
    cmp_ok($r->{last_record}{canary_arm}{unavailable}, '>', 10,
        'the breaker was open for most');
    is($r->{last_record}{canary_arm}{failures}, 20, 'all are failures');
};

subtest 'every state but idle can flip' => sub {
    $g->api('canary/paused/pause');
    ask('paused', 10);
    flipped('paused', text('paused'), 'paused');

    $g->api('canary/promoted/promote');
    is($g->rollout('promoted')->{state}, 'promoted', 'promoted');
    ask('promoted', 10);
    flipped('promoted', text('promoted'), 'is flipped');

    ask('idle', 5, headers => { 'X-Force' => 'always' });
    wait_for { $g->arm('idle', 'canary')->{forced}{failures} == 5 }
        what => 'the forced attempts';
    looked_at();
    is($g->rollout('idle')->{state}, 'idle', 'idle stays');
};

subtest 'a flip evicts sticky callers' => sub {
    $canary->on('/sticky', 'ok');
    my ($cookie) = $t->get('/sticky')->header('set-cookie') =~ /^(arm=[^;]+)/;
    my $r = $t->get('/sticky', headers => { Cookie => $cookie });
    is($r->header('x-arm'), 'canary', 'on the canary');
    is($r->header('set-cookie'), undef, 'with its cookie');

    $canary->on('/sticky', 'status', 500);
    ask('sticky', 20);
    flipped('sticky', text('sticky'), 'flipped');

    $r = $t->get('/sticky', headers => { Cookie => $cookie });
    is($r->header('x-arm'), 'stable', 'on stable');

    $canary->on('/sticky', 'ok');
    $g->api('canary/sticky/retry');
    $r = $t->get('/sticky', headers => { Cookie => $cookie });
    like($r->header('set-cookie'), qr/^arm=/, 'the cookie is over for good');
};

subtest 'a flip is one, with one record, in all workers at once' => sub {
    my $from = $t->log_size;
    my $load = $t->load(uri => '/record', rate => 1000 / Gate::scale(),
        conns => 60, duration => 1 * Gate::scale(), value => 'X-Arm');
    my $r = flipped('record', text('record', 1), 'flipped');

    # new connections go to any worker
    my %got;
    for (1 .. 60) {
        my $answer = $t->get('/record');
        $got{ $answer->header('x-arm') }++;
        $got{worker}{ $answer->header('x-worker') }++;
    }
    is($got{stable}, 60, 'nobody goes to the canary');
    cmp_ok(scalar keys %{ $got{worker} }, '>', 1, 'in several workers');

    my $result = $load->result;
    is_deeply($result->{status}, { 200 => $result->{answered} },
        'no client saw a failure');
    looked_at();

    my @lines = $t->log_from($from) =~ /^(.* was rolled back: .*)$/mg;
    is(@lines, 1, 'one line in the error log');
    like($lines[0], qr/\[error\] .*"record" was rolled back/, 'an error');

    my @events = grep { $_->{event} eq 'rolled_back'
        && $_->{upstream} eq 'record' } @{ $g->status->{events} };
    is(@events, 1, 'one event');
    is($g->rollout('record')->{flips_total}, 1, 'counted once');

    my $record = $r->{last_record};
    my ($json) = $lines[0] =~ /rolled back: (\{.*\})/;
    is_deeply(Gate::json($json), $record, 'the log has the record');
    is_deeply($events[0], $record, 'the event is the record');

    is($record->{epoch}, $r->{epoch}, 'epoch');
    is($record->{step}, 1, 'step');
    is($record->{id}, 'record-1', 'id');
    is($record->{stable}, 's', 'stable');
    is($record->{canary}, 'c', 'canary');
    is($record->{by}, 'verdict', 'by');
    is($record->{node}, $g->status->{node}, 'node');
    like($record->{time}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, 'time');
    is($record->{weight_before}, 50, 'weight before');
    is($record->{weight_after}, 0, 'weight after');
    cmp_ok(abs($record->{actual_share} - 50), '<', 35, 'actual share');
    is($record->{reason}, text('record', 1), 'rule');
    # attempts that still run count as good ones
    cmp_ok($record->{value}, '>', 0.5, 'value');
    cmp_ok($record->{value}, '<=', 1, 'value');
    is_deeply($record->{labels}, { deployment => '4711', env => 'prod' },
        'labels');

    my ($c, $s) = @$record{qw(canary_arm stable_arm)};
    cmp_ok($c->{requests}, '>=', 50, 'requests of the canary');
    cmp_ok($c->{attempts}, '>=', 50, 'attempts');
    is($c->{failures}, $c->{attempts}, 'failures');
    cmp_ok($s->{attempts}, '>', 0, 'attempts of stable');
    is($s->{failures}, 0, 'failures of stable');
    ok(defined $_->{p50_ms} && defined $_->{p95_ms} && defined $_->{p99_ms},
        'percentiles') for $c, $s;

    # the last ones, many on a busy machine, were still with stable
    cmp_ok($record->{client_failures_prevented}, '>', 0,
        'client failures prevented');
    cmp_ok($record->{client_failures_prevented}, '<=', $c->{failures},
        'not more than there were');
};

$t->done;
done_testing;
