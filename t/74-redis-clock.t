#!/usr/bin/perl

# The clock of Redis is an hour off, or changes by hours.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Trial;
use Test::More;
use Time::HiRes qw(time);

skip_unless_cmd('redis-server');
my $t = Gate->new;
my $r = $t->redis(clock => 3600);
my $x = Gate::Trial->new($t, redis => $r);
my $f = $x->fleet;
$x->start;

subtest 'an hour ahead: times are the same' => sub {
    cmp_ok(abs($r->cmd('TIME')->[0] - time - 3600), '<', 60, 'it is');
    my $key = 'gate:maintenance:probe';
    my $start = time;
    $r->cmd('SET', $key, 'on', 'PX', 3000);
    $f->converge(503, uri => '/probe');
    $f->converge(200, uri => '/probe', timeout => 8);
    cmp_ok(time - $start, '>=', 2.8, 'a TTL runs as long as it should');

    $r->cmd('SET', $key, sprintf '{"on":true,"until":%d}', time + 3);
    ok(eval { $f->converge(503, uri => '/probe') },
        'a window is by the clock of the nodes') || diag($@);
    ok(eval { $f->converge(200, uri => '/probe', timeout => 8) }, 'and ends')
        || diag($@);
    $r->cmd('DEL', $key);
};

sub restart_at {
    my ($shift) = @_;
    $r->kill;
    $r->{clock} = $shift;
    $r->forget->start;
}

$x->trial('it comes back empty, and an hour behind',
    break => sub { restart_at(-3600) }, heal => sub { }, forgot => 1);

$x->trial('it comes back empty, and two hours ahead of that',
    break => sub { restart_at(3600) }, heal => sub { }, forgot => 1);

$x->trial('with the data of before, but an hour behind',
    break => sub { $r->snapshot; $r->kill; $r->{clock} = -3600; $r->start },
    heal => sub { }, forgot => 1, load => 0,
    after => sub {
        $r->cmd('SET', 'gate:maintenance:a', 'on');
        $f->converge(503, uri => '/open');
        $r->cmd('DEL', 'gate:maintenance:a');
        $f->converge(200, uri => '/open');
        pass('new changes count');
    });

$t->done;
done_testing;
