#!/usr/bin/perl

# Copyright (C) nginx-gate authors

# One budget for a fleet, under load: what t/bench/limit-fleet.pl measures at
# length, for some seconds and with bounds for a busy machine.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Time::HiRes qw(sleep);

use Gate;
use Gate::Budget;

skip_unless_cmd('redis-server');

use constant { NODES => 4, RATE => 100, CAPACITY => 21 };

my $t = Gate->new(module => 0);
my $redis = $t->redis;
my $budget = 'rate=' . RATE . 'r/s burst=' . (CAPACITY - 1);

my $f = Gate::Budget->new($t, redis => $redis, nodes => NODES, zones => {
    async => $budget, exact => "$budget sync=exact timeout=5s",
    burst => 'rate=100r/m', owing => 'rate=1r/h' });

sub holds {
    my ($what, $figure, $low, $high) = @_;
    ok($figure >= $low && $figure <= $high, $what)
        or diag("$figure is not in $low .. $high");
}

# 4 x 200 where 100 are allowed: 1200 more if each node had a budget of its own

{
    my $run = $f->run(zone => 'async', rate => 200, duration => 4,
        random => 1);
    is($run->strange, '', 'every request is admitted or refused');
    holds('four nodes admit what one budget allows', $run->admitted(1, 4),
        0.9 * RATE * 3, 1.1 * RATE * 3);
    holds('and never much more at once', $run->overshoot(RATE, CAPACITY),
        -CAPACITY, 50);
}

{
    my $run = $f->run(zone => 'async', rate => 0.9 * RATE / NODES,
        duration => 3, random => 1);
    my ($false) = $run->false(RATE, CAPACITY);
    holds('callers below their rate are not refused', $false, 0,
        0.05 * $run->count);
}

is($f->run(zone => 'burst', rate => 5000, number => 100, nodes => [1],
    conns => 1)->admitted, 100, 'a lone spender has its whole burst');

{
    my $run = $f->run(zone => 'exact', rate => 200, duration => 3,
        random => 1, conns => 32);
    is($run->strange, '', 'requests that ask Redis are admitted or refused');
    is($f->sum('exact', 'fallback'), 0, 'Redis decides about all of them');
    holds('and admits never more than the budget',
        $run->overshoot(RATE, CAPACITY, ended => 1), -CAPACITY, 0);
    holds('nor much less', $run->admitted(0, 3), 0.8 * RATE * 3,
        CAPACITY + RATE * 3);
}

# Redis goes and comes back empty, while somebody owes an hour

{
    my $key = Gate::Budget::key();
    my $again = sub {
        return $f->run(zone => 'owing', key => $key, rate => 100, number => 1)
            ->admitted;
    };

    $again->();
    wait_for { !$again->() } what => 'all nodes to know the debtor';

    my ($away, $back, $let) = (1.5, undef, 0);
    my $run = $f->run(zone => 'async', rate => 200, duration => 7,
        code => sub {
            my ($elapsed) = @_;
            sleep $away;
            $redis->kill;
            while ($elapsed->() < $away + 2) { $let += $again->() }
            $redis->start;
            $f->wait_online;
            $back = $elapsed->();
            $let += $again->();
        });

    is($run->strange, '', 'no request fails while Redis is away');
    holds('nor waits for it', $run->latency(0.99, $away, $away + 2), 0,
        1000 * Gate::scale());
    holds('the fleet goes on with its budget meanwhile',
        $run->admitted($away, $away + 2), 0.7 * RATE * 2, 1.3 * RATE * 2);
    holds('and has it in all', $run->admitted, 0.85 * RATE * 7,
        RATE * 7 + 6 * CAPACITY);
    holds('nobody is locked out afterwards', $run->gap($back, 7), 0, 2.5);
    is($let, 0, 'who owes an hour is never forgotten');
}

$t->done;
done_testing;
