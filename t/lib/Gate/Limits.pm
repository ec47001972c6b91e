package Gate::Limits;

# A fleet with limit zones, as tests of them want it.
#
#   my $l = Gate::Limits->new($t, nodes => 3, redis => $r,
#       zones => { z => 'key=$arg_k rate=30r/h' });
#   $l->start;
#   is($l->take(0, 5, 'joe'), 5);          # how many node 0 lets through
#   $l->owes('joe', 5);                    # waits until Redis knows of 5
#
# Each zone has a location of its name; "z" is meant where none is said, and
# its rate is one unit an HOUR_PART where no other is given.

use strict;
use warnings;

use Gate;
use Gate::Util qw(scale wait_for);

# Options: nodes (2), workers (2), redis, address (its own), options (of
# gate_redis), zones, http (what else is in the http block).

sub new {
    my ($class, $t, %opt) = @_;

    my $self = bless { t => $t, nodes => 2, workers => 2, options => '',
        http => '', seconds => 120, %opt }, $class;
    $self->{zones} ||= { z => 'key=$arg_k rate=30r/h' };
    $self->{address} ||= 'redis://' . $self->{redis}->addr;

    $self->{fleet} = $t->fleet($self->{nodes}, workers => $self->{workers},
        sub { $self->conf(@_) });

    return $self;
}

sub conf {
    my ($self, $node, $i) = @_;

    my %zone = %{ $self->{zones} };
    my $zones = join '', map { "    gate_limit_zone $_ $zone{$_};\n" }
        sort keys %zone;
    my $places = join '', map { "        location = /$_ { "
        . "gate_limit zone=$_ headers=both; empty_gif; }\n" } sort keys %zone;
    my $address = ref $self->{address} ? $self->{address}[$i]
        : $self->{address};

    return <<"EOF_CONF";
    gate_redis $address $self->{options};
$self->{http}
$zones
    add_header X-Pid \$pid always;
    add_header X-Hash \$gate_limit_key_hash always;

    server {
        listen 127.0.0.1:%%PORT:http%%;
$places
        location = /gate-status { gate_status; }
        location = /gate-fleet-pid { return 204; }
    }
EOF_CONF
}

sub fleet { return $_[0]{fleet} }

sub node { return $_[0]{fleet}->node($_[1]) }

# Starts the nodes and waits until Redis hears of what each admits.

sub start {
    my ($self) = @_;
    $self->{fleet}->start;

    for my $i (0 .. $self->{nodes} - 1) {
        wait_for {
            ($self->status($i)->{fleet}{alive} || 0) == $self->{nodes}
        } what => "node $i to see the others";
    }

    $self->online;
    return $self;
}

# Requests one after the other; how many were let through.

sub take {
    my ($self, $i, $n, $key, $zone) = @_;

    my $conn = $self->node($i)->conn;
    my $passed = 0;

    for (1 .. $n) {
        $conn->send('GET', '/' . ($zone || 'z') . "?k=$key");
        my $r = $conn->recv;
        my $status = $r->status;
        die "an answer of $status\n" if $status != 200 && $status != 429;
        $passed++ if $status == 200;
        $self->{hash}{$key} = $r->header('x-hash');
    }

    $conn->close;
    return $passed;
}

# The key of a caller in Redis; it must have been there.

sub key {
    my ($self, $key, $zone) = @_;
    $zone ||= 'z';
    $self->take(0, 1, $key, $zone) if !$self->{hash}{$key};
    return "gate#limit:$zone:$self->{hash}{$key}";
}

# What Redis says that a caller owes, in units, not rounded.

sub debt {
    my ($self, $key, $zone, $seconds) = @_;

    my $r = $self->{redis};
    my ($value, $time) = $r->pipeline(['GET', $self->key($key, $zone)],
        ['TIME']);
    my ($tat) = ($value || '') =~ /^(\d{16}\.\d{3})/ or return 0;
    return ($tat / 1e6 - $time->[0] - $time->[1] / 1e6)
        / ($seconds || $self->{seconds});
}

# Waits until the debt of that caller is that, or so much less as time may
# have paid.

sub owes {
    my ($self, $key, $units, $zone, $seconds) = @_;

    my $debt;
    return 1 if eval { wait_for {
        $debt = $self->debt($key, $zone, $seconds);
        $debt <= $units && $debt > $units - 0.5;
    } timeout => 5 };
    Test::More::diag("$key owes $debt, not $units");
    return 0;
}

sub online {
    my ($self, @nodes) = @_;

    @nodes = 0 .. $self->{nodes} - 1 if !@nodes;

    for my $i (@nodes) {
        wait_for {
            my $key = 'online' . ++$self->{number};
            $self->take($i, 1, $key);
            eval { wait_for {
                $self->{redis}->cmd('EXISTS', $self->key($key))
            } timeout => 0.2 / scale() };
        } timeout => 10, what => "node $i to be online";
    }
}

sub status {
    my ($self, $i) = @_;
    return $self->node($i)->get('/gate-status')->json;
}

# The process that is the agent of a node.

sub agent {
    my ($self, $i) = @_;

    return wait_for {
        my $pid = $self->status($i)->{agent}{pid};
        (grep { $_ == $pid } $self->node($i)->workers) && $pid;
    } what => "an agent of node $i";
}

1;
