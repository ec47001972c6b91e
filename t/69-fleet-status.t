#!/usr/bin/perl

# A node of a fleet, asked and told through its endpoints: status, metrics,
# health, and writes that are for all nodes.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use JSON::PP ();
use Test::More;
use Time::HiRes qw(sleep time);

my $t = Gate->new;
my $secret = 'redis-password-4711-of-this-test';
my $redis = $t->redis(requirepass => $secret);
my $token = 'fleet-status-test-token-0123';

my $password_file = $t->write_file('redis.password', "$secret\n");
my $token_file = $t->write_file('token', "ops $token\n");
chmod 0600, $password_file, $token_file;

my $stable = $t->backend('ok', body => 'stable', name => 'stable');
my $canary = $t->backend('ok', body => 'canary', name => 'canary');

my $fleet = $t->fleet(2, workers => 2, <<"EOF_CONF");
    gate_redis redis://@{[ $redis->addr ]} password_file=$password_file
        timeout=500ms;
    gate_state %%DIR%%/state;

    upstream v1 { server @{[ $stable->addr ]}; }
    upstream v2 { server @{[ $canary->addr ]}; }
    upstream shop {
        gate_canary v1 v2 weight=50% id=1;
        gate_breach error_rate=50% min=1000;
    }

    server {
        listen 127.0.0.1:%%PORT:http%%;
        gate_maintenance on;

        location = /gate { gate_status; }
        location = /metrics { gate_metrics; }
        location = /health { gate_health; }
        location = /ready { gate_health ready; }
        location /gate/api/ { gate_api token_file=$token_file; }
        location / { proxy_pass http://shop; }
        location /other/ { gate_maintenance other; return 200 open; }
    }
EOF_CONF

my ($one, $two) = $fleet->nodes;
my $secs = 15;

sub status { return ($_[0] || $one)->get('/gate')->json }
sub redis { return status(@_)->{redis} }

sub call {
    my ($method, $path, $body, $node) = @_;
    return ($node || $one)->request($method => "/gate/api/$path",
        timeout => 10 * Gate::scale(), headers => {
            Authorization => "Bearer $token",
            'Content-Type' => 'application/json' },
        defined $body ? (body => $body) : ());
}

sub joined {
    my ($what) = @_;
    for my $node ($one, $two) {
        wait_for { my $r = redis($node); $r->{state} eq 'ready'
            && $r->{joined} && !$r->{dirty} } timeout => $secs,
            what => $what || 'to join';
    }
}

sub metric {
    my ($name) = @_;
    my ($n) = $one->get('/metrics')->body =~ /^\Q$name\E (\S+)$/m;
    return $n;
}

$fleet->start;
joined();

subtest 'what the status tells of Redis' => sub {
    my $r;
    wait_for { ($r = redis())->{rtt_ms}{count} > 3 } timeout => $secs,
        what => 'a few round trips';
    is($r->{configured}, 'redis://' . $redis->addr, 'configured');
    like($r->{address}, qr/@{[ $redis->port ]}/, 'address in use');
    is($r->{role}, 'master', 'role');
    like($r->{version}, qr/^\d+\.\d+\.\d+$/, 'version');
    is($r->{tracking}, 'push', 'pushes');
    for my $key (qw(connected_since last_success)) {
        like($r->{$key}, qr/^20\d\d-.*Z$/, $key);
    }
    cmp_ok($r->{commands}, '>', 3, 'commands');
    is_deeply($r->{errors}, {}, 'no errors');
    is($r->{last_error}, undef, 'not even one');
    is($r->{evictable}, JSON::PP::false, 'nothing is evicted');
    cmp_ok(abs $r->{clock_offset_ms}, '<', 1000 * Gate::scale(), 'one clock');

    my $rtt = $r->{rtt_ms};
    cmp_ok($rtt->{p50}, '>', 0, 'the median');
    cmp_ok($rtt->{p50}, '<=', $rtt->{p95}, 'percentiles');
    cmp_ok($rtt->{p95}, '<=', $rtt->{p99}, 'do not');
    cmp_ok($rtt->{p99}, '<=', $rtt->{max}, 'go back');
};

subtest 'who else is there' => sub {
    for my $node ($one, $two) {
        # the first word of a node may come before all its workers are there
        wait_for {
            my $seen = status($node)->{fleet};
            $seen->{alive} == 2
                && !grep { ($_->{info}{workers} || 0) != 2 } @{ $seen->{nodes} }
        } timeout => $secs, what => 'to see each other, with all workers';
        my $f = status($node)->{fleet};
        is($f->{total}, 2, 'two in all');
        is(scalar @{ $f->{nodes} }, 2, 'both by name');
        for my $n (@{ $f->{nodes} }) {
            like($n->{name}, qr/:[0-9a-f]+$/, 'a name');
            cmp_ok($n->{age_ms}, '<', 3000 * Gate::scale(), 'heard of');
            is($n->{info}{workers}, 2, 'with its workers');
        }
    }
};

subtest 'a switch that is set on one node closes both' => sub {
    my $r = call(POST => 'maintenance/other',
        '{"on": true, "message": "m", "actor": "alice", "reason": "why"}');
    is($r->status, 200, 'answered');
    my $doc = $r->json;
    is($doc->{on}, JSON::PP::true, 'with what it is now');
    ok(!exists $doc->{pending}, 'and nothing is pending');
    cmp_ok($doc->{rev}, '>', 1e12, 'under a revision');
    is($one->get('/other/')->status, 503, 'closed here, at once');
    $fleet->converge(503, uri => '/other/', what => 'and there');

    my $key = Gate::json($redis->cmd('GET', 'gate:maintenance:other'));
    is($key->{message}, 'm', 'Redis has it');

    my ($e) = grep { ($_->{object} // '') eq 'other' } $redis->events;
    like($e->{after}, qr/"on":true/, 'and the event');
    like($e->{by}, qr/^ops\@127\.0\.0\.1 \(alice\)$/, 'with who');
    is($e->{reason}, 'why', 'and why');

    is(call(DELETE => 'maintenance/other', undef, $two)->status, 200,
        'DELETE on the other');
    is($two->get('/other/')->status, 200, 'opens it');
    $fleet->converge(200, uri => '/other/', what => 'both');
    is($redis->cmd('EXISTS', 'gate:maintenance:other'), 0, 'in Redis, too');
};

subtest 'a rollout is moved for all' => sub {
    my $epoch = status()->{rollouts}{shop}{epoch};
    my $r = call(POST => 'canary/shop/weight', '{"weight": 100}');
    is($r->status, 200, 'answered');
    is($r->json->{weight}, 100, 'with the new weight');
    is($r->json->{epoch}, $epoch, 'in the same epoch');
    wait_for { status($two)->{rollouts}{shop}{weight} == 100 }
        timeout => $secs, what => 'the other node';
    is($redis->hash('gate:canary:shop')->{weight}, 100, 'Redis');

    $r = call(POST => 'canary/shop/resume', '{}');
    is($r->status, 409, 'what the state does not allow');
    like($r->json->{detail}, qr/\w/, 'and why');
    ok($r->json->{state}, 'and which it is in');
};

subtest 'a mode, by API and by hand' => sub {
    my $r = call(POST => 'modes/canary', '{"mode": "off"}');
    is($r->status, 200, 'answered');
    is($r->json->{mode}, 'off', 'with the new mode');
    is($redis->cmd('GET', 'gate:mode:canary'), 'off', 'in Redis');
    my $all = sub { $_[0]->status == 200 && $_[0]->body eq 'stable' };
    $fleet->converge($all, what => 'everybody to stable');

    is(call(DELETE => 'modes/canary', undef, $two)->status, 200, 'DELETE');
    $fleet->converge(sub { $_[0]->body eq 'canary' }, what => 'back');

    $redis->cmd('SET', 'gate:mode:canary', 'off');
    $fleet->converge($all, what => 'by hand');
    my $mode = status($two)->{modes}{canary};
    is($mode->{source}, 'redis', 'from Redis');
    cmp_ok($mode->{rev}, '>', 1e12, 'under a revision');
    $redis->cmd('DEL', 'gate:mode:canary');
    $fleet->converge(sub { $_[0]->body eq 'canary' }, what => 'and back');

    $redis->cmd('SET', 'gate:mode:maintenance', 'observe');
    $redis->cmd('SET', 'gate:maintenance', 'on');
    wait_for { status()->{maintenance}{global}{observed}
        && status($two)->{maintenance}{global}{observed} } timeout => $secs,
        what => 'to observe';
    $fleet->converge(200, what => 'nobody is refused');
    $redis->cmd('DEL', 'gate:mode:maintenance');
    $fleet->converge(503, what => 'until the mode is gone');
    $redis->cmd('DEL', 'gate:maintenance');
    $fleet->converge(200, what => 'and the switch');
};

subtest 'what all nodes counted' => sub {
    $_->get('/') for ($one) x 7, ($two) x 5;

    for my $node ($one, $two) {
        wait_for {
            my $ro = status($node)->{rollouts}{shop};
            my $own = $ro->{arms}{canary}{requests};
            my $sum = $ro->{fleet}{canary}{requests};
            my $other = status($node == $one ? $two : $one)
                ->{rollouts}{shop}{arms}{canary}{requests};
            ($sum || 0) == $own + $other && !redis($node)->{unsent}
                && $ro->{fleet}{totals}{canary}{requests} >= $sum
        } timeout => $secs, what => 'the sums';
        my $f = status($node)->{rollouts}{shop}{fleet};
        is($f->{members}, 2, 'of two nodes');
        cmp_ok($f->{synced_ms_ago}, '<', 5000 * Gate::scale(), 'just now');
        ok(exists $f->{stable}{$_}, $_)
            for qw(requests attempts failures error_rate);
    }
};

# what anybody may write there

subtest 'other nodes may say what they want' => sub {
    my $now = int(time * 1000);
    my %evil = (
        'no-json:1' => 'hello',
        'array:1' => '[1]',
        'deep:1' => '{"a":' x 60 . '1' . '}' x 60,
        'twice:1' => '{"a":1,"a":2}',
        '<script>alert(1)</script>:1' => '{"nginx":"<b>\u0000\u001b[31m"}',
        "\xff\xfe:1" => '{}',
        'long:' . 'x' x 300 => '{}',
        'large:1' => '{"x":"' . 'y' x 5000 . '"}',
        "line\nfeed:1" => '{}',
    );
    $redis->cmd('HSET', 'gate#nodes', map { $_, "$now $evil{$_}" } keys %evil);

    wait_for { status()->{fleet}{total} > 2 } timeout => $secs,
        what => 'to hear of them';
    my $r = $one->get('/gate');
    my %info = map { $_->{name} => $_->{info} } @{ $r->json->{fleet}{nodes} };

    for my $name (grep { exists $info{$_} } qw(no-json:1 array:1 deep:1
        twice:1 large:1))
    {
        is($info{$name}, undef, "$name: nothing that we show");
    }

    unlike($r->body, qr/y{1000}|x{200}/, 'nothing is too long');
    unlike($r->body, qr/[\x00-\x09\x0b-\x1f\x7f]/, 'no control characters');
    ok((grep { ref $_ eq 'HASH' && $_->{workers} } values %info) >= 2,
        'the true ones are still there');

    my $metrics = $one->get('/metrics')->body;
    ok($metrics !~ /alert/, 'no name gets into the metrics');
    $redis->cmd('HDEL', 'gate#nodes', keys %evil);
    wait_for { status()->{fleet}{alive} == 2 } timeout => $secs,
        what => 'them to be gone';
};

subtest 'metrics' => sub {
    my $text = $one->get('/metrics')->body;
    my $doc = Gate::slurp(Gate::root() . '/docs/operations.md');
    my ($part) = $doc =~ /^## Metrics\n(.*?)^## /ms;
    my %doc = map { $_ => 1 }
        $part =~ /`(nginx_gate_(?:redis|fleet)_\w+)`/g;
    my %real = map { $_ => 1 }
        $text =~ /^# TYPE (nginx_gate_(?:redis|fleet)_\w+)/mg;
    is_deeply([ sort keys %doc ], [ sort keys %real ],
        'the documentation has them all');

    is(metric('nginx_gate_redis_up'), 1, 'up');
    is(metric('nginx_gate_redis_joined'), 1, 'joined');
    is(metric('nginx_gate_fleet_nodes'), 2, 'nodes');
    cmp_ok(metric('nginx_gate_redis_commands_total'), '>', 5, 'commands');
    is(metric('nginx_gate_redis_errors_total{kind="connect"}'), 0, 'errors');

    my @le = $text =~ /^nginx_gate_redis_rtt_seconds_bucket\{le="(.*?)"\}/mg;
    is($le[-1], '+Inf', 'the last bucket');
    is_deeply([ sort { $a <=> $b } @le[0 .. $#le - 1] ],
        [ @le[0 .. $#le - 1] ], 'the others rise');
    my @n = $text =~ /^nginx_gate_redis_rtt_seconds_bucket\{.*\} (\d+)$/mg;
    is_deeply([ sort { $a <=> $b } @n ], \@n, 'and so do their counts');
    my ($count) = $text =~ /^nginx_gate_redis_rtt_seconds_count (\d+)$/m;
    is($n[-1], $count, 'up to all');

  SKIP: {
        skip_unless_cmd('promtool', 1);
        my $file = $t->write_file('metrics.txt', $text);
        my $out = `promtool check metrics < $file 2>&1`;
        is($out, '', 'promtool has nothing to say');
    }
};

subtest 'Redis goes away' => sub {
    my $health = $one->get('/health')->json;
    is($health->{redis}, 'ok', 'it was there');
    ok(defined $health->{redis_age_ms}, 'and heard of');

    $redis->snapshot;
    $redis->kill;
    wait_for { redis()->{state} ne 'ready' && redis($two)->{state} ne 'ready' }
        timeout => $secs, what => 'it to be missed';

    for my $uri (qw(/health /ready)) {
        my $r = $one->get($uri);
        is($r->status, 200, "$uri is well");
        is($r->json->{redis}, 'away', 'and says that Redis is not');
    }

    is(metric('nginx_gate_redis_up'), 0, 'not up');
    is(metric('nginx_gate_fleet_nodes'), 1, 'nobody else is heard of');
    is(status()->{fleet}{alive}, 1, 'the status agrees');
    cmp_ok(metric('nginx_gate_redis_errors_total{kind="connect"}'), '>', 0,
        'counted');

    my $r = redis();
    is($r->{tracking}, undef, 'no tracking');
    is($r->{connected_since}, undef, 'not connected');
    cmp_ok($r->{errors}{connect}, '>', 0, 'the error');
    like($r->{last_error}{text}, qr/\w/, 'in words');
    like($r->{last_error}{time}, qr/^20/, 'with its time');

    $one->get('/') for 1 .. 6;
    cmp_ok(redis()->{unsent}, '>=', 6, 'what is counted waits');
};

subtest 'writes while it is away' => sub {
    my $r = call(POST => 'maintenance/other', '{"on": true}');
    is($r->status, 200, 'closed');
    is($r->json->{pending}, JSON::PP::true, 'here, for now');
    like($r->json->{detail}, qr/Redis/, 'and why');
    is($r->json->{dirty}, JSON::PP::true, 'dirty');
    is($one->get('/other/')->status, 503, 'at once');
    is($two->get('/other/')->status, 200, 'here only');

    $r = call(POST => 'modes/limit', '"observe"');
    is($r->status, 200, 'a mode');
    is($r->json->{pending}, JSON::PP::true, 'here, too');

    $r = call(POST => 'canary/shop/weight', '{"weight": 20}');
    is($r->status, 200, 'a lower weight');
    is($r->json->{weight}, 20, 'is taken');
    is($r->json->{pending}, JSON::PP::true, 'here');
    cmp_ok(redis()->{dirty}, '>=', 3, 'all of it waits');

    for (['weight', '{"weight": 90}'], ['start'], ['promote']) {
        my ($action, $body) = @$_;
        $r = call(POST => "canary/shop/$action", $body // '{}');
        is($r->status, 503, "$action takes Redis");
        is($r->header('retry-after'), 1, 'try again');
        like($r->json->{detail}, qr/Redis/, 'when it is back');
    }
    is(status()->{rollouts}{shop}{weight}, 20, 'nothing was done');
};

subtest 'Redis comes back' => sub {
    $redis->start;
    joined('to join again');
    $fleet->converge(503, uri => '/other/', what => 'the switch for all');
    wait_for { status($two)->{rollouts}{shop}{weight} == 20
        && status($two)->{modes}{limit}{mode} eq 'observe' }
        timeout => $secs, what => 'the weight and the mode';
    is(status()->{maintenance}{other}{dirty}, JSON::PP::false, 'not dirty');
    wait_for { !redis()->{unsent} } timeout => $secs, what => 'the counts';
    cmp_ok(redis()->{reconnects}, '>=', 1, 'a reconnect');
    is($one->get('/health')->json->{redis}, 'ok', 'health');
    is(metric('nginx_gate_redis_up'), 1, 'up');
    call(DELETE => 'maintenance/other');
    $fleet->converge(200, uri => '/other/', what => 'open');
};

subtest 'a restart forgets nothing that Redis must hear' => sub {
    $redis->snapshot;
    $redis->kill;
    wait_for { redis()->{state} ne 'ready' } timeout => $secs,
        what => 'it to be missed';
    is(call(POST => 'maintenance/other', '"on"')->json->{dirty},
        JSON::PP::true, 'set here');
    $one->stop;
    my $kept = Gate::json(Gate::slurp($one->dir . '/state/state.json'));
    my ($s) = grep { $_->{name} eq 'other' } @{ $kept->{switches} };
    is($s->{dirty}, JSON::PP::true, 'the state file has it as not pushed');
    cmp_ok($s->{rev}, '>', 1e12, 'with the revision that it is based on');
    like($kept->{inc}, qr/^[0-9a-f-]{32,40}$/, 'and of which Redis');
    my ($ro) = @{ $kept->{rollouts} };
    cmp_ok($ro->{rev}, '>', 1e12, 'rollouts too');

    $one->start;
    is($one->get('/other/')->status, 503, 'closed from the first request');
    is(status()->{maintenance}{other}{dirty}, JSON::PP::true, 'still dirty');
    is(status()->{maintenance}{other}{rev}, $s->{rev}, 'same revision');
    $redis->start;
    joined('to join after the restart');
    $fleet->converge(503, uri => '/other/', what => 'closed for all');
    is(call(DELETE => 'maintenance/other')->status, 200, 'opened');
    $fleet->converge(200, uri => '/other/', what => 'for all');
};

subtest 'the agent is killed while a write is under way' => sub {
    my $agent = status()->{agent}{pid};
    my ($pin) = grep { $_->[1] != $agent } $fleet->pinned($one);
    my $commands = redis()->{commands};

    $redis->freeze;
    my $start = time;
    $pin->[2]->send(POST => '/gate/api/maintenance/other', headers => {
        Authorization => "Bearer $token",
        'Content-Type' => 'application/json' }, body => '"on"');
    wait_for { redis()->{commands} > $commands } timeout => $secs,
        what => 'a command';
    $one->allow(qr/signal 9/);
    $one->kill_worker('KILL', pid => $agent);
    my $r = $pin->[2]->recv;
    cmp_ok(time - $start, '<', 4 * Gate::scale(), 'an answer in time');
    like($r->status, qr/^(?:200|503)$/, 'status ' . $r->status);
    ok($r->status == 503 || $r->json->{pending}, 'that promises nothing');
    like($r->json->{detail}, qr/\w/, 'in words');

    $redis->thaw;
    joined('to join again');
    my $on = $redis->cmd('EXISTS', 'gate:maintenance:other');
    $fleet->converge($on ? 503 : 200, uri => '/other/',
        what => 'what Redis says');
    is(call(DELETE => 'maintenance/other')->status, 200, 'opened');
    $fleet->converge(200, uri => '/other/', what => 'for all');
};

subtest 'Redis hangs: no write waits for ever' => sub {
    $redis->freeze;
    my $start = time;
    my $r = call(POST => 'maintenance/other', '{"on": true}');
    cmp_ok(time - $start, '<', 4 * Gate::scale(), 'an answer in time');
    if ($r->status == 200) {
        is($r->json->{pending}, JSON::PP::true, 'kept here');
    } else {
        is($r->status, 503, 'or not known');
        like($r->json->{detail}, qr/\w/, 'and says so');
    }
    is($one->get('/')->status, 200, 'requests go on');
    wait_for { $one->get('/health')->json->{redis} eq 'away' }
        timeout => $secs, what => 'health to say so';
    $redis->thaw;
    joined('to join a thawed one');
    call(DELETE => 'maintenance/other');
    $fleet->converge(200, uri => '/other/', what => 'open');
};

subtest 'no secret is told' => sub {
    my %where = (
        status => $one->get('/gate')->body,
        api => call(GET => '')->body,
        metrics => $one->get('/metrics')->body,
        health => $one->get('/health')->body,
        log => $one->log_from(0),
    );
    is(index($where{$_}, $secret), -1, $_) for sort keys %where;
};

$t->done;
done_testing;
