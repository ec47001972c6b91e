#!/usr/bin/perl

# What a caller owes outlives what happens to nginx: reloads with and without
# changes, workers that are killed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Rollout;
use Test::More;
use Time::HiRes qw(time sleep);

my $t = Gate->new;
my $g = Gate::Rollout->new($t);

my $b = $t->backend('ok', body => 'backend');
my $bp = $b->addr;

# the configuration, with these zones

sub conf {
    my (%zone) = @_;

    my $zones = join '', map { "    gate_limit_zone $_ $zone{$_};\n" }
        sort keys %zone;
    my $locations = join '', map {
        "        location = /$_ { gate_limit zone=$_; empty_gif; }\n"
        . "        location = /$_/left "
        . "{ gate_limit zone=$_ cost=0; empty_gif; }\n"
    } sort keys %zone;

    $t->http(workers => 2, <<"EOF_CONF");
$zones
    add_header X-Left "\$gate_limit_remaining" always;

    server {
        listen 127.0.0.1:%%PORT:http%%;
$locations
@{[ $g->endpoints ]}
        location = /proxy {
            gate_limit zone=@{[ (sort keys %zone)[0] ]};
            proxy_pass http://$bp;
        }
    }
EOF_CONF
}

sub change { conf(@_); $t->reload }

sub ask {
    my ($n, $uri) = @_;
    my %seen;
    $seen{ $t->get($uri)->status }++ for 1 .. $n;
    return join ' ', map { "$_:$seen{$_}" } sort keys %seen;
}

sub left { return $t->get("/$_[0]/left?k=$_[1]")->header('X-Left') }

my %same = (
    a => 'key=$arg_k rate=10r/h',
    b => 'key=$arg_k rate=100r/h',
    c => 'key=$arg_k rate=10r/h max_keys=2000',
    d => 'key=$arg_k rate=10r/h',
);

conf(%same);
$t->start;

# a reload that changes nothing

is(ask(7, '/a?k=x'), '200:7', 'seven of ten');
$t->reload;
is(left('a', 'x'), 3, 'a reload leaves three');
is(ask(5, '/a?k=x'), '200:3 429:2', 'and no more');
is($g->status->{limits}{a}{passed} >= 10, 1, 'the counters go on');

# other rates: the same number of requests is owed

is(ask(60, '/b?k=x'), '200:60', 'sixty of a hundred an hour');
is(ask(90, '/b?k=y'), '200:90', 'ninety by another');
is(ask(2, '/b?k=z'), '200:2', 'two by a third');

change(%same, b => 'key=$arg_k rate=200r/h');
is(left('b', 'x'), 140, 'a higher rate: sixty are owed');
is(left('b', 'y'), 110, 'ninety are');
is(ask(141, '/b?k=x'), '200:140 429:1', 'and what is left can be used');

change(%same, b => 'key=$arg_k rate=20r/h');
is(left('b', 'x'), 0, 'a lower rate: who owed more owes all of it');
is(left('b', 'y'), 0, 'as does the other');
is(left('b', 'z'), 18, 'who owed two owes two');

{
    my $r = $t->get('/b?k=x');
    is($r->status, 429, 'limited');
    cmp_ok($r->header('Retry-After'), '<=', 180,
        'for the time of one request, not of a hundred');
}

change(%same, b => 'key=$arg_k rate=100000r/h burst=99');
is(left('b', 'z'), 98, 'a faster rate');

{
    my $began = time;
    is(ask(100, '/b?k=new'), '200:100', 'a new burst') if time - $began < 1;
}

# another size

is(ask(10, "/c?k=full$_"), '200:10', "caller $_ spends all") for 1 .. 5;
is(ask(1, "/c?k=one$_"), '200:1', "another one spends one") for 1 .. 5;

for my $keys (20000, 64, 3000) {
    change(%same, c => "key=\$arg_k rate=10r/h max_keys=$keys");

    is(join(' ', map { left('c', "full$_") } 1 .. 5), '0 0 0 0 0',
        "max_keys=$keys: who owed all owes it");
    is(join(' ', map { left('c', "one$_") } 1 .. 5), '9 9 9 9 9',
        "who owed one owes that");
    is($g->status->{limits}{c}{keys}{max}, $keys, 'the status has it');
    cmp_ok($g->status->{limits}{c}{passed}, '>=', 55, 'counters go on');
}

# others come and go

{
    my %less = %same;
    delete $less{d};

    is(ask(4, '/d?k=x'), '200:4', 'a zone');
    change(%less);
    is($t->get('/d?k=x')->status, 404, 'is taken away');
    is(left('a', 'x'), 0, 'the others stay as they are');
    change(%same, e => 'key=$arg_k rate=5r/h');
    is(ask(6, '/e?k=x'), '200:5 429:1', 'another one comes');
    is(left('a', 'x'), 0, 'the others stay as they are');
    is(left('d', 'x'), 10, 'what is new begins anew');
}

# a configuration that is refused

{
    my $rate = $g->status->{limits}{a}{rate};
    conf(%same, a => 'key=$arg_k rate=nonsense');
    my $at = $t->log_size;
    $t->reload(may_fail => 1, wait => 0);
    $t->wait_log(qr/rate "nonsense"/, from => $at);
    is(left('a', 'x'), 0, 'a reload that fails changes nothing');
    is($g->status->{limits}{a}{rate}, $rate, 'nor its rate');
    $t->allow(qr/rate "nonsense"/);
}

# workers that are killed

{
    # so slow that nothing comes back meanwhile
    change(%same, a => 'key=$arg_k rate=400r/d');

    my $load = $t->load(port => $t->port, uri => '/proxy?k=killed',
        rate => 400, duration => 3 * Gate::scale(), conns => 20);

    for (1 .. 6) {
        sleep 0.3;
        $t->kill_worker('KILL');
    }

    my $r = $load->result;
    my $ok = $r->{status}{200} || 0;
    my $lost = 0;
    $lost += $_ for values %{ $r->{errors} };

    cmp_ok($ok, '<=', 400, 'no more than there is, whoever is killed');
    cmp_ok($ok + $lost + 6 * 20, '>=', 400, 'and not much less');
    is(left('a', 'killed'), 0, 'all is spent');
    is(ask(3, '/a?k=after'), '200:3', 'others are served as ever');
    is(left('a', 'after'), 397, 'and counted');
    is(ask(2, '/a?k=killed'), '429:2', 'who spent it all is limited');

    $t->allow(qr/exited on signal 9/);
}

$t->done;
done_testing;
