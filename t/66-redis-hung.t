#!/usr/bin/perl

# Redis hangs: connections stay, nothing is answered; or they vanish.

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
$site{options} .= ' timeout=500ms';
my $x = Gate::Trial->new($t, %site);
$x->start;

$x->trial('Redis is stopped for 10 s', break => sub { $r->freeze },
    look => 10,
    broken => sub { $x->away }, heal => sub { $r->thaw });

$x->trial('the network swallows everything', break => sub { $p->blackhole },
    look => 1, broken => sub { $x->away }, heal => sub { $p->pass });

$t->done;
done_testing;
