#!/usr/bin/perl

# Copyright (C) nginx-gate authors

# What verifying cursors costs, and what forging them does not:
#
#   verify        one verification, by cursor.c, and CPython's in the same run
#   timing        whether the place of a wrong byte shows, by cursor-timing.c
#   instructions  that a worker executes in user space for a proxied request
#                 with a cursor, by callgrind as in bench.pl: without the
#                 module, with it, with gate_cursor
#   throughput    of wrk by turns, everything on one processor: the same three
#   flood         of forged cursors: what reaches the service (nothing), what
#                 one of them costs beside a request that is proxied, and how
#                 long others wait meanwhile
#
# CURSOR_ONLY=verify does one, CURSOR_QUICK=1 is for a look, CURSOR_PAIRS=n says
# how many rounds, CURSOR_TIMED=n how many measurements, CURSOR_KEEP=DIR keeps
# callgrind's files.  The exit code is 1 if a budget is exceeded.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use File::Copy ();
use Time::HiRes qw(sleep);

use Gate::Bench qw(calm count drive interval median processor quit wrk);
use Gate::Cursor;
use Gate::Tool;
use Gate::Util qw(root slurp which);

use constant {
    CURSORS    => 244,                   # different ones
    THROUGHPUT => 0.85,                  # of the same without gate_cursor
    CPYTHON    => 1,                     # of CPython's time, at most
    DEAREST    => 20,                    # times a good one that is proxied
    RESTART    => 5,                     # rounds
};

my $quick = $ENV{CURSOR_QUICK};
my $only = $ENV{CURSOR_ONLY} || '';
my @counts = $quick ? (244, 1220) : (488, 4880);
my $pairs = $ENV{CURSOR_PAIRS} || ($quick ? 3 : 30);
my $timed = $ENV{CURSOR_TIMED} || ($quick ? 200_000 : 1_000_000);
my $failed = 0;

$ENV{BENCH_QUICK} = 1 if $quick;

my @jobs = qw(verify timing instructions throughput flood);
my %job = (verify => \&verify, timing => \&timing,
    instructions => \&instructions, throughput => \&throughput,
    flood => \&flood);
die "CURSOR_ONLY is one of: @jobs\n" if $only && !$job{$only};

for (qw(valgrind wrk python3)) {
    which($_) or die "no $_\n";
}

calm();

my @cpu = processor();
my $service = Gate::Cursor->new('test-cursor-secret-for-pagination-edge');
my @cursors = map { $service->issue($_ * 50, ts => time - $_ % 600 + 0.25) }
    1 .. CURSORS;
my $tool = Gate::Tool->new(module => 0);
my $key = $tool->write_file('cursor.key', $service->secret . "\n");
chmod 0600, $key or die "$key: $!\n";
backend();

$job{$_}->() for $only ? $only : @jobs;

my @problems = $tool->done;
print "problem: $_\n" for @problems;
exit($failed || @problems ? 1 : 0);


# One verification.

sub compile {
    my ($name) = @_;

    my $dir = $ENV{GATE_BUILD} || root() . '/build';
    my $cc = $ENV{CC} || 'cc';
    my $root = root();

    system("$cc -std=c11 -D_GNU_SOURCE -O2 -I'$root/src' -o '$dir/$name' "
        . "'$root/t/bench/$name.c' -lcrypto -lm") == 0
        or die "cannot compile $name.c\n";

    return (@cpu, "$dir/$name");
}

sub verify {
    print "One verification, medians over many cursors\n\n";

    open my $fh, '-|', compile('cursor') or die "cursor: $!\n";
    my $own;
    while (<$fh>) {
        print;
        $own = $1 if /^  envelope, issued  +(\d+) ns/;
    }
    close $fh or $failed = 1;

    my $count = $quick ? 5000 : 50_000;
    open $fh, '-|', @cpu, 'python3', '-B', root() . '/t/lib/cursor_ref.py',
        'time', '--count', $count or die "python3: $!\n";
    my $theirs;
    while (<$fh>) {
        my ($what, $median) = /^(CPython, .*): (\d+) / or die "python3: $_";
        printf "  %-46s %9d ns\n", $what, $median;
        $theirs = $median if $what =~ /issued$/;
    }
    close $fh or die "python3 failed\n";

    print "\n";
    at_most("an envelope, of CPython's time", $own / $theirs, CPYTHON);
    print "\n";
}

sub timing {
    print "A wrong first byte of the MAC, and a wrong last one\n\n";

    my @cmd = compile('cursor-timing');
    system(@cmd, $timed) == 0 or $failed = 1;
    print "\n";
}


# The servers.

sub backend {
    $tool->http(workers => 1, log => 'error', <<'EOF_CONF');
    keepalive_requests 1000000000;
    client_header_buffer_size 8k;
    log_format uri $uri;
    server {
        listen 127.0.0.1:%%PORT:a%%;
        location / { return 200 "hello\n"; }
        location /flood {
            access_log %%DIR%%/flood.log uri;
            return 200 "hello\n";
        }
    }
EOF_CONF
    $tool->prefix(@cpu);
    $tool->start;
}

sub variants {
    my $cursor = "gate_cursor_key file=$key; gate_cursor arg:cursor ttl=30d;";

    return (
        { name => 'plain', module => 0, what => 'plain proxy' },
        { name => 'loaded', what => 'the module, without gate_cursor' },
        { name => 'cursor', conf => $cursor, what => 'gate_cursor' },
        { name => 'bound', what => 'gate_cursor, a claim to compare',
          conf => $cursor . ' gate_cursor_claim offset $arg_offset;',
          offset => 1 },
    );
}

sub proxy {
    my ($v, %opt) = @_;

    my $t = Gate::Tool->new(exists $v->{module} ? (module => 0) : ());
    my $conf = $v->{conf} || '';
    my $pads = $opt{pads} ? Gate::Bench::pads() : '';
    my $port = $tool->port('a');

    $t->http(workers => 1, log => 'notice', main => $opt{main} || '',
        <<"EOF_CONF");
    upstream service {
        server 127.0.0.1:$port;
        keepalive 64;
        keepalive_requests 1000000000;
    }

    keepalive_requests 1000000000;
    client_header_buffer_size 8k;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    $pads

    server {
        listen 127.0.0.1:%%PORT:http%%;
        location / {
            $conf
            proxy_pass http://service;
        }
    }
EOF_CONF

    $t->prefix(@cpu);
    return $t;
}

sub uris {
    my ($v) = @_;
    return map { '/?cursor=' . $cursors[$_]
        . ($v->{offset} ? '&offset=' . 50 * ($_ + 1) : '') } 0 .. $#cursors;
}

sub finish {
    for my $t (@_) {
        $t->allow(qr/gate: cursor refused/);
        my @wrong = $t->done or next;
        print "problem: $_\n" for @wrong;
        $failed = 1;
    }
}


# Instructions.

sub instructions {
    print "User-space instructions per proxied request ",
        "(callgrind, $counts[0] and $counts[1] requests)\n\n";
    printf "  %-40s %9s %8s %9s  %s\n", '', '', 'over', 'of them',
        'malloc()';
    printf "  %-40s %9s %8s %9s  %s\n", '', 'without', 'plain', 'OpenSSL',
        'calls  instructions';

    my $base;

    for my $v (variants()) {
        my @c = map { callgrind($v, $_) } @counts;
        my %n = map { $_ => ($c[1]{$_} - $c[0]{$_})
            / ($counts[1] - $counts[0]) } keys %{ $c[0] };

        my $n = $n{total} - $n{heap};
        $base = $n unless defined $base;

        printf "  %-40s %9.0f %+8.0f %9.0f  %5.2f  %.0f\n", $v->{what}, $n,
            $n - $base, $n{crypto}, $n{calls}, $n{heap};
    }

    print "\n  OpenSSL hashes in software here: callgrind's processor has no ",
        "instructions\n  for SHA-256.\n\n";
}

sub callgrind {
    my ($v, $requests) = @_;

    my $t = proxy($v, pads => 1, main => 'master_process off;');
    my $out = $t->dir . '/callgrind.out';

    $t->prefix(which('valgrind'), '--tool=callgrind', '-q',
        "--callgrind-out-file=$out");
    $t->start;
    drive($t->port, $requests, uris => [uris($v)]);
    quit($t);

    keep($out, "$v->{name}.$requests");

    my $count = count($out);
    finish($t);
    return $count;
}


sub keep {
    my ($file, $name) = @_;

    my $dir = $ENV{CURSOR_KEEP} or return;
    mkdir $dir;
    File::Copy::copy($file, "$dir/$name");
}


# Throughput.

sub throughput {
    my @v = variants();

    print "Requests per second, $pairs interleaved rounds of 1 s, one worker",
        (@cpu ? '; all on one processor' : ''), "\n\n";

    for my $round (1 .. $pairs) {
        fresh(@v) if $round % RESTART == 1;

        for my $v ($round % 2 ? @v : reverse @v) {
            my ($rate, $cpu) = wrk($v->{t}, $v->{lua}, 1);
            push @{ $v->{rate} }, $rate;
            push @{ $v->{cpu} }, $cpu;
        }
    }

    finish(map { $_->{t} } @v);

    printf "  %-46s %10s %8s %9s  %s\n", '', 'requests/s', 'cpu us',
        'of loaded', '95 % interval';

    for my $v (@v) {
        my @ratio = map { $v->{rate}[$_] / $v[1]{rate}[$_] } 0 .. $pairs - 1;
        ($v->{low}, my $high) = interval(@ratio);
        printf "  %-46s %10.0f %8.1f %9.4f  %.4f .. %.4f\n", $v->{what},
            median(@{ $v->{rate} }), median(@{ $v->{cpu} }), median(@ratio),
            $v->{low}, $high;
    }

    print "\n";
    at_least('throughput with gate_cursor, lower end', $v[2]{low},
        THROUGHPUT) unless $quick;
    print "\n";
}

# New processes for each, warmed up.

sub fresh {
    my (@v) = @_;

    finish(map { $_->{t} || () } @v);

    for my $v (@v) {
        $v->{t} = proxy($v);
        $v->{t}->start;
        $v->{lua} = $v->{t}->write_file('wrk.lua',
            Gate::Bench::visits([uris($v)]));
        wrk($v->{t}, $v->{lua}, 1);
    }
}


# Flood.

# Forged ones as cheap as they come, and the dearest to read.

sub forgeries {
    my $sig = 'a' x 64;
    my $dear = '{"payload":[' . join(',', ('1e9') x 730)
        . '],"sig":"%s"}';

    return (
        [ 'with a MAC that is wrong', map { Gate::Cursor::forged($_) }
            @cursors ],
        [ 'that are no base64', map { substr($_, 0, 50) . '!' . $_ }
            @cursors ],
        [ 'of 4096 characters, dear to read', map {
            Gate::Cursor::url(sprintf $dear, substr("$_$sig", 0, 64)) }
            1 .. 20 ],
    );
}

sub flood {
    my $seconds = $quick ? 2 : 10;
    my ($v) = grep { $_->{name} eq 'cursor' } variants();
    my $t = proxy($v);
    $t->start;

    print "A flood of forged cursors, $seconds s of each kind, 32 ",
        "connections\n\n";

    # the log would show one that came through
    my $log = $tool->dir . '/flood.log';
    $t->get("/flood?cursor=$cursors[0]")->status == 200 or die "not proxied\n";
    my $seen = () = slurp($log) =~ /\n/g;
    die "$seen requests in the service's log\n" if $seen != 1;

    my $good = $t->write_file('good.lua', Gate::Bench::visits([uris($v)]));
    wrk($t, $good, 1);
    my ($rate, $cost) = wrk($t, $good, $seconds);
    my $line = "  %-44s %9.0f/s %7.1f us of the worker each\n";
    printf $line, 'good ones, proxied', $rate, $cost;
    waits('meanwhile, 500/s of good ones', waiting($t, $seconds));

    my ($answered, $dearest) = (0, 0);

    for (forgeries()) {
        my ($what, @uris) = @$_;
        my $lua = $t->write_file('flood.lua', Gate::Bench::visits(
            [map { "/flood?cursor=$_" } @uris], refused => 1));
        my $load = others($t, $seconds);
        my ($n, $cpu) = wrk($t, $lua, $seconds);
        my $beside = $load->stop;

        printf "\n$line", "forged ones $what", $n, $cpu;
        waits('meanwhile, 500/s of good ones', $beside);
        $answered += $n * $seconds;
        my $errors = grep { $_ ne '200' } keys %{ $beside->{status} };
        $failed = 1 if $errors;
        $dearest = $cpu if $cpu > $dearest;
    }

    finish($t);
    $seen = (() = slurp($log) =~ /\n/g) - 1;

    print "\n";
    at_most(sprintf('of %.0f forged ones, at the service', $answered), $seen,
        0);
    at_most('the dearest forged one, of a good one\'s time',
        $dearest / $cost, DEAREST);
    print "\n";
}

sub others {
    my ($t) = @_;
    return $t->load(port => $t->port, rate => 500, conns => 16,
        uri => "/?cursor=$cursors[1]");
}

# With nobody else.

sub waiting {
    my ($t, $seconds) = @_;
    my $load = others($t);
    sleep $seconds;
    return $load->stop;
}

sub waits {
    my ($what, $result) = @_;
    printf "  %-44s p50 %.0f us, p99 %.0f us, %d of %d answered 200\n",
        $what, @{ $result->{latency} }{qw(p50 p99)},
        $result->{status}{200} || 0, $result->{sent};
}


# Verdicts.

sub at_most {
    my ($what, $value, $bound) = @_;
    verdict($what, $value, 'at most', $bound, $value <= $bound);
}

sub at_least {
    my ($what, $value, $bound) = @_;
    verdict($what, $value, 'at least', $bound, $value >= $bound);
}

sub verdict {
    my ($what, $value, $how, $bound, $ok) = @_;

    printf "  %-50s %8.5g, %s %.5g: %s\n", $what, $value, $how, $bound,
        $ok ? 'holds' : 'FAILS';
    $failed = 1 unless $ok;
}
