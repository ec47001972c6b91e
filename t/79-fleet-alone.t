#!/usr/bin/perl

# Nodes that are cut off from Redis one by one: rollbacks and new epochs that
# some have not heard of, and what the API of a node is told meanwhile.

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
my @p = map { $t->proxy($r->path) } 1 .. 2;
my $x = Gate::Trial->new($t, redis => $r,
    address => [map { 'redis://' . $_->addr } @p]);
my $f = $x->fleet;
$x->start;

my @node = $f->nodes;
my $a = 'gate:maintenance:a';

sub open_is {
    my ($status, @nodes) = @_;
    return $f->converge($status, uri => '/open', timeout => 5,
        nodes => [@nodes ? @nodes : @node]);
}

sub state_is { return $x->shows('state', @_) }

sub back { return $x->back(\@p, @_) }

subtest 'a rollback that one has not heard of' => sub {
    for my $order ([0, 1], [1, 0]) {
        my $name = "node $order->[0] first";
        $x->rollout(0)->api('canary/shop/start');
        state_is('progressing', 0, 1);
        $p[0]->refuse;
        $r->cmd('HSET', 'gate:canary:shop', state => 'rolled_back');
        ok(state_is('rolled_back', 1), "$name: one has heard");
        $p[1]->refuse;
        $r->restart(empty => 1);
        back(@$order);
        ok(state_is('rolled_back', 0, 1), 'both are rolled back');
        is($r->cmd('HGET', 'gate:canary:shop', 'state'), 'rolled_back',
            'in Redis, too');
    }
};

subtest 'a new epoch that one has not heard of' => sub {
    for my $order ([0, 1], [1, 0]) {
        my $name = "node $order->[0] first";
        $x->rollout(0)->api('canary/shop/start');
        state_is('progressing', 0, 1);
        $x->rollout(0)->api('canary/shop/abort');
        state_is('rolled_back', 0, 1);
        $p[0]->refuse;
        $x->rollout(1)->api('canary/shop/start');
        ok(state_is('progressing', 1), "$name: one begins anew");
        $p[1]->refuse;
        $r->restart(empty => 1);
        back(@$order);
        ok(state_is('progressing', 0, 1), 'the old rollback ends nothing');
    }
};

subtest 'aborted on a node that was cut off' => sub {
    $x->rollout(0)->api('canary/shop/start');
    state_is('progressing', 0, 1);
    $p[0]->refuse;
    wait_for { $x->link(0)->{state} ne 'ready' } what => 'node 0 to notice';
    $x->rollout(0)->api('canary/shop/abort');
    ok(state_is('rolled_back', 0), 'it is done here');
    ok(state_is('progressing', 1), 'and unknown there');
    $p[0]->listen;
    ok(state_is('rolled_back', 0, 1), 'then all are told');
};

subtest 'closed on a node that was cut off' => sub {
    $p[0]->refuse;
    wait_for { $x->link(0)->{state} ne 'ready' } what => 'node 0 to notice';
    $x->rollout(0)->api('maintenance/a', { on => JSON::PP::true });
    ok(eval { open_is(503, $node[0]) }, 'it is closed here') || diag($@);
    is_deeply([$f->watch(200, 0.2, uri => '/open', nodes => [$node[1]])], [],
        'and open there');
    $p[0]->listen;
    ok(eval { open_is(503) }, 'then everywhere') || diag($@);
    $r->cmd('DEL', $a);
    ok(eval { open_is(200) }, 'DEL opens it') || diag($@);

    # somebody else decided meanwhile
    $p[0]->refuse;
    wait_for { $x->link(0)->{state} ne 'ready' } what => 'node 0 to notice';
    $x->rollout(0)->api('maintenance/a', { on => JSON::PP::true });
    open_is(503, $node[0]);
    $r->cmd('SET', $a, 'on');
    open_is(503);
    $r->cmd('DEL', $a);
    open_is(200, $node[1]);
    $p[0]->listen;
    ok(eval { open_is(200) }, 'what Redis was told meanwhile counts')
        || diag($@);
};

$t->done;
done_testing;
