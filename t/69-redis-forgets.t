#!/usr/bin/perl

# Redis has forgotten: the nodes remember, and what was deleted stays deleted.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Trial;
use Test::More;

skip_unless_cmd('redis-server');
my $t = Gate->new;
my %site = Gate::Trial->site($t, proxy => 1);
my ($r, $p) = @site{qw(redis proxy)};
my $x = Gate::Trial->new($t, %site);
my $f = $x->fleet;
$x->start;

$x->trial('FLUSHALL', break => sub { $r->cmd('FLUSHALL') },
    broken => sub { $x->holds }, heal => sub { }, forgot => 1);

$x->trial('a restart without persistence',
    break => sub { $r->restart(empty => 1) }, heal => sub { }, forgot => 1);

$x->trial('a stale snapshot',
    break => sub {
        $r->cmd('SET', 'gate:maintenance:a', 'on');
        $f->converge(503, uri => '/open');
        $r->snapshot;
        $r->cmd('DEL', 'gate:maintenance:a');
        $f->converge(200, uri => '/open');
        $r->restart;
    }, load => 0, heal => sub { }, forgot => 1,
    after => sub {
        is($r->cmd('EXISTS', 'gate:maintenance:a'), 0,
            'what was deleted since stays deleted');
        $r->forget;
    });

# what one gets from a replica that had not heard the last second
my $lag = $site{another}->();

$x->trial('a replica that lags is promoted',
    break => sub {
        $r->snapshot;
        $lag->cmd('REPLICAOF', '127.0.0.1', $r->port);
        wait_for { ($lag->info('replication')->{master_link_status} || '')
            eq 'up' } what => 'the replica';
        $lag->cmd('REPLICAOF', 'NO', 'ONE');
        $r->cmd('DEL', 'gate:maintenance:ttl');
        $f->converge(200, uri => '/ttl');
        $r->cmd('SET', 'gate:maintenance:ttl', 'on', 'EX', 3600);
        $f->converge(503, uri => '/ttl');
        $r->kill;
        $x->{redis} = $lag;
        $p->target($site{wire}->($lag));
    }, load => 0, heal => sub { }, forgot => 1);

$r = $lag;

$x->trial('control keys are evicted',
    break => sub {
        $r->config('maxmemory-policy' => 'allkeys-lru');
        $r->cmd('CLIENT', 'KILL', 'TYPE', $_) for qw(pubsub normal);
        $x->obeys;
        my $value = 'x' x 10_000;
        $r->config(maxmemory => '3mb');
        my $n = 0;
        while ($r->cmd('EXISTS', 'gate:maintenance:b')
            && !$r->info('stats')->{evicted_keys})
        {
            $r->pipeline(map { ['SET', 'filler' . $n++, $value] } 1 .. 50);
        }
        $r->pipeline(map { ['SET', 'filler' . $n++, $value] } 1 .. 1000);
    },
    broken => sub {
        $_->wait_log(qr/evict/) for $f->nodes;
        pass('the policy is warned about');
    },
    heal => sub {
        $r->config(maxmemory => 0, 'maxmemory-policy' => 'noeviction');
        $r->cmd('DEL', map { "filler$_" } 0 .. 5000);
    }, forgot => 1);

subtest 'what was deleted while a node was cut off stays deleted' => sub {
    $r->cmd('SET', 'gate:maintenance:a', 'on');
    $f->converge(503, uri => '/open');
    $p->refuse;
    $r->cmd('DEL', 'gate:maintenance:a');
    is_deeply([$f->watch(503, 0.3, uri => '/open')], [], 'nobody knows yet');
    $p->listen;
    ok(eval { $f->converge(200, uri => '/open', timeout => 4) },
        'then all obey') || diag($@);
    is($r->cmd('EXISTS', 'gate:maintenance:a'), 0, 'it is still deleted');
};

$t->done;
done_testing;
1;
