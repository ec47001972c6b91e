#!/usr/bin/perl

# Copyright (C) nginx-gate authors

# What a fleet of four nginx with one Redis does, measured on this machine:
#
#   toggles   FLEET_TOGGLES (1000) plain SET and DEL under load: from Redis's
#             reply until the last worker of the last node answers accordingly
#   flips     FLEET_FLIPS (500) breaches on the node that has 2 % of the
#             traffic: from the attempt that proves it until the last request
#             for the canary begins anywhere
#   killed    Redis killed for FLEET_KILLED (30) seconds under 2,000 requests
#             a second, half of them to nodes with gate_redis and half to
#             their twins without it at the same time
#   cost      instructions of one nginx with and without gate_redis over the
#             same seconds of the same load, for one request of 5,000 a second
#
# FLEET_ONLY=toggles runs one of them.  The exit code is 1 when something that
# must hold does not.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use List::Util qw(max sum0);
use Time::HiRes qw(clock_gettime sleep time CLOCK_MONOTONIC);

use Gate::Tool;
use Gate::Util qw(json slurp wait_for which);

use constant {
    TOGGLE_P99   => 50_000,              # us
    FLIP_P99     => 300,                 # ms
    KILLED_P99   => 1.1,                 # of the twins'
    BACK         => 2,                   # s, until in sync again
    COST         => 100,                 # instructions a request
    COST_RATE    => 5000,                # at so many a second
    NODES        => 4,
    WORKERS      => 2,
};

my $only = $ENV{FLEET_ONLY} || '';
my $failed = 0;
my $token = 'x' x 40;

my %part = (toggles => \&toggles, flips => \&flips, killed => \&killed,
    cost => \&cost);

for my $name (qw(toggles flips killed cost)) {
    next if $only ne '' && $only ne $name;
    $part{$name}->();
}

exit($failed ? 1 : 0);


sub holds {
    my ($ok, $text) = @_;
    printf "%-8s %s\n", $ok ? 'holds' : 'FAILS', $text;
    $failed = 1 unless $ok;
}

sub percentile {
    my ($q, @v) = @_;
    @v = sort { $a <=> $b } @v;
    return $v[ max(0, POSIX::ceil($q * @v) - 1) ];
}

BEGIN { require POSIX }

# Servers of one node; the canary is another backend on the first node.

sub conf {
    my ($redis, $stable, $canary, $rule) = @_;

    my $line = $redis ? "gate_redis redis://$redis;" : '';
    return <<"EOT";
    $line
    gate_zone 8m;

    upstream stable { server $stable; keepalive 32; }
    upstream canary { server $canary; keepalive 32; }
    upstream shop {
        gate_canary stable canary weight=50% id=1;
        $rule
    }

    server {
        listen 127.0.0.1:%%PORT:http%% reuseport;
        gate_maintenance on;
        location / {
            proxy_pass http://shop;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_next_upstream error timeout http_500;
            add_header X-Arm \$gate_arm always;
            add_header X-Pid \$pid always;
        }
        location = /gate { gate_status; }
        location /gate/api/ { gate_api token_file=%%DIR%%/gate.token; }
        location = /gate-fleet-pid { return 204; }
    }
EOT
}

sub fleet {
    my ($t, $n, $workers, $block) = @_;

    my $f = $t->fleet($n, workers => $workers, log => 'notice', $block);
    $f->each(sub {
        my ($node) = @_;
        $node->write_file('gate.token', "$token\n");
        chmod 0600, $node->dir . '/gate.token';
    });
    $f->start;
    wait_for { !grep { !joined($_) } $f->nodes } timeout => 20,
        what => 'all nodes to join';
    return $f;
}

sub status { return $_[0]->get('/gate')->json }

sub joined {
    my ($node) = @_;
    my $redis = status($node)->{redis} or return 1;
    return $redis->{joined};
}

sub call {
    my ($node, $path, $body) = @_;
    return $node->post("/gate/api/$path", body => $body || '{}',
        headers => { Authorization => "Bearer $token",
            'Content-Type' => 'application/json' });
}

sub end {
    my ($t) = @_;
    my @problems = $t->done;
    print "  $_\n" for @problems;
    $failed = 1 if @problems;
}


sub toggles {
    my $n = $ENV{FLEET_TOGGLES} || 1000;
    my $t = Gate::Tool->new;
    my $r = $t->redis;
    my $b = $t->backend('ok');
    my $f = fleet($t, NODES, WORKERS,
        sub { conf($r->addr, $b->addr, $b->addr, '') });

    my @load = map { $t->load(port => $_->port, rate => 250, conns => 8) }
        $f->nodes;

    my $p = $f->probe(redis => $r, toggles => $n, interval => 1000,
        pause => 20, limit => 60 + $n / 5);
    my $polls = sum0(map { status($_)->{redis}{poll_finds} } $f->nodes);
    my $push = grep { status($_)->{redis}{tracking} eq 'push' } $f->nodes;

    $_->stop for @load;

    printf "toggles: %d by SET and DEL, %d nodes with %d workers, 1,000 "
        . "requests/s beside it\n", $p->{n}, NODES, WORKERS;
    printf "  reply to the last worker: p50 %.2f ms, p99 %.2f ms, maximum "
        . "%.2f ms; timeouts %d, flaps %d\n", $p->{p50} / 1000,
        $p->{p99} / 1000, $p->{max} / 1000, $p->{timeouts}, $p->{flaps};
    holds($p->{p99} <= TOGGLE_P99 && !$p->{timeouts},
        sprintf 'p99 %.2f ms, at most %d ms', $p->{p99} / 1000,
        TOGGLE_P99 / 1000);
    holds($polls == 0 && $push == NODES,
        "changes that only the poll found: $polls");
    end($t);
}


# Node 0 gets 20 of 1,000 requests a second, and its canary is dead.

sub flips {
    my $n = $ENV{FLEET_FLIPS} || 500;
    my $t = Gate::Tool->new;
    my $r = $t->redis;
    my $good = $t->backend('ok');
    my $bad = $t->backend('status', 500);
    my $f = fleet($t, NODES, WORKERS, sub {
        my ($node, $i) = @_;
        conf($r->addr, $good->addr, ($i ? $good : $bad)->addr,
            'gate_breach error_rate=50% window=1m min=3 exact;');
    });
    my @node = $f->nodes;

    my @load = map { $t->load(port => $node[$_]->port,
        rate => $_ ? 980 / (NODES - 1) : 20, conns => 8, value => 'X-Arm',
        log => 1) } 0 .. $#node;
    my $clock = time() - clock_gettime(CLOCK_MONOTONIC);

    my (@flip, @again);
    while (@flip < $n) {
        my $rollout;
        wait_for {
            !grep { ($_->{state} || '') ne 'rolled_back' }
                map { status($_)->{rollouts}{shop} } @node;
        } timeout => 30, what => 'all nodes rolled back';

        push @flip, at(status($node[0])->{rollouts}{shop}{last_record}{time});
        push @again, time();
        my $answer = call($node[1], 'canary/shop/retry');
        die 'retry: ' . $answer->as_text . "\n" if $answer->status != 200;
    }

    $_->stop for @load;

    # a request for the canary that begins between a flip and the next retry

    my @late = (0) x @flip;
    for my $l (@load) {
        my $i = 0;
        for my $q (sort { $a->{start} <=> $b->{start} } $l->log) {
            next if ($q->{value} || '') ne 'canary';
            my $start = $q->{start} / 1e6 + $clock;
            $i++ while $i < @flip && $again[$i] <= $start;
            last if $i == @flip;
            my $ms = ($start - $flip[$i]) * 1000;
            $late[$i] = $ms if $ms > $late[$i];
        }
    }

    my ($p50, $p99, $most) = (percentile(0.5, @late), percentile(0.99, @late),
        max(@late));
    my $events = grep { $_->{event} eq 'rolled_back' } $r->events;

    printf "flips: %d on the node with 2 %% of 1,000 requests/s\n",
        scalar @flip;
    printf "  last canary request after the proof: p50 %.1f ms, p99 %.1f ms, "
        . "maximum %.1f ms\n", $p50, $p99, $most;
    holds($p99 <= FLIP_P99, sprintf 'p99 %.1f ms, at most %d ms', $p99,
        FLIP_P99);
    holds($events == @flip || $events == @flip + 1,
        "one event a flip: $events events");
    end($t);
}

# RFC 3339 with ms, in UTC

sub at {
    my ($text) = @_;
    require Time::Local;
    my ($y, $mo, $d, $h, $mi, $s, $ms) = $text =~
        /^(\d+)-(\d+)-(\d+)T(\d+):(\d+):(\d+)\.(\d+)Z$/ or die "time $text\n";
    return Time::Local::timegm($s, $mi, $h, $d, $mo - 1, $y) + $ms / 1000;
}


sub killed {
    my $seconds = $ENV{FLEET_KILLED} || 30;
    my $t = Gate::Tool->new;
    my $r = $t->redis;
    my $b = $t->backend('ok');
    my $with = fleet($t, 2, 1, sub { conf($r->addr, $b->addr, $b->addr, '') });
    my $without = fleet($t, 2, 1, sub { conf('', $b->addr, $b->addr, '') });

    my @node = ($with->nodes, $without->nodes);
    my @load = map { $t->load(port => $_->port, rate => 500, conns => 8,
        value => 'X-Arm', log => 1) } @node;

    sleep 2;
    $r->kill;
    my $down = clock_gettime(CLOCK_MONOTONIC);
    sleep $seconds;
    my $up = clock_gettime(CLOCK_MONOTONIC);
    $r->start;
    my $back = time();
    wait_for { !grep { !joined($_) } $with->nodes } timeout => 20,
        what => 'the nodes to join again';
    my $joined = time() - $back;
    my @result = map { $_->stop } @load;

    # of the same moments, side by side

    my @p99 = map { percentile(0.99, map { $_->{end} - $_->{start} }
        grep { $_->{start} / 1e6 > $down && $_->{start} / 1e6 < $up }
            map { $_->log } @$_) } [ @load[0, 1] ], [ @load[2, 3] ];

    my $wrong = sum0(map { $_->{answered} - ($_->{status}{200} || 0),
        values %{ $_->{errors} } } @result[0, 1]);
    my $clients = sum0(map { $_->{status}{200} || 0 } @result[0, 1]);

    # what the fleet says once everything was sent

    my $total;
    my $synced = eval {
        wait_for {
            my @sum = map { my $s = status($_)->{rollouts}{shop}{fleet};
                sum0(map { $s->{$_}{requests} } qw(stable canary)) }
                $with->nodes;
            $total = $sum[0];
            $sum[0] == $sum[1] && $sum[0] >= $clients;
        } timeout => 5;
    };

    printf "killed: Redis away for %d s, 2 x 1,000 requests/s\n", $seconds;
    holds($wrong == 0, "failed requests: $wrong");
    holds($p99[0] <= KILLED_P99 * $p99[1],
        sprintf 'p99 %.2f ms, of the twins without Redis %.2f ms: %.3f',
        $p99[0] / 1000, $p99[1] / 1000, $p99[0] / $p99[1]);
    holds($joined <= BACK, sprintf 'in sync %.2f s after its return',
        $joined);
    holds($synced && $total == $clients,
        "counted by the fleet $total, by the clients $clients");
    end($t);
}


# The agent's work goes with time and not with requests: its instructions in
# some seconds, with and without gate_redis, are divided among as many requests
# as come in that time.

sub cost {
    return print "cost: no valgrind, left out\n" unless which('valgrind');

    my $seconds = $ENV{FLEET_COST} || 20;
    my %did;

    for my $with (0, 1) {
        my $t = Gate::Tool->new;
        my $r = $t->redis;
        my $b = $t->backend('ok');
        my $out = $t->dir . '/callgrind';

        $t->write_file('gate.token', "$token\n");
        chmod 0600, $t->dir . '/gate.token';
        $t->prefix('valgrind', '-q', '--tool=callgrind',
            '--trace-children=yes', "--callgrind-out-file=$out.%p");
        $t->http(workers => 1, log => 'notice',
            conf($with ? $r->addr : '', $b->addr, $b->addr,
                'gate_breach error_rate=50% window=1m min=1000000;'));
        $t->start;
        wait_for { joined($t) } timeout => 60, what => 'the node to join';

        my $l = $t->load(rate => 100, conns => 4, duration => $seconds);
        my $result = $l->result;
        $t->stop;

        my $text = join '', map { slurp($_) } glob "$out.*";
        $did{$with} = sum0($text =~ /^totals: (\d+)$/mg);
        $did{requests}{$with} = $result->{answered};
        end($t);
    }

    my $second = ($did{1} - $did{0}) / $seconds;
    my $cost = $second / COST_RATE;

    printf "cost: one nginx, %d s at 100 requests/s (%d and %d answered)\n",
        $seconds, @{ $did{requests} }{0, 1};
    printf "  with gate_redis %.0f instructions a second more\n", $second;
    holds($cost <= COST, sprintf
        '%.0f instructions a request at %d a second, at most %d', $cost,
        COST_RATE, COST);
}
