#!/usr/bin/perl

# What the fleet counted is what clients saw, to the request: through
# failovers, an emptied Redis, reloads and outages.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Trial;
use Test::More;

skip_unless_cmd('redis-server');
my $t = Gate->new;
my $s = $t->sentinel;
my $x = Gate::Trial->new($t, redis => $s->master,
    address => 'redis+sentinel://' . $s->url);
my $f = $x->fleet;
$x->start;

my %clients = (stable => 0, canary => 0);

sub load {
    return map { $t->load(port => $_->port, uri => '/shop?key=%d', rate => 300,
        conns => 6, value => 'X-Arms') } $f->nodes;
}

sub finish {
    my ($name, @load) = @_;

    my $bad = 0;
    for my $result (map { $_->stop } @load) {
        $bad += $_ for values %{ $result->{errors} };
        $bad += $result->{answered} - ($result->{status}{200} || 0);
        my $arms = $result->{values}{'X-Arms'};
        $clients{ (split / |_/)[0] } += $arms->{$_} for keys %$arms;
    }

    is($bad, 0, "$name: no request failed");
    $x->{redis} = $s->master;
    my $fleet = {};
    my $ok = eval { wait_for { ($fleet = totals())
        && $fleet->{stable} + $fleet->{canary}
            >= $clients{stable} + $clients{canary} } timeout => 5 };
    is_deeply($fleet, \%clients, "$name: the totals are exact");
}

# Of all nodes, by what Redis holds.

sub totals {
    my $sum = eval { $s->master->hash('gate#totals:shop')->{sum} } || '';
    my %v = map { split /:/ } split ' ', $sum;
    return { stable => $v{0} || 0, canary => $v{11} || 0 };
}

my @load = load();
select undef, undef, undef, 1;
finish('healthy', @load);
cmp_ok($clients{canary}, '>', 100, 'there is something to count');

@load = load();
$s->failover;
select undef, undef, undef, 0.5;
finish('a planned failover', @load);
$s->wait_agreed;

@load = load();
my $dead = $s->master;
$s->kill_master;
select undef, undef, undef, 0.5;
finish('the master is killed', @load);

@load = load();
$s->master->cmd('FLUSHALL');
select undef, undef, undef, 0.5;
finish('FLUSHALL', @load);

@load = load();
$f->reload;
select undef, undef, undef, 0.3;
finish('a reload', @load);

@load = load();
$s->master->freeze;
select undef, undef, undef, 0.7;
$f->reload;
$s->master->thaw;
finish('a reload while it hangs', @load);

@load = load();
$s->master->cmd('SCRIPT', 'FLUSH');
$s->master->cmd('HDEL', 'gate#totals:shop', 'sum');
select undef, undef, undef, 0.5;
finish('a sum that is lost', @load);

$t->done;
done_testing;
