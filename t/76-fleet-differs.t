#!/usr/bin/perl

# Nodes with different configurations at one Redis.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Rollout;
use Test::More;
use Time::HiRes qw(time);

skip_unless_cmd('redis-server');
my $t = Gate->new;
my $r = $t->redis;
my $p = $t->proxy($r->path);
my @address = ($r->addr, $p->addr, $r->addr);
my %b = map { $_ => $t->backend('ok', body => $_) } qw(stable canary);

my @g;
my %id = (0 => 'one', 1 => 'one', 2 => 'one');

sub config {
    my ($node, $i) = @_;
    $g[$i] = Gate::Rollout->new($node);
    my $shop = $i == 2 ? '' : <<"EOF_CONF";
    upstream shop {
        gate_canary stable canary weight=40% id=$id{$i};
        gate_key \$arg_key;
    }
EOF_CONF
    my $arm = $i == 2 ? 'stable' : '$gate_arm_shop';
    return <<"EOF_CONF";
    gate_redis redis://$address[$i];
    upstream stable { server @{[ $b{stable}->addr ]}; }
    upstream canary { server @{[ $b{canary}->addr ]}; }
$shop
    server {
        listen 127.0.0.1:%%PORT:http%%;
        add_header X-Pid \$pid always;
        add_header X-Arm "$arm" always;
@{[ $g[$i]->endpoints ]}
        location / { gate_maintenance on; return 200; }
        location /arm { return 200; }
@{[ $i == 2 ? 'location /own { gate_maintenance own; return 200; }' : '' ]}
    }
EOF_CONF
}

my $f = $t->fleet(3, \&config);
$f->start;

sub arms {
    my ($i) = @_;
    my %seen;
    for my $key (1 .. 40) {
        push @{ $seen{ $_->[1] } }, $_->[2]->header('x-arm')
            for $f->ask("/arm?key=k$key", nodes => [$f->node($i)]);
    }
    my %text = map { join(',', @$_) => 1 } values %seen;
    return join ' and ', sort keys %text;
}

sub same_arms { return arms(0) eq arms(1) && arms(0) =~ /canary/ }

$r->cmd('SET', 'gate:maintenance', 'on');
ok(eval { $f->converge(503) }, 'the global switch is common to all')
    || diag($@);
$r->cmd('DEL', 'gate:maintenance');
$f->converge(200);
$r->cmd('SET', 'gate:maintenance:own', 'on');
ok(eval { $f->converge(503, uri => '/own', nodes => [$f->node(2)]) },
    'a switch that only one node has') || diag($@);
is_deeply([map { $_->[2]->status } $f->ask('/')], [(200) x 6],
    'is none of the others');

ok(eval { wait_for { same_arms() } }, 'two nodes agree about a rollout')
    || diag(arms(0), "\n", arms(1));

my $before = $r->hash('gate:canary:shop');
$f->node(2)->reload;
is_deeply($r->hash('gate:canary:shop'), $before,
    'a node that lacks the rollout leaves it alone');

$r->cmd('HSET', 'gate:canary:shop', weight => 100);
ok(eval { wait_for { same_arms() && arms(0) !~ /stable/ } },
    'a weight reaches those who have it') || diag(arms(0), "\n", arms(1));

subtest 'one node is at the next release' => sub {
    $r->cmd('HSET', 'gate:canary:shop', weight => 50);
    wait_for { $g[$_]->rollout('shop')->{weight} == 50 } for 0, 1;
    my $then = arms(0);
    my $old = $r->hash('gate:canary:shop');

    $id{1} = 'two';
    $f->node(1)->configure({ workers => 2 }, \&config);
    $f->node(1)->reload;
    my $new;
    ok(eval { wait_for {
        ($new = $r->hash('gate:canary:shop'))->{version} eq 'two';
    } timeout => 5 }, 'its epoch is opened') || return diag(explain($new));
    cmp_ok($new->{epoch}, '>', $old->{epoch}, 'a later one');
    is($new->{weight}, 40, 'at the weight that is configured');
    is(arms(0), $then, 'the other node goes on with what it had');

    $r->cmd('HSET', 'gate:canary:shop', weight => 100);
    ok(eval { wait_for { arms(1) !~ /stable/ } }, 'a weight is for the new')
        || diag(arms(1));
    is(arms(0), $then, 'not for the old');

    # it is not taken back by the node that is late
    $f->node(0)->reload;
    wait_for { $g[0]->status->{agent}{alive} } what => 'its agent';
    is_deeply([@{ $r->hash('gate:canary:shop') }{qw(version epoch)}],
        ['two', $new->{epoch}], 'the late node does not undo it');

    $id{0} = 'two';
    $f->node(0)->configure({ workers => 2 }, \&config);
    $f->node(0)->reload;
    ok(eval { wait_for { arms(0) eq arms(1) && arms(0) !~ /stable/ } },
        'when it follows it is of one mind') || diag(arms(0));
    is($r->hash('gate:canary:shop')->{epoch}, $new->{epoch},
        'in the same epoch');
};

subtest 'a release after the other, while old workers are still there' => sub {
    my $opened = sub { scalar grep { $_->{event} eq 'open' } $r->events };
    my $before = $opened->();

    # answers take a while, so there is time to do something wrong
    $p->delay(down => 5);
    for my $n (1 .. 10) {
        $id{1} = "next-$n";
        $f->node(1)->configure({ workers => 2 }, \&config);
        $f->node(1)->reload(wait => 0);

        # the old agent is kept busy by pushes while it is replaced
        my $end = time + 0.2;
        for (my $i = 0; time < $end; $i++) {
            $r->cmd('SET', 'gate:maintenance', $i % 2 ? 'off' : '0');
        }
        my $now;
        ok(eval { wait_for {
            ($now = $r->hash('gate:canary:shop')->{version}) eq "next-$n";
        } timeout => 5 }, "release $n is opened") || diag("it is $now");
    }
    is($opened->() - $before, 10, 'each of them once, and no other');
};

$t->done;
done_testing;
