#!/usr/bin/perl

# Nodes that are cut off from Redis one by one, and a Redis that forgets
# meanwhile: the latest word counts, whoever comes back first.

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

sub weight_is { return $x->shows('weight', @_) }

sub back { return $x->back(\@p, @_) }

subtest 'deleted while one was cut off, and then forgotten' => sub {
    for my $order ([0, 1], [1, 0]) {
        my $name = "node $order->[0] first";
        $r->cmd('SET', $a, 'on');
        open_is(503);
        $p[0]->refuse;
        $r->cmd('DEL', $a);
        open_is(200, $node[1]);
        is_deeply([$f->watch(503, 0.2, uri => '/open', nodes => [$node[0]])],
            [], "$name: the one that is cut off has not heard");
        $p[1]->refuse;
        $r->restart(empty => 1);
        back(@$order);
        ok(eval { open_is(200) }, "$name: it is deleted") || diag($@);
        is_deeply([$f->watch(200, 0.3, uri => '/open')], [], 'and stays so');
        is($r->cmd('EXISTS', $a), 0, 'in Redis, too');
    }
};

subtest 'set while one was cut off, and then forgotten' => sub {
    for my $order ([0, 1], [1, 0]) {
        my $name = "node $order->[0] first";
        $r->cmd('DEL', $a);
        open_is(200);
        $p[0]->refuse;
        $r->cmd('SET', $a, 'on');
        open_is(503, $node[1]);
        $p[1]->refuse;
        $r->restart(empty => 1);
        back(@$order);
        ok(eval { open_is(503) }, "$name: it is set") || diag($@);
        is_deeply([$f->watch(503, 0.3, uri => '/open')], [], 'and stays so');
    }
    $r->cmd('DEL', $a);
    open_is(200);
};

subtest 'a weight that one has not heard of' => sub {
    for my $order ([0, 1], [1, 0]) {
        my $name = "node $order->[0] first";
        $r->cmd('HSET', 'gate:canary:shop', weight => 20);
        weight_is(20, 0, 1);
        $p[0]->refuse;
        $r->cmd('HSET', 'gate:canary:shop', weight => 70);
        weight_is(70, 1);
        $p[1]->refuse;
        $r->restart(empty => 1);
        back(@$order);
        ok(weight_is(70, 0, 1), "$name: it is the latest");
        is($r->cmd('HGET', 'gate:canary:shop', 'weight'), 70, 'in Redis, too');
    }
};

subtest 'a word to the Redis that has forgotten counts' => sub {
    $_->refuse for @p;
    $r->restart(empty => 1);
    $r->cmd('SET', 'gate:maintenance:b', 'off');
    $r->cmd('SET', $a, 'on');
    back(0, 1);
    ok(eval { open_is(503);
        $f->converge(200, uri => '/closed', timeout => 5) },
        'what was set anew') || diag($@);
    ok(weight_is(70, 0, 1), 'what was not is restored');
    $r->cmd('SET', 'gate:maintenance:b', 'on');
    $r->cmd('DEL', $a);
    $f->converge(503, uri => '/closed');
    open_is(200);
};

$t->done;
done_testing;
