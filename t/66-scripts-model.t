#!/usr/bin/perl

# Random histories of nodes that are cut off, operators that type, and a
# Redis that forgets.  When everybody has come back, everybody agrees, and
# nothing that somebody knew is lost but to what came after it.
#
# TEST_SEED repeats a run, TEST_WORLDS makes it longer.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(sha1_hex);

use Gate;
use Gate::Scripts;
use Test::More;

my $t = Gate->new;
my $r = $t->redis;
my $s = Gate::Scripts->new($r);
my $hash = 'gate:canary:shop';
my @keys = @{ $s->{strings} };
my $worlds = $ENV{TEST_WORLDS} || 60;

my $seed = $ENV{TEST_SEED} || time ^ $$;
srand $seed;
note("TEST_SEED=$seed");

sub one_of { return $_[rand @_] }

# All data, to be brought back later, as if by another start of the server.

sub snapshot {
    my @keys = sort @{ $r->cmd('KEYS', '*') };
    return [ map { [ $_, $r->cmd('DUMP', $_) ] } @keys ];
}

sub bring_back {
    my ($copy) = @_;
    $r->pipeline(['FLUSHALL'], (map { [ 'RESTORE', $_->[0], 0, $_->[1] ] }
        @$copy), ['HDEL', 'gate#epoch', 'run']);
}

# Nothing is lost within the millisecond in which it was said: revisions are
# times, and those of a burst run ahead of the clock.

sub breathe {
    my (@nodes) = @_;
    my ($top) = sort { $b <=> $a } $r->cmd('HGET', 'gate#epoch', 'rev') || 0,
        map { $_->{rev} || 0 } map { values %{ $_->{known} } } @nodes;
    wait_for {
        my ($s, $us) = @{ $r->cmd('TIME') };
        $s * 1000 + int($us / 1000) > $top;
    } what => 'the clock to go on';
}

# What a node does in one go: it looks, or restores what the last look asked
# for.  In between others have their turn.

sub turn {
    my ($n) = @_;

    if (my $todo = delete $n->{todo}) {
        my @strings = grep { !/canary:/ } @{ $todo->{keys} };
        $n->restore_strings(@strings) if @strings;
        $n->restore_rollout($_) for grep { /canary:/ } @{ $todo->{keys} };
        $n->{inc} = $todo->{inc};
        return;
    }

    my $seen = $n->observe;
    my @wanted = $n->wanted($seen);

    # an epoch that is lower than ours, or another of that number, or one that
    # we know to be rolled back: Redis has forgotten, and is told

    my ($f, $mine) = ($seen->{$hash}{fields}, $n->fields('shop'));

    if ($f->{epoch} && $mine && ($f->{epoch} < $mine->{epoch}
        || $f->{epoch} == $mine->{epoch} && ($f->{seed} ne $mine->{seed}
        || $mine->{state} eq 'rolled_back' && $f->{state} ne 'rolled_back')))
    {
        push @wanted, $hash;
        delete $seen->{$hash};
    }

    $n->take($seen);
    own_rollback($n, $f) if $f->{epoch} && $seen->{$hash};

    # the scripts must not depend on when it takes the new incarnation over

    $n->{todo} = { keys => \@wanted, inc => $seen->{inc} } if @wanted;
    $n->{inc} = $seen->{inc} unless @wanted && rand() < 0.5;
}

# A node that rolled back alone tells so, as soon as it is back.

sub own_rollback {
    my ($n, $f) = @_;

    my $epoch = $n->{flipped} or return;
    $n->rollout('flip', epoch => $epoch, actor => 'verdict')
        if $f->{epoch} == $epoch && $f->{state} ne 'rolled_back';
    delete $n->{flipped};
}

sub settle_down {
    my @nodes = @_;
    for (1 .. 6) { turn($_) for @nodes }
}

# The last thing that was typed into keys that are about to be looked at, as
# far as it can be told from Redis: where it differs from what the ledger has.

sub typed {
    my ($last, @looked_at) = @_;

    for my $key (@looked_at) {
        my ($value, $entry) = $r->pipeline(['GET', $key],
            ['HGET', 'gate#epoch', "k:$key"]);
        my $digest = defined $value ? sha1_hex($value) : '-';
        my $known = defined $entry ? (split ' ', $entry)[2] : '-';
        $last->{$key} = [ $value ] if $digest ne $known;
    }
}

sub string_world {
    $r->cmd('FLUSHALL');
    my @nodes = map { $s->node("n$_") } 1 .. 2 + int rand 2;
    my ($copy, @copied, %last, %best, @log);
    my $number = 0;

    # what the nodes know is what may come back
    my $lost = sub {
        my ($ledger) = @_;
        %last = %best = ();
        for my $key (@keys) {
            my @all = grep { $_->{rev} } map { $_->{known}{$key} || {} }
                @nodes;
            push @all, grep { $_->{key} eq $key } @$ledger if $ledger;
            my ($top) = sort { $b <=> $a } map { $_->{rev} } @all;
            $best{$key} = [ map { $_->{value} } grep { $_->{rev} == $top }
                @all ] if $top;
        }
    };

    for (1 .. 40) {
        my $what = rand;
        my $key = one_of(@keys);
        my $n = one_of(@nodes);

        if ($what < 0.25) {
            my $value = "v" . ++$number;
            push @log, "SET $key $value";
            $r->cmd('SET', $key, $value);

        } elsif ($what < 0.35) {
            push @log, "DEL $key";
            $r->cmd('DEL', $key);

        } elsif ($what < 0.75) {
            push @log, "$n->{name} " . ($n->{todo} ? 'restores' : 'looks');
            typed(\%last, $n->{todo} ? @{ $n->{todo}{keys} } : @keys);
            turn($n);

        } elsif ($what < 0.82) {
            my $value = "p" . ++$number;
            push @log, "$n->{name} puts $key $value";
            typed(\%last, $key);
            $n->put($key, $value);
            $last{$key} = [ $value ];

        } elsif ($what < 0.90) {
            push @log, 'SAVE';
            typed(\%last, @keys);
            $s->node('saver')->observe;
            $copy = snapshot();
            @copied = map { my $k = $_; my $e = $r->cmd('HGET', 'gate#epoch',
                "k:$k"); defined $e ? { key => $k, rev => (split ' ', $e)[0],
                value => $r->cmd('GET', $k) } : () } @keys;

        } elsif ($what < 0.95) {
            push @log, 'FLUSHALL';
            breathe(@nodes);
            $r->cmd('FLUSHALL');
            $lost->();

        } elsif ($copy) {
            push @log, 'an old snapshot';
            breathe(@nodes);
            bring_back($copy);
            $lost->(\@copied);
        }
    }

    typed(\%last, @keys);
    settle_down(@nodes);

    my @wrong;

    for my $key (@keys) {
        my $value = $r->cmd('GET', $key);
        my $show = sub { defined $_[0] ? $_[0] : '-' };

        for my $n (@nodes) {
            push @wrong, "$n->{name} has " . $show->($n->value($key))
                . " for $key, Redis " . $show->($value)
                if $show->($n->value($key)) ne $show->($value);
        }

        my $want = $last{$key} || $best{$key};
        push @wrong, "$key is " . $show->($value) . ", not "
            . join ' or ', map { $show->($_) } @$want
            if $want && !grep { $show->($_) eq $show->($value) } @$want;
    }

    return @wrong ? join "\n", @log, @wrong : ();
}

# How far a rollout is: the higher epoch, there a rollback, then the revision.

sub further {
    my ($a, $b) = @_;
    my ($x, $y) = map { $_->{fields} } $a, $b;
    return $x->{epoch} <=> $y->{epoch}
        || ($x->{state} eq 'rolled_back') - ($y->{state} eq 'rolled_back')
        || $a->{rev} <=> $b->{rev};
}

sub brief {
    my ($f) = @_;
    return 'nothing' unless $f && $f->{epoch};
    return join ' ', @$f{qw(epoch state weight seed)};
}

sub rollout_world {
    $r->cmd('FLUSHALL');
    my @nodes = map { $s->node("n$_") } 1 .. 2 + int rand 2;
    my ($copy, @best, $decided, @log, $flips);
    my $number = 0;
    my $seed = sub { return sprintf '%032x', ++$number };

    turn($nodes[0]);
    $nodes[0]->rollout('open', seed => $seed->());

    for (1 .. 40) {
        my $what = rand;
        my $n = one_of(@nodes);
        my $known = $n->fields('shop');

        if ($what < 0.55) {
            push @log, "$n->{name} " . ($n->{todo} ? 'restores' : 'looks');
            turn($n);

        } elsif ($what < 0.75 && !$n->{todo}) {
            my $op = one_of(qw(pause resume weight weight abort retry start
                promote));
            turn($n);
            next if $n->{todo};
            my $got = $n->rollout($op, weight => 1 + int rand 9999,
                seed => $seed->());
            next if $got->{result} ne 'ok';
            push @log, "$n->{name} $op: " . brief($got->{fields});
            $decided = 1;

        } elsif ($what < 0.80) {
            my $fields = $r->hash($hash);
            next unless $fields->{epoch};
            my $weight = 1 + int rand 90;
            push @log, "HSET weight $weight";
            $r->cmd('HSET', $hash, 'weight', $weight);
            $s->node('any')->observe;
            $decided = 1;

        } elsif ($what < 0.85 && $known && !$n->{flipped}) {
            # a breach, found alone
            next if $known->{state} eq 'rolled_back';
            push @log, "$n->{name} flips " . brief($known);
            $n->{flipped} = $known->{epoch};

        } elsif ($what < 0.91) {
            push @log, 'SAVE';
            $s->node('saver')->observe;
            $copy = { data => snapshot(), fields => $r->hash($hash),
                rev => ((split ' ', $r->cmd('HGET', 'gate#epoch',
                "c:$hash") || '0')[0]) };

        } else {
            push @log, 'lost ' . brief($r->hash($hash));
            breathe(@nodes);
            my $old = $copy && rand() < 0.5 ? $copy : undef;
            $old ? bring_back($old->{data}) : $r->cmd('FLUSHALL');
            ($decided, @best) = (0, $old && $old->{fields}{epoch} ? $old : (),
                grep { $_ && $_->{fields} && $_->{fields}{epoch} }
                map { $_->{known}{$hash} } @nodes);
            push @log, '  ' . brief($_->{fields}) . " $_->{rev}" for @best;

            if (rand() < 0.2) {
                my $new = $s->node('new');
                turn($new);
                my $got = $new->rollout('open', seed => $seed->(),
                    source => 'config', weight => 1234);
                push @log, 'new opens ' . brief($got->{fields})
                    if $got->{result} eq 'ok';
                $flips = 1;
            }
        }
    }

    my @alone = grep { $_ } map { $_->{flipped} } @nodes;
    settle_down(@nodes);

    my $now = $r->hash($hash);
    my @wrong;

    push @log, 'Redis ' . brief($now);

    for my $n (@nodes) {
        push @wrong, "$n->{name} has " . brief($n->fields('shop'))
            if brief($n->fields('shop')) ne brief($now);
    }

    push @wrong, 'a rollback that was found alone is lost'
        if $now->{epoch} && $now->{state} ne 'rolled_back'
           && grep { $_ == $now->{epoch} } @alone;

    my ($top) = sort { further($b, $a) } @best;

    # of two epochs with one number nobody can say which is the later one

    my %twins = map { ("$_->{fields}{epoch} $_->{fields}{seed}" => 1) } @best;
    my %epochs = map { (split)[0] => 1 } keys %twins;

    if ($top && !$decided && !@alone && keys %twins == keys %epochs) {
        my $f = $top->{fields};
        my @equal = grep { !further($_, $top) } @best;
        push @wrong, 'it should be ' . brief($f)
            unless $now->{epoch} >= $f->{epoch}
                && ($now->{state} eq 'rolled_back'
                    || grep { $_->{fields}{state} eq $now->{state}
                              && $_->{fields}{weight} == $now->{weight} }
                       @equal);
    }

    return @wrong ? join "\n", @log, @wrong : ();
}

for (
    [ 'typed values survive what can be survived', \&string_world ],
    [ 'decisions survive what can be survived', \&rollout_world ],
) {
    my ($name, $world) = @$_;
    my @wrong = map { $world->() } 1 .. $worlds;

    is(scalar @wrong, 0, "$name, in $worlds random histories");
    diag($wrong[0], "\nTEST_SEED=$seed") if @wrong;
}

$t->done;
done_testing;
