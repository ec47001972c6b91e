#!/usr/bin/perl

# Copyright (C) nginx-gate authors

# What it costs to ask Redis about each request (sync=exact): throughput of
# one worker, and latency at a rate that is far from it, beside a zone that
# tells Redis ten times a second, one of this node alone, and no limit.
#
# All of them take turns, so that whatever else the machine does is in all
# figures.  EXACT_SECONDS, EXACT_ROUNDS, EXACT_RATE.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use Gate::Tool;
use Gate::Util qw(wait_for which);

my $seconds = $ENV{EXACT_SECONDS} || 3;
my $rounds = $ENV{EXACT_ROUNDS} || 3;
my $rate = $ENV{EXACT_RATE} || 500;

which('wrk') or die "no wrk\n";
which('redis-server') or die "no redis-server\n";

my @modes = qw(none alone async exact);
my %sync = (alone => 'off', async => '100ms', exact => 'exact');

my $t = Gate::Tool->new;
my $r = $t->redis;

$t->http(workers => 1, log => 'warn', <<"EOF_CONF");
    gate_redis redis://@{[ $r->addr ]};
@{[ map { "    gate_limit_zone $_ key=\$arg_key rate=1000000r/s burst=1000000 "
    . "sync=$sync{$_};\n" } sort keys %sync ]}
    server {
        listen 127.0.0.1:%%PORT:http%%;
        keepalive_requests 1000000000;
        location = /none { empty_gif; }
@{[ map { "        location = /$_ { gate_limit zone=$_ headers=off; "
    . "empty_gif; }\n" } sort keys %sync ]}
    }
EOF_CONF
$t->start;

my $number = 0;
wait_for {
    $t->get('/exact?key=first' . $number++);
    @{ $r->cmd('KEYS', 'gate#limit:exact:*') };
} what => 'the first question to Redis';

my (%throughput, %latency);

for my $round (1 .. $rounds) {
    for my $mode (@modes) {
        my $url = 'http://127.0.0.1:' . $t->port . "/$mode?key=k";
        my $out = `wrk -t1 -c32 -d${seconds}s '$url'`;
        $out =~ m{Requests/sec:\s*([\d.]+)} or die "wrk: $out\n";
        push @{ $throughput{$mode} }, $1;
        die "wrk: $out\n" if $out =~ /Non-2xx/;

        my $l = $t->load(port => $t->port, uri => "/$mode?key=k%d",
            rate => $rate, duration => $seconds, conns => 20)->result;
        push @{ $latency{$mode}{$_} }, $l->{latency}{$_}
            for qw(p50 p90 p99 p999);
    }
}

sub median { return (sort { $a <=> $b } @_)[@_ / 2] }

printf "%-6s %12s %8s    latency at %d/s, us: %6s %6s %6s %6s\n", 'sync',
    'requests/s', 'of none', $rate, qw(p50 p90 p99 p999);

for my $mode (@modes) {
    my $n = median(@{ $throughput{$mode} });
    printf "%-6s %12.0f %7.1f%%    %*s %6d %6d %6d %6d\n", $mode, $n,
        100 * $n / median(@{ $throughput{none} }), 17 + length $rate, '',
        map { median(@{ $latency{$mode}{$_} }) } qw(p50 p90 p99 p999);
}

$t->done;
