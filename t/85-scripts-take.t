#!/usr/bin/perl

# The script that takes from several budgets at once, alone.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Redis::Resp qw(is_error);
use Gate::Scripts;
use Test::More;

my $t = Gate->new;
my $r = $t->redis;
my $s = Gate::Scripts->new($r);

my $MS = 1_000_000;             # ns
my $SEC = 1000 * $MS;
my ($a, $b, $c) = map { "gate#limit:$_:" . 'c0ffee00' x 2 } qw(a b c);
my $me = '0a1b2c3d';
my $nodes = 1;                  # that are alive

# Asks for [ key, cost, interval, capacity, remembered debt ], ...

sub ask {
    my ($node, @limits) = @_;
    return $s->try('take', [map { $_->[0] } @limits], $nodes,
        map { $node, @$_[1 .. 3], defined $_->[4] ? $_->[4] : -1 } @limits);
}

# Admitted or not, and a hash for each limit.

sub take {
    my $reply = ask(@_);
    die "take: $reply\n" if is_error($reply);

    my ($admitted, @rest) = @$reply;
    my @limits;

    while (my ($limited, $debt, $nodes) = splice @rest, 0, 3) {
        push @limits, { limited => $limited, debt => $debt,
            nodes => $nodes };
    }

    return ($admitted, @limits);
}

sub admitted { return (take($me, @_))[0] }

# What is at a key: us of the tat, and who spent when.

sub value {
    my ($us, $spent) = ($r->cmd('GET', $_[0]) || '')
        =~ /^(\d+\.\d{3}) \d{16}((?: [0-9a-f]+:\d+)+)$/;
    return ($us, { ($spent || '') =~ / (\w+):(\d+)/g });
}

# Redis's clock in us.

sub now {
    my $time = $r->cmd('TIME');
    return $time->[0] * 1e6 + $time->[1];
}

# As if the caller owed so many seconds.

sub owes {
    my ($key, $seconds, @spent) = @_;
    $r->cmd('SET', $key, join ' ', sprintf('%.0f.000', now() + $seconds * 1e6),
        sprintf('%016d', 1), @spent);
}

sub about {
    my ($got, $want, $name, $off) = @_;
    ok(abs($got - $want) <= ($off || $SEC * Gate::scale()), $name)
        || diag("$got, not $want");
}

sub clean { $r->cmd('FLUSHALL') }

subtest 'a budget is spent and comes back' => sub {
    clean();

    my @limit = ($a, 1, 100 * $SEC, 3);
    my ($ok, $l) = take($me, [@limit]);
    is("$ok $l->{limited}", '1 0', 'the first request is admitted');
    is($l->{debt}, 100 * $SEC, 'and owes its interval, to the ns');
    is($l->{nodes}, 1, 'one node spends');

    is(admitted([@limit]), 1, 'so is the second');
    is(admitted([@limit]), 1, 'so is the third');

    my $before = $r->cmd('GET', $a);
    ($ok, $l) = take($me, [@limit]);
    is("$ok $l->{limited}", '0 1', 'the fourth is not');
    about($l->{debt}, 300 * $SEC, 'three intervals are owed');
    is($r->cmd('GET', $a), $before, 'and nothing was written');

    owes($a, 199.9);
    is(admitted([@limit]), 1, 'after an interval another one is');
    is(admitted([@limit]), 0, 'and no more');

    owes($a, -50);
    ($ok, $l) = take($me, [@limit]);
    is($l->{debt}, 100 * $SEC, 'who waited for long has saved nothing');
};

subtest 'cost' => sub {
    clean();

    my @limit = (100 * $SEC, 5);
    is(admitted([$a, 3, @limit]), 1, 'three of five are taken');
    is(admitted([$a, 3, @limit]), 0, 'another three are not there');

    my $before = $r->cmd('GET', $a);
    my ($ok, $l) = take($me, [$a, 0, @limit]);
    is("$ok $l->{limited}", '1 0', 'a cost of nothing is never refused');
    about($l->{debt}, 300 * $SEC, 'and says how it stands');
    is($r->cmd('GET', $a), $before, 'without writing');

    is(admitted([$a, 2, @limit]), 1, 'two are');
    is((take($me, [$a, 0, @limit]))[0], 1, 'nothing still is');

    clean();
    ($ok, $l) = take($me, [$a, 6, @limit]);
    is("$ok $l->{limited} $l->{debt}", '0 1 0', 'more than there can be is '
        . 'refused to anybody');
    take($me, [$a, 0, @limit]);
    is($r->cmd('DBSIZE'), 0, 'and nothing was written for either');
};

subtest 'all or nothing' => sub {
    clean();

    my @rate = (100 * $SEC, 2);
    my @both = ([$a, 1, @rate], [$b, 1, @rate]);
    is(admitted($both[0]), 1, 'one of two is spent');
    is(admitted(@both), 1, 'together they have something left');

    my %before = map { $_ => $r->cmd('GET', $_) } $a, $b;
    my ($ok, $la, $lb) = take($me, @both);
    is("$ok $la->{limited} $lb->{limited}", '0 1 0', 'one of them limits');
    about($la->{debt}, 200 * $SEC, 'its debt is told');
    about($lb->{debt}, 100 * $SEC, 'and that of the other, without a charge');
    is_deeply({ map { $_ => $r->cmd('GET', $_) } $a, $b }, \%before,
        'nothing was written');

    ($ok, $la, $lb, my $lc) = take($me, reverse(@both), [$c, 1, @rate]);
    is("$ok $la->{limited} $lb->{limited} $lc->{limited}", '0 0 1 0',
        'wherever it stands');
    is($r->cmd('EXISTS', $c), 0, 'a third one is not begun');

    is(admitted($both[1]), 1, 'the other one alone goes on');
};

subtest 'no part of a unit is lost or won' => sub {
    clean();

    # 3000r/s: 333.333 us are 0.1 % more than 333

    my ($n, $t0) = (0, now());
    $n += $_->[0] for $r->pipeline(map { ['EVALSHA', $s->{sha1}{take}, 1, $a,
        1, $me, 1, 333_333, 1e7, -1] } 1 .. 1000);
    is($n, 1000, 'a thousand requests are admitted');
    my ($us) = value($a);
    my ($first) = now();
    cmp_ok($us - $t0, '>=', 333_333 - 0.25, 'they owe a third of a second');
    cmp_ok($us - $first, '<=', 333_333, 'and not more');

    clean();
    my @limit = ($a, 1, 100 * $SEC + 1, 1e6);
    take($me, [@limit]);
    my ($one) = value($a);
    take($me, [@limit]);
    my ($two) = value($a);
    is((substr($two, -3) - substr($one, -3)) % 1000, 1, 'a ns is kept');

    clean();
    my $day = 86400 * $SEC;
    my ($ok, $l) = take($me, [$a, 1, 60 * $day, 1]);
    is("$ok $l->{debt}", '1 ' . 60 * $day, 'and sixty days, to the ns');
    cmp_ok($r->cmd('PTTL', $a), '<=', 60 * 86400_000 + 10_000,
        'it goes when they are over');
};

subtest 'who spends' => sub {
    clean();

    my @limit = ($a, 1, 100 * $SEC, 100);
    is((take('aaaaaaaa', [@limit]))[1]{nodes}, 1, 'one node');
    is((take('bbbbbbbb', [@limit]))[1]{nodes}, 2, 'another one');
    is((take('aaaaaaaa', [@limit]))[1]{nodes}, 2, 'the first one again');
    is((take('cccccccc', [$a, 0, @limit[2, 3]]))[1]{nodes}, 3, 'who asks is '
        . 'one of them');
    my (undef, $spent) = value($a);
    is_deeply([sort keys %$spent], [qw(aaaaaaaa bbbbbbbb)], 'but only who '
        . 'spent is noted');

    my $sec = int(now() / 1e6);
    owes($a, 5, 'aaaaaaaa:' . ($sec - 5), 'bbbbbbbb:' . ($sec - 1));
    is((take('cccccccc', [@limit]))[1]{nodes}, 2, 'who spent long ago does '
        . 'not count');
    (undef, $spent) = value($a);
    is_deeply([sort keys %$spent], [qw(bbbbbbbb cccccccc)], 'and is '
        . 'forgotten');

    owes($a, 5, 'aaaaaaaa:' . ($sec + 3600));
    is((take('cccccccc', [@limit]))[1]{nodes}, 1, 'nor who spends in the '
        . 'future, by a clock that went back');

    clean();
    $s->call('take', [$a, $b], 1, map { $_, @limit[1 .. 3], -1 }
        qw(aaaaaaaa bbbbbbbb));
    is_deeply([map { keys %{ (value($_))[1] } } $a, $b],
        [qw(aaaaaaaa bbbbbbbb)], 'a node may have another name in each zone');

    owes($a, 5, map { sprintf '%08x:%d', $_, $sec } 1 .. 200);
    cmp_ok((take('cccccccc', [@limit]))[1]{nodes}, '<=', 64, 'a crowd is '
        . 'as good as many');
    cmp_ok($r->cmd('STRLEN', $a), '<', 2000, 'and does not grow');
};

subtest 'what Redis forgot' => sub {
    clean();

    my @limit = ($a, 1, 100 * $SEC, 3);
    my ($ok, $l) = take($me, [@limit, 150 * $SEC]);
    is("$ok $l->{debt}", '1 ' . 250 * $SEC, 'counts as the node remembers '
        . 'it');
    is((take($me, [@limit, 280 * $SEC]))[1]{limited}, 1, 'it is spent');

    clean();
    is(admitted([@limit, 280 * $SEC]), 0, 'who owes too much is refused');
    is($r->cmd('EXISTS', $a), 0, 'until the node has nothing to say');

    owes($a, 50);
    ($ok, $l) = take($me, [@limit, 280 * $SEC]);
    is($ok, 1, 'what Redis knows counts more');
    about($l->{debt}, 150 * $SEC, 'it is no sum');

    clean();
    my @most = map { $nodes = $_;
        (take($me, [$a, 0, 100 * $SEC, 3, 5000 * $SEC]))[1]{debt} } 4, 1;
    is("@most", 1800 * $SEC . ' ' . 900 * $SEC,
        'nobody remembers more than a capacity for each node, and two');
};

subtest 'the rate is another one' => sub {
    clean();

    take($me, [$a, 2, 100 * $SEC, 3]);

    my ($ok, $l) = take($me, [$a, 1, $SEC, 3]);
    is($ok, 1, 'who spent two of three has one at another rate');
    ok($l->{debt} > 2 * $SEC && $l->{debt} <= 3 * $SEC, 'and owes three of it')
        or diag($l->{debt});
};

subtest 'what makes no sense' => sub {
    clean();

    my @limit = ($a, 1, 100 * $SEC, 3);

    for my $text ('', 'x', '-5', '99999999999999999999', ' 5', '1e99') {
        $r->cmd('SET', $a, $text);
        my ($ok, $l) = take($me, [@limit]);
        is("$ok $l->{debt}", '1 ' . 100 * $SEC, "\"$text\" is no debt");
        ok((value($a))[0], 'and is written anew');
    }

    owes($a, 1e6, 'zz:1 aaaaaaaa:x bbbbbbbb');
    my ($ok, $l) = take($me, [@limit]);
    is("$ok $l->{debt} $l->{nodes}", '0 ' . 900 * $SEC . ' 1',
        'a clock that was set costs three capacities at most');

    $r->cmd('DEL', $a);
    $r->cmd('HSET', $b, 'x', 1);
    my $reply = ask($me, [@limit], [$b, @limit[1 .. 3]]);
    ok(is_error($reply) && $reply =~ /^GATEWRONGTYPE \Q$b\E/,
        'a key of another type is told') || diag($reply);
    is($r->cmd('EXISTS', $a), 0, 'and nothing is written');
    is($r->cmd('TYPE', $b), 'hash', 'nor repaired');

    $reply = ask($me, [$a, 'x', 100, 3]);
    ok(is_error($reply), 'an argument that is no number is an error');
    is($r->cmd('EXISTS', $a), 0, 'that writes nothing');
};

subtest 'nothing is immortal' => sub {
    clean();

    take($me, [$a, 1, 20 * $SEC, 3]);
    my $ttl = $r->cmd('PTTL', $a);
    cmp_ok($ttl, '>', 30_000 - 1000 * Gate::scale(), 'a debt stays for ten '
        . 'seconds after it is paid');
    cmp_ok($ttl, '<=', 30_000, 'and no longer');

    owes($a, -5);
    take($me, [$a, 1, 1, 3]);
    $ttl = $r->cmd('PTTL', $a);
    ok($ttl > 0 && $ttl <= 10_001, 'however small it is');
};

subtest 'a Redis that is full' => sub {
    clean();
    take($me, [$b, 1, 100 * $SEC, 3]);

    $r->config(maxmemory => 1);
    my $before = $r->cmd('GET', $b);
    my $reply = ask($me, [$a, 1, 100 * $SEC, 3], [$b, 1, 100 * $SEC, 3]);
    ok(is_error($reply) && $reply =~ /OOM/, 'refuses') || diag($reply);
    is($r->cmd('GET', $b), $before, 'both');
    is($r->cmd('EXISTS', $a), 0, 'of them');
    my ($ok, $l) = take($me, [$b, 3, 100 * $SEC, 3]);
    is("$ok $l->{limited}", '0 1', 'what needs no memory is answered');
    $r->config(maxmemory => 0);
};

$t->done;
done_testing;
