package Gate::Backend;

# A backend server in a child process, as the test sees it.
#
#   my $b = $t->backend('ok', body => 'stable');
#   $b->set(status => 500);
#   is($b->requests, 1);
#
# Every call returns only after the backend process has acted on it.

use strict;
use warnings;

use IO::Handle;
use IO::Socket::INET;
use JSON::PP ();
use Socket;

use Gate::Backend::Script qw(behaviour);
use Gate::Backend::Server;
use Gate::Port qw(free_port);
use Gate::Proc qw(fork_child kill_hard);
use Gate::Util qw(scale);

my $JSON = JSON::PP->new->ascii->canonical;

# Everything else among the pairs is an option of the behaviour.

my %OPTION = map { $_ => 1 } qw(fastcgi name patient port tls uwsgi);

sub new {
    my ($class, @args) = @_;

    my $code = ref $args[0] eq 'CODE' ? shift @args : undef;
    my @behaviour = $code || !@args || $OPTION{ $args[0] } ? 'ok' : shift @args;
    push @behaviour, shift @args if @args % 2;

    my %opt;
    while (my ($name, $value) = splice @args, 0, 2) {
        $OPTION{$name} ? $opt{$name} = $value
                       : push @behaviour, $name, $value;
    }

    my $self = bless {
        port  => $opt{port} || free_port(),
        proto => $opt{fastcgi} ? 'fastcgi' : $opt{uwsgi} ? 'uwsgi' : 'http',
        in    => '',
    }, $class;

    $self->{name} = $opt{name} || "backend-$self->{port}";

    my $default = behaviour(@behaviour);
    my $listener = _listener($self->{port});

    socketpair my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC
        or die "socketpair: $!\n";

    $self->{pid} = fork_child($self->{name}, sub {
        my $port = $self->{port};
        Gate::Backend::Server->new(
            name    => $self->{name}, proto => $self->{proto},
            listen  => $listener,     ctl   => $theirs,
            default => $default,      code  => $code,
            tls     => $opt{tls},     patient => $opt{patient},
            make_listener => sub { _listener($port) },
        )->run;
    }, $listener, $theirs);

    close $theirs;
    $self->{ctl} = $ours;
    $self->refuse if $default->[0] eq 'refuse';

    return $self;
}

sub _listener {
    my ($port) = @_;

    return IO::Socket::INET->new(LocalAddr => '127.0.0.1',
        LocalPort => $port, Proto => 'tcp', Listen => 1024, ReuseAddr => 1)
        || die "cannot listen on $port: $!\n";
}

sub port { return $_[0]{port} }

sub pid { return $_[0]{pid} }

# "127.0.0.1:port", for use in an upstream block.

sub addr { return "127.0.0.1:$_[0]{port}" }

sub _call {
    my ($self, @msg) = @_;

    my $ctl = $self->{ctl} or die "$self->{name} is stopped\n";
    my $line = $JSON->encode(\@msg) . "\n";

    while ($line ne '') {
        my $n = syswrite $ctl, $line;
        die "$self->{name} is gone: $!\n" unless defined $n;
        substr $line, 0, $n, '';
    }

    my $end;
    while (($end = index $self->{in}, "\n") < 0) {
        my $rin = '';
        vec($rin, fileno $ctl, 1) = 1;
        my $ready = select $rin, undef, undef, 10 * scale();
        next if $ready < 0 && $!{EINTR};
        die "$self->{name} does not respond\n" if $ready <= 0;
        sysread $ctl, $self->{in}, 65536, length $self->{in}
            or die "$self->{name} is gone\n";
    }

    my $reply = $JSON->decode(substr $self->{in}, 0, $end + 1, '');
    die "$self->{name}: $reply->{error}" if defined $reply->{error};
    return $reply->{value};
}

# What to do from now on; forgets next() and on().

sub set {
    my ($self, @behaviour) = @_;
    $self->_call('set', behaviour(@behaviour));
    return $self;
}

# What to do with the next single request; further calls queue up.

sub next {
    my ($self, @behaviour) = @_;
    $self->_call('next', behaviour(@behaviour));
    return $self;
}

# What to do with requests whose URI starts so; the longest prefix wins.

sub on {
    my ($self, $prefix, @behaviour) = @_;
    $self->_call('on', $prefix, behaviour(@behaviour));
    return $self;
}

# Counters: requests, connections, aborted (by the peer, before the answer
# was complete), tls_errors; and now: open, busy, held (connections).

sub stats { return $_[0]->_call('stats') }

sub requests { return $_[0]->stats->{requests} }

sub connections { return $_[0]->stats->{connections} }

# The latest 5000 requests, each { method, uri, headers, body, conn, ... }.

sub seen { return @{ $_[0]->_call('seen') } }

sub last { return ($_[0]->seen)[-1] }

sub clear { my ($self) = @_; $self->_call('clear'); return $self }

# Lets the requests that are held by 'hold' go on; returns how many.

sub release { return $_[0]->_call('release') }

# Closes idle connections; returns how many.

sub drop_idle { return $_[0]->_call('drop') }

sub refuse { my ($self) = @_; $self->_call('refuse'); return $self }

sub listen { my ($self) = @_; $self->_call('listen'); return $self }

sub stop {
    my ($self) = @_;

    return unless $self->{ctl};
    CORE::close(delete $self->{ctl});
    kill_hard($self->{pid});
}

1;
