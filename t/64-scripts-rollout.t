#!/usr/bin/perl

# The script that decides about rollouts, alone: every transition, every
# refusal, and what becomes of them when Redis forgets.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Scripts;
use Test::More;

my $t = Gate->new;
my $r = $t->redis;
my $s = Gate::Scripts->new($r);
my $hash = 'gate:canary:shop';
my $foreign = 'the fleet is at another release of this rollout';

sub world {
    my (@names) = @_;
    $r->cmd('FLUSHALL');
    my @nodes = map { $s->node($_) } @names;
    $_->sync for @nodes;
    return @nodes;
}

# The same with a rollout at 5 %, which everybody has seen.

sub opened {
    my @nodes = world(@_);
    $nodes[0]->rollout('open');
    $_->sync for @nodes;
    return @nodes;
}

sub events {
    my ($name) = @_;
    return grep { !defined $name || $_->{event} eq $name } $r->events;
}

sub last_event { return (events())[-1] || {} }

sub is_result {
    my ($got, $result, $why, $name) = @_;
    is("$got->{result}: $got->{why}", "$result: $why", $name);
}

# State, weight and step in Redis.

sub is_hash {
    my ($want, $name) = @_;
    my $h = $r->hash($hash);
    is(join(' ', map { defined $_ ? $_ : '-' } @$h{qw(state weight step)}),
        $want, $name);
}

sub epoch { return $r->cmd('HGET', $hash, 'epoch') }

sub snapshot {
    my %dump = map { $_ => $r->cmd('DUMP', $_) } @{ $r->cmd('KEYS', '*') };

    return sub {
        $r->cmd('FLUSHALL');
        $r->cmd('RESTORE', $_, 0, $dump{$_}) for sort keys %dump;
        $r->cmd('HDEL', 'gate#epoch', 'run');
    };
}

# Two epochs of one second: the one in Redis gets a number that it might have.

sub number_of {
    my ($epoch) = @_;
    my $entry = $r->cmd('HGET', 'gate#epoch', "c:$hash");
    $entry =~ s/^(\d+ \w )\d+/$1$epoch/;
    $r->cmd('HSET', $hash, 'epoch', $epoch);
    $r->cmd('HSET', 'gate#epoch', "c:$hash", $entry);
}

subtest 'the first node opens an epoch, the others find it' => sub {
    my ($a, $b) = world('a', 'b');

    my $got = $a->rollout('open', reason => 'new release');
    is_result($got, 'ok', '', 'it is opened');
    is_hash('progressing 5 1', 'at the configured weight');
    cmp_ok(abs(epoch() - $r->cmd('TIME')->[0]), '<=', 1,
        'the epoch is a time');
    is($got->{fields}{epoch}, epoch(), 'the reply has its fields');
    is($got->{fields}{seed}, 'a' x 32, 'and the seed');

    is_result($b->rollout('open', seed => 'b' x 32), 'same', '',
        'the second finds it');
    is($r->cmd('HGET', $hash, 'seed'), 'a' x 32, 'with the seed of the first');
    is(scalar events(), 1, 'there is one event');
    is($b->observe->{$hash}{rev}, $got->{rev}, 'of one revision');
    is(scalar events(), 1, 'which nobody takes for a typed one');

    world('a');
    $a->rollout('open', weight => 0);
    is_hash('idle 0 1', 'at weight 0 it is idle');
};

subtest 'a release is opened once' => sub {
    my ($a, $b) = opened('a', 'b');
    my $first = epoch();

    $b->{release} = '2' x 32;
    is_result($b->rollout('open'), 'ok', '', 'a new release opens an epoch');
    cmp_ok(epoch(), '>', $first, 'which is higher');
    is_result($a->rollout('open'), 'foreign', $foreign,
        'a node that is behind does not reopen its own');
    is_result($a->rollout($_), 'foreign', $foreign, "nor may it $_")
        for qw(pause resume promote weight advance abort retry);
    is_hash('progressing 5 1', 'the new one stands');

    is_result($a->rollout('open', epoch => 'force'), 'ok', '',
        'one that was configured so again does');
    is($r->cmd('HGET', $hash, 'release'), '1' x 32, 'it is its release');
    is_result($b->rollout('open'), 'foreign', $foreign,
        'and the other is of the past');
    is_result($a->rollout('open', epoch => 'force'), 'same', '',
        'whoever says so after it finds it');

    $r->cmd('DEL', $hash);
    my $got = $a->rollout('open');
    is_result($got, 'same', '', 'a deleted rollout is not opened by its '
        . 'configuration');
    is(keys %{ $got->{fields} }, 0, 'nothing is there');
    is($r->cmd('EXISTS', $hash), 0, 'and nothing is made');
    is_result($a->rollout('open', release => '3' x 32), 'ok', '',
        'but by a new release');

    $a->rollout('start', release => sprintf '%032x', $_) for 16 .. 60;
    cmp_ok($r->cmd('HLEN', 'gate#past:shop'), '<=', 33,
        'not more than 32 releases are remembered');
    is_result($b->rollout('open', release => sprintf '%032x', 59), 'foreign',
        $foreign, 'of these the newest');
};

subtest 'operators\' transitions' => sub {
    my ($a) = opened('a');
    my $rev = $a->rev($hash);

    my $only = 'only a progressing rollout can be paused';
    my $retry = 'only a rollout that is rolled back can be retried, use '
        . '"start" to begin anew';

    for (
        # action, what comes of it, the hash after it
        [ 'resume', 'refused: only a paused rollout can be resumed',
            'progressing 5 1' ],
        [ 'retry', "refused: $retry", 'progressing 5 1' ],
        [ 'pause', 'ok: ', 'paused 5 1' ],
        [ 'pause', "refused: $only", 'paused 5 1' ],
        [ 'weight 2550', 'ok: ', 'paused 25.5 2' ],
        [ 'weight 2550', 'same: ', 'paused 25.5 2' ],
        [ 'resume', 'ok: ', 'progressing 25.5 2' ],
        [ 'weight 1', 'ok: ', 'progressing 0.01 3' ],
        [ 'weight 0', 'ok: ', 'idle 0 4' ],
        [ 'pause', "refused: $only", 'idle 0 4' ],
        [ 'weight 10001', 'refused: the weight makes no sense', 'idle 0 4' ],
        [ 'weight 700', 'ok: ', 'progressing 7 5' ],
        [ 'promote', 'ok: ', 'promoted 100 6' ],
        [ 'promote', 'same: ', 'promoted 100 6' ],
        [ 'weight 10000', 'same: ', 'promoted 100 6' ],
        [ 'weight 9999', 'refused: the rollout is promoted, its weight stays '
            . '100 %: use "abort", "start" or a new id=', 'promoted 100 6' ],
        [ 'pause', "refused: $only", 'promoted 100 6' ],
        [ 'abort', 'ok: ', 'rolled_back 0 6' ],
        [ 'abort', 'refused: the rollout is rolled back already',
            'rolled_back 0 6' ],
        [ 'weight 100', 'refused: the rollout is rolled back, its weight '
            . 'stays 0: use "retry" or a new id=', 'rolled_back 0 6' ],
        [ 'pause', "refused: $only", 'rolled_back 0 6' ],
        [ 'promote', 'refused: a rollout that is rolled back cannot be '
            . 'promoted, use "retry" or a new id= first', 'rolled_back 0 6' ],
        [ 'retry', 'ok: ', 'progressing 5 1' ],
        [ 'weight 10000', 'ok: ', 'progressing 100 2' ],
        [ 'start', 'ok: ', 'progressing 5 1' ],
        [ 'dance', 'refused: there is no such action', 'progressing 5 1' ],
    ) {
        my ($op, $weight) = split ' ', $_->[0];
        my $events = () = events();
        my $e = epoch();
        my $got = $a->rollout($op, defined $weight ? (weight => $weight) : ());
        is("$got->{result}: $got->{why}", $_->[1], "$_->[0]: $_->[1]");
        is_hash($_->[2], "then it is $_->[2]");

        if ($got->{result} eq 'ok') {
            cmp_ok($got->{rev}, '>', $rev, 'the revision is higher');
            is(scalar events(), $events + 1, 'there is one event');
        } else {
            is($got->{rev}, $rev, 'the revision is the same');
            is(scalar events(), $events, 'there is no event');
        }

        if ($_->[0] =~ /^(?:start|retry)$/ && $got->{result} eq 'ok') {
            cmp_ok(epoch(), '>', $e, 'it is a higher epoch');
        } else {
            is(epoch(), $e, 'it is the same epoch');
        }

        is($a->observe->{$hash}{rev}, $got->{rev}, 'a look finds no other');
        $rev = $got->{rev};
    }

    my $e = (events('abort'), events('rolled_back'))[0];
    is("$e->{object} $e->{source} $e->{by} $e->{before} -> $e->{after}",
        'shop api joe promoted 100% -> rolled_back 0%', 'an event says what '
        . 'was and what is');
};

subtest 'an action on what has changed meanwhile is stale' => sub {
    my ($a) = opened('a');
    my $e = epoch();
    my $stale = 'it has changed meanwhile';

    is_result($a->rollout('pause', epoch => $e - 1), 'stale', $stale,
        'another epoch');
    is_result($a->rollout('pause', epoch => $e, step => 2), 'stale', $stale,
        'another step');
    is_result($a->rollout('start', epoch => $e - 1), 'stale', $stale,
        'start, too');
    is_result($a->rollout('pause', epoch => $e, step => 1), 'ok', '',
        'the right ones');

    $r->cmd('DEL', $hash);
    is_result($a->rollout('pause'), 'refused', 'there is no rollout in '
        . 'Redis, use "start"', 'nothing to pause');
    is_result($a->rollout('retry'), 'ok', '', 'retry opens a deleted one');
    cmp_ok(epoch(), '>', $e, 'under a higher epoch');
    $r->cmd('DEL', $hash);
    is_result($a->rollout('start'), 'ok', '', 'start does, too');
};

subtest 'a weight typed by hand' => sub {
    my ($a, $b) = opened('a', 'b');

    $r->cmd('HSET', $hash, 'weight', 20);
    my $seen = $b->observe->{$hash};
    is($seen->{status}, 'ok', 'it is seen');
    is_hash('progressing 20 2', 'it begins a step');
    is("@{ $seen->{fields} }{qw(weight step source actor reason)}",
        '20 2 redis operator typed', 'the look says so');
    is($a->observe->{$hash}{rev}, $seen->{rev}, 'once');
    is(scalar events('typed'), 1, 'with one event');
    is("@{ last_event() }{qw(before after by)}",
        'progressing 5% progressing 20% operator', 'of before and after');

    for (
        [ [ weight => 0 ], 'idle 0 3' ],
        [ [ weight => 7.5 ], 'progressing 7.5 4' ],
        [ [ weight => '12%' ], 'progressing 12 5' ],
        [ [ state => 'paused' ], 'paused 12 5' ],
        [ [ weight => 13 ], 'paused 13 6' ],
        [ [ state => 'progressing', weight => 14 ], 'progressing 14 7' ],
        [ [ state => 'promoted' ], 'promoted 100 8' ],
        [ [ weight => 50 ], 'progressing 50 9' ],
        [ [ state => 'idle' ], 'idle 0 10' ],
        [ [ weight => 3, state => 'progressing' ], 'progressing 3 11' ],
        [ [ state => 'rolled_back' ], 'rolled_back 0 11' ],
    ) {
        $r->cmd('HSET', $hash, @{ $_->[0] });
        is($a->observe->{$hash}{status}, 'ok', "@{ $_->[0] }: it is taken");
        is_hash($_->[1], "then it is $_->[1]");
    }

    is(last_event()->{event}, 'rolled_back', 'a typed rollback is one');
};

subtest 'nonsense typed by hand changes nothing' => sub {
    my ($a, $b) = opened('a', 'b');
    my $e = epoch();

    for my $weight (-1, 101, '1e1', '', 'x', '5.123', '5.', '.5', '5 ', '5%%',
        '100.01', '99999999999', "5\n", "\xff\xfe")
    {
        $r->cmd('HSET', $hash, 'weight', $weight);
        my $seen = $a->observe->{$hash};
        (my $shown = $weight) =~ s/[^ -~]/?/g;
        is("$seen->{status} $seen->{text}", 'bad weight',
            "weight \"$shown\" is bad");
        is($seen->{rev}, $a->rev($hash), 'the last good one stands');
    }

    is($r->cmd('HGET', $hash, 'weight'), "\xff\xfe", 'it is left as it is');
    is(scalar events(), 1, 'without an event');
    is_result($a->rollout('weight', weight => 600), 'ok', '',
        'the API goes on from the last good one');
    is_hash('progressing 6 2', 'and mends it');

    $r->cmd('HSET', $hash, 'weight', '6.00');
    $a->sync;
    is($a->observe->{$hash}{status}, 'ok', '6.00 is 6');
    is(scalar events(), 2, 'and no change');

    $r->cmd('HSET', $hash, 'state', 'PAUSED');
    is($a->observe->{$hash}{text}, 'state', 'a state that there is not');
    $r->cmd('HSET', $hash, 'state', 'progressing', 'seed', 'x');
    is($b->observe->{$hash}{status}, 'want', 'a seed that is none is wanted '
        . 'back');
    $b->sync;
    is($r->cmd('HGET', $hash, 'seed'), 'a' x 32, 'and restored');

    $r->cmd('HSET', $hash, 'epoch', $e + 5, 'step', 9);
    is($a->observe->{$hash}{fields}{epoch}, $e, 'a typed epoch is refused');
    is_hash('progressing 6 2', 'the step, too');
    is(last_event()->{event}, 'refused', 'an event says so');
    $r->cmd('HDEL', $hash, qw(epoch state weight step));
    $a->sync;
    is_hash('progressing 6 2', 'fields that are deleted come back');
    is(epoch(), $e, 'with the epoch');
};

subtest 'a rollback is latched' => sub {
    my ($a, $b) = opened('a', 'b');
    my $e = epoch();

    is_result($a->rollout('flip', epoch => $e, source => 'verdict',
        actor => 'verdict', reason => 'error_rate=5%', record => '{"a":1}'),
        'ok', '', 'a breach');
    $_->sync for $a, $b;
    my $rev = $a->rev($hash);

    for ([ weight => 50 ], [ state => 'progressing' ], [ epoch => $e + 1 ],
        [ state => 'promoted', weight => 100 ])
    {
        $r->cmd('HSET', $hash, @$_);
        my $seen = $b->observe->{$hash};
        is("$seen->{status} $seen->{rev} $seen->{fields}{state}",
            "ok $rev rolled_back", "@$_: it stays rolled back");
        is_hash('rolled_back 0 1', 'and is written back');
        is(last_event()->{event}, 'refused', 'an event says so');
        $a->sync;
    }

    is(scalar events('refused'), 4, 'one for each');
    is($r->cmd('HGET', $hash, 'record'), '{"a":1}', 'the record is kept');
    is($r->cmd('HGET', $hash, 'reason'), 'error_rate=5%', 'the reason, too');
    $a->rollout('retry');
    is($r->cmd('HGET', $hash, 'record'), undef, 'a new epoch has none');
};

subtest 'a flip by two nodes is one rollback' => sub {
    my ($a, $b) = opened('a', 'b');
    my $e = epoch();

    is_result($a->rollout('flip', epoch => $e, record => '{"n":"a"}'), 'ok',
        '', 'the first flips');
    is_result($b->rollout('flip', epoch => $e, record => '{"n":"b"}'), 'same',
        '', 'the second finds it flipped');
    is(scalar events('rolled_back'), 1, 'there is one event');
    is((events('rolled_back'))[0]{record}, '{"n":"a"}', 'with its record');

    $a->rollout('retry');
    is_result($b->rollout('flip', epoch => $e, record => '{"n":"b"}'),
        'stale', 'that epoch is over', 'a rollback of an epoch that is over');
    is_hash('progressing 5 1', 'kills no newer one');
    is(scalar events('rolled_back'), 1, 'it is no rollback');
    is(scalar events('rolled_back_late'), 1, 'but is told');
    is((events('rolled_back_late'))[0]{epoch}, $e, 'with its epoch');

    $b->{digest} = 'other';
    is_result($b->rollout('flip', epoch => epoch()), 'ok', '',
        'another configuration may roll back');

    $r->cmd('DEL', $hash);
    is_result($b->rollout('flip', epoch => $e), 'stale',
        'that epoch is over', 'nothing is left to roll back');
    is($r->cmd('EXISTS', $hash), 0, 'and nothing is made');
};

subtest 'a step is taken once, in time, by who judges alike' => sub {
    my ($a, $b) = opened('a', 'b');
    my @now = (epoch => epoch(), step => 1, weight => 1000);

    is_result($a->rollout('advance', @now, least => 600_000), 'refused',
        'the step has not lasted long enough', 'too early');
    is_result($b->rollout('advance', @now, digest => 'other'), 'refused',
        'the configuration differs from that of the fleet',
        'another configuration');
    is_hash('progressing 5 1', 'nothing has changed');
    is_result($a->rollout('advance', @now), 'ok', '', 'in time');
    is_result($b->rollout('advance', @now), 'stale',
        'it has changed meanwhile', 'the same step again');
    is_hash('progressing 10 2', 'it was taken once');
    is(scalar events('step'), 1, 'with one event');

    $a->rollout('pause');
    $now[3] = 2;
    is_result($a->rollout('advance', @now), 'refused',
        'only a progressing rollout advances', 'not while it is paused');
    $a->rollout('resume');
    is_result($a->rollout('advance', @now[0 .. 3], weight => 10000,
        state => 'promoted'), 'ok', '', 'the last step');
    is_hash('promoted 100 3', 'promotes');
    is(last_event()->{event}, 'promoted', 'and says so');
};

subtest 'DEL sends everybody to stable until somebody starts' => sub {
    my ($a, $b) = opened('a', 'b');

    $r->cmd('DEL', $hash);
    is($a->sync->{$hash}{status}, 'none', 'the DEL is obeyed');
    is($b->sync->{$hash}{status}, 'none', 'by everybody');
    is(scalar events('deleted'), 1, 'there is one event');
    is(last_event()->{before}, 'progressing 5%', 'of what was deleted');

    $r->cmd('FLUSHALL');
    my $c = $s->node('c');
    $c->sync;
    $a->sync;
    is_result($c->rollout('open'), 'ok', '', 'one who knows nothing opens it '
        . 'when all is lost');
    $r->cmd('FLUSHALL');
    $b->{known}{$hash} = { rev => 5 };
    $b->sync;
    is($b->sync->{$hash}{status}, 'none', 'one who knows of the DEL restores '
        . 'that');
    is($r->cmd('EXISTS', $hash), 0, 'it stays deleted');
};

subtest 'epochs only grow' => sub {
    my ($a, $b) = opened('a', 'b');
    my $last = epoch();

    for my $i (1 .. 5) {
        $a->rollout($i % 2 ? 'start' : 'open', release => "$i" x 32);
        cmp_ok(epoch(), '>', $last, 'another epoch is a higher one');
        $last = epoch();
    }

    $r->cmd('DEL', $hash);
    $a->rollout('start');
    cmp_ok(epoch(), '>', $last, 'also after a DEL');
    $r->cmd('HSET', 'gate#past:shop', 'last', 4294967295);
    is_result($a->rollout('start'), 'refused', 'there is no higher epoch',
        'they end some day');
};

subtest 'a forgotten rollout is restored by who knows most' => sub {
    my ($a, $b) = opened('a', 'b');
    my $e = epoch();

    $a->rollout('pause');
    $_->sync for $a, $b;
    $a->rollout('weight', weight => 3000);
    $b->sync;
    $r->cmd('FLUSHALL');

    $a->sync;
    is_hash('paused 5 1', 'a restores what it knows');
    $b->sync;
    is_hash('paused 30 2', 'b knows more');
    $a->sync;
    is($a->fields('shop')->{weight}, 30, 'a takes it');
    is(epoch(), $e, 'it is the same epoch');
    is($r->cmd('HGET', $hash, 'seed'), 'a' x 32, 'with its seed');
    is(scalar events('restored'), 2, 'with an event for each');
    is_result($a->rollout('resume', epoch => $e), 'ok', '', 'it goes on');
    $_->sync for $a, $b;
    is_result($b->rollout('start'), 'ok', '', 'and on');
    cmp_ok(epoch(), '>', $e, 'to a higher epoch');
};

subtest 'a rollback outlives a Redis that forgot it' => sub {
    my ($a, $b, $c) = opened('a', 'b', 'c');
    my $e = epoch();
    my $back = snapshot();

    $a->rollout('flip', epoch => $e, source => 'verdict', reason => 'bad',
        record => '{"x":1}');
    $a->sync;
    $back->();
    $b->sync;
    is_hash('progressing 5 1', 'a stale snapshot does not have it');
    $a->sync;
    is_hash('rolled_back 0 1', 'who knows of it restores it');
    is($r->cmd('HGET', $hash, 'record'), '{"x":1}', 'with its record');

    # everything is lost, and the first who comes has not heard of it
    $r->cmd('FLUSHALL');
    $c->sync;
    is_hash('progressing 5 1', 'a node that lagged comes first');
    $c->rollout('advance', epoch => $e, step => 1, weight => 1000);
    $a->sync;
    is_hash('rolled_back 0 2', 'the rollback wins, also over a step that '
        . 'was taken meanwhile');
    $c->sync;
    is($c->fields('shop')->{state}, 'rolled_back', 'it hears of it');

    # or knows nothing at all, and opens the release anew
    $r->cmd('FLUSHALL');
    my $new = $s->node('new');
    $new->sync;
    $new->rollout('open', source => 'config', seed => 'c' x 32);
    my $opened = epoch();
    cmp_ok($opened, '>=', $e, 'a new node opens an epoch');
    $new->sync;
    $a->sync;
    is($r->cmd('HGET', $hash, 'state'), 'rolled_back',
        'the same release stays rolled back');
    cmp_ok(epoch(), '>=', $opened, 'under an epoch that is no older');
    is($r->cmd('HGET', $hash, 'reason'), 'bad', 'with its reason');
    $_->sync for $new, $b, $c;
    is($_->fields('shop')->{state}, 'rolled_back', "$_->{name} knows")
        for $new, $b, $c;
    is($r->cmd('HGET', $hash, 'state'), 'rolled_back', 'nobody undoes it');

    # two epochs of one second are two
    for my $state ('progressing', 'rolled_back') {
        my ($d, $n) = opened('d', 'n');
        $d->rollout('abort') if $state eq 'rolled_back';
        $d->sync;
        $e = $d->fields('shop')->{epoch};
        $r->cmd('FLUSHALL');
        $n = $s->node('n');
        $n->sync;
        $n->rollout('start', seed => 'c' x 32);
        number_of($e);
        is($d->restore_rollout($hash)->{result}, 'stale',
            "a $state one is no part of another with its number");
        is(epoch(), $e + 1, 'which gets a number of its own');
        is_hash('progressing 5 1', 'and goes on');
    }
};

subtest 'those who remember come one by one' => sub {
    my ($a, $b) = opened('a', 'b');

    # a knows of a pause, b of the rollback that came after it
    $a->rollout('pause');
    $_->sync for $a, $b;
    $b->rollout('flip', epoch => epoch());
    $b->sync;
    my $e = epoch();

    for my $number (0, $e, $e + 100) {
        my @now = map { my $n = $s->node($_->{name}); %$n = (%$_,
            known => { %{ $_->{known} } }); $n } $a, $b;
        $r->cmd('FLUSHALL');
        my $new = $s->node('new');
        $new->sync;
        $new->rollout('open', weight => 700, seed => 'c' x 32);
        number_of($number) if $number;
        $now[0]->sync;
        is($r->cmd('HGET', $hash, 'state'), 'paused', 'the pause is known');
        $now[1]->sync;
        is($r->cmd('HGET', $hash, 'state'), 'rolled_back', 'the rollback, too');
        $now[0]->sync;
        is($now[0]->fields('shop')->{state}, 'rolled_back', 'by all');
    }

    # the release was found bad by the one who opened it anew
    my ($n) = opened('n');
    $n->rollout('pause');
    $n->sync;
    $e = epoch();

    for my $number ($e, $e - 100) {
        $r->cmd('FLUSHALL');
        my $new = $s->node('new');
        $new->sync;
        $new->rollout('open', seed => 'c' x 32);
        number_of($number);
        $new->rollout('flip', epoch => $number, record => '{"y":2}');
        $n->restore_rollout($hash);
        is($r->cmd('HGET', $hash, 'state'), 'rolled_back', 'no memory undoes '
            . 'a rollback of this release');
        is($r->cmd('HGET', $hash, 'record'), '{"y":2}', 'its record stays');
        cmp_ok(epoch(), '>=', $e, 'under a number that the node takes');
    }
};

subtest 'who knew more and is not followed is not asked again' => sub {
    my ($a, $b) = opened('a', 'b');

    $a->rollout('flip', epoch => epoch());
    $a->sync;
    $r->cmd('FLUSHALL');
    $a->sync;
    is_hash('rolled_back 0 1', 'the rollback is back');
    $b->{known}{$hash}{rev} += 1_000_000;
    is($b->observe->{$hash}{status}, 'want', 'somebody knows something later');
    is($b->restore_rollout($hash)->{result}, 'stale', 'but no rollback');
    is($b->observe->{$hash}{status}, 'ok', 'then that is that');
    is_hash('rolled_back 0 1', 'and nothing has changed');
};

subtest 'what was decided since the loss is not undone' => sub {
    my ($a, $b) = opened('a', 'b');
    my $e = epoch();

    $a->rollout('flip', epoch => $e);
    $_->sync for $a, $b;
    $r->cmd('FLUSHALL');
    my $new = $s->node('new');
    $new->sync;
    $new->rollout('start', weight => 2500);
    $_->sync for $a, $b;
    is_hash('progressing 25 1', 'an operator\'s start is younger than the '
        . 'rollback');
    is($a->fields('shop')->{state}, 'progressing', 'which everybody takes');

    # by a Redis whose clock is behind: the epoch must not look older
    $a->{known}{$hash}{fields}{epoch} = $e + 3600;
    $a->{known}{$hash}{rev} += 3_600_000;
    $r->cmd('FLUSHALL');
    $new = $s->node('new');
    $new->sync;
    $new->rollout('start', weight => 700);
    my $got = $a->restore_rollout($hash);
    is($got->{result}, 'stale', 'it cannot be restored over');
    is(epoch(), $e + 3601, 'but its epoch becomes the highest');
    is_hash('progressing 7 1', 'and it stays what it is');

    # a rollback in the epoch that was opened meanwhile
    $r->cmd('FLUSHALL');
    ($a, $b) = opened('a', 'b');
    $r->cmd('FLUSHALL');
    $new = $s->node('new');
    $new->sync;
    $new->rollout('open');
    $new->rollout('flip', epoch => epoch());
    $_->sync for $a, $b;
    is($r->cmd('HGET', $hash, 'state'), 'rolled_back',
        'a rollback since then stands as well');
};

subtest 'another release is not restored over a newer one' => sub {
    my ($a, $b) = opened('a', 'b');

    $r->cmd('FLUSHALL');
    $b->{release} = '2' x 32;
    my $new = $s->node('new', release => '2' x 32);
    $new->sync;
    $new->rollout('open');
    $a->sync;
    is($r->cmd('HGET', $hash, 'release'), '2' x 32, 'the newer release stands');
    is_result($a->restore_rollout($hash, rev => '9000000000000000',
        inc => ''), 'foreign', $foreign, 'whoever comes with the old one');

    # but the newer one replaces what a snapshot brought back
    my ($c, $d) = opened('c', 'd');
    my $back = snapshot();
    $d->{release} = '2' x 32;
    $d->rollout('open');
    $d->sync;
    my $e = epoch();
    $back->();
    $c->sync;
    is($r->cmd('HGET', $hash, 'release'), '1' x 32, 'the snapshot is older');
    $d->sync;
    is($r->cmd('HGET', $hash, 'release'), '2' x 32, 'the release that came '
        . 'after it is restored');
    is(epoch(), $e, 'with its epoch');
    is_result($c->rollout('open'), 'foreign', $foreign,
        'and the other is of the past');
};

subtest 'a release that is configured again begins anew' => sub {
    my ($a, $b) = opened('a', 'b');

    # b is cut off after a rollback
    $a->rollout('flip', epoch => epoch());
    $_->sync for $a, $b;

    $a->{release} = '2' x 32;
    $a->rollout('open');
    $r->restart(keep => 1);
    $a->sync;
    $a->{release} = '1' x 32;
    $a->rollout('open', epoch => 'force', seed => 'c' x 32);
    my $e = epoch();
    $_->sync for $b, $a;
    is_hash('progressing 5 1', 'the rollback of long ago is not its own');
    is(epoch(), $e, 'it keeps its epoch');
    is($b->fields('shop')->{epoch}, $e, 'which everybody takes');
};

subtest 'what is typed into nothing is not lost' => sub {
    my ($a, $b) = opened('a', 'b');

    $r->cmd('FLUSHALL');
    $r->cmd('HSET', $hash, 'weight', 0);
    is($a->observe->{$hash}{status}, 'want', 'a hash with only a weight');
    $a->sync;
    is_hash('idle 0 2', 'is completed, and the weight counts');
    $b->sync;
    is_hash('idle 0 2', 'for the others, too');
    is($b->fields('shop')->{seed}, 'a' x 32, 'with the seed that it had');

    $r->cmd('DEL', $hash);
    $_->sync for $a, $b;
    $r->cmd('HSET', $hash, 'weight', 5);
    is($a->observe->{$hash}{status}, 'bad', 'but a deleted rollout does not '
        . 'come back by a weight');
    is_result($a->rollout('open'), 'same', '', 'nor by who opens its release');
    is($r->cmd('HGET', $hash, 'epoch'), undef, 'it has no epoch');
    is_result($a->rollout('start'), 'ok', '', 'it takes a start');

    my ($n) = world('n');
    $r->cmd('HSET', $hash, 'weight', 0);
    is_result($n->rollout('open'), 'ok', '', 'a new release opens');
    is_hash('idle 0 1', 'at the weight that was typed before');
};

subtest 'an evicted rollout is restored' => sub {
    my ($a, $b) = opened('a', 'b');

    $r->cmd('PEXPIRE', $hash, 3_600_000);
    $_->sync for $a, $b;
    $r->config('maxmemory-policy' => 'volatile-random', maxmemory => 1);
    $r->try('SET', 'x', 1);
    $r->config(maxmemory => 0, 'maxmemory-policy' => 'noeviction');
    is($r->cmd('EXISTS', $hash), 0, 'it is gone');
    is($a->observe->{$hash}{status}, 'evicted', 'evicted');
    is_result($a->rollout('open'), 'stale',
        'it was evicted, a node has to restore it',
        'nobody opens it anew');
    $a->sync;
    is_hash('progressing 5 1', 'it is restored');
    is($r->cmd('PTTL', $hash), -1, 'for good');
};

$t->done;
done_testing;
