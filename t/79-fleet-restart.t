#!/usr/bin/perl

# nginx itself is stopped and started: what it wrote to its state file is a
# memory like any other, good where Redis has none, and never the last word.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Trial;
use Test::More;

skip_unless_cmd('redis-server');
my $t = Gate->new;
my $r = $t->redis;
my $x = Gate::Trial->new($t, redis => $r, conf => 'gate_state %%DIR%%/state;');
my $f = $x->fleet;
$x->start;

my ($one, $two) = $f->nodes;
my $a = 'gate:maintenance:a';

# Stops once all of its state is on the disk, and Redis has its share.

sub stop {
    my (@nodes) = @_;
    for my $node (@nodes) {
        wait_for { !$x->rollout($node->number)->status->{state_store}{pending} }
            what => 'the state to be saved';
        $node->stop;
    }
}

sub back {
    my (@nodes) = @_;
    for my $node (@nodes) {
        $node->start;
        wait_for { $x->link($node->number)->{joined} } what => 'it to join';
    }
}

sub open_is {
    my ($status, @nodes) = @_;
    return $f->converge($status, uri => '/open', timeout => 5,
        nodes => [@nodes ? @nodes : $f->nodes]);
}

sub right { is_deeply([$x->wrong], [], $_[0]) }

subtest 'a node that is started anew' => sub {
    stop($one);
    $one->start;
    is($one->get('/closed')->status, 503, 'is closed from the first request');
    wait_for { $x->link(0)->{joined} } what => 'it to join';
    right('and says what the others say');
};

subtest 'while Redis is away' => sub {
    stop($one);
    $r->snapshot->kill;
    $one->start;
    is($one->get('/closed')->status, 503, 'it is closed');
    right('and all is as it was');
    $r->start->forget;
    $x->obeys;
    right('and stays so when Redis is back');
};

subtest 'what was said while it was down counts' => sub {
    stop($one);
    $r->cmd('SET', $a, 'on');
    open_is(503, $two);
    back($one);
    ok(eval { open_is(503) }, 'SET') || diag($@);
    stop($one);
    $r->cmd('DEL', $a);
    open_is(200, $two);
    back($one);
    ok(eval { open_is(200) }, 'DEL') || diag($@);
    right('all else is as it was');
};

subtest 'Redis has forgotten while all were down' => sub {
    stop($one, $two);
    $r->restart(empty => 1);
    back($one, $two);
    right('all is as it was');
    $x->holds;
};

subtest 'the one that knows less comes back first' => sub {
    $r->cmd('SET', $a, 'on');
    open_is(503);
    stop($one);
    $r->cmd('DEL', $a);
    open_is(200, $two);
    stop($two);
    $r->restart(empty => 1);
    back($one);
    open_is(503, $one);
    pass('what it knows holds at first');
    back($two);
    ok(eval { open_is(200) }, 'until somebody knows better') || diag($@);
    right('all else is as it was');
};

subtest 'another binary under load' => sub {
    my @load = $x->load;
    $one->upgrade;
    $x->obeys;
    right('the state stays');
    $x->check_load(@load);
    ok(eval { wait_for { $r->clients == 4 } }, 'two connections a node')
        || diag($r->cmd('CLIENT', 'LIST'));
};

subtest 'an agent that hangs is replaced, and does no harm later' => sub {
    my $old = $x->agent(1);
    my ($pin) = grep { $_->[1] != $old } $f->pinned($two);
    my $ask = sub {
        $pin->[2]->send('GET', $_[0]);
        return $pin->[2]->recv;
    };

    kill 'STOP', $old or die "kill: $!\n";
    my $agent;
    ok(eval { wait_for { ($agent = $ask->('/gate')->json->{agent}{pid}) != $old }
        timeout => 15 }, 'by another worker') || diag($@);
    $r->cmd('SET', $a, 'on');
    ok(eval { wait_for { $ask->('/open')->status == 503 } }, 'which obeys')
        || diag($@);
    $r->cmd('DEL', $a);
    wait_for { $ask->('/open')->status == 200 } what => 'DEL';

    kill 'CONT', $old or die "kill: $!\n";
    is_deeply([$f->watch(200, 0.5, uri => '/open')], [], 'nothing flips');
    is($x->agent(1), $agent, 'the other one stays');
    ok(eval { wait_for { $r->clients == 4 } }, 'two connections a node')
        || diag($r->cmd('CLIENT', 'LIST'));
    right('all is as it was');
};

$t->done;
done_testing;
