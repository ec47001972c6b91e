#!/usr/bin/perl

# The scripts for what nodes count and for who is there, alone.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Scripts;
use Test::More;

my $t = Gate->new;
my $r = $t->redis;
my $s = Gate::Scripts->new($r);

my $seed = $ENV{TEST_SEED} || time ^ $$;
srand $seed;
note("TEST_SEED=$seed");

sub evidence_is_the_sum {
    my ($s) = @_;

    $r->cmd('FLUSHALL');
    my ($a, $b) = map { $s->node($_) } 'a', 'b';

    is_deeply([ $a->evidence(1, { 0 => 5, 551 => 1 }, { 0 => 9 }) ],
        [ { 0 => 5, 551 => 1 }, { 0 => 9 }, 1 ], 'the first node is alone');
    is_deeply([ $b->evidence(1, { 0 => 2, 3 => 1 }, { 0 => 1 }) ],
        [ { 0 => 7, 3 => 1, 551 => 1 }, { 0 => 10 }, 2 ],
        'the second gets the sum');
    is_deeply([ $b->evidence(1, { 0 => 2, 3 => 1 }, { 0 => 1 }) ],
        [ { 0 => 7, 3 => 1, 551 => 1 }, { 0 => 10 }, 2 ],
        'a call that is repeated changes nothing');
    $a->evidence(1, { 0 => 8, 551 => 1 }, { 0 => 12 });
    is_deeply([ $a->evidence(1, { 0 => 5 }, { 0 => 9 }) ],
        [ { 0 => 10, 3 => 1, 551 => 1 }, { 0 => 13 }, 2 ],
        'neither does one that comes late');
    is_deeply([ $b->evidence(1, {}, {}) ],
        [ { 0 => 10, 3 => 1, 551 => 1 }, { 0 => 13 }, 2 ],
        'whoever has nothing to say can ask');
    is_deeply([ $b->evidence(2, {}, {}) ], [ {}, { 0 => 13 }, 0 ],
        'another step is another evidence');

    my $key = 'gate#evidence:shop:1:1:d';
    my $ttl = $r->cmd('TTL', $key);
    ok($ttl > 604000 && $ttl <= 604800, 'a step goes after a week');
    is($r->cmd('TTL', 'gate#totals:shop'), -1, 'totals do not');

    my $before = $r->cmd('DUMP', $key);
    $r->cmd('EXPIRE', $key, 604700);
    $a->evidence(1, { 0 => 8 }, { 0 => 12 });
    is($r->cmd('DUMP', $key), $before, 'a repeated call writes nothing');

    $r->cmd('HDEL', $key, 'sum');
    is_deeply(($a->evidence(1, {}, {}))[0], { 0 => 10, 3 => 1, 551 => 1 },
        'a sum that is missing is added up anew');
    $r->cmd('HDEL', $key, 'sum');
    is_deeply(($a->evidence(1, { 0 => 9, 551 => 1 }, {}))[0],
        { 0 => 11, 3 => 1, 551 => 1 }, 'also with what is new');
    $r->cmd('HSET', $key, 'sum', 'garbage');
    is_deeply(($a->evidence(1, { 0 => 10, 551 => 1 }, {}))[0],
        { 0 => 12, 3 => 1, 551 => 1 }, 'or when it is none');
    $r->cmd('HSET', $key, 'a:1', '1:x');
    is_deeply(($a->evidence(1, { 0 => 10, 551 => 1 }, {}))[0],
        { 0 => 12, 3 => 1, 551 => 1 }, 'or when a field is none');

    $a->evidence(4, { 1 => 1, 2 => 5 }, {});
    $a->evidence(4, { 1 => 1, 3 => 5 }, {});
    is_deeply(($a->evidence(4, { 1 => 1, 2 => 5, 3 => 5 }, {}))[0],
        { 1 => 1, 2 => 5, 3 => 5 }, 'nothing is taken back and added twice');

    my $big = 9007199254740000;
    is_deeply(($b->evidence(3, { 0 => $big, 1 => 1e14 }, {}))[0],
        { 0 => $big, 1 => '100000000000000' }, 'large numbers stay exact');

    like($s->try('evidence', [$key, 'gate#totals:shop'], 'c:1', $_, '', 60),
        qr/GATEVECTOR/, 'what is no vector is refused')
        for '1', '1:', '1:2 ', ' 1:2', '1:2  3:4', '1:-2', '1:2 x', '1:1.5',
            '1:"2"', '1:nan', '[:]', ']', '1:2 ' x 20000;
}

subtest 'evidence is the sum of what each node has counted' => sub {
    evidence_is_the_sum($s);
};

subtest 'it is where scripts have no cjson' => sub {
    my $plain = Gate::Scripts->new($r);
    my $text = $plain->{text}{evidence};

    $text =~ s/rawget\(_G, 'cjson'\)/nil/ or die "another script\n";
    unlike($text, qr/cjson/, 'the script does without');
    $plain->{text}{evidence} = $text;
    $plain->{sha1}{evidence} = $r->cmd('SCRIPT', 'LOAD', $text);
    evidence_is_the_sum($plain);
};

# Nodes that count, lose replies, repeat themselves, begin anew, and a Redis
# that forgets: when everybody has sent once more, nothing is missing and
# nothing is there twice.

subtest 'sums are exact whatever happened on the way' => sub {
    my $bad = 0;

    for my $world (1 .. 40) {
        $r->cmd('FLUSHALL');
        my @nodes = map { { node => $s->node("n$_"), boot => 1, v => {},
            old => [] } } 1 .. 2 + int rand 4;
        my %gone;

        my $send = sub {
            my ($n, $v) = @_;
            my $field = "$n->{node}{name}:$n->{boot}";
            return $n->{node}->evidence(1, $v, $v, field => $field);
        };

        for (1 .. 60) {
            my $n = $nodes[rand @nodes];
            my $what = rand;

            if ($what < 0.45) {
                $n->{v}{int rand 6} += 1 + int rand 1000;
                push @{ $n->{old} }, { %{ $n->{v} } };

            } elsif ($what < 0.75) {
                $send->($n, $n->{v}) for 1 .. 1 + int rand 2;

            } elsif ($what < 0.88) {
                my $old = $n->{old}[rand @{ $n->{old} }] or next;
                $send->($n, $old);

            } elsif ($what < 0.95) {
                # it sends what it has and begins anew
                $send->($n, $n->{v});
                $gone{$_} += $n->{v}{$_} for keys %{ $n->{v} };
                $n->{boot}++;
                @$n{qw(v old)} = ({}, []);

            } elsif ($what < 0.98) {
                $r->cmd('FLUSHALL');
                %gone = ();

            } else {
                $r->cmd('HDEL', 'gate#evidence:shop:1:1:d', 'sum');
            }
        }

        my @sums;
        @sums = $send->($_, $_->{v}) for @nodes;

        my %truth = %gone;
        for my $n (@nodes) { $truth{$_} += $n->{v}{$_} for keys %{ $n->{v} } }

        $bad++ unless eq_hash($sums[0], \%truth) && eq_hash($sums[1], \%truth);
    }

    is($bad, 0, '40 random histories');
};

subtest 'a beat tells who is there' => sub {
    $r->cmd('FLUSHALL');
    my ($a, $b) = map { $s->node($_) } 'a', 'b';

    my $got = $a->beat(seed => '1' x 32, info => '{"v":1}');
    is($got->{seed}, '1' x 32, 'the first brings the seed');
    is($got->{nodes}{'a:1'}{info}, '{"v":1}', 'it finds itself');
    $got = $b->beat(seed => '2' x 32);
    is($got->{seed}, '1' x 32, 'the second takes it');
    is($got->{total}, 2, 'and finds two');
    ok($got->{nodes}{'a:1'}{age} < 60_000, 'with their age');
    $r->cmd('SET', 'gate#seed', 'x' x 32);
    is($b->beat(seed => '2' x 32)->{seed}, '2' x 32,
        'a seed that is none is replaced');

    my $now = $got->{now};
    $r->cmd('HSET', 'gate#nodes', 'old:1', $now - 3_700_000 . ' {}',
        'new:1', $now - 3_500_000 . ' {}', 'odd:1', 'x', 'huge:1',
        "$now " . 'x' x 100_000, 'future:1', $now + 7_200_000 . ' {}',
        'ahead:1', $now + 60_000 . ' {}');
    $got = $a->beat;
    is(join(' ', sort keys %{ $got->{nodes} }), 'a:1 ahead:1 b:1 new:1',
        'who was not seen for an hour is forgotten');
    is($got->{nodes}{'ahead:1'}{age}, 0, 'nobody is of the future');
    is($r->cmd('HLEN', 'gate#nodes'), 4, 'they are deleted');

    $r->cmd('HSET', 'gate#nodes', map { ("dead$_:1", $now - 600_000 . ' {}') }
        1 .. 300);
    $b->beat;
    $got = $a->beat(max => 3);
    is(join(' ', sort keys %{ $got->{nodes} }), 'a:1 ahead:1 b:1',
        'the living are told before the dead');
    $r->cmd('HDEL', 'gate#nodes', map { "dead$_:1" } 1 .. 300);

    $r->cmd('HSET', 'gate#nodes', map { ("n$_:1", "$now {}") } 1 .. 3000);
    $got = $a->beat(max => 10);
    ok(keys %{ $got->{nodes} } <= 10, 'not more are told than asked for');
    is($got->{total}, 3004, 'but how many there are');
};

$t->done;
done_testing;
