#!/usr/bin/perl

# A rollout is one for all nodes: its epoch, its weight, its end.  Each node
# has a line of its own to Redis, so that it can be cut off alone.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Rollout;
use Test::More;

skip_unless_cmd('redis-server');

my $t = Gate->new;
my $r = $t->redis;
my $stable = $t->backend('ok', body => 'stable');
my $canary = $t->backend('ok', body => 'canary');
my $broken = $t->backend('status', 500);

my (@line, @api, @id, %more);
my $seed = 'steady';

my $f = $t->fleet(3, workers => 1, sub { conf(@_) });
my @node = $f->nodes;

sub conf {
    my ($node, $i) = @_;

    $line[$i] ||= $t->proxy($r->addr);
    $api[$i] ||= Gate::Rollout->new($node);
    $id[$i] ||= 1;
    my $more = $more{$i} || '';
    my $steps = $more{steps} || '10%:1s 50%:1s 100%';

    return <<"EOF_CONF";
    gate_redis redis://@{[ $line[$i]->addr ]} timeout=500ms;
    gate_state %%DIR%%/state;

    upstream v1 { server @{[ $stable->addr ]}; }
    upstream v2 { server @{[ $canary->addr ]}; }
    upstream v3 { server @{[ $broken->addr ]}; }

    upstream shop {
        gate_canary v1 v2 weight=40% id=$id[$i];
        gate_key \$arg_key;
    }
    upstream bad {
        gate_canary v1 v3 weight=100% id=1;
        gate_breach error_rate=50% window=1m min=5 exact;
    }
    upstream ramp {
        gate_canary v1 v2 id=1;
        gate_steps $steps;
        gate_breach error_rate=50% window=1m min=1 exact;
    }
    $more

    server {
        listen 127.0.0.1:%%PORT:http%%;
        proxy_next_upstream error timeout http_500;
        location /shop { proxy_pass http://shop; }
        location /bad { proxy_pass http://bad; }
        location /ramp { proxy_pass http://ramp; }
@{[ $api[$i]->endpoints ]}
    }
EOF_CONF
}

sub again {
    my ($i) = @_;
    $node[$i]->configure({ workers => 1 }, conf($node[$i], $i));
    $node[$i]->reload;
}

sub joined {
    my (@i) = @_;
    wait_for { !grep { !$api[$_]->status->{redis}{joined} } @i }
        timeout => 20, what => "nodes @i to join";
}

sub away {
    my (@i) = @_;
    wait_for { !grep { $api[$_]->status->{redis}{joined} } @i }
        timeout => 20, what => "nodes @i to notice";
}

# All of them at that state, and at one epoch.

sub all {
    my ($name, $want, @i) = @_;
    @i = (0 .. 2) unless @i;

    my (@now, $last);
    my $ok = eval {
        wait_for {
            @now = map { $api[$_]->rollout($name) } @i;
            my %epoch = map { $_->{epoch} => 1 } @now;
            keys %epoch == 1 && !grep { my $n = $_;
                grep { "$n->{$_}" ne "$want->{$_}" } keys %$want } @now;
        } timeout => 10;
    };
    diag(explain([ map { { map { $_ => $now[0]{$_} } keys %$want } } @now ]),
        join ' ', map { $_->{epoch} } @now) unless $ok;
    return $ok ? $now[0] : {};
}

sub events {
    my (%want) = @_;
    return grep { my $e = $_;
        !grep { ($e->{$_} || '') ne $want{$_} } keys %want } $r->events;
}

$f->start;
joined(0 .. 2);


subtest 'one node opens the epoch, and all have it' => sub {
    my $now = all('shop', { state => 'progressing', weight => 40 });
    is(events(event => 'open', object => 'shop'), 1, 'one event');
    is($r->cmd('HGET', 'gate:canary:shop', 'epoch'), $now->{epoch},
        'it is in Redis');
    cmp_ok($now->{epoch}, '>', 1_600_000_000, 'it is not below the time');
};

subtest 'a caller gets the same version from every node' => sub {
    my %body;
    for my $key (1 .. 40) {
        my @got = map { $_->get("/shop?key=$key")->body } @node;
        is("@got", "$got[0] $got[0] $got[0]", "key $key") if
            grep { $_ ne $got[0] } @got;
        $body{ $got[0] }++;
    }
    ok($body{stable} && $body{canary}, 'some this, some that');
};

subtest 'what one API is told holds on all nodes' => sub {
    my $answer = $api[1]->api('canary/shop/weight',
        { weight => '60%', actor => 'eve', reason => 'looks good' });
    is($answer->{weight}, 60, 'the answer has it');
    ok(!$answer->{pending}, 'it is done');

    is(all('shop', { weight => 60, state => 'progressing' })->{step}, 2,
        'on all nodes, as a new step');

    my ($event) = events(event => 'weight', object => 'shop');
    like($event->{by}, qr/eve/, 'who');
    is($event->{before}, 'progressing 40%', 'before');
    is($event->{after}, 'progressing 60%', 'after');
    is($event->{reason}, 'looks good', 'why');
    like($event->{node}, qr/:[0-9a-f]{16}$/, 'on which node');
};

subtest 'what the state does not permit is refused, with the reason' => sub {
    my $answer = $api[0]->call('canary/shop/resume');
    is($answer->status, 409, 'status');
    like($answer->json->{detail}, qr/only a paused rollout/, 'why');
};

subtest 'an abort on one node is the end on all' => sub {
    $api[2]->api('canary/shop/abort', { reason => 'no' });
    ok(all('shop', { state => 'rolled_back', weight => 0 })->{epoch}, 'all');
    is(events(event => 'rolled_back', object => 'shop'), 1, 'one event');

    my $answer = $api[0]->call('canary/shop/weight', { weight => 5 });
    is($answer->status, 409, 'it is final');

    my $old = $api[0]->rollout('shop')->{epoch};
    $api[0]->api('canary/shop/retry');
    cmp_ok(all('shop', { state => 'progressing', weight => 40 })->{epoch},
        '>', $old, 'until a new epoch');
};

subtest 'a breach found by one node rolls back all' => sub {
    $node[0]->get('/bad') for 1 .. 20;
    my $now = all('bad', { state => 'rolled_back', weight => 0 });
    is(events(event => 'rolled_back', object => 'bad'), 1, 'one event');

    my ($event) = events(event => 'rolled_back', object => 'bad');
    is(Gate::json($event->{record})->{canary_arm}{failures}, 5, 'the record');
    is($api[2]->rollout('bad')->{last_record}{epoch}, $now->{epoch},
        'others have it too');
    $node[1]->log_like(qr/"bad" was rolled back in the fleet/, 'others say');
};

subtest 'nodes that are reloaded one by one meet in one new epoch' => sub {
    my $old = $api[0]->rollout('shop')->{epoch};
    $id[0] = 2;
    again(0);
    joined(0);
    wait_for { $api[0]->rollout('shop')->{epoch} > $old
        && $api[0]->rollout('shop')->{state} eq 'progressing' }
        what => 'the first node to open an epoch';

    wait_for { $api[1]->rollout('shop')->{foreign} }
        what => 'the others to see that it is not theirs';
    is($api[1]->rollout('shop')->{epoch}, $old, 'they stay as they are');
    my $answer = $api[1]->call('canary/shop/pause');
    is($answer->status, 409, 'and cannot decide about it');

    $id[$_] = 2, again($_) for 1, 2;
    joined(0 .. 2);
    my $now = all('shop', { state => 'progressing', weight => 40, id => 2 });
    is($api[0]->rollout('shop')->{epoch}, $now->{epoch}, 'one epoch');
    is(events(event => 'open', object => 'shop'), 2, 'opened once');
};

subtest 'a node with the last configuration does not open it again' => sub {
    my $now = $api[0]->rollout('shop')->{epoch};

    # as after a restart of a machine that nobody has touched since
    $node[2]->stop;
    system 'rm', '-rf', $node[2]->dir . '/state';
    $id[2] = 1;
    $node[2]->configure({ workers => 1 }, conf($node[2], 2));
    $node[2]->start;
    joined(2);
    wait_for { $api[2]->rollout('shop')->{foreign} } what => 'it to see that';
    is($api[2]->rollout('shop')->{weight}, 0, 'nobody gets its canary');
    is($api[0]->rollout('shop')->{epoch}, $now, 'the epoch stays');

    $id[2] = 2;
    again(2);
    joined(2);
    is(all('shop', { id => 2, state => 'progressing' })->{epoch}, $now,
        'and it can come back');
};

subtest 'a hash that is deleted sends everybody to stable, for good' => sub {
    $r->cmd('DEL', 'gate:canary:shop');
    ok(all('shop', { state => 'idle', weight => 0 })->{epoch}, 'on all');
    $node[1]->reload;
    joined(1);
    ok(!$r->cmd('EXISTS', 'gate:canary:shop'), 'it stays deleted');
    ok(all('shop', { state => 'idle', weight => 0 })->{epoch}, 'on all');

    $api[1]->api('canary/shop/start');
    ok(all('shop', { state => 'progressing', weight => 40 })->{epoch},
        'until it is started');
};

subtest 'while Redis is away the safe side is done here, and told later' =>
    sub
{
    $_->refuse->drop for @line;
    away(0 .. 2);

    for my $wish (['resume'], ['promote'], ['retry'], ['start'],
        ['weight', { weight => 80 }])
    {
        my $answer = $api[0]->call("canary/shop/$wish->[0]", $wish->[1]);
        is($answer->status, 503, "$wish->[0] waits for Redis");
        ok($answer->header('retry-after'), 'it says when to come back');
    }

    my $answer = $api[0]->api('canary/shop/weight', { weight => 10 });
    is($answer->{weight}, 10, 'a lower weight is done');
    ok($answer->{pending}, 'and says that others do not know');
    is($api[0]->api('canary/shop/pause')->{state}, 'paused', 'so is a pause');
    is($api[1]->rollout('shop')->{weight}, 40, 'another node goes on');
    is($api[1]->api('canary/ramp/abort')->{state}, 'rolled_back',
        'and an abort');

    $_->listen for @line;
    joined(0 .. 2);
    ok(all('shop', { weight => 10, state => 'paused' })->{epoch},
        'then all hear of the pause');
    ok(all('ramp', { state => 'rolled_back' })->{epoch}, 'and of the abort');
    $api[0]->api('canary/shop/resume');
    ok(all('shop', { weight => 10, state => 'progressing' })->{epoch},
        'which can be taken back');
};

subtest 'a rollback found alone is told to the fleet' => sub {
    $api[0]->api('canary/bad/retry');
    ok(all('bad', { state => 'progressing' })->{epoch}, 'tried again');

    $line[2]->refuse->drop;
    away(2);
    $node[2]->get('/bad') for 1 .. 20;
    is($api[2]->rollout('bad')->{state}, 'rolled_back', 'here');
    is($api[0]->rollout('bad')->{state}, 'progressing', 'not there');

    $line[2]->listen;
    ok(all('bad', { state => 'rolled_back' })->{epoch}, 'now everywhere');
};

subtest 'a rollback of an epoch that is over ends no newer one' => sub {
    $api[0]->api('canary/bad/retry');
    ok(all('bad', { state => 'progressing' })->{epoch}, 'tried again');
    my $late = events(event => 'rolled_back_late');

    $line[2]->refuse->drop;
    away(2);
    $node[2]->get('/bad') for 1 .. 20;
    is($api[2]->rollout('bad')->{state}, 'rolled_back', 'the node that is cut '
        . 'off rolls back');

    # meanwhile somebody begins anew
    my $epoch = $api[0]->api('canary/bad/start')->{epoch};

    $line[2]->listen;
    joined(2);
    is(all('bad', { state => 'progressing' })->{epoch}, $epoch,
        'all are in the newer epoch');
    wait_for { events(event => 'rolled_back_late') > $late }
        what => 'the event';
    is(events(event => 'rolled_back_late') - $late, 1,
        'it leaves an event, and nothing else');
};

subtest 'a node that starts alone serves, and then joins' => sub {
    $api[0]->api('canary/bad/abort');
    ok(all('bad', { state => 'rolled_back' })->{epoch}, 'rolled back');

    $node[1]->stop;
    system 'rm', '-rf', $node[1]->dir . '/state';
    $line[1]->refuse->drop;
    $node[1]->start;

    my $now = $api[1]->wait_state('shop', 'progressing');
    is($now->{weight}, 40, 'at the configured weight');
    ok($now->{provisional}, 'which it says');

    $line[1]->listen;
    joined(1);
    ok(all('shop', { state => 'progressing', weight => 10 })->{epoch},
        'it takes over what the fleet decided');
    ok(!$api[1]->rollout('shop')->{provisional}, 'and says so');
    ok(all('bad', { state => 'rolled_back' })->{epoch},
        'also what was rolled back');
};

subtest 'Redis forgets, and is told again by those who know' => sub {
    my $bad = $api[0]->rollout('bad')->{epoch};
    $r->cmd('FLUSHALL');
    wait_for { $r->cmd('EXISTS', 'gate:canary:bad') } what => 'it to be told';
    is($r->cmd('HGET', 'gate:canary:bad', 'state'), 'rolled_back',
        'a rollback stays one');
    is($r->cmd('HGET', 'gate:canary:bad', 'epoch'), $bad, 'of its epoch');
    wait_for { ($r->cmd('HGET', 'gate:canary:shop', 'weight') || '') eq '10' }
        what => 'the weight';
    ok(all('shop', { weight => 10 })->{epoch}, 'nobody noticed');
};

subtest 'a node without memory does not undo what Redis forgot' => sub {
    $_->refuse->drop for @line;
    away(0 .. 2);
    $r->cmd('FLUSHALL');

    # the first one to come knows nothing
    $node[2]->stop;
    system 'rm', '-rf', $node[2]->dir . '/state';
    $line[2]->listen;
    $node[2]->start;
    joined(2);
    is($api[2]->wait_state('bad', 'progressing')->{weight}, 100,
        'it opens an epoch');

    $_->listen for @line[0, 1];
    joined(0 .. 2);
    ok(all('bad', { state => 'rolled_back', weight => 0 })->{epoch},
        'but those who know roll it back');
    ok(all('shop', { weight => 10 })->{epoch}, 'and have their weight');
};

subtest 'steps are taken once, by the fleet' => sub {
    my $before = events(event => 'step', object => 'ramp');
    $more{steps} = '10%:1s 50%:1s 90%:1s 100%';
    again($_) for 0 .. 2;
    joined(0 .. 2);
    $api[0]->api('canary/ramp/start');
    wait_for {
        $_->get('/ramp') for @node;
        $api[0]->rollout('ramp')->{state} eq 'promoted';
    } timeout => 20, what => 'the ramp to end';
    ok(all('ramp', { state => 'promoted', weight => 100 })->{epoch}, 'all');
    is(events(event => 'step', object => 'ramp') - $before, 2, 'two steps');
    is(events(event => 'promoted', object => 'ramp'), 1, 'one promotion');
};

subtest 'a node with other steps does not advance' => sub {
    $api[0]->api('canary/ramp/start');
    $api[0]->api('canary/ramp/pause');
    $more{steps} = '10%:200ms 20%:1h 100%';
    again(2);
    joined(2);

    $_->refuse->drop for @line[0, 1];
    $api[2]->api('canary/ramp/resume');
    my $from = $api[2]->status->{redis}{commands};
    wait_for {
        $node[2]->get('/ramp') for 1 .. 5;
        $api[2]->rollout('ramp')->{arms}{canary}{attempts} > 3
            && $api[2]->status->{redis}{commands} > $from + 15;
    } timeout => 20, what => 'its step to be over for long';
    is($api[2]->rollout('ramp')->{weight}, 10, 'it is not its to take');
    $_->listen for @line;
};

$f->stop;
$t->done;
done_testing;
