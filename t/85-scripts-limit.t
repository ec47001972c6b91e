#!/usr/bin/perl

# The script that takes batches of what nodes have admitted, alone.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Redis::Resp qw(is_error);
use Gate::Scripts;
use List::Util qw(max min sum);
use Test::More;

my $t = Gate->new;
my $r = $t->redis;
my $s = Gate::Scripts->new($r);

my $seed = $ENV{TEST_SEED} || time ^ $$;
srand $seed;
note("TEST_SEED=$seed");

my $MS = 1_000_000;             # ns
my $SEC = 1000 * $MS;
my ($a, $b, $c) = map { 'gate#limit:z:' . $_ x 16 } qw(a b c);
my $seq = 'gate#limitseq:z:';
my $alive = 1;
my ($me, $you) = qw(0a1b2c3d 99999999);

# Sends a batch of [ key, units, interval, capacity, debt ], ...; sent: the
# sender's idea of this clock.

sub batch {
    my ($node, $number, $sent, @debts) = @_;
    return $s->try('limit', [$seq . $node x 2, map { $_->[0] } @debts],
        $number, $node, $sent, $alive, pack('(d<)*',
        map { @$_[1 .. 3], defined $_->[4] ? $_->[4] : -100 * $SEC } @debts));
}

# 1 or 0, and for each of them [ debt, nodes ].

sub told {
    my $reply = batch(@_);
    die "limit: $reply\n" if is_error($reply);

    my ($applied, $now, $items) = @$reply;
    my @rest = unpack '(d<)*', $items;
    my @told;
    push @told, [splice @rest, 0, 2] while @rest;
    return ($applied, @told);
}

my $number = 0;

# The next batch of that node; the debt of the first key and its nodes.

sub next_batch {
    my ($node, @debts) = @_;
    my ($applied, $first) = told($node, ++$number, 0, @debts);
    die "not applied\n" if !$applied;
    return @$first;
}

# us of Redis's clock

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
    $off ||= 0.5 * $SEC * Gate::scale();
    ok(abs($got - $want) <= $off, $name) || diag("$got, not $want");
}

sub spenders {
    return { ($r->cmd('GET', $_[0]) || '') =~ / (\w{8}):(\d{10})/g };
}

sub clean { $r->cmd('FLUSHALL') }

my @rate = (100 * $SEC, 10);    # 10 at once, one in 100 s

subtest 'what was taken is added to what is known' => sub {
    clean();

    my ($debt, $nodes) = next_batch($me, [$a, 2, @rate, 200 * $SEC]);
    about($debt, 200 * $SEC, 'a new caller owes what the node says');
    is($nodes, 1, 'one node spends');

    ($debt, $nodes) = next_batch($you, [$a, 3, @rate, 300 * $SEC]);
    about($debt, 500 * $SEC, 'another node adds what it admitted');
    is($nodes, 2, 'and is another spender');

    ($debt) = next_batch($me, [$a, 1, @rate, 600 * $SEC]);
    about($debt, 600 * $SEC, 'what a node was told already is not added');

    ($debt) = next_batch($me, [$a, 1, @rate]);
    about($debt, 700 * $SEC, 'a node that reckons less does not make it less');
};

subtest 'the rate is another one' => sub {
    clean();

    # ten at once, one in 100 s; then ten times as fast, and back

    my @fast = (10 * $SEC, 10);

    next_batch($me, [$a, 8, @rate, 800 * $SEC]);

    my ($debt) = next_batch($me, [$a, 1, @fast, 90 * $SEC]);
    about($debt, 90 * $SEC, 'who owes eight owes eight at another rate');

    ($debt) = next_batch($you, [$a, 1, @rate, -1]);
    about($debt, 1000 * $SEC, 'a node that has not heard loses nothing of it');

    ($debt) = next_batch($me, [$a, 1, @fast, -1]);
    about($debt, 110 * $SEC, 'nor do the others');

    ($debt) = next_batch($me, [$a, 1, 1, 1e15, 120 * $SEC]);
    about($debt, 120 * $SEC, 'a node that does not know its rate changes none');

    clean();
    $r->cmd('SET', $b, sprintf '%.0f.000 %016d', now() - 3e6, $rate[0]);
    ($debt) = next_batch($me, [$b, 1, @fast, -2 * $SEC]);
    about($debt, 7 * $SEC, 'what is paid is paid');
};

subtest 'a debt that was paid meanwhile' => sub {
    clean();

    owes($a, -30);
    my ($debt, $nodes) = next_batch($me, [$a, 1, 10 * $SEC, 10]);
    about($debt, -20 * $SEC, 'what was taken while it could be paid is paid');
    is($nodes, 1, 'and counts');
    like($r->cmd('GET', $a), qr/^\d{16}\.\d{3} /, 'and kept, in the past');

    ($debt) = next_batch($me, [$a, 3, 10 * $SEC, 10]);
    about($debt, 10 * $SEC, 'the rest of the time is not lost');

    owes($a, -30);
    ($debt) = next_batch($me, [$a, 1, 10 * $SEC, 10, 9 * $SEC]);
    about($debt, 9 * $SEC, 'unless the node says when it was taken');
};

subtest 'what is given back' => sub {
    clean();

    next_batch($me, [$a, 5, @rate, 500 * $SEC]);
    my ($debt) = next_batch($me, [$a, -2, @rate, 300 * $SEC]);
    about($debt, 300 * $SEC, 'is taken off');

    ($debt) = next_batch($you, [$b, -2, @rate]);
    cmp_ok($debt, '<=', 0, 'of nothing is nothing');
    is_deeply(spenders($b), {}, 'and is not spent');
};

subtest 'nobody owes more than two capacities, one a node, a second' => sub {
    clean();

    my ($debt) = next_batch($me, [$a, 1, @rate, 90_000 * $SEC]);
    is($debt, 3001 * $SEC, 'by what a node says');

    owes($b, 1e6);
    ($debt) = next_batch($me, [$b, 1, @rate]);
    is($debt, 3001 * $SEC, 'by a clock that was set back');

    owes($c, 100);
    ($debt) = next_batch($me, [$c, 1e6, @rate]);
    is($debt, 3001 * $SEC, 'by what was taken');

    my $max = 60 * 86400 * $SEC;
    $alive = 4;
    ($debt) = next_batch($me, [$c, 1e6, @rate]);
    is($debt, 6001 * $SEC, 'of four nodes');
    $alive = 1;

    clean();
    ($debt) = next_batch($me, [$a, 1, $max, 1, $max]);
    cmp_ok($debt, '==', $max, 'sixty days are sixty days, to the ns');
};

subtest 'a batch is applied once' => sub {
    clean();

    my @batch = ($me, ++$number, 0, [$a, 2, @rate, 200 * $SEC],
        [$b, 1, @rate, 100 * $SEC]);
    my ($applied, $one) = told(@batch);
    is($applied, 1, 'the first time');
    my @before = map { $r->cmd('DUMP', $_) } $a, $b;

    ($applied, my $two) = told(@batch);
    is($applied, 0, 'not the second time');
    is($two->[1], $one->[1], 'which says the same of the nodes');
    about($two->[0], $one->[0], 'and of the debt');
    is_deeply([map { $r->cmd('DUMP', $_) } $a, $b], \@before,
        'and writes nothing');

    ($applied) = told($me, $number - 1, 0, [$a, 2, @rate]);
    is($applied, 0, 'one that comes late is not applied');
    ($applied) = told($you, 1, 0, [$a, 1, @rate]);
    is($applied, 1, 'another node counts for itself');

    my $key = $seq . $me x 2;
    my $ttl = $r->cmd('TTL', $key);
    ok($ttl > 86000 && $ttl <= 86400, 'the number goes after a day');

    for my $text ('', 'x', '-1', '1e99', '0x10', 'nan') {
        $r->cmd('SET', $key, $text);
        ($applied) = told($me, ++$number, 0, [$a, 1, @rate]);
        is($applied, 1, "\"$text\" is no number");
        is($r->cmd('GET', $key), $number, 'and is written anew');
    }
};

subtest 'a batch that was on its way for long' => sub {
    clean();

    my $debt = sub {
        my ($way, $says) = @_;
        clean();
        return (told($me, ++$number, sprintf('%.0f', now() - $way * 1e6),
            [$a, 1, @rate, $says * $SEC]))[1][0];
    };

    about($debt->(1.5, 100), 98.5 * $SEC, 'makes nobody owe more',
        0.4 * $SEC);
    about($debt->(50, 100), 50 * $SEC, 'however long Redis hung');
    about($debt->(70, 100), 100 * $SEC, 'unless its clock was set');
    about($debt->(-3, 100), 100 * $SEC, 'nor where it comes from the future');
    about($debt->(1e9, 100), 100 * $SEC, 'or from the past');

    clean();
    my $reply = batch($me, ++$number, 0, [$a, 1, @rate]);
    my $off = now() - $reply->[1];
    ok($off >= 0 && $off < 1e6 * Gate::scale(), 'the answer says what time '
        . 'it is') || diag($off);
};

subtest 'who spends' => sub {
    clean();

    my $sec = int(now() / 1e6);
    my @old = map { sprintf '%08x:%d', $_->[0], $sec + $_->[1] }
        [1, -60], [2, -1], [3, 3600], [4, 0], [5, -4];
    owes($a, 50, @old);
    my (undef, $nodes) = next_batch($me, [$a, 1, @rate]);
    is($nodes, 3, 'those of the last three seconds, and who tells it');
    is_deeply([sort keys %{ spenders($a) }],
        [qw(00000002 00000004 0a1b2c3d)], 'the others are forgotten');

    owes($a, 50, "$me:" . ($sec - 60), sprintf('%08x:%d', 2, $sec));
    is((next_batch($me, [$a, 0, @rate]))[1], 1, 'who only asks is none');
    is_deeply([keys %{ spenders($a) }], ['00000002'], 'not any more');

    next_batch($me, [$a, 1, @rate]);
    is((next_batch($me, [$a, -1, @rate]))[1], 2, 'who gives back still is');

    owes($a, 50, "$me:" . ($sec - 60));
    is((next_batch($me, [$a, 0, @rate]))[1], 0, 'nobody');

    owes($a, 50, map { sprintf '%08x:%d', $_, $sec } 1 .. 200);
    cmp_ok((next_batch($me, [$a, 1, @rate]))[1], '<=', 64, 'a crowd is as '
        . 'good as many');
    cmp_ok($r->cmd('STRLEN', $a), '<', 1400, 'and does not grow');

    # in any order and number

    my $bad = 0;

    for (1 .. 200) {
        my $now = int(now() / 1e6);
        my %spent = map { sprintf('%08x', $_) => $now + int(rand 12) - 7 }
            1 .. rand 6;
        $spent{$me} = $now - int rand 6 if rand() < 0.5;
        owes($a, 50, map { "$_:$spent{$_}" } sort { rand() <=> 0.5 }
            keys %spent);
        my (undef, $n) = next_batch($me, [$a, 1, @rate]);
        my $later = int(now() / 1e6);
        my @want = grep { $_ eq $me || abs($spent{$_} - $later) <= 3 }
            keys %{ { %spent, $me => 1 } };
        my @wide = grep { $_ eq $me || abs($spent{$_} - $now) <= 3 }
            keys %{ { %spent, $me => 1 } };
        my $got = join ' ', sort keys %{ spenders($a) };
        $bad++ if $got ne join(' ', sort @want)
            && $got ne join(' ', sort @wide)
            || $n != (() = $got =~ /\w+/g);
    }

    is($bad, 0, 'of any list');
};

subtest 'what makes no sense' => sub {
    clean();

    for my $text ('', 'x', '-5', '9' x 20, '9' x 40, ' ' x 40, '1e99',
        'x' x 16 . '.000', '1795275748153748', "nan       nanxxx.000",
        '1999999999999999.000 nan' . ' ' x 13) {
        $r->cmd('SET', $a, $text);
        my ($debt, $nodes) = next_batch($me, [$a, 2, @rate, 200 * $SEC]);
        about($debt, 200 * $SEC, "\"$text\" is no debt");
        is($nodes, 1, 'and of nobody');
        like($r->cmd('GET', $a), qr/^\d{16}\.\d{3} \d{16} $me:\d{10}$/,
            'it is written anew');
    }

    owes($a, 100, 'zz:1', 'aaaaaaaa:x', 'bbbbbbbb', 'c' x 300);
    my ($debt, $nodes) = next_batch($me, [$a, 1, @rate]);
    about($debt, 200 * $SEC, 'spenders that are none cost nothing');
    is($nodes, 1, 'and do not count');
    is_deeply([keys %{ spenders($a) }], [$me], 'they go');

    clean();
    $r->cmd('HSET', $b, 'x', 1);
    my ($applied, @told) = told($me, ++$number, 0, map { [$_, 1, @rate,
        100 * $SEC] } $a, $b, $c);
    is($applied, 1, 'a key of another type');
    is_deeply($told[1], [0, -1], 'is told');
    is($r->cmd('TYPE', $b), 'hash', 'and left as it is');
    about($told[$_][0], 100 * $SEC, 'the others are done') for 0, 2;

    $r->cmd('DEL', $seq . $me x 2);
    $r->cmd('LPUSH', $seq . $me x 2, 'x');
    my $before = $r->cmd('GET', $a);
    my $reply = batch($me, ++$number, 0, [$a, 1, @rate]);
    ok(is_error($reply) && $reply =~ /^GATEWRONGTYPE \Q$seq\E/,
        'without the number of the last batch nothing is done')
        || diag($reply);
    is($r->cmd('GET', $a), $before, 'nothing at all');
};

subtest 'a Redis that is full' => sub {
    clean();
    next_batch($you, [$b, 1, @rate, 100 * $SEC]);

    $r->config(maxmemory => 1);
    my $before = $r->cmd('GET', $b);
    my @batch = ($me, ++$number, 0, [$a, 1, @rate], [$b, 1, @rate]);
    my $reply = batch(@batch);
    ok(is_error($reply) && $reply =~ /OOM/, 'refuses') || diag($reply);
    is($r->cmd('GET', $b), $before, 'all of them');
    is($r->cmd('EXISTS', $a, $seq . $me x 2), 0, 'and did not count it');
    $r->config(maxmemory => 0);

    my ($applied) = told(@batch);
    is($applied, 1, 'the same batch is taken later');
};

subtest 'nothing is immortal' => sub {
    clean();

    next_batch($me, [$a, 1, 20 * $SEC, 3, 20 * $SEC], [$b, 1, 1, 3]);
    my $ttl = $r->cmd('PTTL', $a);
    ok($ttl > 30_000 - 1000 * Gate::scale() && $ttl <= 30_000,
        'a debt goes ten seconds after it is paid') || diag($ttl);
    $ttl = $r->cmd('PTTL', $b);
    ok($ttl > 0 && $ttl <= 10_001, 'however small it is');
    is(scalar(grep { $r->cmd('PTTL', $_) < 0 } @{ $r->cmd('KEYS', '*') }), 0,
        'whatever was written');
};

subtest 'as many as fit into a batch' => sub {
    clean();

    my @debts = map { [sprintf('gate#limit:z:%016x', $_), $_, $SEC, 1000,
        $_ * $SEC] } 1 .. 128;
    my ($applied, @told) = told($me, ++$number, 0, @debts);
    is(scalar @told, 128, 'all are answered');
    is(scalar(grep { abs($told[$_ - 1][0] - $_ * $SEC) > 0.5 * $SEC
        * Gate::scale() || $told[$_ - 1][1] != 1 } 1 .. 128), 0,
        'each with its own');
};

# Nodes that admit, tell it, tell it twice, are told by others, against one
# that sees everything in the order of time.

subtest 'the sum is that of one bucket' => sub {
    my $worst = 0;

    for my $world (1 .. 30) {
        clean();
        my @nodes = map { { id => sprintf('%08x', $_ + 1), seq => 0,
            tat => 0, unsent => 0 } } 0 .. 1 + int rand 4;
        my $interval = 20 * $MS;
        my $start = now();
        my $admitted = 0;

        for (1 .. 60) {
            my $n = $nodes[rand @nodes];

            if (rand() < 0.6) {
                my $now = (now() - $start) * 1000;
                $n->{tat} = max($n->{tat}, $now) + $interval;
                $n->{unsent}++;
                $admitted++;
                next;
            }

            my $now = now();
            my @batch = ($n->{id}, ++$n->{seq}, sprintf('%.0f', $now),
                [$a, $n->{unsent}, $interval, 1000,
                sprintf('%.0f', max(-1, $n->{tat}
                    - ($now - $start) * 1000))]);
            my @told = told(@batch);
            @told = told(@batch) if rand() < 0.3;
            $n->{unsent} = 0;
            $n->{tat} = max($n->{tat}, ($now - $start) * 1000 + $told[1][0])
                if $told[1][0] > 0;
        }

        # all of it, told once

        my $debt = 0;

        for my $n (@nodes) {
            my $now = now();
            my @told = told($n->{id}, ++$n->{seq}, sprintf('%.0f', $now),
                [$a, $n->{unsent}, $interval, 1000,
                sprintf('%.0f', max(-1, $n->{tat}
                    - ($now - $start) * 1000))]);
            $debt = $told[1][0];
        }

        # as if they had been one after the other without a pause

        my $truth = $admitted * $interval - (now() - $start) * 1000;
        $worst = max($worst, abs($debt - $truth)) if $truth > 0;
        cmp_ok($debt, '<=', $admitted * $interval, 'no more than all')
            if $debt > $admitted * $interval;
    }

    cmp_ok($worst, '<=', 30 * $MS * Gate::scale(), 'whoever tells it, and '
        . 'however often') || diag("worst $worst ns");
};

$t->done;
done_testing;
