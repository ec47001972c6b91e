#!/usr/bin/perl

# What each error of Redis means: look for another server, ask again, or go on.

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

subtest 'errors while logging in' => sub {
    for my $case (
        ['ROLE', "-NOAUTH Authentication required.\r\n", 'auth'],
        ['ROLE', "-LOADING Redis is loading the dataset in memory\r\n", 'busy'],
        ['ROLE', "-DENIED Redis is running in protected mode\r\n", 'auth'],
        ['ROLE', "*5\r\n\$5\r\nslave\r\n\$1\r\nh\r\n:1\r\n\$9\r\nconnected\r\n:1\r\n", 'role'],
        ['INFO', bulk("redis_version:7.0.15\r\ncluster_enabled:1"), 'cluster'],
        ['INFO', bulk("redis_version:7.0.15\r\nloading:1"), 'busy'],
        ['*connect', "-ERR max number of clients reached\r\n", 'limit', ['close']],
        ['CLIENT SETNAME', "-ERR max number of clients reached\r\n", 'limit'],
    ) {
        my ($name, $bytes, $kind, @more) = @$case;
        my $s = fails($kind, $name, $bytes, @more);
        (my $first = $bytes) =~ s/\r\n.*//s;
        isnt($s->{state}, 'ready', "$name: $first: $kind");
        like(text($s), qr/prefix=\{gate\}:/, 'with the remedy')
            if $kind eq 'cluster';
    }

    $fake->off;
    ready();
    serves();
};

subtest 'errors of scripts' => sub {

    # [ error, kind, whether the connection is given up ]

    for my $case (
        ["READONLY You can't write against a read only replica. script: f00, on \@user_script:1.", 'role', 1],
        ["ERR Error running script (call to f_1): \@user_script:3: \@user_script: 3: -READONLY You can't write against a read only replica.", 'role', 1],
        ["MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", 'role', 1],
        ['NOAUTH Authentication required.', 'auth', 1],
        ["OOM command not allowed when used memory > 'maxmemory'. script: f00, on \@user_script:1.", 'memory', 0],
        ["ERR Error running script (call to f_1): \@user_script:3: \@user_script: 3: -OOM command not allowed when used memory > 'maxmemory'.", 'memory', 0],
        ['MISCONF Redis is configured to save RDB snapshots, but it is currently not able to persist on disk.', 'memory', 0],
        ['NOREPLICAS Not enough good replicas to write.', 'busy', 0],
        ['BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.', 'busy', 0],
        ['LOADING Redis is loading the dataset in memory', 'busy', 0],
        ['NOPERM this user has no permissions to access one of the keys used as arguments', 'auth', 0],
        ["GATEWRONGTYPE gate#nodes", 'type', 0],
        ['CLUSTERDOWN The cluster is down', 'cluster', 0],
        ['ASK 1 127.0.0.1:1', 'cluster', 0],
        ['ERR something else', 'script', 0],
    ) {
        my ($error, $kind, $lost) = @$case;
        my $was = redis();
        $fake->next('EVALSHA', "-$error\r\n");
        my $s;
        wait_for { $s = redis(); ($s->{errors}{$kind} || 0) > ($was->{errors}{$kind} || 0) }
            what => "an error of kind $kind";
        ready();
        my $now = redis();
        my $name = substr $error, 0, 60;
        if ($lost) {
            cmp_ok($now->{reconnects}, '>', $was->{reconnects}, "$name: $kind, a new session");
        } else {
            is($now->{reconnects}, $was->{reconnects}, "$name: $kind, the session stays");
        }
    }

    # a script that is not known is sent as text, once

    $real->cmd('SCRIPT', 'FLUSH');
    $fake->clear;
    my $was = redis();
    wait_for { grep { uc $_->[0] eq 'EVAL' } $fake->seen } what => 'EVAL';
    wait_for {
        my @sha = map { $_->[1] } grep { uc $_->[0] eq 'EVALSHA' } $fake->seen;
        @sha && $real->cmd('SCRIPT', 'EXISTS', @sha)->[0];
    } what => 'the script to be known';
    is(redis()->{errors}{script} || 0, $was->{errors}{script} || 0, 'NOSCRIPT is no error');
    serves();
};

is($t->stop, 0, 'nginx stops');

subtest 'a cluster and a prefix with a tag' => sub {
    $fake->on('INFO', bulk("redis_version:7.0.15\r\ncluster_enabled:1"));
    $t->http(conf('redis://' . $fake->addr . ' "prefix={gate}:"'));
    $t->start;
    is(ready()->{tracking}, 'push', 'go together');
    $fake->off('INFO');
    is($t->stop, 0, 'nginx stops');
};

$t->done;
done_testing;
