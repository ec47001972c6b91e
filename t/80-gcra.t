#!/usr/bin/perl

# The arithmetic of rate limits, through the drivers: decisions of throttled,
# redis-cell, redis_rate and rwz/redis-gcra replayed with ours, and what the
# replay makes of lines that are none; fleets in simulated time, against one
# counter that sees it all.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use IPC::Open3;
use JSON::PP;
use Symbol 'gensym';
use Test::More;

my $dir = ($ENV{GATE_BUILD} || Gate::root() . '/build') . '/t';
my $S = 1_000_000_000;

-x "$dir/gcra_replay" or plan skip_all => 'no drivers: make builds them';

# Runs a driver on that input: its exit code, output and complaints.

sub run_driver {
    my ($name, $in, @args) = @_;

    my ($to, $from, $err) = (undef, undef, gensym);
    my $pid = open3($to, $from, $err, "$dir/$name", @args);

    my $child = fork // die "fork: $!";

    if (!$child) {
        local $SIG{PIPE} = 'IGNORE';
        print $to $in;
        close $to;
        require POSIX;
        POSIX::_exit(0);
    }

    close $to;

    my $out = do { local $/ = undef; <$from> } // '';
    my $why = do { local $/ = undef; <$err> } // '';

    waitpid $child, 0;
    waitpid $pid, 0;

    return ($? >> 8, $out, $why);
}

# What a caller with that rate is told: [at in s, cost], .. to lines.

sub replay {
    my ($capacity, $interval, @steps) = @_;

    my $line = encode_json({ capacity => $capacity,
        emission_interval_ns => $interval,
        steps => [map { { at_ns => $_->[0] * $S, cost => $_->[1] } }
                  @steps] });

    my ($rc, $out, $why) = run_driver('gcra_replay', "$line\n");

    return $rc == 0 && $why eq '' ? [split /\n/, $out] : "$rc $why";
}


subtest 'what others decided is decided here' => sub {
    my $path = Gate::root() . '/t/vectors/gcra.jsonl';
    my @lines = split /\n/, Gate::slurp($path);
    my $steps = 0;

    cmp_ok(scalar @lines, '>=', 9, 'there are vectors');

    for my $line (@lines) {
        my $v = decode_json($line);
        my ($rc, $out, $why) = run_driver('gcra_replay', "$line\n");

        my $want = join '', map {
            sprintf "%s %s %s %s\n", $_->{limited} ? 'true' : 'false',
                    @$_{qw(remaining reset_after_ns retry_after_ns)}
        } @{ $v->{steps} };

        is($out, $want, "$v->{name} ($v->{source})");
        is("$rc$why", '0', 'without a complaint');
        $steps += @{ $v->{steps} };
    }

    my ($rc, $out) = run_driver('gcra_replay', join("\n", @lines));

    is($rc, 0, 'all of them at once, without a newline at the end');
    is(() = $out =~ /\n/g, $steps, 'each step is a line');
};

subtest 'costs' => sub {
    is_deeply(replay(5, $S, [0, 0], [0, 3], [0, 0], [0, 6], [0, 2], [0, 0],
                     [0, 1]),
        ['false 5 0 -1', "false 2 ${\(3 * $S)} -1", "false 2 ${\(3 * $S)} -1",
         "true 2 ${\(3 * $S)} -1", "false 0 ${\(5 * $S)} -1",
         "false 0 ${\(5 * $S)} -1", "true 0 ${\(5 * $S)} $S"],
        '0 asks, and more than the capacity is refused for good');

    is_deeply(replay(5, $S, [0, 4], [1, -2], [1, -9], [1, 5], [1, 1]),
        ["false 1 ${\(4 * $S)} -1", "false 4 $S -1", 'false 5 0 -1',
         "false 0 ${\(5 * $S)} -1", "true 0 ${\(5 * $S)} $S"],
        'less than 0 gives back, but no more than there was');

    my ($rc, $out) = run_driver('gcra_replay',
        '{"capacity":2,"emission_interval_ns":10,"steps":[{"at_ns":0}]}');

    is("$rc $out", "0 false 1 10 -1\n", 'where none is said it is 1');
};

subtest 'times' => sub {
    is_deeply(replay(2, $S, [0, 2], [4_000_000_000, 1], [4_000_000_000, 1],
                     [4_000_000_000, 1]),
        ["false 0 ${\(2 * $S)} -1", "false 1 $S -1",
         "false 0 ${\(2 * $S)} -1", "true 0 ${\(2 * $S)} $S"],
        'a century of silence is worth one capacity');

    is_deeply(replay(2, $S, [100, 1], [99, 1], [98, 1], [101, 1]),
        ["false 1 $S -1", "true 0 ${\(2 * $S)} $S", "true 0 ${\(3 * $S)} "
         . 2 * $S, "false 1 $S -1"],
        'a clock that goes back a bit gives nothing away');

    is_deeply(replay(1, $S, [1_700_000_000, 1], [-1_700_000_000, 1],
                     [1_700_000_001, 1]),
        ["false 0 $S -1", "true 0 ${\(66 * $S)} ${\(66 * $S)}",
         "false 0 $S -1"],
        'one that goes back by decades is not believed');

    # 2^53 and some: a double would not tell these apart

    my ($rc, $out) = run_driver('gcra_replay',
        '{"capacity":1,"emission_interval_ns":1,"steps":['
        . '{"at_ns":1763735000000000001},{"at_ns":1763735000000000001},'
        . '{"at_ns":1763735000000000002},{"at_ns":1763735000000000002}]}');

    is($out, "false 0 1 -1\ntrue 0 1 1\nfalse 0 1 -1\ntrue 0 1 1\n",
       'times of today are exact to the ns');

    is_deeply(replay(3, 333_333_333, [0, 3], [0, 1]),
        ['false 0 999999999 -1', 'true 0 999999999 333333333'],
        'an interval need not be round');
};

subtest 'fields' => sub {
    my $good = '"emission_interval_ns":1000,"steps":[{"at_ns":0,"x":[]}]}';

    my ($rc, $out, $why) = run_driver('gcra_replay', <<"END");
{"name":"n","source":{},"limit":null,"capacity":2,$good

{"capacity":2.0,"emission_interval_ns":1e3,"steps":[{"at_ns":5e3,"cost":1}]}
{"capacity":2,"emission_interval_ns":1,"steps":[]}
END

    is($rc, 0, 'fields that nobody asked for are ignored');
    is($out, "false 1 1000 -1\n" x 2, 'and whole numbers are numbers');
    is($why, '', 'no complaint');

    ($rc, $out) = run_driver('gcra_replay', '{"name":"of n x10","note":'
        . '"only last 1 of n identical steps stored","capacity":20,' . $good);

    is($out, "false 10 10000 -1\n", 'steps that are not stored are replayed');

    ($rc, $out) = run_driver('gcra_replay', '{"name":"of n x10","note":'
        . '"only last 2 of n identical steps stored","capacity":20,' . $good);

    is($out, "false 19 1000 -1\n", 'where the note is about that list');
};

subtest 'lines that are none' => sub {
    my $good = '{"capacity":1,"emission_interval_ns":7,"steps":[{"at_ns":0}]}';
    my $steps = '"steps":[{"at_ns":0}]';

    my @bad = (
        ['{', qr/no JSON/],
        ['[]', qr/not an object/],
        ['{"capacity":1,"capacity":1}', qr/no JSON: duplicate/],
        ['{}', qr/no "capacity"/],
        ["{\"capacity\":0,\"emission_interval_ns\":1,$steps}",
         qr/"capacity" is not in 1 /],
        ["{\"capacity\":\"1\",\"emission_interval_ns\":1,$steps}",
         qr/"capacity" is not a number/],
        ["{\"capacity\":1.5,\"emission_interval_ns\":1,$steps}",
         qr/"capacity" is not a whole number/],
        ["{\"capacity\":1e300,\"emission_interval_ns\":1,$steps}",
         qr/"capacity" is not a whole number/],
        ["{\"capacity\":1,$steps}", qr/no "emission_interval_ns"/],
        ["{\"capacity\":1,\"emission_interval_ns\":0,$steps}",
         qr/"emission_interval_ns" is not in 1 /],
        ["{\"capacity\":1,\"emission_interval_ns\":-5,$steps}",
         qr/"emission_interval_ns" is not in 1 /],
        ["{\"capacity\":1000000000,\"emission_interval_ns\":1000000000,"
         . "$steps}", qr/capacity times emission_interval_ns/],
        ['{"capacity":1,"emission_interval_ns":1}', qr/"steps" is not/],
        ['{"capacity":1,"emission_interval_ns":1,"steps":{}}',
         qr/"steps" is not/],
        ['{"capacity":1,"emission_interval_ns":1,"steps":[1]}',
         qr/step 1: not an object/],
        ['{"capacity":1,"emission_interval_ns":1,"steps":[{"at_ns":0},{}]}',
         qr/step 2: no "at_ns"/],
        ['{"capacity":1,"emission_interval_ns":1,"steps":[{"at_ns":0,'
         . '"cost":null}]}', qr/step 1: "cost" is not a number/],
        ['{"capacity":1,"emission_interval_ns":1,"steps":[{"at_ns":'
         . '9223372036854775807}]}', qr/step 1: "at_ns" is not in/],
        ['{"capacity":1,"emission_interval_ns":1,"steps":[{"at_ns":'
         . '99999999999999999999}]}', qr/no JSON: too big integer/],
    );

    my $in = join '', map { "$good\n$_->[0]\n" } @bad;
    my ($rc, $out, $why) = run_driver('gcra_replay', "$in$good\n");
    my @why = split /\n/, $why;

    is($rc, 2, 'the exit code says so');
    is($out, "false 0 7 -1\n" x (@bad + 1),
       'the others are replayed, and nothing of a bad one is');
    is(scalar @why, scalar @bad, 'each is told once');

    for my $i (0 .. $#bad) {
        my $n = 2 * $i + 2;
        like($why[$i] // '', qr/^gcra_replay: line $n: $bad[$i][1]/,
             "line $n: $bad[$i][0]");
    }

    ($rc, $out, $why) = run_driver('gcra_replay', '', '--help');

    is($rc, 2, 'there are no arguments');
    like($why, qr/^usage: .*limited remaining reset_after_ns/s,
         'the usage says what the columns are');

    is(join('', run_driver('gcra_replay', '')), '0',
       'no input is no output');
};

# A simulated fleet: what it says of itself, by the first words.

sub fleet {
    my (@args) = @_;

    my ($rc, $out, $why) = run_driver('gcra_merge', '', @args);
    my %said = (rc => $rc, why => $why, minutes => []);

    for my $line (split /\n/, $out) {
        push @{ $said{minutes} }, $1 if $line =~ /^minute \d+ +(\d+)$/;
        $said{$1} = $2 if $line =~ /^(.{16}) (.*)/;
    }

    my ($over, $window) = ($said{'overshoot       '} // '')
                          =~ /^(\S+) units, (\S+) over/;
    my ($proved, $derived) = ($said{'bound           '} // '')
                             =~ /^(\S+) by .*, (\S+) derived/;

    return { %said, over => $over, window => $window, proved => $proved,
        derived => $derived,
        admitted => ($said{'admitted        '} // '') =~ /^(\d+), error (\S+)/
            ? { units => $1, error => $2 } : {},
        later => ($said{'after a second  '} // '') =~ /error (\S+)/ ? $1 : 99,
        more => ($said{'false 429s      '} // '') =~ /^(\S+) % more/ ? $1 : 99,
        silence => ($said{'longest silence '} // '') =~ /^(\S+) s/ ? $1 : 99 };
}


subtest 'fleets of all kinds' => sub {
    my ($rc, $out, $why) = run_driver('gcra_merge', '', '--check', '--runs',
                                      200);

    is("$rc$why", '0', 'nothing is lost, counted twice, or above its bound')
        or diag($out);
    like($out, qr/^200 fleets, 0 failed/m, 'of two hundred');
};

subtest 'four nodes that want eight times as much' => sub {
    for my $capacity (1, 3, 21, 101) {
        for my $pattern ('even', 'poisson') {
            my $f = fleet('--capacity', $capacity, '--pattern', $pattern);
            my $name = "capacity $capacity, $pattern";

            cmp_ok(abs($f->{later}), '<', 1, "$name: the rate within 1 %");
            cmp_ok($f->{window}, '<=', $f->{proved}, "$name: overshoot");
            cmp_ok($f->{window}, '<', 7, "$name: which is a few units");
        }
    }
};

subtest 'a node alone' => sub {
    for my $capacity (3, 21, 101) {
        my $f = fleet('--capacity', $capacity, '--one-node', '--offered', 800,
                      '--rtt', 0.01);

        cmp_ok(abs($f->{admitted}{error} // 99), '<', 0.5,
               "capacity $capacity: has all, however far Redis is");
        cmp_ok($f->{window}, '<=', 0.01, "capacity $capacity: and not more");
    }
};

subtest 'who stays below the rate' => sub {
    for my $capacity (1, 3, 21, 101) {
        for my $pattern ('even', 'poisson') {
            my $f = fleet('--capacity', $capacity, '--pattern', $pattern,
                          '--offered', 22.5, '--seconds', 60);

            cmp_ok($f->{more}, '<', 0.5, "capacity $capacity, $pattern: is "
                   . 'refused no more often than by one counter');
        }
    }

    my $f = fleet(qw(--nodes 6 --capacity 11 --pattern burst --burst 3
                     --offered 8 --seconds 60));

    cmp_ok($f->{more}, '<', 0.5, 'also with three at a time, and more nodes '
           . 'than a share of each would allow');

    $f = fleet(qw(--nodes 11 --rate 1000r/s --capacity 77 --offered 59
                  --rtt 0.0023 --sync 0.15));

    cmp_ok($f->{more}, '<', 0.5, 'also on eleven nodes, far from Redis');
};

subtest 'ten nodes, sixty a minute' => sub {
    my $f = fleet(qw(--rate 60r/m --nodes 10 --offered 2 --seconds 600));
    my ($first, @rest) = @{ $f->{minutes} };

    is(scalar @rest, 9, 'ten minutes');
    cmp_ok($first, '<=', 60 + 60 + 9, 'the first one has the burst');
    is((scalar grep { abs($_ - 60) > 1.2 } @rest), 0, 'the others 60, 2 %')
        or diag("@rest");
};

subtest 'Redis is away for twenty seconds of sixty' => sub {
    for my $capacity (1, 21, 101) {
        for my $how ([], ['--forget']) {
            my $f = fleet(qw(--seconds 60 --loss-from 20 --loss-for 20),
                          '--capacity', $capacity, @$how);
            my $name = "capacity $capacity" . (@$how ? ', comes empty' : '');

            cmp_ok(abs($f->{admitted}{error} // 99), '<', 5,
                   "$name: the minute within 5 %");
            cmp_ok($f->{silence}, '<', 2 * $capacity / 100 + 0.1,
                   "$name: nobody is locked out for long");
        }
    }
};

subtest 'a rate that changes' => sub {
    for my $case (['10r/s', '100r/s', 100], ['60r/m', '600r/m', 10],
                  ['100r/s', '500r/s', 500], ['100r/s', '10r/s', 100])
    {
        for my $capacity (2, 20, 100) {
            my ($from, $to, $most) = @$case;
            my $f = fleet('--rate', $from, '--change-to', $to,
                          qw(--change-at 20 --seconds 40 --offered 400
                             --pattern even --capacity), $capacity);

            my ($got, $want) = ($f->{'after the change'} // '')
                               =~ /^(\d+), one counter (\d+)/;

            # there is a second in which nodes hear of it one by one, and
            # what three of them took before is not free

            cmp_ok(abs(($got // 1e9) - ($want // 0)), '<=',
                   $most + $capacity + 3,
                   "$from to $to, capacity $capacity: costs or gives a "
                   . 'capacity at most') or diag("$got, not $want");
        }
    }
};

subtest 'what the simulation does not take' => sub {
    for my $bad (['--nodes', 0], ['--nodes', 'x'], ['--rate', '0r/s'],
                 ['--pattern', 'odd'], ['--what'], ['it'])
    {
        my ($rc, $out, $why) = run_driver('gcra_merge', '', @$bad);

        is("$rc $out", '2 ', "@$bad");
        like($why, qr/gcra_merge/, 'is told');
    }
};

done_testing;
