#!/usr/bin/perl

# What a node knows and Redis no longer does, although nothing in Redis looks
# older: the ledger is gone and somebody wrote into the hash since.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Rollout;
use Test::More;

skip_unless_cmd('redis-server');

my $t = Gate->new;
my $r = $t->redis;
my $stable = $t->backend('ok', body => 'stable');
my $canary = $t->backend('ok', body => 'canary');
my $hash = 'gate:canary:shop';
my $api = Gate::Rollout->new($t);

$t->http(workers => 1, <<"EOF_CONF");
    gate_redis redis://@{[ $r->addr ]};

    upstream v1 { server @{[ $stable->addr ]}; }
    upstream v2 { server @{[ $canary->addr ]}; }
    upstream shop { gate_canary v1 v2 weight=40% id=1; }

    server {
        listen 127.0.0.1:%%PORT:http%%;
        location / { proxy_pass http://shop; }
@{[ $api->endpoints ]}
    }
EOF_CONF

$t->start;

sub state_in_redis { return join ' ', map { defined $_ ? $_ : '-' }
    @{ $r->cmd('HMGET', $hash, 'state', 'weight') } }

# As if another fleet had written it: what was there is not remembered.

sub overwrite {
    my (@fields) = @_;
    $r->pipeline([ 'MULTI' ], [ 'DEL', 'gate#epoch' ],
        [ 'HSET', $hash, @fields ], [ 'EXEC' ]);
}

wait_for { ($r->cmd('HGET', $hash, 'state') || '') eq 'progressing' }
    what => 'the epoch to be opened';

subtest 'a rollback that its own epoch lost is told again' => sub {
    my $epoch = $api->rollout('shop')->{epoch};
    is($api->call('canary/shop/abort')->status, 200, 'it is rolled back');
    wait_for { state_in_redis() eq 'rolled_back 0' } what => 'Redis to know';

    overwrite(state => 'progressing', weight => 40);
    ok(eval { wait_for { state_in_redis() eq 'rolled_back 0' } timeout => 6,
        what => 'it to be told' }, 'Redis hears of it again');
    is($r->cmd('HGET', $hash, 'epoch'), $epoch, 'of its epoch');
    is($api->rollout('shop')->{state}, 'rolled_back', 'the node stays so');
};

subtest 'an epoch that is lower than the node\'s does not part them' => sub {
    is($api->call('canary/shop/retry')->status, 200, 'a new epoch');
    my $epoch = $api->rollout('shop')->{epoch};

    overwrite(state => 'paused', weight => 7, epoch => $epoch - 100);
    ok(eval { wait_for { my $now = $api->rollout('shop');
        $now->{state} eq 'paused' && $now->{epoch} > $epoch } timeout => 6,
        what => 'the node to follow' }, 'what is decided there counts');
    is($r->cmd('HGET', $hash, 'epoch'), $api->rollout('shop')->{epoch},
        'under an epoch that is higher than both');
    is($api->rollout('shop')->{weight}, 7, 'with its weight');
};

$t->done;
done_testing;
