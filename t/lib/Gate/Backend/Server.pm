package Gate::Backend::Server;

# The backend process: one select() loop for all its connections and for the
# control socket of the test.

use strict;
use warnings;

use Errno qw(EAGAIN EINTR);
use IO::Handle;
use JSON::PP ();
use Socket qw(:DEFAULT IPPROTO_TCP TCP_NODELAY);
use Time::HiRes qw(time);

use Gate::Backend::Script qw(behaviour steps);
use Gate::Backend::Wire qw(parse);

use constant SEEN_MAX => 5000;

sub new {
    my ($class, %self) = @_;

    return bless {
        default => ['ok', {}], rules => [], queue => [], conns => {},
        timers  => {}, rin => '', win => '', next_id => 1, ctl_in => '',
        json    => JSON::PP->new->ascii->canonical,
        %self,
    }, $class;
}

sub run {
    my ($self) = @_;

    $self->_clear;
    $self->_watch($self->{ctl});
    $self->_watch($self->{listen});
    $self->{listen}->blocking(0);

    while (1) {
        my $n = select my $r = $self->{rin}, my $w = $self->{win}, undef,
            $self->_next_timer;

        $self->_run_timers if %{ $self->{timers} };
        next if $n <= 0;

        for my $fd (_fds($w)) {
            my $c = $self->{conns}{$fd} or next;
            $self->_handle($c, \&_advance);
        }

        for my $fd (_fds($r)) {
            if ($fd == fileno $self->{ctl}) {
                $self->_control or return;
            } elsif ($self->{listen} && $fd == fileno $self->{listen}) {
                $self->_accept;
            } elsif (my $c = $self->{conns}{$fd}) {
                $self->_handle($c, \&_readable);
            }
        }
    }
}

sub _fds {
    my ($set) = @_;

    my $bits = unpack 'b*', $set;
    my ($pos, @fds) = (-1);
    push @fds, $pos while ($pos = index $bits, '1', $pos + 1) >= 0;
    return @fds;
}

sub _watch { my ($self, $fh) = @_; vec($self->{rin}, fileno $fh, 1) = 1 }

sub _unwatch { my ($self, $fh) = @_; vec($self->{rin}, fileno $fh, 1) = 0 }

# No request may take the whole backend down, for example a wrong callback.

sub _handle {
    my ($self, $c, $method) = @_;
    return if eval { $method->($self, $c); 1 };
    print STDERR "backend $self->{name}: $@";
    $self->_close($c);
}

# Timers.

sub _next_timer {
    my ($self) = @_;

    my $min;
    for (values %{ $self->{timers} }) {
        $min = $_ if !defined $min || $_ < $min;
    }

    return undef unless defined $min;
    my $left = $min - time;
    return $left > 0 ? $left : 0;
}

sub _run_timers {
    my ($self) = @_;

    my $now = time;
    for my $fd (keys %{ $self->{timers} }) {
        next if $self->{timers}{$fd} > $now;
        delete $self->{timers}{$fd};
        $self->_handle($self->{conns}{$fd}, \&_advance);
    }
}

# Connections.

sub _accept {
    my ($self) = @_;

    while (accept my $fh, $self->{listen}) {
        $fh->blocking(0);
        setsockopt $fh, IPPROTO_TCP, TCP_NODELAY, 1;

        my $c = { fh => $fh, fd => fileno $fh, id => $self->{next_id}++,
            in => '', out => '', steps => [], served => 0 };

        if ($self->{tls}) {
            require IO::Socket::SSL;
            $c->{fh} = IO::Socket::SSL->start_SSL($fh, SSL_server => 1,
                SSL_startHandshake => 0, %{ $self->{tls} }) or next;
            $c->{handshake} = 1;
        }

        $self->{conns}{ $c->{fd} } = $c;
        $self->{stats}{connections}++;
        $self->_watch($fh);
    }
}

sub _close {
    my ($self, $c, $reset) = @_;

    my $fd = $c->{fd};
    return unless delete $self->{conns}{$fd};

    delete $self->{timers}{$fd};
    vec($self->{rin}, $fd, 1) = 0;
    vec($self->{win}, $fd, 1) = 0;

    setsockopt $c->{fh}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0) if $reset;
    $self->{tls} && !$reset ? $c->{fh}->close(SSL_fast_shutdown => 1)
                            : CORE::close($c->{fh});
}

sub _readable {
    my ($self, $c) = @_;

    if ($c->{handshake}) {
        if ($c->{fh}->accept_SSL) {
            delete $c->{handshake};
        } elsif ($! != EAGAIN) {
            $self->{stats}{tls_errors}++;
            return $self->_close($c);
        }
        return if $c->{handshake};
    }

    my ($gone, $n);
    do {
        $n = sysread $c->{fh}, $c->{in}, 65536, length $c->{in};
        $gone = defined $n ? $n == 0 : $! != EAGAIN && $! != EINTR;
    } while ($self->{tls} && $n);

    if ($c->{tunnel}) {
        $c->{out} .= substr $c->{in}, 0, length $c->{in}, '';
        return $self->_flush($c) ? $gone && $self->_close($c) : undef;
    }

    $self->_next_request($c);
    return unless $gone && $self->{conns}{ $c->{fd} };

    # A half-closed peer still gets its answer, unless it waits for none.
    if ($c->{busy} && (!defined $n || !$self->{patient} || $c->{held})) {
        $self->{stats}{aborted}++;
    } elsif ($c->{busy}) {
        return $self->_unwatch($c->{fh});
    }

    $self->_close($c);
}

sub _next_request {
    my ($self, $c) = @_;

    return if $c->{busy} || $c->{in} eq '';

    my $req = parse($self->{proto}, \$c->{in}) or return;
    return $self->_close($c) unless %$req;

    $c->{busy} = 1;
    $req->{conn} = $c->{id};
    $self->{stats}{requests}++;
    push @{ $self->{seen} }, $req;
    shift @{ $self->{seen} } if @{ $self->{seen} } > SEEN_MAX;

    $c->{steps} = [@{ steps({ proto => $self->{proto}, conn => $c,
        name => $self->{name} }, $req, $self->_choose($req)) }];
    $self->_advance($c);
}

sub _choose {
    my ($self, $req) = @_;

    return shift @{ $self->{queue} } if @{ $self->{queue} };

    for (@{ $self->{rules} }) {
        return $_->[1] if index($req->{uri}, $_->[0]) == 0;
    }

    return $self->{default} unless $self->{code};

    my @spec = $self->{code}->($req);
    @spec = @{ $spec[0] } if ref $spec[0] eq 'ARRAY';
    @spec = ('ok', %{ $spec[0] }) if ref $spec[0] eq 'HASH';
    return behaviour(@spec);
}

# Does the steps of an answer until one of them has to wait.

sub _advance {
    my ($self, $c) = @_;

    while ($self->{conns}{ $c->{fd} }) {
        return unless $self->_flush($c);

        my $step = shift @{ $c->{steps} } or return;
        my ($what, $arg) = @$step;

        if ($what eq 'write') {
            $c->{out} .= $arg;
        } elsif ($what eq 'wait') {
            $self->{timers}{ $c->{fd} } = time + $arg;
            return;
        } elsif ($what eq 'hold') {
            $c->{held} = 1;
            return;
        } elsif ($what eq 'tunnel') {
            $c->{tunnel} = 1;
            return $self->_readable($c) if $c->{in} ne '';
        } elsif ($what eq 'done') {
            $c->{busy} = 0;
            $c->{served}++;
            $self->_next_request($c);
        } else {
            $self->_close($c, $what eq 'reset');
        }
    }
}

# True when nothing is left to write.

sub _flush {
    my ($self, $c) = @_;

    while ($c->{out} ne '') {
        my $n = syswrite $c->{fh}, $c->{out};

        if (defined $n) {
            substr $c->{out}, 0, $n, '';
        } elsif ($! == EAGAIN) {
            vec($self->{win}, $c->{fd}, 1) = 1;
            return 0;
        } elsif ($! != EINTR) {
            $self->{stats}{aborted}++;
            $self->_close($c);
            return 0;
        }
    }

    vec($self->{win}, $c->{fd}, 1) = 0;
    return 1;
}

# The control socket: one JSON array per line, each answered by one line.

sub _control {
    my ($self) = @_;

    my $n = sysread $self->{ctl}, $self->{ctl_in}, 65536,
        length $self->{ctl_in};
    return 1 if !defined $n && $! == EINTR;
    return 0 unless $n;

    while ($self->{ctl_in} =~ s/^(.*)\n//) {
        my ($cmd, @args) = @{ $self->{json}->decode($1) };
        my $code = $self->can("_cmd_$cmd");
        my $value = eval { $code->($self, @args) };
        my $line = $self->{json}->encode($@ ? { error => "$@" }
                                            : { value => $value }) . "\n";

        while ($line ne '') {
            my $done = syswrite $self->{ctl}, $line;
            return 0 unless defined $done || $! == EINTR;
            substr $line, 0, $done || 0, '';
        }
    }

    return 1;
}

sub _cmd_set {
    my ($self, $behaviour) = @_;

    $self->{default} = $behaviour;
    delete $self->{code};
    $self->{rules} = [];
    $self->{queue} = [];
    return $behaviour->[0] eq 'refuse' ? $self->_cmd_refuse
                                       : $self->_cmd_listen;
}

sub _cmd_on {
    my ($self, $prefix, $behaviour) = @_;

    @{ $self->{rules} } = sort { length $b->[0] <=> length $a->[0] }
        [$prefix, $behaviour], grep { $_->[0] ne $prefix } @{ $self->{rules} };
    return 1;
}

sub _cmd_next { my ($self, @list) = @_; return push @{ $self->{queue} }, @list }

sub _cmd_stats {
    my ($self) = @_;

    my @open = values %{ $self->{conns} };
    return { %{ $self->{stats} }, open => scalar @open,
        held => scalar(grep { $_->{held} } @open),
        busy => scalar(grep { $_->{busy} } @open) };
}

sub _cmd_seen { return $_[0]{seen} }

sub _cmd_clear { my ($self) = @_; $self->_clear; return 1 }

sub _clear {
    my ($self) = @_;
    $self->{stats} = { map { $_ => 0 }
        qw(requests connections aborted tls_errors) };
    $self->{seen} = [];
}

sub _cmd_release {
    my ($self) = @_;

    my @held = grep { $_->{held} } values %{ $self->{conns} };
    for my $c (@held) {
        delete $c->{held};
        $self->_handle($c, \&_advance);
    }

    return scalar @held;
}

sub _cmd_drop {
    my ($self) = @_;
    my @idle = grep { !$_->{busy} } values %{ $self->{conns} };
    $self->_close($_) for @idle;
    return scalar @idle;
}

sub _cmd_refuse {
    my ($self) = @_;

    if (my $fh = delete $self->{listen}) {
        vec($self->{rin}, fileno $fh, 1) = 0;
        CORE::close($fh);
    }

    return $self->_cmd_drop;
}

sub _cmd_listen {
    my ($self) = @_;

    return 1 if $self->{listen};
    $self->{listen} = $self->{make_listener}->();
    $self->{listen}->blocking(0);
    $self->_watch($self->{listen});
    return 1;
}

1;
