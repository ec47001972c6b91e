package Gate::Redis::Client;

# A connection to a Redis server, as a test uses it: blocking, with a time
# limit for each reply.
#
#   my $c = Gate::Redis::Client->new(port => 6379);     # or path => socket
#   is($c->cmd('GET', 'key'), 'value');                 # dies at an error
#   like($c->try('LPUSH', 'key', 1), qr/WRONGTYPE/);    # returns it
#   my @replies = $c->pipeline(['SET', 'a', 1], ['GET', 'a']);
#   $c->subscribe('channel'); my $message = $c->read;

use strict;
use warnings;

use Errno qw(EINTR EAGAIN);
use IO::Socket::INET;
use IO::Socket::UNIX;
use Time::HiRes qw(time);

use Gate::Redis::Resp qw(command is_error take);
use Gate::Util qw(scale);

# Options: port and host, or path; tls (a hash of IO::Socket::SSL arguments);
# user, password; timeout (seconds).

sub new {
    my ($class, %opt) = @_;

    my $self = bless { timeout => ($opt{timeout} || 10) * scale(), in => '',
        buf => '' }, $class;

    my $sock = defined $opt{path}
        ? IO::Socket::UNIX->new(Peer => $opt{path})
        : IO::Socket::INET->new(PeerAddr => $opt{host} || '127.0.0.1',
            PeerPort => $opt{port}, Timeout => $self->{timeout});
    die "redis: connect: $!\n" unless $sock;
    $self->{sock} = $sock;

    if ($opt{tls}) {
        require IO::Socket::SSL;
        IO::Socket::SSL->start_SSL($sock, Timeout => $self->{timeout},
            %{ $opt{tls} })
            or die 'redis: tls: ' . IO::Socket::SSL::errstr() . "\n";
    }

    $sock->blocking(0);
    $self->cmd('AUTH', defined $opt{user} ? $opt{user} : (), $opt{password})
        if defined $opt{password};

    return $self;
}

sub cmd {
    my ($self, @args) = @_;
    my $reply = $self->try(@args);
    die "redis: $args[0]: $reply\n" if is_error($reply);
    return $reply;
}

sub try {
    my ($self, @args) = @_;
    $self->send(@args);
    return $self->read;
}

# Several commands in one go; errors are among the replies.

sub pipeline {
    my ($self, @cmds) = @_;
    $self->write(join '', map { command(@$_) } @cmds);
    return map { $self->read } @cmds;
}

sub subscribe {
    my ($self, @channels) = @_;
    $self->send('SUBSCRIBE', @channels);
    $self->read for @channels;
    return $self;
}

sub send { my ($self, @args) = @_; return $self->write(command(@args)) }

sub write {
    my ($self, $bytes) = @_;

    my $sock = $self->{sock} or die "redis: closed\n";
    my $off = 0;

    while ($off < length $bytes) {
        my $n = syswrite $sock, $bytes, length($bytes) - $off, $off;
        if (defined $n) {
            $off += $n;
        } elsif ($! == EAGAIN) {
            $self->_wait('write', time + $self->{timeout});
        } elsif ($! != EINTR) {
            $self->_fail("write: $!");
        }
    }

    return $self;
}

# The next reply or message; options: timeout (seconds), or_undef (1: no
# death when none comes).

sub read {
    my ($self, %opt) = @_;

    my $limit = defined $opt{timeout} ? $opt{timeout} * scale()
                                      : $self->{timeout};
    my $end = time + $limit;

    while (1) {
        my ($ok, $value) = take(\$self->{in});
        return $value if $ok;

        my $sock = $self->{sock} or die "redis: closed\n";
        my $n = sysread $sock, $self->{in}, 262144, length $self->{in};
        next if $n;
        $self->_fail('closed by the server') if defined $n;
        next if $! == EINTR;
        $self->_fail("read: $!") if $! != EAGAIN;
        next if $self->_wait('read', $end, $opt{or_undef});
        return undef;
    }
}

sub _wait {
    my ($self, $what, $end, $may) = @_;

    my $bits = '';
    vec($bits, fileno $self->{sock}, 1) = 1;
    my $left = $end - time;
    $left = 0 if $left < 0;
    my $n = $what eq 'read' ? select $bits, undef, undef, $left
                            : select undef, $bits, undef, $left;
    return 1 if $n > 0 || $n < 0 && $! == EINTR;
    return 0 if $may;

    # a reply that comes now would be taken for that to the next command
    $self->_fail("no $what within $self->{timeout} s");
}

sub _fail {
    my ($self, $why) = @_;
    $self->close;
    die "redis: $why\n";
}

# True while the server has not closed the connection.

sub is_open {
    my ($self) = @_;

    my $sock = $self->{sock} or return 0;
    my $n = sysread $sock, $self->{in}, 65536, length $self->{in};
    return 1 if defined $n ? $n > 0 : $! == EAGAIN || $! == EINTR;
    $self->close;
    return 0;
}

sub close {
    my ($self) = @_;
    CORE::close(delete $self->{sock}) if $self->{sock};
    $self->{in} = '';
}

1;
