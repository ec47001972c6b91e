#!/usr/bin/perl

# Changes are pushed where the server can and may, else polled; pushes that
# stopped are noticed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::One;
use Test::More;
use Time::HiRes qw(time);

skip_unless_cmd('redis-server');

my $t = Gate->new;
my $real = $t->redis;
my $fake = $t->fake_redis(upstream => $real);
Gate::One->watch($t, $fake);

$t->http(conf('redis://' . $fake->addr));
$t->start;
ready();

subtest 'servers that cannot push' => sub {
    for my $case (
        [{ 'INFO' => bulk("redis_version:5.0.14\r\n") }, 'an old version'],
        [{ 'CLIENT TRACKING' => "-ERR Unknown subcommand or wrong number of arguments for 'TRACKING'\r\n" }, 'an unknown subcommand'],
        [{ 'CLIENT' => "-ERR unknown command `CLIENT`, with args beginning with: \r\n" }, 'an unknown command'],
        [{ 'CLIENT ID' => "-NOPERM this user has no permissions to run the 'client|id' command\r\n" }, 'a command that is forbidden'],
        [{ 'SUBSCRIBE' => "-NOPERM this user has no permissions to access one of the channels used as arguments\r\n" }, 'a channel that is forbidden'],
    ) {
        my ($on, $what) = @$case;
        my $was = redis()->{connects};
        $fake->on($_, $on->{$_}) for keys %$on;
        $fake->drop;
        wait_for { redis()->{connects} > $was } what => 'a session';
        is(ready()->{tracking}, 'poll', "$what: polled");
        $fake->off(keys %$on);
    }

    # the last one stays polled until there is a new connection

    $fake->drop;
    wait_for { (redis()->{tracking} || '') eq 'push' } what => 'pushes again';
    pass('pushed when it can be');
};

subtest 'pushes that stopped' => sub {
    for my $case (
        ['CLIENT TRACKINGINFO', "*4\r\n\$5\r\nflags\r\n*1\r\n\$3\r\noff\r\n\$8\r\nredirect\r\n:-1\r\n", 'tracking is off'],
        ['CLIENT TRACKINGINFO', "*4\r\n\$5\r\nflags\r\n*3\r\n\$2\r\non\r\n\$5\r\nbcast\r\n\$15\r\nbroken_redirect\r\n\$8\r\nredirect\r\n:1\r\n", 'the redirection is broken'],
        ['PING', ['hang'], 'the subscriber is silent'],
    ) {
        my ($name, $step, $what) = @$case;
        next if $name =~ /TRACKINGINFO/ && $real->version < 6.2;
        my $was = redis()->{reconnects};
        $fake->next($name, $step);
        wait_for { redis()->{reconnects} > $was } what => "a new session, $what";
        is(ready()->{tracking}, 'push', "$what: a new session");
    }

    # 6.0 has no TRACKINGINFO

    $fake->on('CLIENT TRACKINGINFO', "-ERR Unknown subcommand or wrong number of arguments for 'TRACKINGINFO'\r\n");
    $fake->clear;
    wait_for { grep { uc("@$_") eq 'CLIENT GETREDIR' } $fake->seen } what => 'GETREDIR';
    my $was = redis()->{reconnects};
    $fake->clear;
    wait_for { 2 < grep { uc("@$_") eq 'CLIENT GETREDIR' } $fake->seen } what => 'GETREDIR';
    is(redis()->{reconnects}, $was, 'the right one is no reason for a new session');
    $fake->next('CLIENT GETREDIR', ":0\r\n");
    wait_for { redis()->{reconnects} > $was } what => 'a new session';
    pass('the wrong one is');
    $fake->off('CLIENT TRACKINGINFO');
    ready();
};

subtest 'keys that can be evicted' => sub {
    $real->config('maxmemory-policy' => 'allkeys-lru');
    $fake->drop;
    wait_for { redis()->{evictable} && redis()->{state} eq 'ready' } what => 'the policy';
    $t->log_like(qr/\[warn\].*evicts keys by its maxmemory-policy "allkeys-lru"/, 'are warned about');
    $real->config('maxmemory-policy' => 'noeviction');
};

$t->done;
done_testing;
