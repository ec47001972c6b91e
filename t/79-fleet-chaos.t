#!/usr/bin/perl

# Everything at once, at random: Redis is killed, emptied, frozen or set back
# to an old snapshot, nodes are cut off, reloaded, lose their agent.  What an
# operator said last, and one node heard, is what all say in the end; and no
# request failed.  CHAOS_SEED repeats a run, CHAOS_STEPS makes it longer.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Trial;
use Test::More;
use Time::HiRes qw(sleep time);

skip_unless_cmd('redis-server');
my $seed = $ENV{CHAOS_SEED} || int rand 1e6;
my $steps = $ENV{CHAOS_STEPS} || 40;
note "CHAOS_SEED=$seed CHAOS_STEPS=$steps";
srand $seed;

my $t = Gate->new;
my $r = $t->redis;
my @p = map { $t->proxy($r->path) } 1 .. 3;
my $x = Gate::Trial->new($t, redis => $r, nodes => 3, rate => 40,
    address => [map { 'redis://' . $_->addr } @p],
    options => 'timeout=300ms');
my $f = $x->fleet;
$x->start;

my @node = $f->nodes;
my %is = (up => 1, frozen => 0, cut => [0, 0, 0]);
my %last = (open => 200, weight => 40, state => 'progressing');
my @story;
my %heard = map { $_ => 1 } 0 .. $#node;     # the last word

sub shows {
    my ($i) = @_;
    my $shop = eval { $x->rollout($i)->rollout('shop') } or return 0;
    return $node[$i]->get('/open')->status == $last{open}
        && $shop->{weight} == $last{weight}
        && $shop->{state} eq $last{state};
}

sub joined {
    my ($i) = @_;
    my $link = eval { $x->link($i) } or return 0;
    return $link->{state} eq 'ready' && $link->{joined};
}

# An operator speaks only to a Redis that a node talks to, and looks whether
# somebody heard it; else nobody could know it when Redis forgets.

sub operator {
    my ($what, $code) = @_;

    return if !$is{up} || $is{frozen};
    my @there = grep { !$is{cut}[$_] } 0 .. $#node;
    return unless @there;
    wait_for { grep { joined($_) } @there } what => 'a node to talk to Redis';

    # what was said before must be known here again, or he spoke to another
    # Redis than he thinks
    return unless grep { $heard{$_} || shows($_) } @there;
    wait_for { grep { joined($_) && shows($_) } @there }
        what => "a node that knows the last word before: $what";

    push @story, $what;
    $code->();
    %heard = ();
    wait_for { %heard = map { $_ => 1 } grep { shows($_) } @there; %heard }
        what => "a node to hear: $what";
}

my @operator = (
    sub { operator('SET on', sub {
        $r->cmd('SET', 'gate:maintenance:a', 'on');
        $last{open} = 503;
    }) },
    sub { operator('DEL', sub {
        $r->cmd('DEL', 'gate:maintenance:a');
        $last{open} = 200;
    }) },
    sub { operator('weight', sub {
        return if $last{state} ne 'progressing';
        $last{weight} = 1 + int rand 99;
        $r->cmd('HSET', 'gate:canary:shop', weight => $last{weight});
    }) },
    sub { operator('abort', sub {
        return if $last{state} eq 'rolled_back';
        @last{qw(state weight)} = ('rolled_back', 0);
        $r->cmd('HSET', 'gate:canary:shop', state => 'rolled_back');
    }) },
    sub { operator('start', sub {
        my ($i) = grep { joined($_) } 0 .. $#node;
        $x->rollout($i)->api('canary/shop/start');
        @last{qw(state weight)} = ('progressing', 10);
    }) },
);

sub happens { push @story, $_[0]; return 1 }

my @accident = (
    sub { $is{up} && !$is{frozen} && happens('kill')
        && $r->kill && ($is{up} = 0) },
    sub { !$is{up} && happens('comes back empty')
        && $r->forget->start && ($is{up} = 1) },
    sub { !$is{up} && happens('comes back') && $r->start && ($is{up} = 1) },
    sub { $is{up} && !$is{frozen} && happens('FLUSHALL')
        && $r->cmd('FLUSHALL') },
    sub { $is{up} && !$is{frozen} && happens('snapshot') && $r->snapshot },
    sub { $is{up} && !$is{frozen} && happens('freeze') && $r->freeze
        && ($is{frozen} = 1) },
    sub { $is{frozen} && happens('thaw') && $r->thaw && ($is{frozen} = 0) },
    (map { my $i = $_; (
        sub { !$is{cut}[$i] && happens("cut $i") && $p[$i]->refuse
            && ($is{cut}[$i] = 1) },
        sub { $is{cut}[$i] && happens("mend $i") && $p[$i]->listen
            && ($is{cut}[$i] = 0) },
    ) } 0 .. $#node),
    sub { my $i = int rand @node; happens("reload $i");
        $node[$i]->reload },
    sub { my $i = int rand @node; happens("kill the agent of $i");
        $node[$i]->kill_worker('KILL', pid => wait_for { $x->agent($i) }) },
    sub { my $i = int rand @node; happens("reset $i"); $p[$i]->drop },
);

my @load = $x->load;
my $ok = eval {
    for (1 .. $steps) {
        (rand() < 0.4 ? $operator[rand @operator] : $accident[rand @accident])
            ->();
        sleep rand 0.15;
    }
    1;
};
ok($ok, 'an operator is heard whenever there is a Redis') || diag($@);

push @story, 'all is mended';
$r->thaw if $is{frozen};
$r->start unless $is{up};
$_->listen for @p;
my $start = time;
my $agreed = eval { wait_for { @node == grep { shows($_) } 0 .. $#node }
    timeout => 5, what => 'the last word everywhere' };
ok($agreed, 'in the end all say what was said last')
    || diag(map { my $s = $x->rollout($_)->rollout('shop');
        "node $_: " . $node[$_]->get('/open')->status
        . " $s->{weight} $s->{state}, not @last{qw(open weight state)}\n" }
        0 .. $#node);
note sprintf 'after %.3f s', time - $start;
is_deeply([$f->watch($last{open}, 0.5, uri => '/open')], [], 'and stay so');

my @other = grep { $_->{what} !~ /open/ } @load;
$_->{load}->stop for grep { $_->{what} =~ /open/ } @load;
$x->check_load(@other);
my @failed = grep { my $e = $_->{load}->result->{errors};
    grep { $e->{$_} } keys %$e } @load;
is(@failed, 0, 'nor did others');

is(eval { $x->obeys(timeout => 5); 1 }, 1, 'new words are obeyed')
    || diag($@);

diag("CHAOS_SEED=$seed: ", join ', ', @story)
    unless Test::More->builder->is_passing;
$t->done;
done_testing;
