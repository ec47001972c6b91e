package Gate::Conn;

# One client connection, HTTP/1.1 with keepalive.
#
#   my $c = Gate::Conn->new(port => 8080);
#   my $r = $c->request(GET => '/');           # or send(), later recv()

use strict;
use warnings;

use Errno qw(EINTR EAGAIN);
use IO::Socket::INET;
use Time::HiRes ();

use Gate::Response;
use Gate::Util qw(scale);

# Options: port, host, timeout (seconds), tls (1 or a hash of IO::Socket::SSL
# arguments), rcvbuf (bytes; to play a slow reader).

sub new {
    my ($class, %opt) = @_;

    my $self = bless {
        host    => $opt{host} || '127.0.0.1',
        port    => $opt{port},
        timeout => ($opt{timeout} || 10) * scale(),
        buf     => '',
        sent    => [],
        started => Time::HiRes::time(),
    }, $class;

    my $sock = IO::Socket::INET->new(
        PeerAddr => $self->{host}, PeerPort => $self->{port},
        Proto    => 'tcp',         Timeout  => $self->{timeout},
    );

    if (!$sock) {
        $self->{error} = "connect: $!";
        return $self;
    }

    $sock->setsockopt(Socket::IPPROTO_TCP(), Socket::TCP_NODELAY(), 1);
    $sock->setsockopt(Socket::SOL_SOCKET(), Socket::SO_RCVBUF(), $opt{rcvbuf})
        if $opt{rcvbuf};
    $self->{sock} = $sock;

    $self->_start_tls(ref $opt{tls} ? %{ $opt{tls} } : ()) if $opt{tls};
    return $self;
}

sub _start_tls {
    my ($self, %ssl) = @_;

    require IO::Socket::SSL;
    my $ok = IO::Socket::SSL->start_SSL($self->{sock},
        SSL_verify_mode => 0, Timeout => $self->{timeout}, %ssl);

    # a readable socket may hold no data of ours, only a session ticket
    return $self->{sock}->blocking(0) if $ok;

    $self->{error} = 'tls: ' . IO::Socket::SSL::errstr();
    $self->close;
}

sub error { return $_[0]{error} }

# The local port: tells connections apart in logs.

sub local_port { return $_[0]{sock} ? $_[0]{sock}->sockport : undef }

sub socket { return $_[0]{sock} }

sub close {
    my ($self) = @_;
    CORE::close(delete $self->{sock}) if $self->{sock};
}

# Closes with RST instead of FIN.

sub reset {
    my ($self) = @_;
    return unless $self->{sock};
    $self->{sock}->setsockopt(Socket::SOL_SOCKET(), Socket::SO_LINGER(),
        pack('ii', 1, 0));
    $self->close;
}

# Writes bytes as they are; false on error.

sub write {
    my ($self, $bytes) = @_;

    my $sock = $self->{sock} or return 0;
    my $off = 0;

    while ($off < length $bytes) {
        my $n = syswrite $sock, $bytes, length($bytes) - $off, $off;
        if (!defined $n) {
            next if $! == EINTR;
            if ($! == EAGAIN) {
                my $win = '';
                vec($win, fileno $sock, 1) = 1;
                next if select(undef, $win, undef, $self->{timeout}) > 0;
            }
            $self->{error} = "write: $!";
            return 0;
        }
        $off += $n;
    }

    return 1;
}

# Ends our direction of the connection.

sub finish { my ($self) = @_; return shutdown $self->{sock}, 1 }

# Sends a request.  Options: headers (hash or list of pairs; a value may be a
# list), body, version.

sub send {
    my ($self, $method, $uri, %opt) = @_;

    my $h = $opt{headers} || [];
    my @pairs = ref $h eq 'HASH' ? map { ($_ => $h->{$_}) } sort keys %$h : @$h;

    my ($lines, %have) = ('');
    while (my ($name, $value) = splice @pairs, 0, 2) {
        $have{lc $name} = 1;
        $lines .= "$name: $_\r\n" for ref $value ? @$value : $value;
    }

    $lines = "Host: localhost\r\n$lines" unless $have{host};

    my $body = $opt{body};
    $lines .= 'Content-Length: ' . length($body) . "\r\n"
        if defined $body && !$have{'content-length'}
           && !$have{'transfer-encoding'};

    my $version = $opt{version} || '1.1';
    push @{ $self->{sent} }, [$method, Time::HiRes::time()];

    return $self->write("$method $uri HTTP/$version\r\n$lines\r\n"
        . (defined $body ? $body : ''));
}

sub request {
    my ($self, $method, $uri, %opt) = @_;

    # a failed write is no verdict yet: the answer may be there already
    $self->send($method, $uri, %opt) if $self->{sock};
    return $self->recv;
}

# Reads the answer to the oldest request that has none yet.

sub recv {
    my ($self) = @_;

    my $sent = shift @{ $self->{sent} } || ['GET', $self->{started}];
    my %r;

    $self->{deadline} = Time::HiRes::time() + $self->{timeout};
    $r{error} = $self->{sock} ? $self->_read_answer($sent->[0], \%r)
                              : $self->{error} || 'connection is closed';
    $r{time} = Time::HiRes::time() - $sent->[1];

    $self->close if $r{error};
    return Gate::Response->new(%r);
}

# Fills the response hash; returns an error text or undef.

sub _read_answer {
    my ($self, $method, $r) = @_;

    do {
        my $err = $self->_read_head($r);
        return $err if $err;
    } while ($r->{status} < 200 && $r->{status} != 101);

    my (%h, $err);
    push @{ $h{lc $_->[0]} }, $_->[1] for @{ $r->{headers} };

    my $coding = $h{'transfer-encoding'};
    my $length = $h{'content-length'};

    if ($method eq 'HEAD' || $r->{status} =~ /^(?:101|204|304)$/) {
        $r->{body} = '';

    } elsif ($coding && $coding->[-1] =~ /chunked/i) {
        $err = $self->_read_chunked($r);

    } elsif ($length) {
        $err = $self->_need($length->[0]);
        $r->{body} = substr $self->{buf}, 0, $length->[0], '';

    } else {
        1 while !($err = $self->_fill);
        $r->{body} = $self->{buf};
        $self->{buf} = '';
        undef $err if $err eq 'eof';
        $self->close;
    }

    return 'eof in body' if $err && $err eq 'eof';
    return $err if $err;

    $self->close if $h{connection} && "@{ $h{connection} }" =~ /\bclose\b/i;
    return undef;
}

sub _read_head {
    my ($self, $r) = @_;

    my $end;

    while (($end = index $self->{buf}, "\r\n\r\n") < 0) {
        my $err = $self->_fill or next;
        return $err unless $err eq 'eof';
        return $self->{buf} eq '' ? 'eof before answer' : 'eof in header';
    }

    my $head = substr $self->{buf}, 0, $end + 4, '';
    my ($line, @lines) = split /\r\n/, $head;

    return 'bad status line'
        unless $line =~ m{^HTTP/1\.[01] ([1-9]\d\d)(?: (.*))?$};

    @$r{qw(status reason)} = ($1, defined $2 ? $2 : '');
    $r->{headers} = [map { [/^([^:]*):[ \t]*(.*?)[ \t]*$/s] } @lines];

    return (grep { !@$_ } @{ $r->{headers} }) ? 'bad header line' : undef;
}

sub _read_chunked {
    my ($self, $r) = @_;

    $r->{body} = '';

    while (1) {
        my ($eol, $err);

        while (($eol = index $self->{buf}, "\r\n") < 0) {
            return $err if $err = $self->_fill;
        }

        my $line = substr $self->{buf}, 0, $eol + 2, '';
        return 'bad chunk' unless $line =~ /^([0-9a-f]+)[ \t;\r]/i;
        my $size = hex $1;
        last if $size == 0;

        return $err if $err = $self->_need($size + 2);
        $r->{body} .= substr $self->{buf}, 0, $size, '';
        return 'bad chunk' if substr($self->{buf}, 0, 2, '') ne "\r\n";
    }

    # the trailer section, usually empty
    until ($self->{buf} =~ s/^(?:[^\r\n]+\r\n)*\r\n//) {
        my $err = $self->_fill;
        return $err if $err;
    }

    return undef;
}

sub _need {
    my ($self, $bytes) = @_;

    while (length $self->{buf} < $bytes) {
        my $err = $self->_fill;
        return $err if $err;
    }

    return undef;
}

# Reads some bytes; returns undef, 'eof', 'timeout' or an error text.

sub _fill {
    my ($self) = @_;

    my $sock = $self->{sock} or return 'connection is closed';

    unless ($sock->can('pending') && $sock->pending) {
        my $left = $self->{deadline} - Time::HiRes::time();
        my $rin = '';
        vec($rin, fileno $sock, 1) = 1;
        my $n = select $rin, undef, undef, $left > 0 ? $left : 0;
        return undef if $n < 0 && $! == EINTR;
        return 'timeout' if $n <= 0;
    }

    my $n = sysread $sock, $self->{buf}, 65536, length $self->{buf};
    return $n ? undef : 'eof' if defined $n;
    return undef if $! == EINTR || $! == EAGAIN;
    return "read: $!";
}

# Everything until the server closes; what stopped us is in error().

sub read_all {
    my ($self, $timeout) = @_;

    $self->{deadline} = Time::HiRes::time()
        + ($timeout ? $timeout * scale() : $self->{timeout});

    my $err;
    1 while !($err = $self->_fill);

    $self->{error} = $err eq 'eof' ? undef : $err;
    my $bytes = $self->{buf};
    $self->{buf} = '';
    return $bytes;
}

# Waits for at least that many bytes and returns exactly so many, or undef.

sub read_bytes {
    my ($self, $bytes) = @_;

    $self->{deadline} = Time::HiRes::time() + $self->{timeout};
    my $err = $self->_need($bytes);
    if ($err) {
        $self->{error} = $err;
        return undef;
    }

    return substr $self->{buf}, 0, $bytes, '';
}

# True while the server has not closed the (idle) connection.

sub is_open {
    my ($self) = @_;

    return 0 unless $self->{sock};
    $self->{deadline} = 0;
    my $err = $self->_fill || '';
    return $err eq '' || $err eq 'timeout' ? 1 : 0;
}

1;
