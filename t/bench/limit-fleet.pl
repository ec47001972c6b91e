#!/usr/bin/perl

# Copyright (C) nginx-gate authors

# What a fleet makes of one budget, with real nginx and Redis: a load generator
# notes every request, and what was admitted is compared with what the budget
# allows, and with what one place would have decided that sees all requests.
#
#   over     four nodes, one key of 100r/s, 200 requests a second at each:
#            what is admitted, and by how much it is ever too much
#   alone    the same with all the load on one node; its burst is there whole
#   ninety   at 90 % of the rate: who is refused without need
#   minute   60r/m across ten nodes, minute by minute
#   exact    sync=exact: never more than the budget
#   outage   Redis is killed for 20 of 60 seconds
#
# LIMIT_ONLY=over does one, LIMIT_QUICK=1 is for a look, LIMIT_MINUTES=n says
# how many minutes of "minute", LIMIT_SHOW=seconds prints what each node
# admitted in steps of so many.  The exit code is 1 if something does not hold.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use Time::HiRes qw(sleep time);

use Gate::Budget;
use Gate::Tool;
use Gate::Util qw(wait_for which);

use constant { NODES => 4, RATE => 100 };

my $quick = $ENV{LIMIT_QUICK};
my $only = $ENV{LIMIT_ONLY} || '';
my @capacities = (1, 3, 21, 101);
my $failed = 0;

which('redis-server') or die "no redis-server\n";

my @jobs = qw(over alone ninety exact outage minute);
my %job = (over => \&over, alone => \&alone, ninety => \&ninety,
    minute => \&minute, exact => \&exact, outage => \&outage);
die "LIMIT_ONLY is one of: @jobs\n" if $only && !$job{$only};

my $t = Gate::Tool->new(module => 0);
my $redis = $t->redis;

my %fleet;
$job{$_}->() for $only ? $only : @jobs;

my @problems = $t->done;
print "problem: $_\n" for @problems;
exit($failed || @problems ? 1 : 0);


# Four nodes with a zone for each capacity, and those that ask each time.

sub fleet {
    return $fleet{four} ||= Gate::Budget->new($t, redis => $redis,
        nodes => NODES, zones => {
            (map { ("c$_" => "rate=@{[ RATE ]}r/s burst=@{[ $_ - 1 ]}") }
                @capacities),
            (map { ("x$_" => "rate=@{[ RATE ]}r/s burst=@{[ $_ - 1 ]} "
                . 'sync=exact timeout=2s') } 1, 21),
            owing => 'rate=1r/h burst=0',
        });
}

# One line: what, figure, bound.

sub claim {
    my ($what, $figure, $how, $bound, $unit) = @_;

    $unit = '' unless defined $unit;
    my $ok = $how eq 'at most' ? $figure <= $bound : $figure >= $bound;
    printf "  %-56s %9.6g%s, %s %.6g%s: %s\n", $what, $figure, $unit, $how,
        $bound, $unit, $ok ? 'holds' : 'FAILS';
    $failed = 1 unless $ok;
}

sub within {
    my ($what, $figure, $want, $percent) = @_;

    my $off = ($figure / $want - 1) * 100;
    my $ok = abs $off <= $percent;
    printf "  %-56s %9.6g of %.6g, %+.2f %%, at most %g %%: %s\n", $what,
        $figure, $want, $off, $percent, $ok ? 'holds' : 'FAILS';
    $failed = 1 unless $ok;
}

sub ordinary {
    my ($run, $what) = @_;

    print $run->timeline($ENV{LIMIT_SHOW}) if $ENV{LIMIT_SHOW};
    return if $run->strange eq '';
    printf "  %-56s %s: FAILS\n", "$what, other answers", $run->strange;
    $failed = 1;
}

sub share { my ($part, $all) = @_; return 100 * $part / $all }


# More requests than the budget, everywhere.  How much can be too much is what
# docs/limits.md says: of what each other node has not told yet, with a round
# trip as long as the slowest answer took here: it is about the worst moment.

sub bound {
    my ($run, $capacity, $rate) = @_;

    my $way = $run->latency(1) / 1000;
    my $blind = $capacity / 8 + 1 + $rate * (0.0021 + $way);
    my $share = $capacity / NODES > 3 ? $capacity / NODES : 3;
    my $all = $capacity + RATE * $way;
    my ($least) = sort { $a <=> $b } $blind, $share, $all;

    return (NODES - 1) * $least + RATE * $way;
}

sub over {
    my $f = fleet();
    my $seconds = $quick ? 8 : 30;

    print "Four nodes, 200 requests a second at each, a budget of 100r/s, ",
        "$seconds s\n\n";

    for my $capacity (@capacities) {
        for my $random (0, 1) {
            my $what = "capacity $capacity, " . ($random ? 'at random'
                : 'evenly');
            my $run = $f->run(zone => "c$capacity", rate => 200,
                duration => $seconds, random => $random);

            ordinary($run, $what);
            within("$what: admitted after the first second",
                $run->admitted(1, $seconds), RATE * ($seconds - 1), 1);
            claim("$what: ever too much", $run->overshoot(RATE, $capacity),
                'at most', bound($run, $capacity, 200));
        }
    }
    print "\n";
}

sub alone {
    my $f = fleet();
    my $seconds = $quick ? 5 : 15;

    print "The same four nodes, all load on one of them, $seconds s\n\n";

    for my $capacity (@capacities) {
        my $what = "capacity $capacity";

        my $burst = $f->run(zone => "c$capacity", rate => 20_000,
            number => $capacity, nodes => [0], conns => 1);
        claim("$what: of a burst of that many, admitted",
            $burst->admitted, 'at least', $capacity);

        my $run = $f->run(zone => "c$capacity", rate => 4 * 200,
            duration => $seconds, nodes => [1], random => 1);
        ordinary($run, $what);
        within("$what: admitted, beside one place", $run->admitted,
            $run->fitting(RATE, $capacity), 1);
        claim("$what: ever too much", $run->overshoot(RATE, $capacity,
            ended => 1), 'at most', 0);
    }

    # it spent from another node before, and from nowhere for a while
    my $key = Gate::Budget::key();
    my $other = $f->run(zone => 'c101', key => $key, rate => 500,
        number => 50, nodes => [2]);
    sleep 5;
    my $burst = $f->run(zone => 'c101', key => $key, rate => 20_000,
        number => 101, nodes => [3], conns => 1);
    claim('capacity 101: of a burst on another node, 5 s later',
        $burst->admitted, 'at least', 101);
    print "\n";
}

sub ninety {
    my $f = fleet();
    my $seconds = $quick ? 8 : 30;
    my $rate = 0.9 * RATE / NODES;
    my $most = $quick ? 2 : 0.5;

    print "Four nodes at 90 % of the rate together, $seconds s\n\n";

    for my $capacity (@capacities) {
        for my $random (0, 1) {
            my $what = "capacity $capacity, " . ($random ? 'at random'
                : 'evenly');
            # chance needs longer to even out
            my $run = $f->run(zone => "c$capacity", rate => $rate,
                duration => $seconds * (1 + $random), random => $random);
            ordinary($run, $what);

            my ($false, $ideal) = $run->false(RATE, $capacity);
            my $count = $run->count;

            # of few units, who gets one decides who does not get the next:
            # nobody is wronged where at least as many are admitted
            my $fewer = $ideal - $run->admitted;
            my $wronged = $random && $capacity <= 3 && $fewer < $false
                ? ($fewer > 0 ? $fewer : 0) : $false;

            claim("$what: refused, though one place would admit",
                share($wronged, $count), 'at most', $most, ' %');
            claim("$what: refused, though the budget had room",
                share($run->hasty(RATE, $capacity, 0.002), $count),
                'at most', $most, ' %');
        }
    }
    print "\n";
}

sub minute {
    my $minutes = $ENV{LIMIT_MINUTES} || ($quick ? 2 : 4);

    print "Ten nodes, 60r/m, five times as many requests, $minutes min\n\n";

    my $f = Gate::Budget->new($t, redis => $redis, nodes => 10,
        zones => { m => 'rate=60r/m' });
    my $run = $f->run(zone => 'm', rate => 0.5, random => 1,
        duration => 60 * $minutes + 0.5);
    ordinary($run, 'minute by minute');

    printf "  the first minute, with the burst of 60: %d\n",
        $run->admitted(0, 60);
    within("minute $_", $run->admitted(60 * ($_ - 1), 60 * $_), 60, 2)
        for 2 .. $minutes;
    $f->stop;
    print "\n";
}

sub exact {
    my $f = fleet();
    my $seconds = $quick ? 5 : 30;

    print "sync=exact, four nodes, 200 requests a second at each, ",
        "$seconds s\n\n";

    for my $capacity (1, 21) {
        my $what = "capacity $capacity";
        my $run = $f->run(zone => "x$capacity", rate => 200,
            duration => $seconds, random => 1, conns => 32);
        ordinary($run, $what);

        claim("$what: decided without Redis", $f->sum("x$capacity",
            'fallback'), 'at most', 0);
        claim("$what: ever too much", $run->overshoot(RATE, $capacity,
            ended => 1), 'at most', 0);
        within("$what: admitted, beside one place", $run->admitted,
            $run->fitting(RATE, $capacity), 5);
        printf "  %-56s p50 %.2f ms, p99 %.2f ms\n", "$what: answers after",
            $run->latency(0.5), $run->latency(0.99);
    }
    print "\n";
}

sub outage {
    my $f = fleet();
    my ($all, $from, $to) = $quick ? (18, 6, 12) : (60, 20, 40);
    my $capacity = 21;

    print "Redis killed from second $from to second $to of $all\n\n";

    # somebody who owes an hour
    my $debtor = Gate::Budget::key();
    my $owe = $f->run(zone => 'owing', key => $debtor, rate => 5,
        number => 1, nodes => [0]);
    my $again = sub {
        my $r = $f->run(zone => 'owing', key => $debtor, rate => 5,
            number => 1);
        return $r->admitted;
    };
    wait_for { !$again->() } what => 'all nodes to know the debtor';
    my $let = 0;

    my $back;
    my $run = $f->run(zone => "c$capacity", rate => 200, duration => $all,
        code => sub {
            my ($elapsed) = @_;
            my $until = sub {
                while ($elapsed->() < $_[0]) {
                    $let += $again->();
                    sleep 0.5;
                }
            };

            $until->($from);
            $redis->kill;
            $until->($to);
            $redis->start;
            $f->wait_online;
            $back = $elapsed->();
            $until->($all - 1);
        });
    ordinary($run, 'outage');

    printf "  Redis is obeyed again after %.2f s\n", $back - $to;

    within('admitted in all', $run->admitted, $capacity + RATE * $all, 5);
    within('admitted while it was away', $run->admitted($from, $to),
        RATE * ($to - $from), 5);

    # who waited for Redis would do so for a connect or a timeout of it
    my ($before, $while) = map { $run->latency(0.99, @$_) } [1, $from],
        [$from, $to];
    printf "  %-56s %.2f ms\n", 'the 99th percentile of all answers before',
        $before;
    claim('and while it was away', $while, 'at most', 2 * $before + 5, ' ms');
    claim('the longest without an admission after it came back',
        1000 * $run->gap($to, $all - 0.5), 'at most',
        2000 * $capacity / RATE, ' ms');
    claim('ever too much', $run->overshoot(RATE, $capacity),
        'at most', 0.05 * RATE * $all);
    claim('of the debtor, admitted', $let, 'at most', 0);
    print "\n";
}
