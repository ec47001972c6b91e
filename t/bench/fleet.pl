#!/usr/bin/perl

# Copyright (C) nginx-gate authors

# What several nodes and one Redis promise, measured on this machine:
#
#   toggles   plain SET and DEL, under load: time from Redis's reply until the
#             last worker of four nodes answers accordingly
#   flips     a canary that fails only on a node with 2 % of the traffic: time
#             from the answer that proves it until the end of the last canary
#             request anywhere
#   outage    Redis is killed for half a minute under load: failed requests,
#             latency beside a fleet without Redis (a second each, in turn),
#             time until it is obeyed again, and what was counted
#
# FLEET_ONLY=toggles does one, FLEET_QUICK=1 is for a look.  The exit code is
# 1 if a promise is broken.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use Time::HiRes qw(clock_gettime sleep time CLOCK_MONOTONIC);

use Gate::Fleet;
use Gate::Rollout;
use Gate::Tool;
use Gate::Util qw(wait_for which);

use constant { NODES => 4, RATE => 2000 };

my $quick = $ENV{FLEET_QUICK};
my $only = $ENV{FLEET_ONLY} || '';
my $failed = 0;

which('redis-server') or die "no redis-server\n";

my $t = Gate::Tool->new(module => 0);
my $r = $t->redis;

# One backend process for all: the canary fails for the first node only.

$t->http(workers => 1, <<'EOF_CONF');
    keepalive_requests 100000000;
    server { listen 127.0.0.1:%%PORT:stable%%; location / { return 200 "s"; } }
    server {
        listen 127.0.0.1:%%PORT:canary%%;
        location / {
            if ($http_x_fail) { return 500; }
            return 200 "c";
        }
    }
EOF_CONF
$t->start;

my @fleets;
my %job = (toggles => \&toggles, flips => \&flips, outage => \&outage);
die "FLEET_ONLY is one of: @{[ sort keys %job ]}\n" if $only && !$job{$only};
$job{$_}->() for $only ? $only : qw(toggles flips outage);

my @problems = $t->done;
print "problem: $_\n" for @problems;
exit($failed || @problems ? 1 : 0);

# A fleet with its endpoints; redis => 0: each node on its own.

sub fleet {
    my (%opt) = @_;

    my @g;
    my $redis = $opt{redis} ? 'gate_redis redis://' . $r->addr . ';' : '';
    my $fleet = $t->fleet(NODES, module => 1, sub {
        my ($node, $i) = @_;
        $g[$i] = Gate::Rollout->new($node);
        my $fail = $opt{fails} && $i == 0 ? 1 : "''";
        return <<"EOF_CONF";
    $redis
    proxy_http_version 1.1;
    proxy_set_header Connection '';
    proxy_set_header X-Fail $fail;
    proxy_next_upstream error timeout http_500;

    upstream stable { server 127.0.0.1:@{[ $t->port('stable') ]};
        keepalive 32; }
    upstream canary { server 127.0.0.1:@{[ $t->port('canary') ]};
        keepalive 32; }
    upstream shop {
        gate_canary stable canary weight=$opt{weight} id=1;
        gate_breach error_rate=5% min=5;
    }

    server {
        listen 127.0.0.1:%%PORT:http%%;
        gate_maintenance on;
        add_header X-Pid \$pid always;
        add_header X-Arm \$gate_arm_shop always;
@{[ $g[$i]->endpoints ]}
        location / { proxy_pass http://shop; }
        location = /m { gate_maintenance m; return 200 "m"; }
        location = /gate-fleet-pid { return 204; }
    }
EOF_CONF
    });

    $fleet->start;
    return ($fleet, \@g);
}

sub joined {
    my ($fleet) = @_;
    $r->cmd('SET', 'gate:maintenance:m', 'on');
    $fleet->converge(503, uri => '/m');
    $r->cmd('DEL', 'gate:maintenance:m');
    $fleet->converge(200, uri => '/m');
}

sub promise {
    my ($ok, $text) = @_;
    printf "%-8s %s\n", $ok ? 'ok' : 'BROKEN', $text;
    $failed = 1 unless $ok;
}

sub percentile {
    my ($p, @sorted) = @_;
    my $i = int($p * @sorted + 0.999999) - 1;
    return $sorted[$i < 0 ? 0 : $i];
}

sub toggles {
    my ($fleet, $g) = fleet(redis => 1, weight => '20%');
    joined($fleet);

    my $finds = sub { my $n = 0;
        $n += $_->status->{redis}{poll_finds} || 0 for @$g; $n };
    my $before = $finds->();
    my @load = map { $t->load(port => $_->port, uri => '/', conns => 8,
        rate => RATE / NODES) } $fleet->nodes;
    my $p = $fleet->probe(redis => $r, toggles => $quick ? 100 : 1000,
        pause => 10, limit => 300);
    my @results = map { $_->stop } @load;

    print "\ntoggles: $p->{n}, $p->{workers} workers, under ",
        RATE, " requests/s\n";
    printf "  p50 %.2f ms, p99 %.2f ms, max %.2f ms\n",
        map { $p->{$_} / 1000 } qw(p50 p99 max);
    promise($p->{p99} <= 50_000, 'p99 at most 50 ms');
    promise(!$p->{timeouts} && !$p->{flaps} && !$p->{strange},
        'each was seen by all, once');
    my $polled = $finds->() - $before;
    promise($polled == 0, "$polled delivered by the poll");
    no_errors([200, 503], @results);
    $fleet->stop;
}

sub no_errors {
    my ($statuses, @results) = @_;

    my ($errors, $other, $answered) = (0, 0, 0);
    my %good = map { $_ => 1 } @$statuses;
    for my $result (@results) {
        $errors += $_ for values %{ $result->{errors} };
        $answered += $result->{answered};
        $other += $result->{status}{$_}
            for grep { !$good{$_} } keys %{ $result->{status} };
    }

    promise(!$errors && !$other,
        "0 failed requests of $answered (errors $errors, other $other)");
}

# Requests by the log of a load: start, end (us), arm.

sub requests {
    my ($load, $code) = @_;
    open my $fh, '<', $load->{log} or die "$load->{log}: $!\n";
    while (defined(my $line = <$fh>)) {
        my ($start, $end, $status, $err, $arm) = split / /, $line;
        $code->($start, $end, $arm, $status);
    }
}

sub flips {
    my ($fleet, $g) = fleet(redis => 1, weight => '50%', fails => 1);
    joined($fleet);

    my $flips = $ENV{FLEET_FLIPS} || ($quick ? 20 : 500);
    my @nodes = $fleet->nodes;
    my @load = map { $t->load(port => $nodes[$_]->port, uri => '/',
        conns => 8, log => 1, value => 'X-Arm', rate => $_ == 0 ? RATE * 0.02
            : RATE * 0.98 / (NODES - 1)) } 0 .. $#nodes;

    my @marks = (now());
    for my $n (1 .. $flips) {
        wait_for { $r->hash('gate:canary:shop')->{state} eq 'rolled_back' }
            timeout => 60, what => "flip $n";
        sleep 0.3;
        push @marks, now();
        $g->[1]->api('canary/shop/start') if $n < $flips;
    }

    my @results = map { $_->stop } @load;
    my @last = map { [] } @nodes;
    for my $i (0 .. $#nodes) {
        my $k = 0;
        my @canary;
        requests($load[$i], sub {
            my ($start, $end, $arm) = @_;
            push @canary, $end if $arm eq 'canary';
        });
        for my $end (sort { $a <=> $b } @canary) {
            $k++ while $k < $#marks && $end > $marks[$k + 1];
            $last[$i][$k] = $end;
        }
    }

    my @took;
    for my $k (0 .. $flips - 1) {
        my $proof = $last[0][$k];
        if (!$proof) {
            printf "  flip %d without proof, after %.0f ms; others %s\n", $k,
                ($marks[$k + 1] - $marks[$k]) / 1000,
                join ' ', map { defined $_->[$k] ? $_->[$k] - $marks[$k] : '-' } @last;
            next;
        }
        my $end = $proof;
        for (map { $_->[$k] || 0 } @last) { $end = $_ if $_ > $end }
        push @took, ($end - $proof) / 1000;
    }

    @took = sort { $a <=> $b } @took;
    print "\nflips: ", scalar @took, ", on a node with 2 % of ", RATE,
        " requests/s\n";
    printf "  p50 %.1f ms, p99 %.1f ms, max %.1f ms\n",
        map { percentile($_, @took) } 0.5, 0.99, 1;
    promise(@took == $flips, "$flips flips");
    promise(percentile(0.99, @took) <= 300, 'p99 at most 300 ms');
    my @events = grep { $_->{event} eq 'rolled_back' } $r->events;
    promise(@events == $flips, @events . ' events, one for each');
    no_errors([200], @results);
    $fleet->stop;
    $r->cmd('FLUSHALL');
}

sub now { return int(clock_gettime(CLOCK_MONOTONIC) * 1e6) }

sub outage {
    my ($fleet, $g) = fleet(redis => 1, weight => '20%');
    my ($alone) = fleet(redis => 0, weight => '20%');
    joined($fleet);
    my $already = totals();

    my $rounds = $quick ? 6 : 30;
    my (%latency, %arms, @results);

    my $round = sub {
        my ($name, $which, $code) = @_;
        my @load = map { $t->load(port => $_->port, uri => '/', conns => 8,
            log => 1, value => 'X-Arm', duration => 1,
            rate => RATE / NODES) } $which->nodes;
        $code->() if $code;
        for (@load) {
            push @results, $_->result;
            requests($_, sub {
                my ($start, $end, $arm) = @_;
                push @{ $latency{$name} }, $end - $start;
                $arms{$arm}++ if $name eq 'redis';
            });
            unlink $_->{log};
        }
    };

    # killed and started again in the middle of a second of load
    my ($killed, $back, $took);
    $round->('redis', $fleet, sub {
        sleep 0.3;
        $r->kill;
        $killed = time;
    });
    for (2 .. $rounds / 2) {
        $round->('alone', $alone);
        $round->('redis', $fleet);
    }
    $round->('alone', $alone) for 1 .. 2;
    $round->('redis', $fleet, sub {
        sleep 0.3;
        $r->start;
        $back = time;
        joined($fleet);
        $took = time - $back;
    });
    my $away = $back - $killed;

    my $want = ($arms{stable} || 0) + ($arms{canary} || 0);
    my $got;
    eval { wait_for {
        my $sum = totals();
        $got = $sum->{stable} + $sum->{canary} - $already->{stable}
            - $already->{canary};
        $got >= $want;
    } timeout => 10 };

    @$_ = sort { $a <=> $b } @$_ for values %latency;
    printf "\noutage: Redis away for %.0f s under %d requests/s\n", $away,
        RATE;
    my %p99 = map { $_ => percentile(0.99, @{ $latency{$_} }) } keys %latency;
    printf "  p99 %.0f us with Redis dead, %.0f us without, p50 %.0f and "
        . "%.0f us\n", @p99{qw(redis alone)},
        map { percentile(0.5, @{ $latency{$_} }) } qw(redis alone);
    promise($p99{redis} <= 1.1 * $p99{alone}, sprintf '%.3f times the p99',
        $p99{redis} / $p99{alone});
    promise($took <= 2, sprintf 'obeyed again after %.3f s', $took);
    promise($got == $want, "totals of the fleet $got, clients counted $want");
    no_errors([200], @results);
    $_->stop for $fleet, $alone;
}

# Requests by arm of all nodes, ever.

sub totals {
    my $sum = { @{ $r->cmd('HGETALL', 'gate#totals:shop') } }->{sum} || '';
    my %v = map { split /:/ } split ' ', $sum;
    return { stable => $v{0} || 0, canary => $v{11} || 0 };
}
