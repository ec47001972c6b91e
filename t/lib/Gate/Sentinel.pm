package Gate::Sentinel;

# A master, its replicas, and the sentinels that watch them.
#
#   my $s = $t->sentinel;                 # 1 + 2 and 3, agreed
#   $s->master->cmd(...);                 # a Gate::Redis
#   $s->url                               # "h:p,h:p,h:p/mymaster"
#   my $new = $s->failover;               # planned, as an operator does it
#   my $new = $s->kill_master;            # not planned

use strict;
use warnings;

use Gate::Redis;
use Gate::Util qw(wait_for);

use constant NAME => 'mymaster';

# Options: dir, replicas (2), sentinels (3), password (of the servers),
# sentinel_password, down_after (1000 ms), redis (options for the servers).

sub new {
    my ($class, %opt) = @_;

    my $replicas = defined $opt{replicas} ? $opt{replicas} : 2;
    my $number = $opt{sentinels} || 3;
    my $pw = $opt{password};
    my @common = (dir => $opt{dir}, %{ $opt{redis} || {} },
        defined $pw ? (requirepass => $pw, masterauth => $pw) : ());

    my $self = bless { servers => [], sentinels => [] }, $class;
    my $master = Gate::Redis->new(@common)->start;
    push @{ $self->{servers} }, $master;
    push @{ $self->{servers} },
        Gate::Redis->new(@common, replicaof => $master)->start
        for 1 .. $replicas;
    wait_for {
        2 <= 1 + grep { /^slave\d+$/ } %{ $master->info('replication') };
    } what => 'a replica' if $replicas;
    wait_for {
        my $info = $master->info('replication');
        $replicas == grep { /state=online/ } values %$info;
    } what => 'the replicas';

    my $quorum = int($number / 2) + 1;
    my $conf = join "\n",
        'sentinel monitor ' . NAME . ' 127.0.0.1 ' . $master->port
            . " $quorum",
        'sentinel down-after-milliseconds ' . NAME . ' '
            . ($opt{down_after} || 1000),
        'sentinel failover-timeout ' . NAME . ' 3000',
        'sentinel parallel-syncs ' . NAME . ' 5',
        defined $pw ? 'sentinel auth-pass ' . NAME . " $pw" : ();
    my $spw = $opt{sentinel_password};
    # before 6.2 requirepass is what they tell each other, too
    $conf .= "\nsentinel sentinel-pass $spw"
        if defined $spw && $master->version >= 6.2;

    push @{ $self->{sentinels} }, Gate::Redis->new(dir => $opt{dir},
        sentinel => 1, conf => $conf,
        defined $spw ? (requirepass => $spw) : ())->start
        for 1 .. $number;

    $self->{replicas} = $replicas;
    $self->wait_agreed;
    return $self;
}

sub servers { return @{ $_[0]{servers} } }

sub sentinels { return @{ $_[0]{sentinels} } }

# What goes behind redis+sentinel://

sub url {
    my ($self) = @_;
    return join(',', map { $_->addr } $self->sentinels) . '/' . NAME;
}

# The server that the sentinels name, by the word of the first that answers.

sub master {
    my ($self) = @_;

    for my $s (grep { $_->pid } $self->sentinels) {
        my $at = eval { $s->cmd('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', NAME) }
            or next;
        my ($found) = grep { $_->port == $at->[1] } $self->servers;
        return $found if $found;
    }

    die "no sentinel knows the master\n";
}

# Every living sentinel knows the others and the replicas, and names the same
# living master.

sub wait_agreed {
    my ($self, %opt) = @_;

    my @alive = grep { $_->pid } $self->sentinels;
    my $others = $self->sentinels - 1;

    wait_for {
        my %named;
        for my $s (@alive) {
            my $m = $s->hash('SENTINEL', 'MASTER', NAME);
            return 0 if $m->{flags} ne 'master'
                || $m->{'num-other-sentinels'} < $others
                || $m->{'num-slaves'} < $self->{replicas};
            $named{ $m->{port} } = 1;
        }
        return keys %named == 1 && $self->master->role eq 'master';
    } timeout => 30, what => 'the sentinels to agree', %opt;

    return $self->master;
}

# Both return the new master as soon as all sentinels name it and it is one.

sub failover {
    my ($self) = @_;
    my $old = $self->master;
    ($self->sentinels)[0]->cmd('SENTINEL', 'FAILOVER', NAME);
    return $self->_wait_other($old);
}

sub kill_master {
    my ($self) = @_;
    my $old = $self->master;
    $old->kill;
    return $self->_wait_other($old);
}

sub _wait_other {
    my ($self, $old) = @_;

    return wait_for {
        for my $s (grep { $_->pid } $self->sentinels) {
            my $at = $s->cmd('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', NAME);
            return 0 if $at->[1] == $old->port;
        }
        my $new = $self->master;
        return $new->role eq 'master' ? $new : 0;
    } timeout => 30, what => 'another master';
}

sub stop {
    my ($self) = @_;
    $_->stop for $self->sentinels, $self->servers;
}

1;
