#!/usr/bin/perl

# What is typed into redis-cli reaches every worker of every node.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Trial;
use JSON::PP ();
use Test::More;
use Time::HiRes qw(sleep time);

skip_unless_cmd('redis-server');
skip_unless_cmd('redis-cli');
my $t = Gate->new;
my %site = Gate::Trial->site($t);
my $r = $site{redis};

# what comes, comes by push
my $push = Gate::Trial::variant() ne 'poll';
$site{options} .= $push ? ' poll=20s' : ' poll=200ms';
my $x = Gate::Trial->new($t, %site, nodes => 3);
my $f = $x->fleet;
$x->start;

my $key = 'gate:maintenance:probe';

sub cli {
    my (@args) = @_;
    open my $out, '-|', 'redis-cli', '-p', $r->port, @args or die "cli: $!\n";
    local $/;
    my $text = <$out>;
    close $out or die "redis-cli @args: $text\n";
    return $text;
}

sub probe { my ($status, %opt) = @_;
    return $f->converge($status, uri => '/probe', %opt) }

sub posts_are {
    my ($status) = @_;
    return eval { wait_for {
        !grep { $_ != $status } $f->each(sub { $_[0]->post('/probe')->status });
    } timeout => 5 };
}

sub arms_are {
    my ($re, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @arms;
    my $ok = eval { wait_for {
        @arms = $x->arms;
        !grep { $_ ne $arms[0] || $_ !~ $re } @arms;
    } timeout => 5 };
    ok($ok, $name) || diag(join "\n", @arms);
    return $arms[0];
}

subtest 'redis-cli closes and opens' => sub {
    for my $value (qw(on 1 maintenance)) {
        is(cli('SET', $key, $value), "OK\n", "SET $value");
        ok(eval { probe(503) }, 'all are closed') || diag($@);
        cli('DEL', $key);
        ok(eval { probe(200) }, 'DEL: all are open') || diag($@);
    }

    cli('SET', $key, 'on');
    probe(503);
    for my $value (qw(off 0)) {
        cli('SET', $key, $value);
        ok(eval { probe(200) }, "SET $value opens") || diag($@);
        cli('SET', $key, 'on');
        probe(503);
    }
    cli('DEL', $key);
    probe(200);

    cli('SET', 'gate:maintenance', 'on');
    ok(eval { $f->converge(503, uri => '/open'); probe(503) },
        'the global switch closes all') || diag($@);
    is(($f->ask('/arms'))[0][2]->status, 200, 'but what it does not govern');
    cli('DEL', 'gate:maintenance');
    ok(eval { $f->converge(200, uri => '/open') }, 'and opens') || diag($@);
};

subtest 'other ways of writing are seen, too' => sub {
    $r->cmd('MSET', $key, 'on', 'gate:maintenance:a', 'on');
    ok(eval { probe(503); $f->converge(503, uri => '/open') }, 'MSET')
        || diag($@);
    $r->pipeline(['MULTI'], ['DEL', $key], ['UNLINK', 'gate:maintenance:a'],
        ['EXEC']);
    ok(eval { probe(200); $f->converge(200, uri => '/open') }, 'MULTI')
        || diag($@);
    $r->cmd('SET', 'elsewhere', 'on');
    $r->cmd('RENAME', 'elsewhere', $key);
    ok(eval { probe(503) }, 'RENAME') || diag($@);
    $r->cmd($r->version < 6.2 ? 'UNLINK' : 'GETDEL', $key);
    ok(eval { probe(200) }, 'GETDEL') || diag($@);
    $r->cmd('EVAL', "redis.call('SET', KEYS[1], 'on')", 1, $key);
    ok(eval { probe(503) }, 'a script') || diag($@);

    my $other = $r->client;
    $other->cmd('SELECT', 1);
    $other->cmd('SET', $key, 'off');
    $other->cmd('DEL', $key);
    is_deeply([$f->watch(503, 0.3, uri => '/probe')], [],
        'another database is none of ours');
    $r->cmd('DEL', $key);
    probe(200);
};

subtest 'a value says more than on' => sub {
    $r->cmd('SET', $key, JSON::PP->new->encode({ on => JSON::PP::true,
        message => 'moving house', retry_after => 77 }));
    probe(503);
    my ($bad) = grep { $_->[2]->json->{detail} ne 'moving house'
        || $_->[2]->header('retry-after') != 77 } $f->ask('/probe');
    ok(!$bad, 'message and Retry-After in every worker')
        || diag($bad->[2]->body);

    $r->cmd('SET', $key, '{"on":true,"read_only":true}');
    ok(eval { probe(200) }, 'read only: GET passes') || diag($@);
    ok(posts_are(503), 'POST does not');

    $r->cmd('SET', $key, '{"on":false}');
    ok(posts_are(200), 'off is for POST as well');
    ok(eval { probe(200) }, 'and for GET') || diag($@);
    $r->cmd('DEL', $key);
};

subtest 'times are kept' => sub {
    $r->cmd('SET', $key, 'on', 'PX', 3000);
    my $start = time;
    probe(503);
    my ($retry) = map { $_->[2]->header('retry-after') } $f->ask('/probe');
    cmp_ok($retry, '<=', 60, 'Retry-After') if defined $retry;
    ok(eval { probe(200, timeout => 8) }, 'a TTL ends it') || diag($@);
    cmp_ok(time - $start, '>=', 2.8, 'not before');

    # long enough that all have seen it in time, also where they poll
    my $end = time + 2.5;
    $r->cmd('SET', $key, 'on', 'PX', 2500);
    probe(503);
    $r->cmd('PERSIST', $key);
    is_deeply([$f->watch(503, $end - time + 0.5, uri => '/probe')], [],
        'PERSIST takes the end away');
    $r->cmd('PEXPIRE', $key, 300);
    ok(eval { probe(200, timeout => 5) }, 'PEXPIRE sets one') || diag($@);

    my $now = time;
    $r->cmd('SET', $key, JSON::PP->new->encode({ on => JSON::PP::true,
        from => int($now) + 2, until => int($now) + 6 }));
    is_deeply([$f->watch(200, 0.5, uri => '/probe')], [], 'before the window');
    ok(eval { probe(503, timeout => 5) }, 'it begins') || diag($@);
    cmp_ok(time, '>=', int($now) + 2, 'not too early');
    ok(eval { probe(200, timeout => 5) }, 'and ends') || diag($@);
    $r->cmd('DEL', $key);
};

subtest 'nonsense changes nothing' => sub {
    $r->cmd('SET', $key, 'on');
    probe(503);
    my @from = map { $_->log_size } $f->nodes;
    $r->cmd('SET', $key, 'maybe');
    for my $node ($f->nodes) {
        ok(eval { $node->wait_log(qr/maintenance:probe.*maybe/,
            from => shift @from) }, 'it is told in the log of each')
            || diag($@);
    }

    for my $value ('maybe', '', '{"on":', '{"on":"x"}', "on\nX: y", '-1') {
        $r->cmd('SET', $key, $value);
        (my $shown = $value) =~ s/\n/\\n/;
        is_deeply([$f->watch(503, 0.1, uri => '/probe')], [],
            "\"$shown\": still closed");
    }
    $r->cmd('SET', $key, 'off');
    ok(eval { probe(200) }, 'then a good one counts') || diag($@);
    $r->cmd('DEL', $key);
};

subtest 'a weight by hand moves only whom it must' => sub {
    my @before = split /,/, arms_are(qr/canary/, 'as it is');
    $r->cmd('HSET', 'gate:canary:shop', weight => 90);
    my $count = sub { scalar grep { /^canary/ } @_ };
    my (@a, @after);
    ok(eval { wait_for {
        @a = $x->arms;
        @after = split /,/, $a[0];
        $count->(@after) > $count->(@before) && !grep { $_ ne $a[0] } @a;
    } }, 'more callers') || diag($@, map { "$_\n" } @a);
    is(scalar(grep { $before[$_] =~ /^canary/ && $after[$_] !~ /^canary/ }
        0 .. $#before), 0, 'those who were there stay');

    $r->cmd('HSET', 'gate:canary:shop', weight => '100');
    arms_are(qr/^(?:canary \w+,?)+$/, '100: all');
    $r->cmd('HSET', 'gate:canary:shop', weight => 0);
    arms_are(qr/^(?:stable \w+,?)+$/, '0: none');

    for my $bad ('-1', '101', '1e9', "50%\r\nX: y", 'half', '') {
        $r->cmd('HSET', 'gate:canary:shop', weight => 0);
        $r->cmd('HSET', 'gate:canary:shop', weight => $bad);
        sleep 0.05;
        my @a = $x->arms;
        ok(!(grep { /canary / } @a), "\"" . ($bad =~ s/\r\n/\\r\\n/r)
            . '" changes nothing') || diag(@a);
    }

    $r->cmd('HSET', 'gate:canary:shop', weight => 40);
    arms_are(qr/^\Q$x->{want}\E$/, 'a good one counts, for the same callers');

    $r->cmd('HSET', 'gate:canary:old', weight => 50);
    ok(eval { wait_for { $r->cmd('HGET', 'gate:canary:old', 'weight') == 0 } },
        'what is rolled back stays so') || diag($@);
    is(($x->arms)[0], $x->{want}, 'for all callers');
};

subtest 'modes' => sub {
    $r->cmd('SET', 'gate:mode:maintenance', 'observe');
    ok(eval { $f->converge(200, uri => '/closed') },
        'observe: nobody is refused') || diag($@);
    $r->cmd('SET', 'gate:mode:maintenance', 'enforce');
    ok(eval { $f->converge(503, uri => '/closed') }, 'enforce') || diag($@);
    $r->cmd('SET', 'gate:mode:maintenance', 'off');
    ok(eval { $f->converge(200, uri => '/closed') }, 'off') || diag($@);
    $r->cmd('SET', 'gate:mode:maintenance', 'sometimes');
    is_deeply([$f->watch(200, 0.2, uri => '/closed')], [],
        'nonsense: as before');
    $r->cmd('DEL', 'gate:mode:maintenance');
    ok(eval { $f->converge(503, uri => '/closed') }, 'DEL: enforce')
        || diag($@);

    $r->cmd('SET', 'gate:mode:canary', 'off');
    arms_are(qr/^(?:stable stable,?)+$/, 'canary off: everybody to stable');
    $r->cmd('DEL', 'gate:mode:canary');
    arms_are(qr/^\Q$x->{want}\E$/, 'and back, the same callers');
};

subtest 'a thousand times, quickly' => sub {
    my $n = !$push ? 6 : $ENV{SANITIZE} ? 50 : 200;
    my $p = $f->probe(redis => $r, key => $key, uri => '/probe',
        toggles => $n, pause => 3);
    note "p50 $p->{p50} us, p99 $p->{p99} us, max $p->{max} us";
    is_deeply([@$p{qw(n workers timeouts flaps strange)}], [$n, 6, 0, 0, 0],
        'every toggle reaches all workers, once');
    cmp_ok($p->{p99}, '<', 900_000, 'by push')
        unless !$push;
};

subtest 'changes are told' => sub {
    $r->cmd('SET', $key, 'on');
    probe(503);
    my ($event) = grep { ($_->{object} || '') =~ /probe/ }
        reverse $r->events;
    ok($event, 'an event') || return;
    is($event->{source}, 'redis', 'from Redis');
    is($event->{before} || 'off', 'off', 'before');
    is($event->{after}, 'on', 'after');
    ok($event->{node}, 'by which node it was seen');
    ok($event->{time}, 'when');
    my @same = grep { ($_->{object} || '') eq $event->{object}
        && $_->{time} eq $event->{time} } $r->events;
    is(@same, 1, 'once, though three nodes saw it');
    $r->cmd('DEL', $key);
    probe(200);
};

$t->done;
done_testing;
1;
