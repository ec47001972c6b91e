package Gate::Budget;

# A fleet with limit zones under load, and what became of every request,
# beside what one place that sees them all would have decided.
#
#   my $l = Gate::Budget->new($t, redis => $r, nodes => 4,
#       zones => { a => 'rate=100r/s burst=20' });
#   my $run = $l->run(zone => 'a', rate => 200, duration => 30);
#   $run->admitted(1, 30); $run->overshoot(100, 21); $run->false(100, 21);
#
# A zone is asked at /<zone>, by the key in X-Key; each run has a key of its
# own.  Times are seconds since the first request of the run was sent.

use strict;
use warnings;

use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

use Gate::Fleet;
use Gate::Util qw(scale slurp wait_for);

my $keys = 0;

sub new {
    my ($class, $t, %opt) = @_;

    my $self = bless { t => $t, %opt, zones => $opt{zones} }, $class;
    my @names = sort keys %{ $self->{zones} };
    my $redis = $opt{redis} ? 'gate_redis redis://'
        . ($opt{address} || $opt{redis}->addr) . ';' : '';

    my $zones = join '', map {
        "    gate_limit_zone $_ key=\$http_x_key $self->{zones}{$_};\n"
    } @names;
    my $locations = join '', map {
        "        location = /$_ { gate_limit zone=$_; empty_gif; }\n"
    } @names;

    $self->{fleet} = $t->fleet($opt{nodes}, module => 1,
        workers => $opt{workers} || 1, log => 'notice', <<"EOF_CONF");
    $redis
$zones
    server {
        listen 127.0.0.1:%%PORT:http%%;
$locations
        location = /gate { gate_status; }
        location = /gate-fleet-pid { return 204; }
    }
EOF_CONF

    $self->{fleet}->start;
    $self->wait_online if $opt{redis};
    return $self;
}

sub nodes { return $_[0]{fleet}->nodes }

sub stop { return $_[0]{fleet}->stop }

# The part of the status about a zone, of each node.

sub status {
    my ($self, $zone) = @_;
    return map { $_->get('/gate')->json->{limits}{$zone} } $self->nodes;
}

# The sum of one of its counters.

sub sum {
    my ($self, $zone, $name) = @_;
    my $sum = 0;
    $sum += $_->{$name} || 0 for $self->status($zone);
    return $sum;
}

sub wait_online {
    my ($self) = @_;

    my ($zone) = grep { $self->{zones}{$_} !~ /sync=off/ }
        sort keys %{ $self->{zones} } or return;

    wait_for {
        my $n = $self->nodes;
        !grep { !$_->{sync}{online} || $_->{sync}{nodes} < $n }
            $self->status($zone);
    } timeout => 30, what => 'every node to know of the others';
}

sub now { return int(clock_gettime(CLOCK_MONOTONIC) * 1e6) }

sub key { return 'run-' . ++$keys }

# Load on the nodes.  Options: zone, key, rate (of each node), duration,
# random, number, nodes (their numbers, all by default), conns, code (what to
# do meanwhile).

sub run {
    my ($self, %opt) = @_;

    my $key = defined $opt{key} ? $opt{key} : key();
    my @nodes = $opt{nodes} ? map { $self->{fleet}->node($_) } @{ $opt{nodes} }
                            : $self->nodes;

    my @load = map { $self->{t}->load(port => $_->port, uri => "/$opt{zone}",
        conns => $opt{conns} || 8, log => 1, rate => $opt{rate},
        random => $opt{random}, number => $opt{number}, timeout => 5000,
        duration => $opt{duration}, headers => { 'X-Key' => $key }) } @nodes;

    my $began = now();
    $opt{code}->(sub { (now() - $began) / 1e6 }) if $opt{code};
    return Gate::Budget::Run->new(@load);
}


package Gate::Budget::Run;

use List::Util ();

# Of loads that have ended, or will.

sub new {
    my ($class, @load) = @_;

    my @all;
    my %other;

    for my $i (0 .. $#load) {
        my $result = $load[$i]->result;
        open my $fh, '<', $load[$i]{log} or die "$load[$i]{log}: $!\n";
        while (defined(my $line = <$fh>)) {
            my ($start, $end, $status, $err) = split / /, $line;
            $other{ $err eq '-' ? $status : $err }++
                if $status != 200 && $status != 429;
            push @all, [$start, $end, $status == 200 ? 1 : 0, $i];
        }
        close $fh;
        unlink $load[$i]{log};
    }

    return $class->of(\@all, \%other);
}

# Of such requests: [start, end (us), admitted, node].

sub of {
    my ($class, $all, $other) = @_;

    my @all = sort { $a->[0] <=> $b->[0] } @$all;
    die "no requests\n" unless @all;

    return bless { all => \@all, other => $other || {},
        zero => $all[0][0] }, $class;
}

sub count { return scalar @{ $_[0]{all} } }

# Neither admitted nor refused, as text; empty is well.

sub strange {
    my ($self) = @_;
    my $o = $self->{other};
    return join ', ', map { "$o->{$_} x $_" } sort keys %$o;
}

# When the requests in question were sent, or answered (ended => 1); seconds.

sub times {
    my ($self, %opt) = @_;

    my $at = $opt{ended} ? 1 : 0;
    my $want = $opt{refused} ? 0 : 1;
    my @times = sort { $a <=> $b } map { ($_->[$at] - $self->{zero}) / 1e6 }
        grep { $_->[2] == $want
            && (!defined $opt{node} || $_->[3] == $opt{node}) }
        @{ $self->{all} };
    return @times;
}

# How many were admitted, of those sent in that time or of all.

sub admitted {
    my ($self, $from, $to) = @_;
    return scalar grep { (!defined $from || $_ >= $from)
        && (!defined $to || $_ < $to) } $self->times;
}

# The most that was ever admitted over what a budget of "rate" a second and
# "capacity" allows: ended => 1 goes by the answers, and is a lower bound of
# it, otherwise by when they were sent, which is an upper one.

sub overshoot {
    my ($self, $rate, $capacity, %opt) = @_;

    my ($n, $worst) = (0, -1e9);
    for my $time ($self->times(%opt)) {
        my $over = ++$n - $capacity - $rate * $time;
        $worst = $over if $over > $worst;
    }

    return $worst;
}

# What one place decides that sees every request as it is sent; the list of
# flags, in order.

sub ideal {
    my ($self, $rate, $capacity) = @_;

    my $interval = int(1e9 / $rate);
    my $tat = 0;

    return map {
        my $now = $_->[0] * 1000;
        my $debt = $tat > $now ? $tat - $now : 0;
        my $fits = $debt + $interval <= $interval * $capacity;
        $tat = $now + $debt + $interval if $fits;
        $fits ? 1 : 0;
    } @{ $self->{all} };
}

# How many it admits.

sub fitting {
    my ($self, @budget) = @_;
    return scalar grep { $_ } $self->ideal(@budget);
}

# Requests that were refused and that the ideal one admits; how many it admits
# altogether.

sub false {
    my ($self, $rate, $capacity) = @_;

    my @ideal = $self->ideal($rate, $capacity);
    my $false = grep { $ideal[$_] && !$self->{all}[$_][2] } 0 .. $#ideal;
    return ($false, List::Util::sum(@ideal));
}

# Requests that were refused although the budget had room for them after all
# that had been admitted before, also what should not have been.  Room that is
# younger than "slack" seconds does not count: a request is under way for some
# time before it is decided about.

sub hasty {
    my ($self, $rate, $capacity, $slack) = @_;

    my $interval = int(1e9 / $rate);
    my $most = $interval * $capacity - int(1e9 * ($slack || 0));
    my ($tat, $hasty) = (0, 0);

    for (@{ $self->{all} }) {
        my $now = $_->[0] * 1000;
        my $debt = $tat > $now ? $tat - $now : 0;

        if ($_->[2]) {
            $tat = $now + $debt + $interval;
        } elsif ($debt + $interval <= $most) {
            $hasty++;
        }
    }

    return $hasty;
}

# A percentile of the time to an answer, ms, of those sent in that time.

sub latency {
    my ($self, $p, $from, $to) = @_;

    my @ms = sort { $a <=> $b } map { ($_->[1] - $_->[0]) / 1000 } grep {
        my $at = ($_->[0] - $self->{zero}) / 1e6;
        (!defined $from || $at >= $from) && (!defined $to || $at < $to)
    } @{ $self->{all} };

    return 0 unless @ms;
    my $i = int($p * @ms);
    return $ms[$i < @ms ? $i : -1];
}

# The longest time without an admission between those two moments.

sub gap {
    my ($self, $from, $to) = @_;

    my ($last, $longest) = ($from, 0);
    for my $time (grep { $_ >= $from && $_ < $to } $self->times, $to) {
        $longest = $time - $last if $time - $last > $longest;
        $last = $time;
    }

    $longest = $to - $last if $to - $last > $longest;
    return $longest;
}

# A picture for whoever wants to know why: admitted by each node and refused
# altogether, in steps of so many seconds.

sub timeline {
    my ($self, $step) = @_;

    my (@admitted, @refused);
    my $nodes = 0;
    for (@{ $self->{all} }) {
        my ($start, undef, $ok, $node) = @$_;
        my $at = int(($start - $self->{zero}) / 1e6 / $step);
        $ok ? $admitted[$at][$node]++ : $refused[$at]++;
        $nodes = $node + 1 if $node >= $nodes;
    }

    my $last = @admitted > @refused ? $#admitted : $#refused;
    return map {
        my $at = $_;
        my @n = map { $admitted[$at][$_] || 0 } 0 .. $nodes - 1;
        sprintf "%8.3f  %4d = %s, refused %d\n", $at * $step,
            List::Util::sum(@n), join(' + ', @n), $refused[$at] || 0;
    } 0 .. $last;
}

1;
