#!/usr/bin/perl

# Redis is dead, hung, slow or incoherent: no request notices, nothing flips.

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
my %site = Gate::Trial->site($t, proxy => 1, redis => { start => 0 });
my ($r, $p) = @site{qw(redis proxy)};
$site{options} .= ' timeout=500ms';
my $x = Gate::Trial->new($t, %site);
my $f = $x->fleet;

subtest 'Redis is down when nginx starts' => sub {
    my $start = time;
    $f->start;
    cmp_ok(time - $start, '<', 5 * Gate::scale(), 'it starts all the same');
    is_deeply([map { $_->[2]->status } $f->ask('/open')], [(200) x 4],
        'what is configured counts');
    $f->converge(sub { $_[0]->status == 200 }, uri => '/closed');
    my @arms;
    ok(eval { wait_for {
        @arms = $x->arms;
        !grep { !/ canary/ } @arms;
    } }, 'the weight, too') || diag(@arms);

    $r->start;
    my $took = eval { $x->obeys(timeout => 2) };
    ok(defined $took, 'it is found within 2 s') || diag($@);
    note sprintf 'after %.3f s', $took || 0;
};

$x->prepare;

$x->trial('Redis is killed, and comes back empty',
    break => sub { $r->kill }, broken => sub { $x->away }, heal => sub { $r->start }, forgot => 1);

$x->trial('Redis refuses connections for a while',
    break => sub { $p->refuse }, broken => sub { $x->away },
    heal => sub { $p->listen });

$x->trial('connections are reset again and again',
    break  => sub { $p->drop },
    broken => sub { for (1 .. 5) { $p->drop; select undef, undef, undef, 0.1 } },
    heal   => sub { $p->drop });

$x->trial('Redis is 500 ms slow', break => sub { $p->delay(500) }, look => 1,
    broken => sub { $x->away },
    heal => sub { $p->pass });

$x->trial('Redis is a little slow, but answers in time',
    break => sub { $p->delay(150) }, look => 1,
    broken => sub {
        ok(eval { $x->obeys(timeout => 5) }, 'it is obeyed') || diag($@);
    },
    heal => sub { $p->pass });

$x->trial('answers are cut in half, then nothing comes',
    break => sub { $p->half }, look => 1,
    broken => sub { $x->away }, heal => sub { $p->pass });

$x->trial("answers end after $_ bytes", break => sub { $p->cut($_, 40) },
    heal => sub { $p->pass }) for 1, 9;

$t->done;
done_testing;
1;
