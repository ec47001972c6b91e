#!/usr/bin/perl

# One budget for the whole fleet, whatever happens to its nodes.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Limits;
use List::Util qw(sum);
use Test::More;
use Time::HiRes qw(sleep time);

skip_unless_cmd('redis-server');
my $t = Gate->new;
my $r = $t->redis;
my $l = Gate::Limits->new($t, nodes => 3, redis => $r, zones => {
    z    => 'key=$arg_k rate=30r/h',
    slow => 'key=$arg_k rate=30r/h sync=5s',
    fast => 'key=$arg_k rate=100r/s burst=20',
    own  => 'key=$arg_k rate=30r/h sync=off',
});
$l->start;

my $f = $l->fleet;

subtest 'one node alone has the whole budget' => sub {
    is($l->take(0, 40, 'lone'), 30, 'all of it');
    ok($l->owes('lone', 30), 'the fleet knows it');

    my $n = 30 + $l->take(1, 1, 'lone');
    ok($l->owes('lone', $n), 'another one asks');
    is($l->take(1, 5, 'lone'), 0, 'and lets nobody through');
};

subtest 'three nodes share it' => sub {
    my @passed = map { $l->take($_, 1, 'shared') } 0 .. 2;
    ok($l->owes('shared', 3), 'Redis knows what each of them admitted');

    # one after the other, each hearing of what was before

    for my $round (1 .. 9) {
        for my $i (0 .. 2) {
            push @passed, $l->take($i, 1, 'shared');
            $l->owes('shared', sum(@passed)) || last;
        }
    }

    is(sum(@passed), 30, 'together they let through what one would');
    cmp_ok(sum(map { $l->take($_, 3, 'shared') } 0 .. 2), '<=', 3,
        'and no more than what each has not heard of');
    sleep 0.1;
    is(sum(map { $l->take($_, 3, 'shared') } 0 .. 2), 0, 'which was all');

    # in bursts: what nobody has heard of yet is bounded

    my $n = sum(map { my $k = $_; map { $l->take($_, 3, 'burst') } 0 .. 2 }
        1 .. 10);
    cmp_ok($n, '>=', 30, 'in haste they let through no less');
    cmp_ok($n, '<=', 40, 'and not much more');
    ok($l->owes('burst', $n), 'and all of that is known and paid back');
};

subtest 'a zone of each node alone' => sub {
    is($l->take($_, 40, 'own', 'own'), 30, "has its own budget, node $_")
        for 0, 1;
    is_deeply($r->cmd('KEYS', 'gate#limit:own:*'), [], 'and Redis hears '
        . 'nothing of it');
};

subtest 'keys do not leave the node' => sub {
    my $watch = $r->client;
    $watch->cmd('MONITOR');

    $l->take(0, 3, 'sesame-open');
    ok($l->owes('sesame-open', 3), 'a caller is known in Redis');
    my $hash = $l->{hash}{'sesame-open'};

    my $seen = '';
    Gate::wait_for {
        $seen .= join ' ', map { ref $_ ? @$_ : $_ }
            $watch->read(timeout => 5);
        $seen =~ /limit:z:$hash/;
    } what => 'the hash in what nodes say';

    unlike($seen, qr/sesame/, 'but not its key, in what nodes say');
    my @keys = @{ $r->cmd('KEYS', '*') };
    unlike(join(' ', @keys, map { $r->cmd('DUMP', $_) } @keys), qr/sesame/,
        'or what Redis holds');
    $watch->close;
};

subtest 'who is idle is forgotten' => sub {
    is($l->take(0, 5, 'idle', 'fast'), 5, 'a caller');
    my $key = $l->key('idle', 'fast');
    Gate::wait_for { $r->cmd('EXISTS', $key) } what => 'him at Redis';
    my $ttl = $r->cmd('PTTL', $key);
    ok($ttl > 0 && $ttl <= 10_100, 'goes ten seconds after he has paid')
        || diag($ttl);
    is(scalar(grep { $r->cmd('PTTL', $_) < 0 }
        @{ $r->cmd('KEYS', 'gate#limit*') }), 0, 'nothing is immortal');
};

subtest 'a reload changes nothing' => sub {
    my $n = $l->take(0, 20, 'reload');
    is($n, 20, 'a caller who has spent some');

    my $end = time + 0.3;
    my $agent = $l->agent(0);
    $l->node(0)->reload;
    isnt($l->agent(0), $agent, 'a new agent');

    $n += $l->take(0, 20, 'reload');
    is($n, 30, 'the budget is the same');
    ok($l->owes('reload', 30), 'and so it is for the fleet');
    $l->online(0);
    is($l->take(0, 1, 'reload'), 0, 'nothing is given back');
};

subtest 'nor does an agent that is killed' => sub {
    my $n = 0;

    for my $round (1 .. 3) {
        $n += $l->take(1, 5, 'killed');
        my $agent = $l->agent(1);
        $l->node(1)->kill_worker('KILL', pid => $agent);
        $n += $l->take(1, 5, 'killed');
    }

    is($n, 30, 'the budget is that of one');
    ok($l->owes('killed', 30), 'and Redis has heard of it once');
    $l->online(1);
    ok($l->owes('killed', 30), 'also later');
    $l->node(1)->allow(qr/worker process \d+ exited on signal 9/);
};

subtest 'what was not told yet when nginx ends' => sub {
    is($l->take(2, 1, 'end', 'slow'), 1, 'a caller');
    ok($l->owes('end', 1, 'slow'), 'is told at once');
    is($l->take(2, 2, 'end', 'slow'), 2, 'what he takes later');
    cmp_ok($l->debt('end', 'slow'), '<', 1.1, 'is not');
    $l->node(2)->stop;
    ok($l->owes('end', 3, 'slow'), 'but it is before nginx is gone');
};

$t->done;
done_testing;
