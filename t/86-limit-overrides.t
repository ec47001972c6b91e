#!/usr/bin/perl

# Rates of single callers, from the hash "gate:limit:<zone>" in Redis.

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
my $hash = 'gate:limit:z';
my $configured = '10r/3600s 10';
my ($l, $r);
my $number = 0;

# A caller, who is known on node 0.

sub caller_new {
    my $key = 'caller' . ++$number;
    $l->take(0, 1, $key);
    return $key;
}

# What holds for a caller on each node, "<count>r/<seconds>s <capacity>".

sub policies {
    my ($key, $zone) = @_;
    $zone ||= 'z';

    return map {
        my $answer = $l->node($_)->get("/$zone?k=$key");
        my ($n, $s) = ($answer->header('ratelimit-policy') || '')
            =~ /;q=(\d+);w=(\d+)/;
        ($n || '-') . 'r/' . ($s || '-') . 's '
            . ($answer->header('x-ratelimit-limit') || '-');
    } 0 .. $l->{nodes} - 1;
}

# Waits until that holds on all nodes; returns the seconds it took.

sub obeys {
    my ($key, $want, $what, $zone) = @_;

    my $start = time;
    my @got;
    my $ok = eval { Gate::wait_for {
        @got = policies($key, $zone);
        !grep { $_ ne $want } @got;
    } timeout => 5 };
    ok($ok, $what) || diag(join(', ', @got) . ", not $want");
    return time - $start;
}

sub errors {
    my ($kind) = @_;
    my $n = 0;
    $n += $l->status($_)->{redis}{errors}{$kind} || 0
        for 0 .. $l->{nodes} - 1;
    return $n;
}

# Waits until both nodes have read it, which a good field tells.

sub is_read {
    my $key = caller_new();
    $r->cmd('HSET', $hash, $key, 'rate=77r/h');
    my $ok = eval { Gate::wait_for {
        !grep { !/^77r/ } policies($key)
    } timeout => 5 };
    $r->cmd('HDEL', $hash, $key);
    return $ok;
}

sub site {
    my (%opt) = @_;
    $l = Gate::Limits->new($t, nodes => 2, redis => $r, zones => {
        z => 'key=$arg_k rate=10r/h',
        own => 'key=$arg_k rate=10r/h sync=off',
    }, %opt);
    $l->start;
}

for my $how (qw(push poll)) {
    subtest "overrides by $how" => sub {
        my $file = $t->write_file('redis.password', "pw\n");
        chmod 0600, $file or die "chmod: $!\n";
        $r = $t->redis($how eq 'push' ? () : (users => ['gate on >pw '
            . '~gate:* ~gate#* &__redis__:invalidate +@all -client']));
        site($how eq 'push' ? () : (address => 'redis://gate@' . $r->addr,
            options => "password_file=$file"));
        is($l->status($_)->{redis}{tracking}, $how, "$how, node $_")
            for 0, 1;

        my $one = caller_new();
        obeys($one, $configured, 'what is configured');

        $r->cmd('HSET', $hash, $one, 'rate=20r/m burst=4');
        my $took = obeys($one, '20r/60s 5', 'a rate for a key');
        cmp_ok($took, '<', ($how eq 'push' ? 1 : 2) * Gate::scale(),
            'at once') || diag($took);

        my $two = caller_new();
        $r->cmd('HSET', $hash, $l->{hash}{$two}, '3r/s burst=2');
        obeys($two, '3r/1s 3', 'for the hash of a key');

        my $three = caller_new();
        $r->cmd('HSET', $hash, $three, 'burst=6', uc $l->{hash}{$two},
            '3r/s burst=2');
        obeys($three, '10r/3600s 7', 'a burst alone');
        obeys($one, '20r/60s 5', 'the others stay as they are');

        $r->cmd('HDEL', $hash, $three);
        obeys($three, $configured, 'a field that is taken away');

        $r->cmd('DEL', $hash);
        obeys($_, $configured, 'and all of them') for $one, $two;

        $r->cmd('HSET', 'gate:limit:own', $one, '5r/m');
        obeys($one, '5r/60s 5', 'in a zone of each node alone', 'own');
    };
}

$r = $t->redis;
site();

subtest 'a budget follows its rate' => sub {
    my $key = 'spender';
    is($l->take(0, 10, $key), 10, 'a caller who has spent all');
    is($l->take(0, 1, $key), 0, 'and gets no more');
    $r->cmd('HSET', $hash, $key, 'rate=10r/h burst=14');
    obeys($key, '10r/3600s 15', 'is given more');
    cmp_ok($l->take(0, 10, $key), '<=', 5, 'has what is more');
    $r->cmd('HDEL', $hash, $key);
};

subtest 'values that make no sense' => sub {
    my ($good, $bad) = (caller_new(), caller_new());
    $r->cmd('HSET', $hash, $good, 'rate=30r/h', $bad, 'rate=40r/h');
    obeys($bad, '40r/3600s 40', 'a good one');

    my $before = errors('value');
    $r->cmd('HSET', $hash, 'sesame', 'never');

    for my $value ('', 'rate=', 'rate=0r/s', 'many', 'rate=1r/s rate=2r/s',
        'rate=99999999999999999999r/s', 'burst=-1', 'x' x 5000,
        "rate=1r/s\0", "rate=\x{ff}")
    {
        $r->cmd('HSET', $hash, $bad, $value);
        is_read() || fail('it is read');
        my $shown = length $value > 40 ? length($value) . ' bytes' : $value;
        is_deeply([policies($bad)], [('40r/3600s 40') x 2],
            'stays after "' . $shown . '"');
    }

    is_deeply([policies($good)], [('30r/3600s 30') x 2],
        'and the others are what they are');
    cmp_ok(errors('value'), '>', $before, 'it is counted');
    $l->node(0)->log_like(qr/"gate:limit:z" has fields that make no sense/,
        'and said');
    $l->node(0)->log_unlike(qr/sesame/, 'without the key');

    my $new = caller_new();
    $r->cmd('HSET', $hash, $new, 'many');
    is_read();
    is_deeply([policies($new)], [($configured) x 2], 'where there was none '
        . 'before, what is configured stays');
    $r->cmd('DEL', $hash);
    obeys($_, $configured, 'until it is taken away') for $good, $bad;
};

subtest 'a key that is no hash' => sub {
    my $key = caller_new();
    $r->cmd('HSET', $hash, $key, '50r/h');
    obeys($key, '50r/3600s 50', 'a good one');
    my $before = errors('type');
    $r->cmd('SET', $hash, 'x');
    Gate::wait_for { errors('type') >= $before + 2 } what => 'the error';
    is_deeply([policies($key)], [('50r/3600s 50') x 2], 'stays');
    is($r->cmd('GET', $hash), 'x', 'and nobody repairs it');
    $r->cmd('DEL', $hash);
    obeys($key, $configured, 'until it is deleted');
};

subtest 'many of them' => sub {
    my ($first, $last) = (caller_new(), caller_new());
    my @many = map { (sprintf('m%05d', $_), '60r/h') } 1 .. 4094;
    $r->cmd('HSET', $hash, @many, 'a' => '5r/s', $first, '61r/h');
    obeys($first, '61r/3600s 61', '4096 fields');
    obeys('m04094', '60r/3600s 60', 'all of them');

    my $before = errors('value');
    $r->cmd('HSET', $hash, map { (sprintf('n%05d', $_), '60r/h') } 1 .. 100);
    Gate::wait_for { errors('value') >= $before + 2 } what => 'the error';
    obeys($first, '61r/3600s 61', 'the first ones by name count');
    is_deeply([policies('n00100')], [($configured) x 2], 'the others do not');

    my $last_ok = errors('value');
    $r->cmd('HSET', $hash, map { (sprintf('o%05d', $_), '1r/h') }
        1 .. 15000);
    sleep 0.3;
    is_deeply([policies($first)], [('61r/3600s 61') x 2], 'and where there '
        . 'are far too many, those that were');

    # while it changes all the time

    $r->cmd('DEL', $hash);
    obeys($first, $configured, 'and none');
    $r->cmd('HSET', $hash, @many);

    for my $n (1 .. 200) {
        $r->cmd('HSET', $hash, $first, "${n}r/h");
    }

    obeys($first, '200r/3600s 200', 'the last one counts in the end');
    $r->cmd('DEL', $hash);
    obeys($first, $configured, 'then none');
};

subtest 'Redis forgets them' => sub {
    my ($one, $two) = (caller_new(), caller_new());
    $r->cmd('HSET', $hash, $one, '15r/10s burst=20',
        map { (sprintf('r%05d', $_), "${_}r/h") } 1 .. 1500);
    obeys($one, '15r/10s 21', 'a rate');
    obeys('r01500', '1500r/3600s 1500', 'and many others');

    $r->cmd('FLUSHALL');
    Gate::wait_for { $r->cmd('HLEN', $hash) == 1501 } what => 'all of it';
    is($r->hash($hash)->{ $l->{hash}{$one} }, 'rate=15r/10s burst=20',
        'is restored');
    is(scalar(grep { !/^[0-9a-f]{16}$/ } keys %{ $r->hash($hash) }), 0,
        'under the hash of its key');
    obeys($one, '15r/10s 21', 'and holds');
    obeys('r00777', '777r/3600s 777', 'as do the others');

    $r->cmd('DEL', $hash);
    obeys($one, $configured, 'what is deleted then stays deleted');

    $r->cmd('HSET', $hash, $two, '70r/h');
    obeys($two, '70r/3600s 70', 'one that is new');
    my $stopped = $l->agent(1);
    kill 'STOP', $stopped;
    $r->restart(empty => 1);
    Gate::wait_for { $r->cmd('HLEN', $hash) == 1 } what => 'it restored';
    $r->cmd('DEL', $hash);
    kill 'CONT', $stopped;
    obeys($two, $configured, 'also where a node was away when it was deleted');
    is($r->cmd('EXISTS', $hash), 0, 'nobody brings it back');
};

subtest 'a reload keeps them' => sub {
    my $key = caller_new();
    $r->cmd('HSET', $hash, $key, '80r/h');
    obeys($key, '80r/3600s 80', 'a rate');
    my $watch = sub { return scalar grep { $_ ne '80r/3600s 80' }
        map { policies($key) } 1 .. 20 };
    $l->node(0)->reload;
    is($watch->(), 0, 'is never another one');
    $r->kill;
    $l->node(1)->reload;
    is($watch->(), 0, 'nor without Redis');
};

$t->done;
done_testing;
