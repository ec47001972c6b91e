#!/usr/bin/perl

# Limits while Redis is away, hangs, or has forgotten, and when it is back.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Limits;
use List::Util qw(max sum);
use Test::More;
use Time::HiRes qw(sleep time);

skip_unless_cmd('redis-server');
my $t = Gate->new;
my $r = $t->redis;
my @proxy = map { $t->proxy($r->addr) } 0 .. 1;
my @loss = qw(share local deny allow);

my $l = Gate::Limits->new($t, nodes => 2, redis => $r,
    address => [map { 'redis://' . $_->addr } @proxy],
    zones => {
        (map { $_ => "key=\$arg_k rate=30r/h on_redis_loss=$_" } @loss),
        z => 'key=$arg_k rate=30r/h',
        quick => 'key=$arg_k rate=100r/s burst=9',
    });
$l->start;

sub away {
    for my $i (0 .. 1) {
        Gate::wait_for { $l->status($i)->{redis}{state} ne 'ready' }
            what => "node $i to know that Redis is away";
    }
}

sub both {
    my ($n, $key, $zone) = @_;
    return map { $l->take($_, $n, $key, $zone) } 0 .. 1;
}

# Each way to lose it, and each way to live on.

for my $case (['is killed', sub { $r->kill }, sub { $r->start }, 1.5],
    ['cannot be reached', sub { $_->refuse->drop for @proxy },
    sub { $_->listen for @proxy }, 4.5])
{
    my ($what, $break, $heal, $kept) = @$case;

    subtest "Redis $what" => sub {
        my $id = $what =~ s/ //gr;
        my %known = map { $_ => sum(both(2, "known$id$_", $_)) } @loss;
        $l->owes("known$id$_", 4, $_) for @loss;
        $known{$_} += sum(both(1, "known$id$_", $_)) for @loss;
        is($known{$_}, 6, "there is somebody who spends on both, $_")
            for @loss;
        $l->owes("known$id$_", 6, $_) for @loss;
        is($l->take(0, 6, "lone$id", 'share'), 6, 'and on one');
        $l->owes("lone$id", 6, 'share');

        $break->();
        away();

        my @n = both(40, "new$id", 'share');
        is_deeply(\@n, [15, 15], 'share: a new caller has a part on each');
        is_deeply([both(40, "new$id", 'local')], [30, 30],
            'local: all of it');
        is_deeply([both(40, "new$id", 'deny')], [0, 0], 'deny: nothing');
        is_deeply([both(40, "new$id", 'allow')], [40, 40],
            'allow: everything');

        my %sum;

        for my $loss (qw(share local)) {
            $sum{$loss} = sum(both(40, "known$id$loss", $loss));
            note("$loss: $sum{$loss} more");
        }

        cmp_ok($sum{share}, '<=', 24, 'share: what is known counts');
        cmp_ok($sum{share}, '>=', 23, 'and nothing is lost');
        cmp_ok($sum{local}, '>=', 48, 'local: each goes on alone');
        is($l->take(0, 40, "lone$id", 'share'), 24, 'who spends on one node '
            . 'has all of it there');

        $heal->();
        $l->online;

        ok($l->owes("new$id", 30, 'share'), 'share: the fleet hears of what '
            . 'each has admitted');

        # of the six before, one that is empty gets what each node thinks is
        # its own half of them, and not the sum

        my $debt;
        ok(eval { Gate::wait_for {
            $debt = $l->debt("known$id" . 'share', 'share');
            $debt > $sum{share} + $kept && $debt <= $sum{share} + 6;
        } timeout => 5 }, 'and of what was added')
            || diag("$sum{share} + 6, not $debt");
        ok($l->owes("lone$id", 30, 'share'), 'also on one');
        my $more = sum(both(1, "new$id", 'share'));
        $l->owes("new$id", 30 + $more, 'share');
        cmp_ok($more, '<=', 1, 'who has not heard of it yet lets one through');
        is(sum(both(5, "new$id", 'share')), 0, 'and that is all');

        Gate::wait_for { $debt = $l->debt("new$id", 'local') }
            what => 'the debt of who went on alone';
        cmp_ok($debt, '<=', 60, 'local: it takes two capacities at most to '
            . 'pay that back');
        is($l->take(0, 3, "new$id", 'deny'), 3, 'deny: in business again');
        is($l->take(0, 3, "new$id", 'allow'), 3, 'allow: nothing is owed');
    };
}

subtest 'time pays while Redis is away' => sub {
    my $key = $l->key('timely', 'quick');
    Gate::wait_for {
        both(1, 'timely', 'quick');
        ($r->cmd('GET', $key) || '') =~ /:.*:/;
    } what => 'a caller who spends on both';
    both(1, 'timely', 'quick');
    sleep 0.2;

    $_->refuse->drop for @proxy;
    away();
    my ($n, $end) = (0, time + 1.5);

    while (time < $end) {
        $n += sum(both(5, 'timely', 'quick'));
        sleep 0.02;
    }

    $_->listen for @proxy;
    $l->online;
    cmp_ok($n, '>', 75, 'is served at his rate') || diag($n);
    cmp_ok($n, '<=', 150 * Gate::scale() + 20, 'and no more') || diag($n);
    cmp_ok($l->debt('timely', 'quick', 0.01), '<=', 30,
        'what has been paid for by time is not told any more');
};

subtest 'Redis hangs' => sub {
    is($l->take(0, 3, 'hang'), 3, 'a caller');
    $l->owes('hang', 3);

    my $load = $l->node(0)->load(port => $l->node(0)->port,
        uri => '/z?k=other', rate => 200, duration => 3, conns => 4);
    $r->freeze;
    my $n = $l->take(0, 5, 'hang');
    is($n, 5, 'is admitted while it hangs');
    away();
    $n += $l->take(0, 40, 'hang');
    my $result = $load->result;
    $r->thaw;

    is($result->{answered}, $result->{sent}, 'every request is answered');
    cmp_ok($result->{latency}{max}, '<', 300_000 * Gate::scale(),
        'and none waits') || diag($result->{latency}{max});

    $l->online;
    is($n, 27, 'nobody had more than his budget');
    ok($l->owes('hang', 30), 'each is counted once');
};

subtest 'Redis forgets everything' => sub {
    my $n = $l->take(0, 20, 'forget');
    is($n, 20, 'a caller');
    $l->owes('forget', 20);

    $r->cmd('FLUSHALL');
    $n += $l->take(0, 1, 'forget');
    ok($l->owes('forget', 21), 'his debt is restored with the next request');
    $n += sum(map { both(1, 'forget') } 1 .. 20);
    cmp_ok($n, '<=', 42, 'nobody gets a second budget');
};

subtest 'a reply is lost' => sub {
    my $resent = sub { $l->status(0)->{limits}{z}{sync}{resent} };
    my $before = $resent->();
    my $n = 0;

    for (1 .. 12) {
        $proxy[0]->cut(1);
        $n += $l->take(0, 1, 'cut');
        $l->online(0);
        last if $n >= 28;
    }

    ok($l->owes('cut', $n), 'what was sent again is counted once');
    cmp_ok($resent->(), '>', $before, 'for it was sent again');
};

for my $i (0 .. 1) {
    $l->node($i)->log_unlike(qr/\[(?:error|crit|alert)\].*gate/);
}

$t->done;
done_testing;
