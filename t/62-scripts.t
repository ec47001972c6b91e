#!/usr/bin/perl

# The scripts that run in Redis, alone: what they tell apart, what they
# refuse, and that they write each thing once.

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
my $key = 'gate:maintenance';
my $hash = 'gate:canary:shop';

# A fresh world with nodes that are there already.

sub world {
    my (@names) = @_;
    $r->cmd('FLUSHALL');
    my @nodes = map { $s->node($_) } @names;
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

# Everything there is, as one text.

sub dump_all {
    my @keys = sort @{ $r->cmd('KEYS', '*') };
    return join "\n", map { unpack 'H*', "$_ " . $r->cmd('DUMP', $_) } @keys;
}

# Takes a copy of all data; the code that is returned brings it back, as a
# server that has been started with it.

sub snapshot {
    my %dump = map { $_ => $r->cmd('DUMP', $_) } @{ $r->cmd('KEYS', '*') };
    my %ttl = map { $_ => $r->cmd('PTTL', $_) } keys %dump;

    return sub {
        $r->cmd('FLUSHALL');
        $r->cmd('RESTORE', $_, $ttl{$_} > 0 ? $ttl{$_} : 0, $dump{$_})
            for sort keys %dump;
        $r->cmd('HDEL', 'gate#epoch', 'run');
    };
}

subtest 'a typed value is seen once, with one event' => sub {
    my ($a, $b) = world('a', 'b');

    $r->cmd('SET', $key, 'on');
    my $seen = $a->observe;
    is($seen->{$key}{status}, 'ok', 'it is there');
    is($seen->{$key}{value}, 'on', 'with its value');
    cmp_ok($seen->{$key}{rev}, '>', 1.6e12, 'under a revision that is a time');
    cmp_ok($seen->{rev}, '>=', $seen->{$key}{rev}, 'the ledger has it');

    is($b->observe->{$key}{rev}, $seen->{$key}{rev}, 'the other node sees '
        . 'the same revision');
    is(scalar events(), 1, 'there is one event');

    my $e = last_event();
    is("$e->{event} $e->{object} $e->{source} $e->{by} $e->{after} "
        . "$e->{node}", 'maintenance global redis operator on a',
        'which says who and what');
    ok(!exists $e->{before}, 'before there was nothing');

    $r->cmd('SET', $key, 'off');
    $b->sync;
    $e = last_event();
    is("$e->{before} $e->{after} $e->{node}", 'on off b',
        'the next one says what was before');
    cmp_ok($b->rev($key), '>', $seen->{$key}{rev}, 'its revision is higher');
};

subtest 'a look at an unchanged world writes nothing' => sub {
    my ($a, $b) = world('a', 'b');

    $r->cmd('SET', $key, 'on');
    $a->rollout('open');
    $_->sync for $a, $b, $a;

    my $before = dump_all();
    my $changes = $r->info('persistence')->{rdb_changes_since_last_save};
    $_->sync for $a, $b, $a, $b;
    is(dump_all(), $before, 'the data is the same');
    is($r->info('persistence')->{rdb_changes_since_last_save}, $changes,
        'and nothing was written');
};

subtest 'a deleted key stays deleted' => sub {
    my ($a, $b) = world('a', 'b');

    $r->cmd('SET', $key, 'on');
    $_->sync for $a, $b;
    $r->cmd('DEL', $key);
    is($a->sync->{$key}{status}, 'none', 'a DEL is obeyed');
    is(scalar events(), 2, 'with an event');
    is(last_event()->{before}, 'on', 'that says what was deleted');

    # b was cut off
    is($b->sync->{$key}{status}, 'none', 'also by a node that was cut off');
    is($r->cmd('EXISTS', $key), 0, 'which does not bring it back');
    is(scalar events(), 2, 'and writes no event');

    # Redis loses everything, c remembers the value, b the DEL
    my $c = $s->node('c');
    $r->cmd('SET', $key, 'on');
    $c->sync;
    $r->cmd('DEL', $key);
    $_->sync for $a, $b;
    $r->cmd('FLUSHALL');
    $c->sync;
    is($r->cmd('GET', $key), 'on', 'after a FLUSHALL a node restores what it '
        . 'knows');
    $b->sync;
    is($r->cmd('GET', $key), undef, 'until one comes that knows of the DEL');
    is($c->sync->{$key}{status}, 'none', 'which everybody believes');
};

subtest 'what Redis forgot is restored by who knows most' => sub {
    my ($a, $b) = world('a', 'b');

    $r->cmd('SET', $key, 'on');
    $_->sync for $a, $b;
    my $inc = $a->{inc};
    $r->cmd('SET', $key, '{"on":true,"message":"new"}');
    $b->sync;
    $r->cmd('FLUSHALL');

    my $seen = $a->observe;
    is($seen->{$key}{status}, 'want', 'it wants the key back');
    isnt($seen->{inc}, $inc, 'it is another incarnation');
    is(($a->restore_strings($key))[0], 'ok', 'a restores what it has');
    is(last_event()->{event}, 'restored', 'with an event');
    is($b->observe->{$key}{status}, 'want', 'b knows more');
    is(($b->restore_strings($key))[0], 'ok', 'and restores it');
    is(($a->restore_strings($key))[0], 'no', 'a can no more');
    $_->sync for $a, $b;
    is($a->value($key), '{"on":true,"message":"new"}', 'both have the newer');
    is($a->rev($key), $b->rev($key), 'of one revision');
    is(scalar events('restored'), 2, 'no more events than changes');
};

subtest 'the remaining time is restored, and not more' => sub {
    my ($a) = world('a');

    $r->cmd('SET', $key, 'on', 'EX', 100);
    $a->sync;
    cmp_ok($a->{known}{$key}{pttl}, '>', 90_000, 'the look tells it');
    $r->cmd('FLUSHALL');
    $a->{known}{$key}{pttl} = 5000;
    $a->sync;
    my $ttl = $r->cmd('PTTL', $key);
    ok($ttl > 0 && $ttl <= 5000, 'the key has what was left');

    $r->cmd('FLUSHALL');
    $a->{known}{$key}{pttl} = 0;
    $a->sync;
    is($r->cmd('EXISTS', $key), 0, 'what has expired is not restored');
    is($a->sync->{$key}{status}, 'none', 'nor asked for again');
};

subtest 'a changed TTL is a change, its end is told as such' => sub {
    my ($a) = world('a');

    $r->cmd('SET', $key, 'on');
    $a->sync;
    my $rev = $a->rev($key);
    $r->cmd('PEXPIRE', $key, 60_000);
    $a->sync;
    cmp_ok($a->rev($key), '>', $rev, 'EXPIRE gives a new revision');
    is(last_event()->{reason}, 'ttl', 'and an event');

    $r->cmd('PEXPIRE', $key, 1);
    wait_for { !$r->cmd('EXISTS', $key) } what => 'the key to expire';
    $a->sync;
    is(last_event()->{by}, 'operator', 'gone long before its time: a DEL');

    $r->cmd('SET', $key, 'on', 'PX', 300);
    $a->sync;
    wait_for { !$r->cmd('EXISTS', $key) } what => 'the key to expire';
    is($a->sync->{$key}{status}, 'none', 'it is gone');
    is(last_event()->{by} . ' ' . last_event()->{reason}, 'ttl expired',
        'at its time: it has expired');
};

subtest 'what is typed after a FLUSHALL wins over a restore' => sub {
    my ($a, $b) = world('a', 'b');

    $r->cmd('SET', $key, 'on');
    $_->sync for $a, $b;
    $r->cmd('FLUSHALL');
    $r->cmd('SET', $key, 'off');
    is($a->observe->{$key}{status}, 'ok', 'it is no loss');
    is(($b->restore_strings($key))[0], 'no', 'and cannot be restored over');
    $_->sync for $a, $b;
    is($b->value($key), 'off', 'everybody takes it');

    # also where Redis's clock is behind what the nodes know
    my $c = $s->node('c');
    $c->{inc} = $b->{inc};
    $c->{known}{$key} = { rev => $b->rev($key) + 3_600_000, value => 'on' };
    $r->cmd('FLUSHALL');
    $r->cmd('SET', $key, '0');
    $a->sync;
    is($c->sync->{$key}{value}, '0', 'also by one with a higher revision '
        . 'from another life');
};

subtest 'an old snapshot is no authority' => sub {
    my ($a, $b) = world('a', 'b');

    $r->cmd('SET', $key, 'on');
    $_->sync for $a, $b;
    my $back = snapshot();
    $r->cmd('SET', $key, 'off');
    $r->cmd('SET', 'gate:mode:canary', 'observe');
    $b->sync;
    $back->();

    is($a->sync->{$key}{value}, 'on', 'a knows no better');
    is($b->observe->{$key}{status}, 'want', 'b does');
    $b->sync;
    is($r->cmd('GET', $key), 'off', 'and restores it');
    is($r->cmd('GET', 'gate:mode:canary'), 'observe', 'with the other key');
    is($a->sync->{$key}{value}, 'off', 'a follows');

    # of a time before everything was lost
    $r->cmd('FLUSHALL');
    $_->sync for $a, $b;
    $r->cmd('SET', $key, '1');
    $_->sync for $a, $b;
    $back->();
    $_->sync for $a, $b;
    is($r->cmd('GET', $key), '1', 'neither is one of an earlier life');

    # a DEL that the snapshot does not know
    $r->cmd('DEL', $key);
    $b->sync;
    $back->();
    $_->sync for $a, $b, $a;
    is($r->cmd('EXISTS', $key), 0, 'a DEL is not undone by it');
};

subtest 'a restart is told from an operator' => sub {
    my ($a, $b) = world('a', 'b');

    $r->cmd('SET', $key, 'on');
    $a->rollout('open');
    $_->sync for $a, $b;
    my $inc = $a->{inc};
    my $events = () = events();
    $r->restart(keep => 1);
    $_->sync for $a, $b;
    is($a->{inc}, $inc, 'where nothing was lost it is the same incarnation');
    is($a->value($key), 'on', 'with the same value');
    is(scalar events(), $events, 'and no event');

    # the last things that were said are lost
    $r->cmd('SET', $key, 'off');
    $a->rollout('pause');
    $_->sync for $a, $b;
    $r->restart;
    is($r->cmd('GET', $key), 'on', 'the server comes back with old data');
    my $new = $s->node('new');
    $new->sync;
    is($new->value($key), 'on', 'who knows no better believes it');
    $new->rollout('advance', epoch => $new->fields('shop')->{epoch},
        step => 1, weight => 1000);
    $b->sync;
    is($r->cmd('GET', $key), 'off', 'who does restores it');
    is($r->cmd('HGET', $hash, 'state'), 'paused',
        'also what was decided, over a step that was taken meanwhile');
    $_->sync for $a, $new;
    is($new->value($key), 'off', 'all follow');

    # an operator is quicker
    $r->restart;
    $r->cmd('SET', $key, '{"on":true}');
    $new->sync;
    $_->sync for $a, $b;
    is($r->cmd('GET', $key), '{"on":true}', 'what is typed then stands');

    # without anything
    $r->restart(empty => 1);
    $_->sync for $b, $a;
    isnt($a->{inc}, $inc, 'an empty one is another incarnation');
    is($r->cmd('GET', $key), '{"on":true}', 'and gets everything back');
    is($r->cmd('HGET', $hash, 'state'), 'paused', 'the rollout, too');
};

subtest 'an evicted key is no deleted one' => sub {
    my ($a, $b) = world('a', 'b');

    $r->cmd('SET', $key, 'on');
    $_->sync for $a, $b;
    $r->cmd('CONFIG', 'RESETSTAT');
    $_->sync for $a, $b;
    is($a->observe->{evicted}, 0, 'nothing was evicted so far');

    $r->config('maxmemory-policy' => 'allkeys-random', maxmemory => 1);
    $r->try('SET', 'x', 1);
    $r->config(maxmemory => 0, 'maxmemory-policy' => 'noeviction');
    is($r->cmd('DBSIZE'), 0, 'all of it was evicted');

    # the ledger went as well: that is a loss like another
    $_->sync for $a, $b;
    is($r->cmd('GET', $key), 'on', 'the key is restored');

    # only the key
    $r->config('maxmemory-policy' => 'volatile-random');
    $r->cmd('SET', $key, 'on', 'EX', 3600);
    $_->sync for $a, $b;
    $r->config(maxmemory => 1);
    $r->try('SET', 'x', 1);
    $r->config(maxmemory => 0, 'maxmemory-policy' => 'noeviction');
    is($r->cmd('EXISTS', $key), 0, 'the key alone was evicted');
    is($r->cmd('EXISTS', 'gate#epoch'), 1, 'the ledger is there');
    is($b->status($key), 'evicted', 'that is told from a DEL');
    is($a->status($key), 'evicted', 'by the next node as well');
    $b->sync;
    is($r->cmd('GET', $key), 'on', 'and restored');
    $_->sync for $a, $b;
    $r->cmd('DEL', $key);
    is($a->sync->{$key}{status}, 'none', 'a DEL after that is one');

    # while others are evicted
    $r->cmd('SET', $key, 'on');
    $_->sync for $a, $b;
    $r->cmd('SET', 'other', 'x', 'EX', 3600);
    $r->config('maxmemory-policy' => 'volatile-random', maxmemory => 1);
    $r->try('SET', 'x', 1);
    $r->config(maxmemory => 0, 'maxmemory-policy' => 'noeviction');
    is($r->cmd('EXISTS', 'other'), 0, 'another key was evicted');
    $a->sync;
    $r->cmd('DEL', $key);
    is($b->sync->{$key}{status}, 'none', 'a DEL after that is one, too');

    # one who knows an older value
    my $c = $s->node('c');
    $r->cmd('SET', $key, 'on');
    $c->sync;
    $r->cmd('SET', $key, 'off', 'EX', 3600);
    $_->sync for $a, $b;
    $r->config('maxmemory-policy' => 'volatile-random', maxmemory => 1);
    $r->try('SET', 'x', 1);
    $r->config(maxmemory => 0, 'maxmemory-policy' => 'noeviction');
    $c->sync;
    is($r->cmd('GET', $key), undef, 'who has an older value does not put it '
        . 'there');
    $a->sync;
    is($r->cmd('GET', $key), 'off', 'who has the last one does');

    # who may not ask takes absence for a DEL
    $r->cmd('ACL', 'SETUSER', 'default', '-info');
    is($a->observe->{evicted}, -1, 'without INFO nobody knows');
    $r->cmd('ACL', 'SETUSER', 'default', '+info');
};

subtest 'a wrong type is told and left alone' => sub {
    my ($a) = world('a');

    $r->cmd('SET', $key, 'on');
    $a->rollout('open');
    $a->sync;
    $r->cmd('DEL', $key, $hash);
    $r->cmd('RPUSH', $key, 1);
    $r->cmd('SET', $hash, 1);
    my $seen = $a->observe;
    is("$seen->{$key}{status} $seen->{$key}{value}", 'type list',
        'a list instead of a string');
    is("$seen->{$hash}{status} $seen->{$hash}{text}", 'type string',
        'a string instead of a hash');
    is(($a->restore_strings($key))[0], 'no', 'it is not restored over');
    is(($a->put($key, 'on'))[0], 'type', 'nor written over');
    is_result($a->rollout($_, state => 'progressing', epoch => '', step => 1,
        rev => 1), 'refused', 'the key in Redis holds something else',
        "nor by $_") for qw(open start abort flip restore);
    is($r->cmd('TYPE', $key), 'list', 'the list is as it was');
    is($r->cmd('GET', $hash), 1, 'the string is as it was');
};

subtest 'a wrong type at a key of ours is an error that names it' => sub {
    my ($a) = world('a');

    for my $name (qw(epoch events past:shop evidence:shop:1:1:d totals:shop
        nodes seed))
    {
        $r->cmd('FLUSHALL');
        $r->cmd('SETBIT', $_, 7, 1) for "gate#$name";
        $r->cmd('DEL', "gate#$name"), $r->cmd('RPUSH', "gate#$name", 1)
            if $name eq 'seed';
        $r->cmd('HSET', $hash, 'weight', 5);
        $r->cmd('SET', $key, 'on');
        my $before = dump_all();
        my @errors = grep { /GATE/ } $a->observe . '', map {
            my $call = $_;
            eval { $call->(); 1 } ? () : "$@";
        } (
            sub { $a->restore_strings($key) }, sub { $a->put($key, 'off') },
            sub { $a->rollout('start') }, sub { $a->beat },
            sub { $a->evidence(1, { 1 => 1 }, { 1 => 1 }) });
        ok(scalar(@errors), "gate#$name is told");
        ok(!(grep { !/GATEWRONGTYPE gate#\Q$name\E$/m } @errors),
            "gate#$name by its name");

        # those who do not use it may have written
        if ($name =~ /^(?:epoch|events)$/) {
            is_deeply([ grep { $_ ne 'gate#epoch' && !/nodes|seed|totals|evid/ }
                sort @{ $r->cmd('KEYS', '*') } ],
                [ sort grep { $_ ne 'gate#epoch' } "gate#$name", $key, $hash ],
                'nothing is half-written');
        }
    }
};

subtest 'ten megabytes do not come over the wire' => sub {
    my ($a) = world('a');

    $a->rollout('open');
    $a->sync;
    my $garbage = 'x' x 10_000_000;
    $r->cmd('SET', $key, $garbage);
    $r->cmd('HSET', $hash, 'reason', $garbage, 'other', $garbage);
    my $before = $r->info('stats')->{total_net_output_bytes};
    my $seen = $a->observe;
    my $sent = $r->info('stats')->{total_net_output_bytes} - $before;
    is("$seen->{$key}{status} $seen->{$key}{value}", 'big 10000000',
        'its length is told');
    is("$seen->{$hash}{status} $seen->{$hash}{text}", 'bad reason',
        'the field is told');
    cmp_ok($sent, '<', 20_000, 'and not sent');

    $r->cmd('DEL', $key, $hash);
    $r->cmd('EVAL', 'for i = 1, 200000 do '
        . 'redis.call("HSET", KEYS[1], "f" .. i, i) end', 1, $hash);
    $a->{known} = {};
    $seen = $a->observe;
    is("$seen->{$hash}{status} $seen->{$hash}{text}", 'bad seed',
        'a hash of 200000 fields is no rollout');
    is(keys %{ $seen->{$hash}{fields} }, 0, 'none of them is sent');
};

subtest 'a Redis that is full can be read' => sub {
    my ($a, $b) = world('a', 'b');

    $r->cmd('SET', $key, 'on');
    $a->rollout('open');
    $_->sync for $a, $b;
    my $rev = $a->rev($key);
    $r->cmd('SET', $key, 'off');
    $r->cmd('HSET', $hash, 'weight', 0);
    $r->config(maxmemory => 1);
    my $seen = $a->observe;
    ok(ref $seen, 'a look is no error');
    is("$seen->{$key}{status} $seen->{$key}{value}", 'ok off',
        'it shows what is there');
    is($seen->{$key}{rev}, $rev, 'under the revision that Redis has');
    is($seen->{$hash}{fields}{state}, 'idle', 'a typed weight counts');
    like($a->{scripts}->try('put', [$key, 'gate#epoch', 'gate#events'], 'a',
        'joe', '', 'global', 'maintenance', 'set', 'on', -1, 0, 1), qr/OOM/,
        'who wants to write is told');
    $r->config(maxmemory => 0);
    $a->sync;
    cmp_ok($a->rev($key), '>', $rev, 'the revision follows');
    is(scalar(grep { $_->{after} eq 'off' } events('maintenance')), 1,
        'with its event');

    $r->cmd('FLUSHALL');
    $r->config(maxmemory => 1);
    is($a->observe->{inc}, '', 'an empty one has no incarnation then');
    $r->config(maxmemory => 0);
};

subtest 'few commands and our own keys are enough' => sub {
    my ($a) = world('a');

    $r->cmd('ACL', 'SETUSER', 'gate', 'on', '>secret', '~gate:*', '~gate#*',
        '-@all', map { "+$_" } qw(eval evalsha script|load time info type get
        set del strlen pttl ttl expire hget hset hmget hdel hlen hstrlen
        hexists hgetall hscan xadd));
    my $scripts = Gate::Scripts->new($r->client(user => 'gate',
        password => 'secret'));
    my $n = $scripts->node('n');

    $r->cmd('SET', $key, 'on', 'EX', 100);
    $n->sync;
    $n->put($key, 'off');
    $n->rollout('open');
    $n->rollout('start', release => sprintf '%032x', $_) for 1 .. 40;
    $n->sync;
    $r->cmd('FLUSHALL');
    $n->sync;
    $n->evidence(1, { 1 => 1 }, { 1 => 1 });
    $r->cmd('HDEL', 'gate#totals:shop', 'sum');
    $n->evidence(1, { 1 => 2 }, { 1 => 2 });
    $n->beat;
    is($r->cmd('GET', $key), 'off', 'everything works');
    isnt($n->observe->{evicted}, -1, 'INFO is among them');
    $r->cmd(qw(ACL DELUSER gate));
};

subtest 'an operator speaks through the API' => sub {
    my ($a, $b) = world('a', 'b');

    my ($result, $rev) = $a->put($key, 'on', reason => 'deploy');
    is($result, 'ok', 'a value is set');
    is($r->cmd('GET', $key), 'on', 'it is there');
    my $e = last_event();
    is("$e->{event} $e->{source} $e->{by} $e->{after} $e->{reason}",
        'maintenance api joe on deploy', 'its event says who and why');
    is($b->observe->{$key}{rev}, $rev, 'everybody sees its revision');
    is($a->observe->{$key}{rev}, $rev, 'and takes it for no typed one');
    is(scalar events(), 1, 'so there is one event');

    is(($a->put($key, 'on', reason => 'deploy'))[1], $rev,
        'a call that is repeated changes nothing');
    is(scalar events(), 1, 'and writes none');

    $b->sync;
    $r->cmd('SET', $key, 'off');
    is(($b->put($key, '1', force => 0))[0], 'changed',
        'what was typed meanwhile is not overwritten');
    is($r->cmd('GET', $key), 'off', 'it stands');
    is(($b->put($key, '1', force => 1))[0], 'ok', 'unless that is the wish');
    $b->sync;
    is(($b->put($key, undef, force => 0))[0], 'ok', 'it can be deleted');
    is($b->sync->{$key}{status}, 'none', 'and is gone');
    is(($b->put($key, 'on', ttl => 5000))[0], 'ok', 'it can have a TTL');
    cmp_ok($r->cmd('PTTL', $key), '>', 0, 'it has');

    # the word of the API after a loss
    $r->cmd('FLUSHALL');
    my $c = $s->node('c');
    $c->sync;
    $c->put($key, 'off');
    $_->sync for $a, $b;
    is($b->value($key), 'off', 'it wins over what was before the loss');

    # over a thing that a node has just restored, the same value is a word
    $r->cmd('FLUSHALL');
    $a->sync;
    $b->{known}{$key} = { rev => $a->rev($key) + 5, value => 'on' };
    $b->{inc} = '1-old';
    is(($a->put($key, 'off'))[0], 'ok', 'a value that is confirmed');
    $b->sync;
    is($r->cmd('GET', $key), 'off', 'is no memory any more');
};

$t->done;
done_testing;
