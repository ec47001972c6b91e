#!/usr/bin/perl

# Switches, in what seldom comes together: a Redis that cannot write, keys that
# hold something else, clocks that stand still, operators who are in a hurry.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Rollout;
use Gate::Site;
use Test::More;
use Time::HiRes qw(sleep);

skip_unless_cmd('redis-server');

my $t = Gate->new;
Gate::Site::of($t);

sub put {
    my ($api, $name, $value) = @_;
    return $api->call("maintenance/$name", $value);
}

subtest 'a Redis that never could write is obeyed' => sub {
    my $r = $t->redis;
    $r->cmd('SET', 'gate:maintenance', 'on');
    $r->config(maxmemory => 1, 'maxmemory-policy' => 'noeviction');
    my ($f, $node, $api) = fleet($r->addr);
    $f->start;
    joined($api);
    is_now($node, 503, 'what was there counts');
    passes($api);
    $r->cmd('DEL', 'gate:maintenance');
    is_now($node, 200, 'and so does its end');
    $f->stop;
};

subtest 'an operator hears when his word could not be kept' => sub {
    my $r = $t->redis;
    my ($f, $node, $api) = fleet($r->addr);
    $f->start;
    joined($api);
    $r->cmd('RPUSH', 'gate:maintenance', 'x');
    my $answer = put($api, 'global', { on => \1 });
    is($answer->status, 200, 'the key holds a list, he closes');
    ok($answer->json->{pending}, 'others cannot know of it');
    is($node->get('/')->status, 503, 'this node is closed');

    is(put($api, 'a', { on => \1 })->status, 200, 'another switch');
    is($r->cmd('EXISTS', 'gate:maintenance:a'), 1, 'is none the worse');

    $r->cmd('DEL', 'gate:maintenance');
    ok(eval { wait_for { $r->cmd('EXISTS', 'gate:maintenance') }
        timeout => 8 }, 'when the key is free they are told');
    is($node->get('/')->status, 503, 'and it was never open');
    $f->stop;
};

subtest 'one key that is not free holds up no other' => sub {
    my $r = $t->redis;
    my ($f, $node, $api) = fleet($r->addr);
    $f->start;
    joined($api);
    $r->freeze;
    away($api);
    is(put($api, $_, { on => \1 })->status, 200, "$_, alone") for qw(global a);
    $r->thaw;
    $r->cmd('RPUSH', 'gate:maintenance', 'x');
    ok(eval { wait_for { $r->cmd('EXISTS', 'gate:maintenance:a') }
        timeout => 8 }, 'a is told');
    $f->stop;
};

subtest 'an emergency does not wait for a Redis that hangs' => sub {
    my $r = $t->redis;
    my ($f, $node, $api) = fleet($r->addr, 'timeout=500ms');
    $f->start;
    joined($api);
    $r->freeze;
    my $answer = put($api, 'global', { on => \1 });
    is($answer->status, 200, 'the word of an operator');
    is($node->get('/')->status, 503, 'it holds at once');
    $r->thaw;
    joined($api);
    ok(eval { wait_for { $r->cmd('EXISTS', 'gate:maintenance') } },
        'and then everywhere');
    is($node->get('/')->status, 503, 'it still holds');
    $f->stop;
};

subtest 'a value that is told anew is no new value' => sub {
    my $r = $t->redis;
    my ($f, $node, $api) = fleet($r->addr);
    $f->start;
    joined($api);

    # as where the clock of Redis went back, or another server took over
    my $later = int((time + 3600) * 1000);
    $r->cmd('HSET', 'gate#epoch', rev => $later);
    $r->cmd('SET', 'gate:maintenance', '{"on":true,"ttl":4}');
    is_now($node, 503, 'it begins');
    is_now($node, 200, 'and ends');
    $f->stop;
};

subtest 'an end that never comes' => sub {
    my $r = $t->redis;
    my ($f, $node, $api) = fleet($r->addr);
    $f->start;
    joined($api);
    $r->cmd('SET', 'gate:maintenance', 'on');
    is_now($node, 503, 'closed');
    $r->cmd('PEXPIREAT', 'gate:maintenance', '9223372036854775807');
    is($node->get('/')->status, 503, 'still closed') && sleep 0.05
        for 1 .. 10;
    $f->stop;
};

subtest 'what nobody remembers is not asked for all the time' => sub {
    my $r = $t->redis;
    my ($f, $node, $api) = fleet($r->addr);
    $f->start;
    joined($api);
    $r->config('maxmemory-policy' => 'volatile-lru');
    $r->cmd('SET', 'gate:maintenance', 'on', 'EX', 1000);
    is_now($node, 503, 'closed');
    $node->stop;
    system 'rm', '-rf', $node->dir . '/state';
    $r->config(maxmemory => 1);
    $r->try('SET', 'x', 'y');
    is($r->cmd('EXISTS', 'gate:maintenance'), 0, 'it is evicted');
    $r->config(maxmemory => 0);
    $node->start;
    joined($api);
    my $from = $api->status->{redis}{commands};
    sleep 1.5;
    my $n = $api->status->{redis}{commands} - $from;
    cmp_ok($n, '<', 60 * Gate::scale(), "$n commands in 1.5 s");
    $f->stop;
};

$t->done;
done_testing;
