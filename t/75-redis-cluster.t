#!/usr/bin/perl

# A Redis Cluster wants all keys of a gate in one slot: a prefix with a tag.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Port;
use Gate::Rollout;
use Test::More;

skip_unless_cmd('redis-server');

my $t = Gate->new;

# its bus is ten thousand ports above, which may be anybody's, unless Redis is
# new enough to be told another one

my ($major) = `redis-server --version` =~ /v=(\d+)/;
my $r = $t->redis(conf => join "\n", 'cluster-enabled yes',
    $major >= 7 ? 'cluster-port ' . Gate::Port::free_port() : ());

# a cluster of one
for my $first (map { $_ * 1024 } 0 .. 15) {
    $r->cmd('CLUSTER', 'ADDSLOTS', $first .. $first + 1023);
}
wait_for { $r->cmd('CLUSTER', 'INFO') =~ /cluster_state:ok/ }
    timeout => 20, what => 'the cluster';

my $stable = $t->backend('ok', body => 'stable');
my $broken = $t->backend('status', 500);
my ($prefix, @api) = ('');

my $f = $t->fleet(2, workers => 1, sub { conf(@_) });

sub conf {
    my ($node, $i) = @_;
    $api[$i] ||= Gate::Rollout->new($node);
    return <<"EOF_CONF";
    gate_redis redis://@{[ $r->addr ]} $prefix;
    upstream v1 { server @{[ $stable->addr ]}; }
    upstream v2 { server @{[ $broken->addr ]}; }
    upstream shop {
        gate_canary v1 v2 weight=100% id=1;
        gate_breach error_rate=50% window=1m min=3 exact;
    }
    server {
        listen 127.0.0.1:%%PORT:http%%;
        gate_maintenance on;
        location / {
            proxy_pass http://shop;
            proxy_next_upstream error http_500;
        }
        location /gate-fleet-pid { gate_maintenance off; return 204; }
@{[ $api[$i]->endpoints ]}
    }
EOF_CONF
}

$f->start;

subtest 'without a tag it is refused, with the remedy' => sub {
    $f->node(0)->wait_log(qr/cluster.*prefix=\{gate\}: in quotes/i, timeout => 20);
    ok(!$api[0]->status->{redis}{joined}, 'not joined');
    is($f->node(0)->get('/')->status, 200, 'requests are served');
};

subtest 'with a tag all is as with a single Redis' => sub {
    $prefix = '"prefix={gate}:"';
    for my $i (0, 1) {
        $f->node($i)->configure({ workers => 1 }, conf($f->node($i), $i));
        $f->node($i)->reload;
    }
    wait_for { !grep { !$_->status->{redis}{joined}
        || $_->status->{fleet}{alive} < 2 } @api } timeout => 20,
        what => 'all nodes to join';
    is($api[0]->status->{redis}{tracking}, 'push', 'pushed');

    $r->cmd('SET', '{gate}:maintenance', 'on');
    ok($f->converge(503), 'closed');
    $r->cmd('DEL', '{gate}:maintenance');
    ok($f->converge(200), 'open');

    $api[0]->api('canary/shop/start');
    wait_for { $f->node(0)->get('/');
        !grep { $_->rollout('shop')->{state} ne 'rolled_back' } @api }
        timeout => 20, what => 'a rollback everywhere';
    is($r->cmd('HGET', '{gate}:canary:shop', 'state'), 'rolled_back',
        'in Redis too');
    wait_for { $r->cmd('EXISTS', '{gate}#totals:shop') } what => 'counts';
    is_deeply([ grep { !/^\{gate\}[:#]/ } @{ $r->cmd('KEYS', '*') } ], [],
        'no key is elsewhere');
    is_deeply([ grep { $_->{event} eq 'rolled_back' }
        $r->events('{gate}#events') ]->[0]{object}, 'shop', 'an event');
};

$t->done;
done_testing;
