#!/usr/bin/perl

# The promise: 2,000 requests/s, a tenth of them to a canary that fails every
# one in some way.  No client sees it, and the gate flips within 300 ms of the
# attempt that proves the breach.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Rollout;
use Test::More;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC CLOCK_REALTIME);
use Time::Local ();

my $RATE = 2000 / Gate::scale();
my $MIN = 100;          # attempts that the rule asks for
my $LIMIT = 300;        # ms from the attempt that breaches to the flip
my $SLACK = 10;         # machines differ; the measured figures are printed

my $READ = 1000 * Gate::scale();    # proxy_read_timeout, ms
my $SLOW = 200;                     # the threshold of p95=, ms
my $GIVE_UP = 700 * Gate::scale();  # a client's patience, ms

my $t = Gate->new;
my $g = Gate::Rollout->new($t);

my $stable = $t->backend('ok', body => 'stable', name => 'stable');

my %canary = (
    500     => ['status', 500],
    reset   => ['reset'],
    header  => ['bad_header'],
    timeout => ['silent'],
    hung    => ['silent'],
    refused => ['refuse'],
);

my %server = (down => 'server ' . $stable->addr . ' down;');

for my $way (keys %canary) {
    my $backend = $t->backend(@{ $canary{$way} }, name => $way);
    $backend->refuse if $way eq 'refused';
    $server{$way} = 'server ' . $backend->addr . ';';
}

my ($upstreams, $locations) = ('', '');

for my $way (sort keys %server) {
    my $rule = $way eq 'hung' ? "p95=${SLOW}ms" : 'error_rate=5%';
    my $timeout = $way eq 'timeout' ? "${READ}ms" : '60s';

    $upstreams .= <<"EOF_CONF";
    upstream c_$way { $server{$way} }
    upstream u_$way {
        gate_canary s c_$way weight=10%;
        gate_breach $rule min=$MIN;
    }
EOF_CONF

    $locations .= <<"EOF_CONF";
        location /$way {
            proxy_pass http://u_$way;
            proxy_read_timeout $timeout;
            add_header X-Arm \$gate_arm_u_$way always;
        }
EOF_CONF
}

$t->http(workers => 2, <<"EOF_CONF");
    proxy_http_version 1.1;
    proxy_set_header Connection '';
    proxy_next_upstream error timeout invalid_header
        http_500 http_502 http_503 http_504;

    upstream s { server @{[ $stable->addr ]}; keepalive 100; }
$upstreams
    server {
        listen 127.0.0.1:%%PORT:http%%;
@{[ $g->endpoints ]}
$locations
    }
EOF_CONF

$t->start;

# The time of a record on the clock of the load's log, in ms.

sub record_ms {
    my ($record) = @_;
    my ($date, $ms) = $record->{time} =~ /^(.*)\.(\d{3})Z$/;
    my @n = $date =~ /(\d+)/g;
    my $unix = Time::Local::timegm(@n[5, 4, 3, 2], $n[1] - 1, $n[0]) * 1000
        + $ms;
    return $unix - 1000 * (clock_gettime(CLOCK_REALTIME)
        - clock_gettime(CLOCK_MONOTONIC));
}

# Load until the flip and a bit beyond: (result, log, record).

sub run {
    my ($way) = @_;

    my $load = $t->load(uri => "/$way?%d", rate => $RATE, duration => 60,
        conns => 400, timeout => $way eq 'hung' ? $GIVE_UP : 30000,
        value => 'X-Arm', no_retry => 1, log => 1);

    my $rollout;
    wait_for { ($rollout = $g->rollout("u_$way"))->{last_record} }
        what => "the flip of $way";

    # what begins now is never the canary's
    my $sent = $rollout->{totals}{stable}{requests};
    wait_for {
        $g->rollout("u_$way")->{totals}{stable}{requests} > $sent + 600
    } what => 'traffic after the flip';

    my $result = $load->stop;
    return ($result, [$load->log], $rollout->{last_record});
}

sub report {
    my ($way, $result, $record, $ms) = @_;
    note sprintf '%s: %d requests at %d/s, p99 %d ms; flip at %d attempts, '
        . '%.0f ms after the one that breached; %d failures prevented',
        $way, $result->{answered}, $result->{rate},
        $result->{latency}{p99} / 1000, $record->{canary_arm}{attempts},
        $ms, $record->{client_failures_prevented};
}

for my $way (qw(500 reset refused down header timeout)) {
    subtest "a canary that fails by: $way" => sub {
        my ($result, $log, $record) = run($way);

        is_deeply($result->{status}, { 200 => $result->{answered} },
            'every client gets 200');
        is_deeply([grep { $_ } values %{ $result->{errors} }], [],
            'no connection breaks');

        # by the end of the request, a bit after that of its attempt
        my @ends = sort { $a <=> $b } map { $_->{end} }
            grep { ($_->{value} || '') eq 'canary' } @$log;
        cmp_ok(scalar @ends, '>=', $MIN, 'enough went to the canary');

        my $ms = record_ms($record) - $ends[$MIN - 1] / 1000;
        report($way, $result, $record, $ms);
        cmp_ok($ms, '<', $LIMIT * $SLACK * Gate::scale(), 'flipped in time');

        # nobody is sent there any more: the last to be was on its way then
        my ($last) = sort { $b <=> $a } map { $_->{start} / 1000 }
            grep { ($_->{value} || '') eq 'canary' } @$log;
        cmp_ok($last - record_ms($record), '<', 100 * $SLACK * Gate::scale(),
            'and it stays so');

        is($record->{reason}, "error_rate=5% min=$MIN", 'the reason');
    };
}

subtest 'a canary that hangs until its clients give up' => sub {
    my ($result, $log, $record) = run('hung');

    my @lost = sort { $a->{start} <=> $b->{start} }
        grep { $_->{err} || ($_->{status} || 0) != 200 } @$log;
    my $flip = record_ms($record);

    cmp_ok(scalar @lost, '>=', $MIN, 'clients had to give up');

    # so long after the start of the attempt that made the minimum
    my $ms = $flip - ($lost[$MIN - 1]{start} / 1000 + $SLOW);
    report('hung', $result, $record, $ms);
    cmp_ok($ms, '<', $LIMIT * $SLACK * Gate::scale(), 'flipped in time');

    # the record's clock ticks once a turn of the event loop
    is(scalar(grep { $_->{start} / 1000 > $flip + 100 * Gate::scale() }
        @lost), 0, 'none that began after the flip');
    is($record->{reason}, "p95=${SLOW}ms min=$MIN", 'the reason');
};

$t->done;
done_testing;
