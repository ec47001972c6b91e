#!/usr/bin/perl

# Copyright (C) nginx-gate authors

# make soak: does anything grow?  SOAK_SECONDS (600) of steady load, in two
# halves.  In both canaries fail and are rolled back, are retried through the
# API, the site is closed and opened by API and by file.
#
#   calm    the same workers all the time: not one request may be lost
#   storm   nginx is reloaded every few seconds and workers are killed: lost may
#           only be what a killed worker was busy with
#
# And what the gate counted is what the client did.
#
# Measured once a second: resident and anonymous memory (what malloc() has),
# descriptors and threads of workers and master, and the zone.  The median of a
# half's last third must not be above that of its first by more than a slack.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use JSON::PP ();
use Time::HiRes qw(sleep time);

use Gate::Tool;
use Gate::Util qw(json scale slurp spew);

use constant CONNECTIONS => 60;

my $seconds = $ENV{SOAK_SECONDS} || 600;
my $rate = $ENV{SOAK_RATE} || 500;
my $token = 'x' x 40;
my $failed = 0;

# what is measured => how much more is no growth (parts, and the unit's own)

my @measures = (
    [ 'worker resident', 'KiB', 0.10, 512 ],
    [ 'worker anonymous', 'KiB', 0.10, 512 ],
    [ 'worker descriptors', '', 0.10, 24 ],
    [ 'worker threads', '', 0, 1 ],
    [ 'master resident', 'KiB', 0.10, 512 ],
    [ 'master anonymous', 'KiB', 0.10, 512 ],
    [ 'master descriptors', '', 0, 2 ],
    [ 'zone used', 'KiB', 0, 0 ],
);

# the ways in which the canary fails, before the body begins

my @failures = (
    [ 'status', 500 ], ['close'], ['reset'], ['bad_header'],
    ['refuse'],
);

my (%did, @sample, @kills);
my $turn = 0;

my $t = Gate::Tool->new;
my $dir = $t->dir;

my %arm = map { $_ => $t->backend('ok', body => $_) } qw(stable canary);

$t->write_file('gate.token', "$token\n");
chmod 0600, "$dir/gate.token";
$t->http(workers => 2, log => 'notice', conf());
$t->start;

half('calm');
half('storm', [ 5.9, \&reload ], [ 13.1, \&kill_one ]);

my @problems = $t->done;
print "$_\n" for @problems;
print @problems || $failed ? "failed\n" : "nothing grew, nothing was lost\n";
exit(@problems || $failed ? 1 : 0);


sub conf {
    return <<"CONF";
    gate_zone 8m;
    gate_state $dir/state;
    gate_maintenance_file $dir/maintenance;

    upstream stable { zone stable 64k; server ${\ $arm{stable}->addr };
                      keepalive 16; }
    upstream canary { zone canary 64k; server ${\ $arm{canary}->addr };
                      keepalive 16; }

    upstream shop {
        gate_canary stable canary weight=20%;
        gate_key \$http_x_api_key;
        gate_breach error_rate=5% window=10s min=30;
        gate_breach p95=1s window=10s min=30;
        gate_breach latency_ratio=5 window=10s min=30;
    }

    server {
        listen 127.0.0.1:%%PORT:http%%;
        gate_maintenance on;

        location / {
            proxy_pass http://shop;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_connect_timeout 2s;
            proxy_next_upstream error timeout invalid_header
                                http_500 http_502 http_503;
        }

        location = /gate { gate_status; }
        location = /metrics { gate_metrics; }
        location /gate/api/ { gate_api token_file=$dir/gate.token; }
    }
CONF
}


# What happens, each in its own rhythm.

sub half {
    my ($name, @more) = @_;

    my $end = time + $seconds / 2;

    printf "== %s, %d s of %d requests/s\n", $name, $seconds / 2, $rate;

    %did = ();
    @sample = ();
    @kills = ();

    my $before = passed();
    my $load = $t->load(rate => $rate, conns => CONNECTIONS, uri => '/%d',
        log => 1, value => 'Retry-After',
        headers => { 'X-Api-Key' => 'caller-%d' });

    my @events = (
        [ 1.0,  \&sample ],
        [ 4.1,  \&canary ],
        [ 7.3,  \&close_by_api ],
        [ 11.7, \&close_by_file ],
        [ 2.7,  sub { $t->get('/metrics'); $did{'metrics read'}++ } ],
        [ 30,   \&progress ],
        @more,
    );

    my @due = map { time + $_->[0] } @events;

    while (time < $end) {
        for my $i (0 .. $#events) {
            next if time < $due[$i];
            $due[$i] = time + $events[$i][0];
            $events[$i][1]->();
        }

        sleep 0.05;
    }

    figures();
    losses($load, $before);
}

# A canary that is well, fails in one way or another, is rolled back, and is
# given another try.

sub canary {
    my $state = rollout()->{state};

    if ($state eq 'rolled_back') {
        $arm{canary}->listen;
        $arm{canary}->set('ok', body => 'canary');
        api('POST', 'canary/shop/retry', {});
        $did{'retries'}++;
        return;
    }

    $arm{canary}->set(@{ $failures[$turn++ % @failures] });
    $did{'failing canaries'}++;
}

sub close_by_api {
    my $on = api('GET', 'maintenance/global')->{control};

    if ($on && $on->{on}) {
        api('DELETE', 'maintenance');
    } else {
        api('POST', 'maintenance', { on => JSON::PP::true, ttl => 1 });
        $did{'maintenance by API'}++;
    }
}

sub close_by_file {
    if (-e "$dir/maintenance") {
        unlink "$dir/maintenance";
    } else {
        spew("$dir/maintenance", "{\"on\": true, \"ttl\": 1}\n");
        $did{'maintenance by file'}++;
    }
}

sub reload {
    $t->reload(timeout => 20);
    $did{'reloads'}++;
}

sub kill_one {
    my $from = time;
    my $pid = $t->kill_worker;
    push @kills, { pid => $pid, from => $from };
    $did{'workers killed'}++;
}

# Requests that the gate sent to one arm or the other, so far.

sub passed {
    my $totals = rollout()->{totals};
    return $totals->{stable}{requests} + $totals->{canary}{requests};
}

sub rollout { return json($t->get('/gate')->body)->{rollouts}{shop} }

# A worker that is killed takes the answer with it: asked again.

sub api {
    my ($method, $call, $body) = @_;

    for (1 .. 5) {
        my $r = $t->request($method, "/gate/api/$call", headers => {
            Authorization => "Bearer $token",
            $body ? ('Content-Type' => 'application/json') : () },
            $body ? (body => JSON::PP->new->encode($body)) : ());

        return $r->json if $r->status == 200;
        return {} if $r->status == 409;
        die "$method $call: " . $r->as_text . "\n" if $r->status;
    }

    die "$method $call: no answer\n";
}


# What is measured.

sub sample {
    my @workers = $t->workers;
    return unless @workers;

    my %sum;

    for my $pid (@workers) {
        my $m = process($pid) or return;
        $sum{"worker $_"} += $m->{$_} / @workers for keys %$m;
    }

    my $m = process($t->pid) or return;
    $sum{"master $_"} = $m->{$_} for keys %$m;

    my $zone = json($t->get('/gate')->body)->{zone};
    $sum{'zone used'} = $zone->{used} / 1024;

    push @sample, \%sum;
}

sub process {
    my ($pid) = @_;

    my $status = eval { slurp("/proc/$pid/status") } or return;
    my %v = $status =~ /^(\w+):\s+(\d+)/mg;
    my @fds = glob "/proc/$pid/fd/*";

    return { resident => $v{VmRSS}, anonymous => $v{RssAnon},
        threads => $v{Threads}, descriptors => scalar @fds };
}

sub progress {
    my $last = $sample[-1] or return;
    printf "%4d s: worker %d KiB (anonymous %d), %d descriptors; zone %d KiB; "
        . "%s\n", scalar @sample, @$last{'worker resident',
        'worker anonymous', 'worker descriptors', 'zone used'},
        join ', ', map { "$did{$_} $_" } sort keys %did;
}

sub median {
    my @v = sort { $a <=> $b } @_;
    return @v % 2 ? $v[@v / 2] : ($v[@v / 2 - 1] + $v[@v / 2]) / 2;
}

sub figures {
    my $third = int(@sample / 3);
    die "too short to tell: @{[ scalar @sample ]} samples\n" if $third < 3;

    printf "\n%-24s %12s %12s %10s\n", '', 'first third', 'last third',
        'allowed';

    for (@measures) {
        my ($name, $unit, $part, $slack) = @$_;

        my $first = median(map { $_->{$name} } @sample[0 .. $third - 1]);
        my $last = median(map { $_->{$name} } @sample[-$third .. -1]);
        my $allowed = $first * (1 + $part) + $slack;
        my $ok = $last <= $allowed;

        printf "%-24s %12.0f %12.0f %10.0f %s%s\n", $name, $first, $last,
            $allowed, $unit, $ok ? '' : '  GREW';
        $failed = 1 unless $ok;
    }

    print "\n";
}

# A lost request must be one that was under way on a killed worker: it ended
# within a moment of the kill.

sub losses {
    my ($load, $before) = @_;

    my $res = $load->stop;
    my $passed = passed() - $before;
    my %status = %{ $res->{status} };
    my $refused = $res->{values}{'Retry-After'};
    my $told = 0;
    $told += $refused->{$_} for grep { $_ ne '(none)' } keys %$refused;

    my $errors = 0;
    $errors += $_ for values %{ $res->{errors} };

    my $bad = 0;
    $bad += $status{$_} for grep { $_ != 200 && $_ != 503 } keys %status;
    $bad += ($status{503} || 0) - $told;

    # every connection of a worker that was killed may have had one

    my $may = @kills * CONNECTIONS;

    printf "%d requests, %d answered 200, %d refused in maintenance, "
        . "%d lost (%d kills), %d other answers; the gate counted %d\n",
        $res->{sent}, $status{200} || 0, $told, $errors, scalar @kills, $bad,
        $passed;
    printf "%s\n", join ', ', map { "$did{$_} $_" } sort keys %did;

    check('answers that are none of ours', $bad == 0);
    check('the gate counted others than the client',
        abs($passed - ($status{200} || 0)) <= $may);
    check('more requests lost than were under way', $errors <= $may);
    check('requests lost far from a kill', near_kills($load));
    check('requests in flight at the end',
        api('GET', 'drain?timeout=5s')->{in_flight} == 0);
    check('nothing was rolled back', $did{retries} || $seconds < 60);
    check('the load did not keep up',
        $res->{sent} > 0.9 * $rate * $res->{seconds});
    print "\n";
}

sub near_kills {
    my ($load) = @_;

    my @lost = grep { defined $_->{err} } $load->log;
    my ($up) = slurp('/proc/uptime') =~ /^(\S+)/;
    my $offset = time - $up;             # of the log's monotonic clock

    for my $lost (@lost) {
        my $at = $lost->{end} / 1e6 + $offset;
        my ($kill) = grep { abs($at - $_->{from}) < 2 * scale() } @kills;

        if (!$kill) {
            printf "lost far from a kill: %s\n", join ' ',
                map { "$_=" . ($lost->{$_} // '-') } sort keys %$lost;
            return 0;
        }
    }

    return 1;
}

sub check {
    my ($what, $ok) = @_;
    return if $ok;
    print "NOT GOOD: $what\n";
    $failed = 1;
}
