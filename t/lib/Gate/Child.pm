package Gate::Child;

# A helper process as the test sees it; the base of those that run a
# Gate::Loop.  Every call returns only after the process has acted on it.

use strict;
use warnings;

use IO::Handle;
use JSON::PP ();
use Socket;

use Gate::Port qw(free_port);
use Gate::Proc qw(fork_child kill_hard);
use Gate::Util qw(scale);

my $JSON = JSON::PP->new->ascii->canonical;

# run: code for the child, called with the control socket; keep: handles.

sub launch {
    my ($class, %opt) = @_;

    my $self = bless { in => '', name => $opt{name}, port => $opt{port} },
        $class;

    socketpair my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC
        or die "socketpair: $!\n";
    $self->{pid} = fork_child($opt{name}, sub { $opt{run}->($theirs) },
        $theirs, @{ $opt{keep} || [] });
    close $theirs;
    $self->{ctl} = $ours;
    return $self;
}

sub port { return $_[0]{port} }

sub pid { return $_[0]{pid} }

sub addr { return "127.0.0.1:$_[0]{port}" }

sub call {
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

sub stop {
    my ($self) = @_;

    return unless $self->{ctl};
    CORE::close(delete $self->{ctl});
    kill_hard($self->{pid});
}

1;
