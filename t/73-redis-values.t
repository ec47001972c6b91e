#!/usr/bin/perl

# Somebody else's data at our keys: wrong types, and far too much of it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Trial;
use Test::More;

skip_unless_cmd('redis-server');
my $t = Gate->new;
my $r = $t->redis;
my $x = Gate::Trial->new($t, redis => $r);
my $f = $x->fleet;
$x->start;

# In one step, else it would be a delete that is to be obeyed.

sub replace_with_list {
    my (@keys) = @_;
    $r->cmd('EVAL', <<'EOF_LUA', scalar @keys, @keys);
        for _, key in ipairs(KEYS) do
            if redis.call('EXISTS', key) == 1 then
                redis.call('RENAME', key, 'kept-' .. key)
            end
            redis.call('RPUSH', key, 'x', 'y')
        end
EOF_LUA
}

sub put_back {
    my (@keys) = @_;
    $r->cmd('EVAL', <<'EOF_LUA', scalar @keys, @keys);
        for _, key in ipairs(KEYS) do
            redis.call('DEL', key)
            if redis.call('EXISTS', 'kept-' .. key) == 1 then
                redis.call('RENAME', 'kept-' .. key, key)
            end
        end
EOF_LUA
}

my @control = qw(gate:maintenance gate:maintenance:a gate:maintenance:b
    gate:maintenance:ttl gate:mode:canary gate:mode:maintenance
    gate:canary:shop gate:canary:old);

$x->trial('lists at all control keys',
    break => sub { replace_with_list(@control) },
    broken => sub {
        ok(eval { $x->obeys(timeout => 5) }, 'other keys are obeyed')
            || diag($@);
        is_deeply([grep { $r->cmd('TYPE', $_) ne 'list' } @control], [],
            'nothing of it was overwritten');
    },
    heal => sub { put_back(@control) });

subtest 'that was logged, but not again and again' => sub {
    for my $node ($f->nodes) {
        for my $key ('"gate:maintenance:b"', 'rollout "shop" makes no') {
            my @lines = grep { /\Q$key\E/ && /\[warn\]/ }
                split /\n/, $node->log_from(0);
            ok(@lines >= 1 && @lines <= 6, "node " . $node->number
                . ": $key in " . @lines . ' lines');
        }
    }
};

my @data = sort grep { /^gate\x23/ } @{ $r->cmd("KEYS", "gate\x23*") };
note "ours: @data";
my %have = map { (/^(gate#[a-z]+)/ => 1) } @data;
ok($have{$_}, "$_ is there") for map { "gate#$_" } qw(epoch events nodes);

$x->trial('lists at all keys of our own',
    break => sub { replace_with_list(@data) },
    heal => sub { put_back(@data) });

$x->trial("a list at $_ alone", do { my $key = $_; (
    break => sub { replace_with_list($key) },
    heal => sub { put_back($key) }, reload => 0, kill => 0, look => 0.3) })
    for grep { !/evidence|totals/ } @data;

my $garbage = join '', map { chr int rand 256 } 1 .. 1000;
$garbage x= 10_000;

sub rss {
    my ($kb) = Gate::slurp("/proc/$_[0]/status") =~ /^VmRSS:\s+(\d+) kB/m;
    return $kb;
}

$x->trial('10 MB of garbage in control keys',
    break => sub {
        $r->cmd('SET', "gate:maintenance$_", $garbage) for '', ':a', ':b';
        $r->cmd('SET', 'gate:mode:canary', $garbage);
        $r->cmd('HSET', 'gate:canary:shop', weight => $garbage,
            state => $garbage, $garbage => 1);
    },
    broken => sub {
        ok(eval { $x->obeys(timeout => 5) }, 'other keys are obeyed')
            || diag($@);
        my @large = grep { rss($_) > 200_000 * Gate::scale() ** 2 }
            map { $_->workers } $f->nodes;
        is_deeply(\@large, [], 'no worker has grown by it');
    },
    heal => sub {
        $r->cmd('DEL', 'gate:mode:canary');
        $r->cmd('SET', "gate:maintenance$_->[0]", $_->[1])
            for ['', 'off'], [':a', 'off'], [':b', 'on'];
        $r->cmd('HDEL', 'gate:canary:shop', $garbage);
        $r->cmd('HSET', 'gate:canary:shop', weight => 40,
            state => 'progressing');
    });

$t->done;
done_testing;
