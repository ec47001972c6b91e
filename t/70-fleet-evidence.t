#!/usr/bin/perl

# What nodes count is one sum for the fleet, and what that sum proves, or one
# node's share of it, rolls the canary back on all of them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Rollout;
use Test::More;
use Time::HiRes qw(sleep time);

skip_unless_cmd('redis-server');

my $t = Gate->new;
my $r = $t->redis;

my $stable = $t->backend('ok', body => 'stable', name => 'stable');
my $canary = $t->backend('ok', body => 'canary', name => 'canary');
my $broken = $t->backend('status', 500, name => 'broken');
my $slow = $t->backend('slow', 300, name => 'slow');

# name => [canary's upstream, weight, directives]

my %composite = (
    totals => ['c', '50%', ''],
    spread => ['b', '100%', 'gate_breach error_rate=5% min=30;'],
    one    => ['x', '100%', 'gate_breach error_rate=20% min=10;'],
    slow   => ['w', '100%', 'gate_breach p95=100ms min=30;'],
    ratio  => ['b', '50%', 'gate_breach error_ratio=2 min=30;'],
    few    => ['b', '100%', 'gate_breach error_rate=5% min=1000;'],
    past   => ['b', '100%', 'gate_breach error_rate=50% min=20 window=1s;'],
);

my $upstreams = join "\n", map { my $c = $composite{$_};
    "upstream $_ { gate_canary s $c->[0] weight=$c->[1] id=$_-1; $c->[2] }" }
    sort keys %composite;

my $locations = join "\n", map {
    "location /$_ { proxy_pass http://$_;
        add_header X-Arm \$gate_arm_$_ always; }" } sort keys %composite;

my @rollout;

my $f = $t->fleet(3, workers => 2, sub {
    my ($node, $number) = @_;

    my $g = $rollout[$number] = Gate::Rollout->new($node);
    my $last = ($number == 2 ? $broken : $canary)->addr;

    return <<"EOF_CONF";
    gate_redis redis://@{[ $r->addr ]};
    proxy_http_version 1.1;
    proxy_set_header Connection '';
    proxy_next_upstream off;

    upstream s { server @{[ $stable->addr ]}; keepalive 16; }
    upstream c { server @{[ $canary->addr ]}; keepalive 16; }
    upstream b { server @{[ $broken->addr ]}; keepalive 16; }
    upstream w { server @{[ $slow->addr ]}; keepalive 16; }
    upstream x { server $last; keepalive 16; }
    $upstreams

    server {
        listen 127.0.0.1:%%PORT:http%%;
@{[ $g->endpoints ]}
        $locations
    }
EOF_CONF
});

$f->start;
in_step('all nodes to join');

# All nodes have told each other all they know.

sub in_step {
    my ($what) = @_;
    wait_for {
        !grep { !$_->status->{redis}{joined}
            || $_->status->{fleet}{alive} < 3
            || grep { !defined $_->{fleet}{synced_ms_ago} }
                values %{ $_->status->{rollouts} } } @rollout;
    } timeout => 20, what => $what;
}

sub ask {
    my ($node, $name, $n) = @_;
    my $c = $f->node($node)->conn(timeout => 30);
    return map { $c->request(GET => "/$name")->status } 1 .. $n;
}

# As ask, but all at once.

sub crowd {
    my ($node, $name, $n) = @_;
    my @conns = map { $f->node($node)->conn(timeout => 30) } 1 .. $n;
    $_->send(GET => "/$name") for @conns;
    $_->recv for @conns;
}

sub fleet_of { my ($node, $name) = @_; $rollout[$node]->rollout($name)->{fleet} }

# Waits until all nodes say that all have counted so much.

sub wait_fleet {
    my ($name, $arm, $field, $n) = @_;
    wait_for { !grep { fleet_of($_, $name)->{$arm}{$field} != $n } 0 .. 2 }
        timeout => 20, what => "$n $field of the fleet on $arm of $name";
}

sub wait_all { my ($name, $state) = @_;
    return map { $_->wait_state($name, $state) } @rollout }

subtest 'the step of all nodes is one sum' => sub {
    ask($_, 'few', 10 + $_) for 0 .. 2;
    wait_fleet('few', 'canary', 'failures', 33);
    pass('each node knows the failures of all');

    my $one = $rollout[1]->rollout('few');
    is($one->{arms}{canary}{failures}, 11, 'and its own');
    is($one->{fleet}{members}, 3, 'and that they are of three');
    is_deeply([@{ $one->{rules}[0] }{qw(n value scope enough over)}],
        [33, 1, 'fleet', JSON::PP::false(), JSON::PP::false()],
        'a rule shows what it sees of the fleet');
    is($one->{state}, 'progressing', 'too few for its minimum');
};

subtest 'a breach that no node can prove alone flips all of them' => sub {
    ask($_, 'spread', 12) for 0 .. 2;

    my @all = wait_all('spread', 'rolled_back');
    my @scope = grep { defined } map { $_->{last_record}
        && $_->{last_record}{scope} } @all;
    ok(@scope >= 1 && !grep({ $_ ne 'fleet' } @scope),
        'by the numbers of the fleet');

    my ($record) = map { $_->{last_record} } grep { $_->{last_record}
        && $_->{last_record}{fleet} } @all;
    is($record->{reason}, 'error_rate=5% min=30', 'the rule');
    is($record->{fleet}{nodes}, 3, 'the record says how many nodes');
    cmp_ok($record->{fleet}{canary_arm}{failures}, '>=', 30,
        'and what all of them counted');
    cmp_ok($record->{canary_arm}{failures}, '<=', 12, 'and what it did');

    wait_for { grep { $_->{event} eq 'rolled_back'
        && $_->{object} eq 'spread' } $r->events } what => 'the event';
    is(scalar(grep { $_->{event} eq 'rolled_back'
        && $_->{object} eq 'spread' } $r->events), 1, 'one event');
};

subtest 'a breach that only one node has flips all of them' => sub {
    ask($_, 'one', 300) for 0, 1;
    ask(2, 'one', 14);

    my @all = wait_all('one', 'rolled_back');
    is($all[2]{last_record}{scope}, 'node', 'by its own numbers');
    ok(!exists $all[2]{last_record}{fleet}, 'which are all that there is');
    is_deeply([map { $_->{weight} } @all], [0, 0, 0], 'nobody goes there');
};

subtest 'a latency rule sees the attempts of all nodes' => sub {
    crowd($_, 'slow', 12) for 0 .. 2;

    my @all = wait_all('slow', 'rolled_back');
    my ($record) = grep { $_ && $_->{fleet} } map { $_->{last_record} } @all;
    is($record->{scope}, 'fleet', 'by the numbers of the fleet');
    is($record->{reason}, 'p95=100ms min=30', 'the rule');
};

subtest 'a ratio rule sees both arms of all nodes' => sub {
    ask($_, 'ratio', 40) for 0 .. 2;

    my @all = wait_all('ratio', 'rolled_back');
    is(scalar(grep { $_->{arms}{canary}{attempts} >= 30 } @all), 0,
        'no node had the minimum') or diag explain [map { $_->{arms} } @all];
};

# Sums of what clients counted, as the status says them.

my %count = (stable => 0, canary => 0);

sub start_loads {
    my (%opt) = @_;
    return map { $t->load(port => $_->port, uri => '/totals', conns => 8,
        rate => 150, duration => 60, value => 'X-Arm', %opt) } $f->nodes;
}

sub stop_loads {
    my (@loads) = @_;
    my $failed = 0;
    for my $load (@loads) {
        my $result = $load->stop;
        my $v = $result->{values}{'X-Arm'};
        $count{$_} += $v->{$_} || 0 for keys %count;
        $failed += $result->{sent} - ($result->{status}{200} || 0);
    }
    is($failed, 0, 'no request failed');
}

sub exact {
    my ($what) = @_;
    my $want = join ' ', map { "$_ $count{$_}" } sort keys %count;
    my @got;
    my $ok = eval {
        wait_for {
            @got = map { my $totals = fleet_of($_, 'totals')->{totals};
                join ' ', map { "$_ $totals->{$_}{attempts}" }
                    sort keys %count } 0 .. 2;
            !grep { $_ ne $want } @got;
        } timeout => 20, what => 'exact totals';
    };
    ok($ok, "$what: every node knows exactly what clients counted")
        or diag "want $want, got: " . join ', ', @got;
}

subtest 'totals are exact when Redis forgets scripts, then everything' => sub {
    my @loads = start_loads();
    wait_for { fleet_of(0, 'totals')->{totals}{canary}{attempts} > 50 }
        what => 'some load';
    $r->cmd('SCRIPT', 'FLUSH');
    my $n = fleet_of(0, 'totals')->{totals}{canary}{attempts};
    wait_for { fleet_of(0, 'totals')->{totals}{canary}{attempts} > $n + 50 }
        what => 'some more';
    $r->cmd('FLUSHALL');
    $n = fleet_of(0, 'totals')->{totals}{canary}{attempts};
    wait_for { fleet_of(0, 'totals')->{totals}{canary}{attempts} > $n + 50 }
        what => 'some more';
    stop_loads(@loads);
    exact('after FLUSHALL');
};

subtest 'what a node counted is not forgotten while it cannot say it again' =>
    sub {
    my @workers = $f->node(2)->workers;
    kill 'STOP', @workers;
    $r->cmd('FLUSHALL');

    my %least = (few => 33, totals => $count{stable} + $count{canary});
    my $syncs = $rollout[0]->status->{redis}{syncs};
    my $end = time + 1.5;
    wait_for {
        my $few = fleet_of(0, 'few')->{canary}{failures};
        my $all = fleet_of(0, 'totals')->{totals};
        my $sum = $all->{stable}{attempts} + $all->{canary}{attempts};
        $least{few} = $few if $few < $least{few};
        $least{totals} = $sum if $sum < $least{totals};
        time > $end && $rollout[0]->status->{redis}{syncs} > $syncs + 7;
    } what => 'some syncs without it';
    kill 'CONT', @workers;

    is_deeply(\%least,
        { few => 33, totals => $count{stable} + $count{canary} },
        'neither of the step nor of all');
    exact('when it is back');
};

subtest 'totals are exact after an outage, and never go back' => sub {
    my @loads = start_loads();
    my $before = fleet_of(1, 'totals')->{totals}{stable}{attempts};
    wait_for { fleet_of(1, 'totals')->{totals}{stable}{attempts}
        > $before + 50 } what => 'some load';

    $r->kill;
    wait_for { !grep { $_->status->{redis}{state} eq 'ready' } @rollout }
        what => 'nodes to notice';

    my @seen = map { fleet_of($_, 'totals')->{totals}{stable}{attempts} }
        0 .. 2;
    sleep 0.5 while fleet_of(0, 'totals')->{synced_ms_ago} < 2000;
    $r->start;

    my $back = 0;
    wait_for {
        for my $i (0 .. 2) {
            my $now = fleet_of($i, 'totals')->{totals}{stable}{attempts};
            $back++ if $now < $seen[$i];
            $seen[$i] = $now;
        }
        !grep { $_->status->{redis}{state} ne 'ready'
            || $_->rollout('totals')->{fleet}{synced_ms_ago} > 1500 }
            @rollout;
    } timeout => 20, what => 'nodes to come back';

    stop_loads(@loads);
    exact('after the outage');
    is($back, 0, 'no total went back');
};

subtest 'totals are exact when workers are replaced under load' => sub {
    my @loads = start_loads();
    $f->node(0)->reload for 1 .. 3;
    $f->node(1)->kill_worker;
    my $n = fleet_of(2, 'totals')->{totals}{canary}{attempts};
    wait_for { fleet_of(2, 'totals')->{totals}{canary}{attempts} > $n + 100 }
        what => 'some load';

    # a killed worker takes the answers along that it had not sent

    my $lost = 0;
    for my $load (@loads) {
        my $result = $load->stop;
        my $v = $result->{values}{'X-Arm'};
        $count{$_} += $v->{$_} || 0 for keys %count;
        $lost += $result->{sent} - ($result->{status}{200} || 0);
    }

    my %got;
    wait_for {
        my @all = map { fleet_of($_, 'totals')->{totals} } 0 .. 2;
        %got = map { $_ => $all[0]{$_}{attempts} } keys %count;
        $got{stable} + $got{canary} >= $count{stable} + $count{canary}
            && !grep { $_->{stable}{attempts} != $got{stable}
                || $_->{canary}{attempts} != $got{canary} } @all;
    } what => 'the same totals everywhere';

    my $more = $got{stable} + $got{canary} - $count{stable} - $count{canary};
    is_deeply([map { $_->status->{redis}{state} } @rollout],
        [('ready') x 3], 'the agent that left does not speak for the new one');
    ok($more <= $lost, "as many as clients counted, and at most $lost more")
        or diag "$more more";
    %count = %got;
};

subtest 'a node that restarts keeps its share' => sub {
    $f->node(2)->stop;
    $f->node(2)->start;
    in_step('the node to be back');

    my @loads = start_loads(rate => 50);
    wait_for { fleet_of(2, 'totals')->{totals}{canary}{attempts}
        > $count{canary} + 50 } what => 'some load';
    stop_loads(@loads);
    exact('after the restart');
    is(fleet_of(0, 'few')->{canary}{failures}, 33,
        'also of the step that is under way');
};

subtest 'what is long over does not come back with a node that restarts' => sub {

    # failures that are only reported, and then a calm that is longer than
    # the window

    $r->cmd('SET', 'gate:mode:canary', 'observe');
    wait_for { !grep { $_->status->{modes}{canary}{mode} ne 'observe' }
        @rollout } what => 'mode observe';

    ask(0, 'past', 40);
    wait_fleet('past', 'canary', 'failures', 40);

    my @events = grep { $_->{event} eq 'would_roll_back'
        && $_->{upstream} eq 'past' } @{ $rollout[0]->status->{events} };
    is(scalar @events, 1, 'a breach is reported once');
    is($events[0]{weight_after}, 100, 'and changes nothing');

    my $end = time + 1.5;
    wait_for { time > $end } what => 'the window to pass';

    $r->cmd('DEL', 'gate:mode:canary');
    wait_for { !grep { $_->status->{modes}{canary}{mode} ne 'enforce' }
        @rollout } what => 'mode enforce';

    $f->node(1)->stop;
    $f->node(1)->start;
    in_step('the node to be back');
    wait_fleet('past', 'canary', 'failures', 40);

    my $syncs = $rollout[1]->status->{redis}{syncs};
    wait_for { $rollout[1]->status->{redis}{syncs} > $syncs + 20 }
        what => 'some more syncs';
    is_deeply([map { $_->rollout('past')->{state} } @rollout],
        [('progressing') x 3], 'no node flips because of them');

    my ($rule) = @{ $rollout[1]->rollout('past')->{rules} };
    is($rule->{n}, 40, 'its minimum is met');
    is($rule->{value}, undef, 'but there is nothing in the window');
};

$t->done;
done_testing;
