#!/usr/bin/perl

# Copyright (C) nginx-gate authors

# What gate_redis costs a request, with Redis there and well.
#
# The agent's work goes with time and not with requests, and a request itself
# does nothing for Redis.  So one nginx with one worker, which is the agent,
# runs for the same seconds under the same load with gate_redis and without,
# and its instructions (user space, counted by callgrind) are compared: the
# difference is divided among as many requests as a busy nginx would answer in
# that time.  Each runs for two lengths of time, so that the start cancels
# out.  The exit code is 1 if that is more than the budget.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use Gate::Tool;
use Gate::Util qw(slurp wait_for which);

use constant {
    BUDGET => 100,                       # instructions a request
    BUSY   => 5000,                      # requests a second
};

my $seconds = $ENV{FLEET_SECONDS} || 20;
my $short = 5;
my $rate = 100;                          # what callgrind can do with ease

which('valgrind') or die "no valgrind\n";
which('redis-server') or die "no redis-server\n";

my $failed;

my $with = run(1, $short + $seconds) - run(1, $short);
my $without = run(0, $short + $seconds) - run(0, $short);
my $second = ($with - $without) / $seconds;
my $cost = $second / BUSY;

printf "one nginx, %d s at %d requests/s: %.0f instructions a second for the "
    . "fleet\n", $seconds, $rate, $second;
printf "%s: %.0f instructions a request at %d a second, at most %d\n",
    $cost <= BUDGET ? 'holds' : 'FAILS', $cost, BUSY, BUDGET;

exit($failed || $cost > BUDGET ? 1 : 0);


# The instructions of one nginx.

sub run {
    my ($fleet, $duration) = @_;

    my $t = Gate::Tool->new;
    my $r = $t->redis;
    my $b = $t->backend('ok');
    my $out = $t->dir . '/callgrind';
    my $redis = $fleet ? 'gate_redis redis://' . $r->addr . ';' : '';

    $t->prefix(which('valgrind'), '-q', '--tool=callgrind',
        "--callgrind-out-file=$out");
    $t->http(workers => 1, log => 'notice', main => 'master_process off;',
        <<"EOF_CONF");
    $redis
    upstream stable { server @{[ $b->addr ]}; keepalive 16; }
    upstream canary { server @{[ $b->addr ]}; keepalive 16; }
    upstream shop {
        gate_canary stable canary weight=10% id=1;
        gate_breach error_rate=50% window=1m min=1000000;
        gate_breach p95=2s window=1m min=1000000;
    }
    server {
        listen 127.0.0.1:%%PORT:http%%;
        gate_maintenance on;
        location / {
            proxy_pass http://shop;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }
        location = /gate { gate_status; }
    }
EOF_CONF
    $t->start;

    wait_for {
        my $s = $t->get('/gate')->json;
        $s->{rollouts}{shop}{state} eq 'progressing'
            && ($redis eq '' || $s->{redis}{joined});
    } timeout => 60, what => 'the node to be there';

    my $load = $t->load(rate => $rate, conns => 4, duration => $duration);
    my $answered = $load->result->{answered};
    $t->stop;
    die "answered $answered\n" if $answered < 0.99 * $rate * $duration;

    my ($count) = slurp($out) =~ /^totals: (\d+)$/m or die "no totals\n";

    my @problems = $t->done;
    print "  $_\n" for @problems;
    $failed = 1 if @problems;

    return $count;
}
