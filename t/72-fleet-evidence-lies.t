#!/usr/bin/perl

# What a server says of evidence and of other nodes is checked to the last
# digit: what makes no sense is counted, and changes nothing.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Rollout;
use Test::More;

skip_unless_cmd('redis-server');

my $t = Gate->new;
my $g = Gate::Rollout->new($t);
my $real = $t->redis;
my $fake = $t->fake_redis(upstream => $real);
my $ok = $t->backend('ok');

$t->http(<<"EOF_CONF");
    gate_redis redis://@{[ $fake->addr ]};
    upstream s { server @{[ $ok->addr ]}; }
    upstream c { server @{[ $ok->addr ]}; }
    upstream shop { gate_canary s c weight=50% id=1;
                    gate_breach error_rate=5% min=1; }
    @{[ map { "upstream shop$_ { gate_canary s c weight=50% id=1; }" } 1 .. 7 ]}
    server {
        listen 127.0.0.1:%%PORT:http%%;
@{[ $g->endpoints ]}
        location / { proxy_pass http://shop; }
    }
EOF_CONF

$t->start;

sub redis { return $g->status->{redis} }

sub wait_syncs {
    my ($n) = @_;
    my $was = redis()->{syncs};
    wait_for { redis()->{syncs} >= $was + $n } what => "$n syncs";
}

wait_for { my $s = $g->status; $s->{redis}{joined} && $s->{redis}{syncs} > 0
    && $s->{fleet}{alive} == 1 && @{ $s->{fleet}{nodes} } == 1 }
    what => 'the node to be there';

# The digest of the script that is called with such a key.

sub script {
    my ($key) = @_;
    my ($call) = grep { uc $_->[0] eq 'EVALSHA' && index($_->[3], $key) == 0 }
        $fake->seen;
    die "no call with $key\n" if !$call;
    return uc "EVALSHA $call->[1]";
}

my $evidence = script('gate#evidence:');
my $beat = script('gate#nodes');

sub bulk { return '$' . length($_[0]) . "\r\n$_[0]\r\n" }

sub array { return '*' . @_ . "\r\n" . join '', @_ }

# Answers in turn, each of which is to be an error.

sub lies {
    my ($script, @cases) = @_;

    my $before = redis();
    my $errors = $before->{errors}{protocol} || 0;
    $fake->next($script, $_->[0]) for @cases;

    my $after;
    my $all = eval { wait_for { $after = redis();
        ($after->{errors}{protocol} || 0) >= $errors + @cases }
        timeout => 20; };
    ok($all, join ', ', map { $_->[1] } @cases)
        or diag 'only ' . ($after->{errors}{protocol} - $errors)
            . ' of ' . @cases;
    is_deeply([@$after{qw(state reconnects)}],
        ['ready', $before->{reconnects}], 'the connection stays');
}

$t->get('/') for 1 .. 20;
wait_syncs(2);

my $rollout = $g->rollout('shop');
my ($one, $none) = (":1\r\n", bulk(''));

subtest 'sums that are none' => sub {
    lies($evidence,
        [$one, 'a number'],
        [bulk('0:1'), 'a string'],
        [array(), 'an empty array'],
        [array($one, $none, $none), 'one element too few'],
        [array($one, "\$-1\r\n", $none, $one), 'no sum'],
        [array($one, $one, $none, $one), 'a sum that is a number'],
        [array($one, $none, array(), $one), 'a sum that is an array'],
        [array($one, $none, $none, $none), 'nodes that are no number'],
        [array($one, $none, $none, ":-1\r\n"), 'fewer than no nodes'],
        [array($one, bulk('12:-5'), $none, $one), 'a negative total'],
        [array($one, bulk('12:1e15'), $none, $one), 'a total of Lua'],
        [array($one, bulk('12:inf'), $none, $one), 'an endless total'],
        [array($one, bulk('12:99999999999999999999'), $none, $one),
            'a total out of range'],
        [array($one, bulk('12:5 12:5'), $none, $one), 'the same one twice'],
        [array($one, bulk('12:5 '), $none, $one), 'half a total'],
        [array($one, $none, bulk("0:1\0"), $one), 'a NUL']);
};

subtest 'nodes that are none' => sub {
    my $now = ':' . int(time * 1000) . "\r\n";
    my $seed = bulk('0123456789abcdef' x 2);
    my @node = (bulk('a:1'), $one, bulk('{}'));

    lies($beat,
        [array($now, $seed, $one), 'one element too few'],
        [array(":-5\r\n", $seed, $one, array()), 'a time before all times'],
        [array($now, bulk('g' x 32), $one, array()), 'a seed that is no hex'],
        [array($now, bulk('0' x 32), $one, array()), 'a seed that is nothing'],
        [array($now, $seed, $one, $none), 'a list that is none'],
        [array($now, $seed, $one, array(@node[0, 1])), 'half a node'],
        [array($now, $seed, $one, array(@node[0, 2, 1])), 'a node mixed up']);
};

subtest 'nothing of it is believed' => sub {
    my $now = $g->rollout('shop');
    is_deeply([@$now{qw(state epoch)}], [@$rollout{qw(state epoch)}],
        'the rollout goes on');

    for my $what (qw(stable canary)) {
        is_deeply($now->{fleet}{$what}, $rollout->{fleet}{$what},
            "the fleet's step on $what");
        is_deeply($now->{fleet}{totals}{$what},
            $rollout->{fleet}{totals}{$what}, 'and its totals');
    }

    my $status = $g->status;
    is($status->{fleet}{alive}, 1, 'one node');
    is($real->cmd('GET', 'gate#seed') =~ /^[0-9a-f]{32}$/, 1, 'and its seed');
};

subtest 'nodes that are odd, but some' => sub {
    my @nodes = map { (bulk($_->[0]), ":$_->[1]\r\n", bulk($_->[2])) }
        ["bad\e[31m:1", 0, '{}'], ['x' x 5000, 0, '{}'],
        ['big:1', 0, 'y' x 5000], ['old:1', 4000, '{}'],
        ['past:1', -5000, '{"v":1}'];

    $fake->on($beat, array(':' . int(time * 1000) . "\r\n",
        bulk($real->cmd('GET', 'gate#seed')), ":4000000000\r\n",
        array(@nodes)));
    wait_for { @{ $g->status->{fleet}{nodes} } == 2 } what => 'two nodes';

    my $status = $g->status;
    is_deeply([map { $_->{name} } @{ $status->{fleet}{nodes} }],
        ['old:1', 'past:1'], 'what is no name of ours is not shown');
    is($status->{fleet}{alive}, 4, 'but counted');
    unlike($t->get('/gate')->body, qr/\e|\\u001b|yyyy/, 'nor is its text');
    $fake->off($beat);
};

subtest 'and then the truth again' => sub {
    wait_syncs(2);
    $t->get('/') for 1 .. 20;
    wait_for { my $f = $g->rollout('shop')->{fleet}{totals};
        $f->{stable}{attempts} + $f->{canary}{attempts} == 40 }
        what => '40 attempts';
    pass('all attempts are there');
    is(redis()->{state}, 'ready', 'by the same connection');
};

$t->done;
done_testing;
