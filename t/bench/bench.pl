#!/usr/bin/perl

# Copyright (C) nginx-gate authors

# What a request through the gate costs, beside two others in the same run:
#
#   plain     proxy_pass to an upstream, no module loaded
#   gate      gate_canary, gate_breach, gate_maintenance, gate_state
#   key       the same with gate_key, which reads and hashes a header
#   nginx     split_clients by that header, a variable in proxy_pass and
#             "if (-f file)"
#
# Instructions are those that a worker executes in user space, counted by
# callgrind: two runs with different numbers of requests, the difference
# divided by the difference of the numbers, so that the start cancels out.
# What malloc() and free() do inside is shown apart: how long they search
# depends on what the process freed before, and differs by 500 instructions
# a request between two runs of the same program.
#
# Throughput is that of wrk, nginx and backend together on one processor, which
# has then always something to do: on several, they wait for each other, and
# how they do decides more than the work.  It is compared in pairs that follow
# each other within seconds, so that what else the machine does meets both
# sides alike, and every few pairs by new processes.
#
# BENCH_QUICK=1 takes half a minute, BENCH_ONLY=instructions or throughput
# does one half, BENCH_KEEP=DIR keeps callgrind's files.  The exit code is 1
# if a budget is exceeded.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use File::Copy ();

use Gate::Bench qw(calm count drive interval median processor quit wrk);
use Gate::Tool;
use Gate::Util qw(which);

use constant {
    INSTRUCTIONS => 900,                 # the most over the plain proxy
    THROUGHPUT   => 0.97,                # the least of the plain proxy's
    RESTART      => 5,                   # rounds
};

my $quick = $ENV{BENCH_QUICK};
my $only = $ENV{BENCH_ONLY} || '';
my @counts = $quick ? (244, 1220) : (488, 4880);
my $pairs = $ENV{BENCH_PAIRS} || ($quick ? 5 : 30);
my $seconds = 1;
my $failed = 0;

my %need = (instructions => 'valgrind', throughput => 'wrk');
for ($only ? $only : sort keys %need) {
    die "BENCH_ONLY is instructions or throughput\n" unless $need{$_};
    which($need{$_}) or die "no $need{$_}: install the package $need{$_}\n";
}

calm();

my @cpu = processor();

my $backend = backend();
my @variants = variants($backend->port('a'), $backend->port('b'));

instructions() if $only ne 'throughput';
throughput() if $only ne 'instructions';

my @problems = $backend->done;
print "$_\n" for @problems;
exit($failed || @problems ? 1 : 0);


# The servers.

sub backend {
    my $t = Gate::Tool->new(module => 0);

    $t->http(workers => 1, log => 'error', <<'CONF');
    keepalive_requests 1000000000;
    client_header_buffer_size 8k;
    server {
        listen 127.0.0.1:%%PORT:a%%;
        listen 127.0.0.1:%%PORT:b%%;
        location / { return 200 "hello\n"; }
    }
CONF

    start($t);
    return $t;
}

sub variants {
    my ($a, $b) = @_;

    my $arms = join '', map {
        my ($name, $port) = @$_;
        "    upstream $name {\n"
        . "        server 127.0.0.1:$port;\n"
        . "        keepalive 64;\n"
        . "        keepalive_requests 1000000000;\n"
        . "    }\n";
    } [shop_v1 => $a], [shop_v2 => $b];

    my $gate = sub { return "$arms
    gate_state %%DIR%%/state;
    gate_maintenance_file %%DIR%%/maintenance;
    gate_maintenance on;

    upstream shop {
        gate_canary shop_v1 shop_v2 weight=10%;
        gate_breach error_rate=5% window=10m min=100;
        gate_breach p95=2s window=10m min=100;
        $_[0]
    }
" };

    my $key = 'gate_key $http_x_api_key;';
    my $sticky = 'gate_sticky cookie=shop key_file=%%DIR%%/sticky.key;';

    return (
        { name => 'plain', module => 0, http => $arms, pass => 'shop_v1',
          what => 'plain proxy' },

        { name => 'gate', http => $gate->(''), pass => 'shop',
          what => 'gate: canary, maintenance, accounting' },

        { name => 'key', http => $gate->($key), pass => 'shop',
          what => 'gate: the same, by a key in a header' },

        { name => 'nginx', module => 0, pass => '$arm', http => $arms . '
    split_clients $http_x_api_key $arm { 10% shop_v2; * shop_v1; }
', location => 'if (-f %%DIR%%/maintenance) { return 503; }',
          what => 'nginx: split_clients, if (-f file)' },

        { name => 'maintenance', http => "$arms
    gate_maintenance_file %%DIR%%/maintenance;
    gate_maintenance on;
", pass => 'shop_v1', what => 'gate, maintenance alone', extra => 1 },

        { name => 'sticky', http => $gate->($sticky), pass => 'shop',
          what => 'gate, a cookie that the client has', extra => 1,
          cookie => 1 },

        { name => 'header', http => $gate->($key), pass => 'shop',
          location => 'add_header X-Arm $gate_arm;', extra => 1,
          what => 'gate, $gate_arm in a header' },
    );
}

sub proxy {
    my ($v, %opt) = @_;

    my $t = Gate::Tool->new(exists $v->{module} ? (module => 0) : ());
    my $location = $v->{location} || '';
    my $pads = $opt{pads} ? Gate::Bench::pads() : '';

    $t->write_file('sticky.key', "0123456789abcdef0123456789abcdef\n");
    chmod 0600, $t->dir . '/sticky.key';

    $t->http(workers => 1, log => 'error', main => $opt{main} || '', <<"CONF");
$v->{http}
    keepalive_requests 1000000000;
    client_header_buffer_size 8k;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    $pads

    server {
        listen 127.0.0.1:%%PORT:http%%;
        location / {
            $location
            proxy_pass http://$v->{pass};
        }
    }
CONF

    return $t;
}

sub start {
    my ($t) = @_;
    $t->prefix(@cpu);
    $t->start;
}


# Instructions.

sub instructions {
    my $base;

    print "User-space instructions per proxied request ",
        "(callgrind, $counts[0] and $counts[1] requests)\n\n";
    printf "  %-46s %9s %8s  %s\n", '', '', 'over', 'malloc()';
    printf "  %-46s %9s %8s  %s\n", '', 'without', 'plain',
        'calls  instructions';

    for my $v (@variants) {
        next if $quick && $v->{extra};

        my @c = map { callgrind($v, $_) } @counts;
        my %n = map { $_ => ($c[1]{$_} - $c[0]{$_})
            / ($counts[1] - $counts[0]) } keys %{ $c[0] };

        my $n = $n{total} - $n{heap};
        $base = $n unless defined $base;

        printf "  %-46s %9.0f %+8.0f  %5.2f  %.0f\n", $v->{what}, $n,
            $n - $base, $n{calls}, $n{heap};

        verdict('instructions over the plain proxy', $n - $base,
            INSTRUCTIONS, $n - $base <= INSTRUCTIONS) if $v->{name} eq 'gate';
    }

    print "\n";
    verdicts();
}

sub callgrind {
    my ($v, $requests) = @_;

    my $t = proxy($v, pads => 1, main => 'master_process off;');
    my $out = $t->dir . '/callgrind.out';

    $t->prefix(which('valgrind'), '--tool=callgrind', '-q',
        "--callgrind-out-file=$out");
    $t->start;
    drive($t->port, $requests, cookie => $v->{cookie});
    quit($t);

    if ($ENV{BENCH_KEEP}) {
        mkdir $ENV{BENCH_KEEP};
        File::Copy::copy($out, "$ENV{BENCH_KEEP}/$v->{name}.$requests");
    }

    my $count = count($out);

    my @problems = $t->done;
    die join "\n", @problems, '' if @problems;
    return $count;
}


# Throughput.

sub throughput {
    my @v = grep { !$_->{extra} } @variants;

    print "Requests per second, $pairs interleaved rounds of $seconds s, ",
        'one worker', (@cpu ? '; all on one processor' : ''), "\n\n";

    for my $v (@v) {
        $v->{rate} = [];
        $v->{cpu} = [];
    }

    for my $round (1 .. $pairs) {
        fresh(@v) if $round % RESTART == 1;

        for my $v ($round % 2 ? @v : reverse @v) {
            my ($rate, $cpu) = wrk($v->{t}, $v->{lua}, $seconds);
            push @{ $v->{rate} }, $rate;
            push @{ $v->{cpu} }, $cpu;
        }
    }

    finish(@v);

    printf "  %-48s %10s %10s\n", '', 'requests/s', 'cpu us';
    printf "  %-48s %10.0f %10.1f\n", $_->{what}, median(@{ $_->{rate} }),
        median(@{ $_->{cpu} }) for @v;
    print "\n";

    for my $v (@v[1 .. $#v]) {
        my @ratio = map { $v->{rate}[$_] / $v[0]{rate}[$_] } 0 .. $pairs - 1;
        my ($low, $high) = interval(@ratio);

        printf "  %-48s %.4f of plain's (median of the pairs),\n  %-48s "
            . "95 %% interval %.4f .. %.4f\n", $v->{what}, median(@ratio), '',
            $low, $high;

        my @cost = map { $v->{cpu}[$_] / $v[0]{cpu}[$_] } 0 .. $pairs - 1;
        printf "  %-48s %.4f of its processor time\n", '', median(@cost);

        verdict('throughput, lower end of the interval', $low, THROUGHPUT,
            $low >= THROUGHPUT) if $v->{name} eq 'gate' && !$quick;
    }

    print "\n";
    verdicts();

}

# New processes for each, warmed up.

sub fresh {
    my (@v) = @_;

    finish(grep { $_->{t} } @v);

    for my $v (@v) {
        $v->{t} = proxy($v);
        start($v->{t});
        $v->{lua} = $v->{t}->write_file('wrk.lua',
            Gate::Bench::script());
        wrk($v->{t}, $v->{lua}, $seconds);
    }
}

sub finish {
    for my $v (@_) {
        my @problems = $v->{t}->done;
        print "$_\n" for @problems;
        $failed = 1 if @problems;
    }
}

# Numbers.

my @verdicts;

sub verdict {
    my ($what, $value, $bound, $ok) = @_;

    push @verdicts, sprintf "  %-48s %.4g, budget %.4g: %s\n", $what, $value,
        $bound, $ok ? 'ok' : 'EXCEEDED';
    $failed = 1 unless $ok;
}

sub verdicts {
    print splice(@verdicts), "\n";
}
