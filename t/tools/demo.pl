#!/usr/bin/perl

# Copyright (C) nginx-gate authors

# make demo: nginx with the gate in front of two backends, a steady load, one
# tenth of it to the canary.  The canary starts to fail, no client notices, and
# the gate takes it out; then the site is closed and opened again.
#
# It runs conf/canary.conf, with ports that are free and in a directory that
# is gone afterwards.  DEMO_SECONDS is about how long it takes (24), DEMO_CONF
# another configuration like that one.  The exit code is 0 only if everything
# that is promised was kept.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use Time::HiRes qw(sleep time);
use Time::Local ();

use Gate::Tool;
use Gate::Util qw(root scale slurp spew wait_for);

use constant {
    RATE => 600,                         # requests per second
    ROW  => 0.4,                         # seconds
};

my $seconds = $ENV{DEMO_SECONDS} || 24;
my $colour = -t STDOUT && !length($ENV{NO_COLOR} // '')
    && ($ENV{TERM} // 'dumb') ne 'dumb';
my $token = join '', map { sprintf '%02x', int rand 256 } 1 .. 32;
my (@broken, %last, $log, $rows);

$SIG{INT} = sub { print "\ninterrupted\n"; exit 130 };
$SIG{TERM} = sub { exit 143 };

my $t = Gate::Tool->new;
my $dir = $t->dir;

my $stable = backend('version 1');
my $canary = backend('version 2');

$t->http(log => 'notice', configuration());
$t->start;

headline('nginx with the gate on port ' . $t->port . ', stable on '
    . $stable->port . ', canary on ' . $canary->port . '; ' . RATE
    . ' requests/s');

my $start = time;

my $load = $t->load(rate => RATE, conns => 60, uri => '/cart/%d', log => 1,
    headers => { 'X-Api-Key' => 'caller-%d' }, value => 'Retry-After');

wait_for { open $log, '<', $load->{log} } what => 'the log of the load';

the_canary();
the_flip();
the_switch();
the_end();


# Scenes.

sub the_canary {
    scene('10 % of the callers get the canary');
    watch($seconds * 0.25);

    my $r = rollout();
    promise('the canary has its share', $r->{arms}{canary}{requests} > 0);
}

sub the_flip {
    scene('the canary starts to fail: two answers in three are 500');
    spew("$dir/broken", '');

    watch(20 * scale(), sub { rollout()->{state} eq 'rolled_back' });

    my $r = rollout();
    my $record = $r->{last_record};

    promise('the gate rolled the canary back by itself',
        $r->{state} eq 'rolled_back' && $record && $record->{by} eq 'verdict');

    record($record) if $record;

    scene('everybody is on stable again');

    my $before = $canary->requests;
    watch($seconds * 0.15);
    promise('after that, not one request for the canary',
        $canary->requests == $before);
}

sub the_switch {
    scene('maintenance on, under load: POST /gate/api/maintenance');
    api('POST', 'maintenance', '{"on": true, "message": "Back in a minute", '
        . '"retry_after": 60, "reason": "demo"}');

    my $drain = api('GET', 'drain?timeout=10s');
    note(sprintf 'GET /gate/api/drain: nobody is in any more after %d ms '
        . '(in_flight %d)', $drain->{waited_ms}, $drain->{in_flight});
    promise('requests in flight are 0 once the site is closed',
        $drain->{drained} && $drain->{on} && $drain->{in_flight} == 0);

    my $before = $stable->requests;
    watch($seconds * 0.2);
    promise('while it is closed, not one request for a backend',
        $stable->requests == $before);

    scene('maintenance off: DELETE /gate/api/maintenance');
    api('DELETE', 'maintenance');
    watch($seconds * 0.15);
    promise('and open again', $stable->requests > $before);
}

sub the_end {
    my $res = $load->stop;
    my $r = rollout();
    my $errors = errors($res);
    my $refused = $res->{status}{503} || 0;
    my $told = $res->{values}{'Retry-After'}{60} || 0;
    my $saved = $r->{last_record} ? totals($r) : 0;

    my @problems = $t->done;
    promise('nginx ended cleanly, nothing is left', !@problems);

    promise('not one client saw an error', $errors == 0);
    promise('each refused request had its Retry-After',
        $refused > 0 && $refused == $told);

    scene(sprintf 'summary of %d seconds', time - $start);
    line('requests', $res->{sent});
    line('answered 200', $res->{status}{200} || 0);
    line('refused in maintenance, 503 with Retry-After', $told);
    line('client errors', $errors);
    line('failures of the canary that no client saw', $saved);
    print "\n";

    if (@broken) {
        print paint(31, "not kept: $_"), "\n" for @broken;
        print "$_\n" for @problems;
        exit 1;
    }

    print paint(32, 'All promises were kept.'), "\n";
    exit 0;
}


# The stage.

# A release in a process of its own: some work, then an answer.  Once there
# is the file, two of three answers are errors.

sub backend {
    my ($name) = @_;

    my $n = 0;
    my $fails = $name eq 'version 2';

    return $t->backend(sub {
        my @ok = ('ok', body => "$name\n", delay => 4 + $n % 9);

        return @ok unless $fails && -e "$dir/broken" && $n++ % 3 != 2;

        spew("$dir/first", time) unless -e "$dir/first";
        return ('status', 500, body => "broken\n");
    });
}

# conf/canary.conf, moved to where nobody is disturbed.

sub configuration {
    my $text = slurp($ENV{DEMO_CONF} || root() . '/conf/canary.conf');

    $t->write_file('gate.token', "$token\n");
    chmod 0600, "$dir/gate.token";

    my %move = (
        'listen 80;'            => 'listen 127.0.0.1:%%PORT:http%%;',
        '127.0.0.1:8081'        => $stable->addr,
        '127.0.0.1:8082'        => $canary->addr,
        '/var/lib/nginx/gate'   => "$dir/state",
        '/var/www/maintenance'  => "$dir/maintenance",
        '/etc/nginx/gate.token' => "$dir/gate.token",
    );

    for my $from (sort keys %move) {
        $text =~ s/\Q$from\E/$move{$from}/
            or die "no $from in the configuration\n";
    }

    return $text;
}

sub status {
    my $r = $t->get('/gate');
    die 'no status: ' . $r->as_text . "\n" unless $r->status == 200;
    return $r->json;
}

sub rollout { return status()->{rollouts}{shop} }

sub api {
    my ($method, $call, $body) = @_;

    my $r = $t->request($method, "/gate/api/$call", timeout => 20 * scale(),
        headers => { Authorization => "Bearer $token", defined $body
            ? ('Content-Type' => 'application/json') : () },
        defined $body ? (body => $body) : ());

    die "$method $call: " . $r->as_text . "\n" unless $r->status == 200;
    return $r->json;
}

# A table row every now and then, for that long or until the condition holds.

sub watch {
    my ($time, $until) = @_;

    my $end = time + $time;
    $rows = 0;
    look();

    while (time < $end) {
        my $next = time + ROW;

        while (time < $next) {
            if ($until && $until->()) {
                row() if time > $last{time} + ROW / 4;
                return;
            }

            sleep 0.05;
        }

        row();
    }
}

# What came in since the last look: the clients' side from the log of the
# load, the gate's from its status.

sub look {
    my $s = status();
    my $r = $s->{rollouts}{shop};
    my %now = (time => time, state => $r->{state},
        closed => $s->{maintenance}{global}{on},
        canary => $r->{totals}{canary}{requests},
        stable => $r->{totals}{stable}{requests},
        attempts => $r->{totals}{canary}{attempts},
        failures => $r->{totals}{canary}{failures},
        refused => $s->{maintenance}{global}{refused_total},
        errors => $last{errors} || 0);

    # a line that is half written is for the next look

    my $from = tell $log;

    while (my $line = <$log>) {
        last if $line !~ /\n\z/;
        $from = tell $log;

        my ($status, $error, $value) = (split / /, $line)[2 .. 4];

        $now{errors}++ unless $error eq '-'
            && ($status == 200 || $status == 503 && $value ne '-');
    }

    seek $log, $from, 0;

    my %was = %last;
    %last = %now;
    return (\%was, \%now);
}

sub row {
    my ($was, $now) = look();
    my %d = map { $_ => $now->{$_} - $was->{$_} }
        qw(time canary stable attempts failures refused);

    print paint(1, sprintf "%8s %11s %10s %14s %14s %12s  %s\n", 'time',
        'requests/s', 'to canary', 'canary errors', 'client errors',
        '503', 'state') unless $rows++;

    my $share = percent($d{canary}, $d{canary} + $d{stable});
    my $rate = percent($d{failures}, $d{attempts});
    my $state = $now->{closed} ? 'maintenance' : $now->{state};

    printf "%7.1fs %11.0f %10s %s %s %12s  %s\n", $now->{time} - $start,
        ($d{canary} + $d{stable} + $d{refused}) / $d{time}, $share,
        paint($d{failures} ? 33 : 0, sprintf '%14s', $rate),
        paint($now->{errors} ? 31 : 32, sprintf '%14d', $now->{errors}),
        $d{refused} || '',
        paint($state eq 'progressing' ? 0 : 33, $state);
}

sub percent {
    my ($n, $of) = @_;
    return $of > 0 ? sprintf '%.1f %%', 100 * $n / $of : '-';
}


# The record of the flip, for people.

sub record {
    my ($record) = @_;

    my ($y, $mon, $d, $h, $min, $s) =
        $record->{time} =~ /^(\d+)-(\d+)-(\d+)T(\d+):(\d+):([\d.]+)Z$/;
    my $flip = Time::Local::timegm(int $s, $min, $h, $d, $mon - 1, $y)
        + $s - int $s;
    my $ms = ($flip - slurp("$dir/first")) * 1000;
    my ($c, $v1) = @$record{qw(canary_arm stable_arm)};

    scene("rolled back: $record->{canary}, release $record->{id}");
    line('because of', "gate_breach $record->{reason}");
    line('measured', sprintf '%.1f %% errors, allowed are %.1f %%',
        100 * $record->{value}, 100 * $record->{bound});
    line('weight', "$record->{weight_before} % -> "
        . "$record->{weight_after} %, actual share "
        . sprintf('%.1f %%', $record->{actual_share} // 0));
    line('canary', sprintf '%d attempts, %d failed, p95 %s ms',
        $c->{attempts}, $c->{failures}, $c->{p95_ms} // '-');
    line('stable', sprintf '%d attempts, %d failed, p95 %s ms',
        $v1->{attempts}, $v1->{failures}, $v1->{p95_ms} // '-');
    line('from the first failed attempt to the flip',
        sprintf '%d ms', $ms < 0 ? 0 : $ms);
    line('client-visible failures prevented',
        $record->{client_failures_prevented});
    line('labels', join ', ', map { "$_=$record->{labels}{$_}" }
        sort keys %{ $record->{labels} || {} });

    promise('failures were prevented',
        $record->{client_failures_prevented} > 0);
}

# The failures that stable made good, also those after the flip.

sub totals {
    my ($r) = @_;
    return $r->{saved} || $r->{last_record}{client_failures_prevented};
}

sub errors {
    my ($res) = @_;

    my $n = 0;
    $n += $_ for values %{ $res->{errors} };
    $n += $res->{status}{$_} for grep { $_ != 200 && $_ != 503 }
        keys %{ $res->{status} };
    $n += $res->{sent} - $res->{answered} - $n if $res->{sent}
        > $res->{answered} + $n;
    return $n;
}


# Words.

sub paint {
    my ($code, $text) = @_;
    return $colour && $code ? "\e[${code}m$text\e[0m" : $text;
}

sub headline { print paint(1, $_[0]), "\n" }

sub scene { print "\n", paint(36, "== $_[0]"), "\n" }

sub note { print "   $_[0]\n" }

sub line { printf "   %-46s %s\n", $_[0], $_[1] }

sub promise {
    my ($what, $kept) = @_;
    push @broken, $what unless $kept;
}
