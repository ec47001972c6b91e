#!/usr/bin/perl

# A caller at his limit gets another rate: he owes as many requests as before,
# on all nodes and at Redis.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Limits;
use Test::More;
use Time::HiRes qw(sleep time);

skip_unless_cmd('redis-server');

my $t = Gate->new;
my $r = $t->redis;
my $l = Gate::Limits->new($t, nodes => 2, redis => $r,
    zones => { z => 'key=$arg_k rate=30r/h' })->start;

# What both nodes let through in so many seconds, asked all the time.

sub passed {
    my ($key, $seconds) = @_;

    my $end = time + $seconds;
    my $n = 0;

    while (time < $end) {
        $n += $l->take($_, 1, $key) for 0, 1;
        sleep 0.05;
    }

    return $n;
}

# Waits until both nodes go by that rate.

sub obeyed {
    my ($key, $policy) = @_;

    return eval { wait_for {
        2 == grep { ($l->node($_)->get("/z?k=$key")
                       ->header('ratelimit-policy') || '') =~ /;q=$policy$/
        } 0, 1;
    } timeout => 5 };
}

# 30 at once, and one in two minutes: both nodes spend, and know it.

$l->take(0, 15, 'joe');
ok($l->owes('joe', 15), 'one node spends');
is($l->take(1, 1, 'joe'), 1, 'the other one has a look');
ok($l->owes('joe', 16), 'and knows of the first');
$l->take($_ % 2, 1, 'joe') for 1 .. 40;
is(passed('joe', 0.5), 0, 'then nothing is left');

# one a second

$r->cmd('HSET', 'gate:limit:z', 'joe', 'rate=3600r/h burst=29');
ok(obeyed('joe', '3600;w=3600'), 'both nodes hear of a faster rate');

my $n = passed('joe', 10);
cmp_ok($n, '>=', 3, 'one a second is let through, by and by');
cmp_ok($n, '<=', 10 + 2 + 2 * Gate::scale(), 'and no more than that');

# and back: that time has paid for one request at most

$r->cmd('HDEL', 'gate:limit:z', 'joe');
ok(obeyed('joe', '30;w=3600'), 'both nodes hear of the slower one again');
cmp_ok(passed('joe', 1), '<=', 1, 'and what is owed is owed');

$t->done;

done_testing;
