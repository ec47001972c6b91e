#!/usr/bin/perl

# One master, two replicas, three sentinels: failovers, planned and not.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Trial;
use Test::More;

skip_unless_cmd('redis-server');
my $t = Gate->new;
my $s = $t->sentinel(password => 'pw', sentinel_password => 'spw');
my %file = map { $_->[0] => $t->write_file("$_->[0].password", "$_->[1]\n") }
    ['redis', 'pw'], ['sentinel', 'spw'];
chmod 0600, $_ or die "chmod: $!\n" for values %file;

my $x = Gate::Trial->new($t, redis => $s->master,
    address => 'redis+sentinel://' . $s->url,
    options => "password_file=$file{redis} "
        . "sentinel_password_file=$file{sentinel}");
my $f = $x->fleet;
$x->start;

sub on { my ($r) = @_; $x->{redis} = $r }

$x->trial('a planned failover', break => sub { on($s->failover) },
    heal => sub { }, reload => 0, kill => 0, look => 0, forgot => 1);

$s->wait_agreed;

my $dead;
$x->trial('the master is killed',
    break => sub { $dead = $s->master; on($s->kill_master) },
    heal => sub { }, forgot => 1);

$x->trial('it comes back, and is asked by nobody',
    break => sub { $dead->start },
    broken => sub { isnt($s->master->port, $dead->port, 'it is not master') },
    heal => sub { }, forgot => 1);

$s->wait_agreed;

$x->trial('a planned failover while nodes change their workers',
    break => sub { on($s->failover) }, look => 0, heal => sub { },
    forgot => 1);

$s->wait_agreed;

$x->trial('a sentinel is gone',
    break => sub { ($s->sentinels)[0]->kill }, heal => sub { });

$t->done;
done_testing;
