#!/usr/bin/perl

# Rollouts, in what seldom comes together: a node that was there before Redis,
# keys that hold something else, a configuration that changes its mind.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Rollout;
use Gate::Site;
use Test::More;

skip_unless_cmd('redis-server');

my $t = Gate->new;
Gate::Site::of($t);

subtest 'a rollback found before there was a Redis' => sub {
    my $r = $t->redis(start => 0);
    my ($f, $node, $api) = fleet($r->addr);
    $f->start;
    $api->wait_state('shop', 'progressing');
    $node->get('/shop') for 1 .. 20;
    my $now = $api->wait_state('shop', 'rolled_back');
    ok($now->{provisional}, 'found alone');

    # the epoch that it opens there is later than the rollback
    next_second();
    $r->start;
    joined($api);
    ok(eval { wait_for { ($r->cmd('HGET', 'gate:canary:shop', 'state') || '')
        eq 'rolled_back' } timeout => 8 }, 'it is that of the fleet')
        || diag(explain($r->hash('gate:canary:shop')));
    is($api->rollout('shop')->{state}, 'rolled_back', 'and stays here');
    my ($event) = grep { $_->{event} eq 'rolled_back' } $r->events;
    ok($event && Gate::json($event->{record})->{canary_arm}{failures},
        'with its record');
    $f->stop;
};

subtest 'a weight lowered before there was a Redis' => sub {
    my $r = $t->redis(start => 0);
    my ($f, $node, $api) = fleet($r->addr);
    $f->start;
    $api->wait_state('shop', 'progressing');
    $api->api('canary/shop/weight', { weight => 7 });
    $api->api('canary/shop/pause');
    next_second();
    $r->start;
    joined($api);
    ok(eval { wait_for {
        my $now = $r->hash('gate:canary:shop');
        ($now->{weight} || '') eq '7' && $now->{state} eq 'paused';
    } timeout => 8 }, 'it is that of the fleet')
        || diag(explain($r->hash('gate:canary:shop')));
    my $now = $api->rollout('shop');
    is("$now->{weight} $now->{state}", '7 paused', 'and stays here');
    $f->stop;
};

subtest 'a rollout whose key was something else' => sub {
    my $r = $t->redis;
    $r->cmd('SET', 'gate:canary:shop', 'junk');
    my ($f, $node, $api) = fleet($r->addr);
    $f->start;
    joined($api);
    is($api->rollout('shop')->{weight}, 0, 'nobody gets it');
    passes($api);
    $r->cmd('DEL', 'gate:canary:shop');
    ok(eval { wait_for { $api->rollout('shop')->{weight} == 100 }
        timeout => 8 }, 'begins when it is free')
        || diag(explain($r->hash('gate:canary:shop')));
    $f->stop;
};

subtest 'an abort is never refused because of Redis' => sub {
    my $r = $t->redis;
    my ($f, $one, $a1, $two, $a2) = fleet($r->addr, '', 2);
    $f->start;
    joined($a1, $a2);
    $a1->wait_state('shop', 'progressing');
    $r->config(maxmemory => 1, 'maxmemory-policy' => 'noeviction');
    my $answer = $a1->call('canary/shop/abort');
    is($answer->status, 200, 'Redis takes no writes');
    is($answer->json->{state}, 'rolled_back', 'it is done here');
    ok($answer->json->{pending}, 'others do not know');
    $r->config(maxmemory => 0);
    $a2->wait_state('shop', 'rolled_back');

    $a1->api('canary/shop/retry');
    $a2->wait_state('shop', 'progressing');
    again($one, $r->addr, '', 2);
    wait_for { $a2->rollout('shop')->{foreign} } timeout => 20,
        what => 'the fleet to be at another release';
    $answer = $a2->call('canary/shop/abort');
    is($answer->status, 200, 'the fleet is at another release');
    is($a2->rollout('shop')->{state}, 'rolled_back', 'it is done here');
    is($a1->wait_state('shop', 'progressing')->{id}, 2, 'and only here');

    again($two, '');
    ok(!$a2->rollout('shop')->{foreign}, 'without Redis there is no fleet');
    $f->stop;
};

subtest 'Redis is taken out of the configuration, and comes back' => sub {
    my $r = $t->redis;
    my ($f, $node, $api) = fleet($r->addr);
    $f->start;
    joined($api);
    $r->cmd('SET', 'gate:maintenance', 'on');
    is_now($node, 503, 'closed');
    $r->cmd('DEL', 'gate:maintenance');
    is_now($node, 200, 'open');
    my $epoch = $api->wait_state('shop', 'progressing')->{epoch};

    again($node, '');
    is($api->call('maintenance/global', { on => \1 })->status, 200, 'closed');
    $api->api('canary/shop/start');
    cmp_ok($api->rollout('shop')->{epoch}, '>', $epoch, 'a newer epoch');

    again($node, $r->addr);
    joined($api);
    ok(eval { wait_for { $r->cmd('EXISTS', 'gate:maintenance') }
        timeout => 8 }, 'what was set since is told');
    is($node->get('/')->status, 503, 'and holds');
    ok(eval { wait_for {
        $r->cmd('HGET', 'gate:canary:shop', 'epoch')
            == $api->rollout('shop')->{epoch};
    } timeout => 8 }, 'of the rollout there is one epoch again')
        || diag(explain($r->hash('gate:canary:shop')),
            $api->rollout('shop')->{epoch});
    $r->cmd('DEL', 'gate:maintenance');
    is_now($node, 200, 'it is opened for all');
    $f->stop;
};

subtest 'a letter of before the reload is none about the next release' =>
    sub
{
    my $r = $t->redis;
    my ($f, $node, $api) = fleet($r->addr);
    $f->start;
    joined($api);
    $api->wait_state('shop', 'progressing');
    $api->api('canary/shop/weight', { weight => 5 });

    # an operator who types slowly
    my $token = Gate::slurp($api->{file});
    chomp $token;
    my $c = $node->conn;
    $c->write("POST /gate/api/canary/shop/promote HTTP/1.1\r\nHost: x\r\n"
        . "Authorization: Bearer $token\r\nContent-Type: application/json\r\n"
        . "Content-Length: 2\r\n\r\n{");
    wait_for { $api->status } what => 'an answer';
    $node->configure({ workers => 1 }, site($r->addr, '', 2));
    $node->reload(wait => 0);
    wait_for { my $now = eval { $api->rollout('shop') };
        $now && $now->{id} eq '2' && $now->{state} eq 'progressing' }
        timeout => 20, what => 'the next release';
    $c->write('}');
    my $answer = $c->recv;
    is($answer->status, 409, 'it is not promoted by accident')
        || diag($answer->as_text);
    is($api->rollout('shop')->{state}, 'progressing', 'it goes on');
    $f->stop;
};

subtest 'an ordinary release is no reason to warn' => sub {
    my $r = $t->redis;
    my ($f, $node, $api) = fleet($r->addr);
    $f->start;
    joined($api);
    $api->wait_state('shop', 'progressing');
    again($node, $r->addr, '', 2);
    joined($api);
    is($api->wait_state('shop', 'progressing')->{id}, 2, 'it is there');
    $node->log_unlike(qr/at another release/);
    $f->stop;
};

subtest 'a time typed into a hash costs nobody his memory' => sub {
    my $r = $t->redis(clock => -3600);
    my ($f, $one, $a1, $two, $a2) = fleet($r->addr, '', 2);
    $one->start;
    joined($a1);
    $a1->wait_state('shop', 'progressing');
    $r->cmd('HSET', 'gate:canary:shop', since => 253402300799);
    $two->start;
    joined($a2);
    $a2->wait_state('shop', 'progressing');
    $r->cmd('SET', 'gate:maintenance', 'on');
    is_now($two, 503, 'closed');
    wait_for { !$a2->status->{state_store}{pending} } what => 'the state';
    $two->stop;
    $r->freeze;
    $two->start;
    is($two->get('/')->status, 503, 'it remembers');
    $r->thaw;
    $f->stop;
};

subtest 'a rollback of before there was a fleet' => sub {
    my $r = $t->redis;
    my ($one, $two) = map { ($t->fleet(1, workers => 1, site($_)))->node(0) }
        '', $r->addr;
    my ($a1, $a2) = map { Gate::Rollout->new($_) } $one, $two;
    $_->start for $one, $two;
    joined($a2);
    $a2->wait_state('shop', 'progressing');
    $one->get('/shop') for 1 .. 20;
    $a1->wait_state('shop', 'rolled_back');
    next_second();
    again($one, $r->addr);
    joined($a1);
    $a2->wait_state('shop', 'rolled_back');
    is($a1->rollout('shop')->{epoch}, $a2->rollout('shop')->{epoch},
        'is that of the fleet');
    $_->stop for $one, $two;
};

subtest 'a rollback found alone, while the clock of Redis is behind' => sub {
    my $r = $t->redis(clock => -3600);
    my $line = $t->proxy($r->addr);
    my ($one, $two) = map { ($t->fleet(1, workers => 1, site($_)))->node(0) }
        $line->addr, $r->addr;
    my ($a1, $a2) = map { Gate::Rollout->new($_) } $one, $two;
    $_->start for $one, $two;
    joined($a1, $a2);
    $_->wait_state('shop', 'progressing') for $a1, $a2;
    $one->stop;
    system 'rm', '-rf', $one->dir . '/state';
    $line->refuse->drop;
    $one->start;
    $a1->wait_state('shop', 'progressing');
    $one->get('/shop') for 1 .. 20;
    $a1->wait_state('shop', 'rolled_back');
    next_second();
    my $epoch = $a2->api('canary/shop/start')->{epoch};
    $line->listen;
    joined($a1);
    is($a1->wait_state('shop', 'progressing')->{epoch}, $epoch,
        'does not end what was started since');
    is($a2->rollout('shop')->{state}, 'progressing', 'nowhere');
    $_->stop for $one, $two;
};

$t->done;
done_testing;
