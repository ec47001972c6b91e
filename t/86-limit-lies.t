#!/usr/bin/perl

# A Redis that lies about limits, refuses them, or holds something else under
# their keys.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Limits;
use Gate::Scripts;
use Test::More;
use Time::HiRes qw(sleep time);

skip_unless_cmd('redis-server');
my $t = Gate->new;
my $r = $t->redis;
my $scripts = Gate::Scripts->new($r);
my $fake = $t->fake_redis(upstream => $r);

my $l = Gate::Limits->new($t, nodes => 1, workers => 2, redis => $r,
    address => 'redis://' . $fake->addr);
$l->start;

my $agent = $l->agent(0);
my @workers = sort $l->node(0)->workers;
my %name = map { $_ => 'EVALSHA ' . uc $scripts->{sha1}{$_} }
    qw(limit override);

sub redis { return $l->status(0)->{redis} }

sub errors { return redis()->{errors}{ $_[0] } || 0 }

sub text { my ($s) = @_; return '$' . length($s) . "\r\n$s\r\n" }

# What limit.lua answers: two integers, and doubles in a text.

sub told {
    my ($applied, $now, @doubles) = @_;
    return join '', "*3\r\n:$applied\r\n:$now\r\n",
        text(pack '(d<)*', @doubles);
}

# us of Redis's clock

sub now {
    my $time = $r->cmd('TIME');
    return $time->[0] * 1e6 + $time->[1];
}

sub alive {
    is_deeply([sort $l->node(0)->workers], \@workers, 'nobody died');
    is($l->agent(0), $agent, 'the agent is the same');
}

my ($max, $min) = ('9223372036854775807', '-9223372036854775808');

subtest 'replies of another shape' => sub {
    for my $case (['a number', ":1\r\n"], ['nothing', "\$-1\r\n"],
        ['no array', "*-1\r\n"], ['a text', "+OK\r\n"],
        ['an empty array', "*0\r\n"], ['one too short', told(1, now(), 5)],
        ['one too long', told(1, now(), 5, 1, 7)],
        ['integers', "*4\r\n:1\r\n:1\r\n:1\r\n:1\r\n"],
        ['texts', "*3\r\n" . join('', map { text($_) } 1, 2, 'x' x 16)],
        ['arrays', "*4\r\n*0\r\n*0\r\n*0\r\n*0\r\n"])
    {
        my ($what, $bytes) = @$case;
        my $before = errors('protocol');
        my $key = "shape $what" =~ s/ /_/gr;
        $fake->on($name{limit}, $bytes);
        is($l->take(0, 3, $key), 3, "$what: requests go on");
        Gate::wait_for { errors('protocol') > $before } what => 'the error';
        is($l->take(0, 40, $key), 27, 'the node goes on alone');
        $fake->off($name{limit});
        $l->online;
        ok($l->owes($key, 30), 'and tells it when Redis is sane');
    }

    alive();
};

subtest 'numbers that make no sense' => sub {
    my $now = now();
    my $number = 0;

    for my $n ([1, $now, $max, 1], [1, $now, $min, 1], [1, $now, -1, 0],
        [1, $now, 0, $max], [1, $now, 0, $min], [$max, $now, 5, 5],
        [$min, $now, 5, 5], [1, 0, 5, 1], [1, $max, 5, 1], [1, $min, 5, 1],
        [1, $max, $max, $max], [1, $min, $min, $min],
        [1, $now, 'nan', 1], [1, $now, 5, 'nan'], [1, $now, 'inf', '-inf'],
        [1, $now, '-inf', 'inf'],
        [1, $now + 86400e6, 5, 1], [1, $now - 86400e6, 5, 1])
    {
        my $key = 'number' . ++$number;
        $fake->on($name{limit}, told(@$n));
        my $passed = $l->take(0, 3, $key);
        sleep 0.15;
        $passed += $l->take(0, 40, $key);
        cmp_ok($passed, '<=', 63, "@$n: nobody has more than the lie says")
            || diag($passed);
        my $end = now() / 1e6;
        $fake->off($name{limit});
        $l->online;
        my $other = "then$number";
        is($l->take(0, 40, $other), 30, 'other callers are as they were');
        ok($l->owes($other, 30), 'also in Redis');
    }

    # a debt beyond all sense is no debt for ever

    $fake->next($name{limit}, told(1, now(), $max, 1));
    $l->take(0, 1, 'ever');
    sleep 0.15;
    my $answer = $l->node(0)->get('/z?k=ever');
    is($answer->status, 429, 'who owes very much is limited');
    cmp_ok($answer->header('retry-after'), '<=', 2 * 3600 + 121,
        'for three capacities and a second at most');
    alive();
};

subtest 'Redis refuses batches' => sub {
    my $before = redis()->{connects};

    for my $error (['memory', 'OOM command not allowed when used memory'],
        ['auth', 'NOPERM this user has no permissions to run evalsha'],
        ['script', 'ERR Error running script'])
    {
        my ($kind, $text) = @$error;
        my $errors = errors($kind);
        $fake->on($name{limit}, "-$text\r\n");
        my $key = "refused$kind";
        is($l->take(0, 3, $key), 3, "$kind: requests go on");
        Gate::wait_for { errors($kind) > $errors } what => 'the error';
        sleep 0.5;
        cmp_ok(errors($kind) - $errors, '<=', 3, 'it is not asked all the '
            . 'time');
        is($l->take(0, 40, $key), 27, 'the node goes on alone');
        $fake->off($name{limit});
        $l->online;
        ok($l->owes($key, 30), 'and tells it later');
    }

    is(redis()->{state}, 'ready', 'the connection stays');
    alive();
};

subtest 'a key that holds something else' => sub {
    is($l->take(0, 3, 'wrong'), 3, 'a caller');
    ok($l->owes('wrong', 3), 'who is known');

    my $key = $l->key('wrong');
    my $seen = redis()->{connects};
    my $errors = errors('type');
    $r->pipeline(['DEL', $key], ['LPUSH', $key, 'x']);
    my $passed = $l->take(0, 40, 'wrong');
    is($passed, 27, 'has the budget that the node knows');
    Gate::wait_for { errors('type') > $errors } what => 'the error';
    is($r->cmd('TYPE', $key), 'list', 'the key is left as it is');
    is($l->take(0, 3, 'right'), 3, 'others');
    ok($l->owes('right', 3), 'are told');

    $r->cmd('DEL', $key);
    sleep 1;
    is($l->take(0, 1, 'wrong'), 0, 'nothing comes back');

    # the number of the last batch

    my ($seq) = @{ $r->cmd('KEYS', 'gate#limitseq:z:*') };
    $errors = errors('type');
    $r->pipeline(['DEL', $seq], ['LPUSH', $seq, 'x']);
    is($l->take(0, 30, 'seq'), 30, 'without a number the node goes on alone');
    Gate::wait_for { errors('type') > $errors } what => 'the error';
    $r->cmd('DEL', $seq);
    $l->online;
    ok($l->owes('seq', 30), 'and tells it later');
    is(redis()->{state}, 'ready', 'the connection stays');
    alive();
};

subtest 'overrides that lie' => sub {
    my $digest = 'd' x 40;
    my $page = sub {
        my ($digest, $total, $next, @fields) = @_;
        return "*5\r\n" . text('page') . text($digest) . ":$total\r\n:$next\r\n"
            . '*' . @fields . "\r\n" . join '', map { text($_) } @fields;
    };

    for my $case (['a number', ":1\r\n"], ['nothing', "*0\r\n"],
        ['a status that nobody knows', "*1\r\n" . text('what')],
        ['a status alone', "*1\r\n" . text('page')],
        ['a type without a name', "*1\r\n" . text('type')],
        ['a digest of another length', $page->('d', 1, 0, 'a', '1r/s')],
        ['a digest with a zero', $page->("\0" x 40, 1, 0, 'a', '1r/s')],
        ['less than no fields', $page->($digest, -1, 0)],
        ['pages that go back', $page->($digest, 1, -1)],
        ['pages that are never over', $page->($digest, 1, 99999)],
        ['half a field', $page->($digest, 1, 0, 'a')])
    {
        my ($what, $bytes) = @$case;
        my $before = errors('protocol');
        $fake->on($name{override}, $bytes);
        $r->cmd('HSET', 'gate:limit:z', 'x', rand);
        ok(eval { Gate::wait_for { errors('protocol') > $before }
            timeout => 5 }, "$what is an error");
    }

    # the same page again and again

    $fake->on($name{override}, $page->($digest, 1, 7, 'a', '1r/s'));
    $r->cmd('HSET', 'gate:limit:z', 'x', rand);
    my $before = errors('protocol');
    ok(eval { Gate::wait_for { errors('protocol') > $before } timeout => 5 },
        'and so are pages that do not go on');

    $fake->off($name{override});
    $r->cmd('DEL', 'gate:limit:z');
    $r->cmd('HSET', 'gate:limit:z', 'sane', '7r/h');
    ok(eval { Gate::wait_for {
        ($l->node(0)->get('/z?k=sane')->header('ratelimit-policy') || '')
            =~ /;q=7;/
    } timeout => 5 }, 'a sane one is obeyed');
    alive();
};

$t->done;
done_testing;
