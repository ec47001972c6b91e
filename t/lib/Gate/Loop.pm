package Gate::Loop;

# The event loop of a helper process, and its way to the test: a socket with
# one JSON array per line, ["command", arguments], each answered by one line.
# A command "x" is the method _cmd_x of the object given as "target".

use strict;
use warnings;

use Errno qw(EAGAIN EINTR);
use IO::Socket::INET;
use IO::Socket::UNIX;
use JSON::PP ();
use Socket qw(:DEFAULT IPPROTO_TCP TCP_NODELAY);
use Time::HiRes qw(time);

sub new {
    my ($class, %opt) = @_;

    my $self = bless { %opt, rin => '', win => '', read => {}, write => {},
        timers => [], in => '', json => JSON::PP->new->ascii->canonical },
        $class;
    $self->on_read($self->{ctl}, sub { $self->_control });
    return $self;
}

# Calls the code whenever the handle is readable, or writable; undef: never.

sub on_read { my ($self, $fh, $code) = @_; $self->_on('r', $fh, $code) }

sub on_write { my ($self, $fh, $code) = @_; $self->_on('w', $fh, $code) }

sub _on {
    my ($self, $way, $fh, $code) = @_;

    my $fd = fileno $fh;
    my ($set, $bits) = $way eq 'r' ? ('read', 'rin') : ('write', 'win');
    vec($self->{$bits}, $fd, 1) = $code ? 1 : 0;
    if ($code) { $self->{$set}{$fd} = $code } else { delete $self->{$set}{$fd} }
}

# Before the handle is closed.

sub forget {
    my ($self, $fh) = @_;
    $self->on_read($fh);
    $self->on_write($fh);
}

sub close {
    my ($self, $fh, $reset) = @_;
    return unless defined fileno $fh;
    $self->forget($fh);
    setsockopt $fh, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0) if $reset;
    CORE::close($fh);
}

# Calls the code once, so many seconds from now.

sub after {
    my ($self, $delay, $code) = @_;
    my $at = time + $delay;
    my $t = $self->{timers};
    my $i = @$t;
    $i-- while $i && $t->[$i - 1][0] > $at;
    splice @$t, $i, 0, [$at, $code];
}

sub run {
    my ($self) = @_;

    local $SIG{PIPE} = 'IGNORE';

    until ($self->{end}) {
        my $first = $self->{timers}[0];
        my $left = $first ? $first->[0] - time : undef;
        $left = 0 if defined $left && $left < 0;

        my $n = select my $r = $self->{rin}, my $w = $self->{win}, undef,
            $left;

        while ($self->{timers}[0] && $self->{timers}[0][0] <= time) {
            $self->_call((shift @{ $self->{timers} })->[1]);
        }

        next if $n <= 0;
        $self->_call($self->{write}{$_}) for _fds($w);
        $self->_call($self->{read}{$_}) for _fds($r);
    }
}

# No connection may take the whole process down.

sub _call {
    my ($self, $code) = @_;
    return if !$code || eval { $code->(); 1 };
    print STDERR "$self->{name}: $@";
}

sub _fds {
    my ($set) = @_;

    my $bits = unpack 'b*', $set;
    my ($pos, @fds) = (-1);
    push @fds, $pos while ($pos = index $bits, '1', $pos + 1) >= 0;
    return @fds;
}

sub _control {
    my ($self) = @_;

    my $n = sysread $self->{ctl}, $self->{in}, 65536, length $self->{in};
    return if !defined $n && $! == EINTR;
    return $self->{end} = 1 unless $n;

    while ($self->{in} =~ s/^(.*)\n//) {
        my ($cmd, @args) = @{ $self->{json}->decode($1) };
        my $code = $self->{target}->can("_cmd_$cmd");
        my $value = eval { $code->($self->{target}, @args) };
        my $line = $self->{json}->encode($@ ? { error => "$@" }
                                            : { value => $value }) . "\n";

        while ($line ne '') {
            my $done = syswrite $self->{ctl}, $line;
            return $self->{end} = 1 unless defined $done || $! == EINTR;
            substr $line, 0, $done || 0, '';
        }
    }
}

# Sockets.

sub listener {
    my ($port) = @_;

    my $fh = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
        LocalPort => $port, Proto => 'tcp', Listen => 1024, ReuseAddr => 1)
        || die "cannot listen on $port: $!\n";
    $fh->blocking(0);
    return $fh;
}

sub accept_all {
    my ($listen) = @_;

    my @new;
    while (accept my $fh, $listen) {
        $fh->blocking(0);
        setsockopt $fh, IPPROTO_TCP, TCP_NODELAY, 1;
        push @new, $fh;
    }

    return @new;
}

# "address:port" or the path of a unix socket; undef when nobody is there.

sub connect_to {
    my ($where) = @_;

    my $fh = $where =~ m{^/} ? IO::Socket::UNIX->new(Peer => $where)
        : IO::Socket::INET->new(PeerAddr => $where, Timeout => 2);
    return undef unless $fh;
    $fh->blocking(0);
    setsockopt $fh, IPPROTO_TCP, TCP_NODELAY, 1 if $where !~ m{^/};
    return $fh;
}

# Bytes, '' when there are none now, undef at the end.

sub get {
    my ($fh) = @_;
    my $n = sysread $fh, my $bytes, 262144;
    return $n ? $bytes : undef if defined $n;
    return $! == EAGAIN || $! == EINTR ? '' : undef;
}

# Writes what it can and takes that off the buffer; false on an error.

sub put {
    my ($fh, $buf) = @_;

    return 0 unless defined fileno $fh;

    while ($$buf ne '') {
        my $n = syswrite $fh, $$buf;
        if (defined $n) { substr $$buf, 0, $n, '' }
        elsif ($! == EAGAIN) { return 1 }
        elsif ($! != EINTR) { return 0 }
    }

    return 1;
}

1;
