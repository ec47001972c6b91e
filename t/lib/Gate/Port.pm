package Gate::Port;

# Hands out TCP ports of 127.0.0.1 that no other harness process uses.
#
# A port is claimed by binding the UDP port of the same number and keeping
# that socket until the process ends; so parallel test files and other
# checkouts on the host stay apart, and a crashed test leaves no stale lock.
#
# Ports come from below the kernel's ephemeral range: a port that is free
# now and listened on later could otherwise be taken by some outgoing
# connection, and a connect() to a closed port could even meet itself.

use strict;
use warnings;

use Exporter 'import';
use Socket;

our @EXPORT_OK = qw(free_port);

my @locks;

sub _range {
    my $low = 32768;

    if (open my $fh, '<', '/proc/sys/net/ipv4/ip_local_port_range') {
        ($low) = split ' ', <$fh>;
    }

    return $low >= 12000 ? (10000, $low - 1) : ();
}

sub free_port {
    my ($min, $max) = _range();

    for (1 .. 1000) {
        my $want = defined $min ? $min + int(rand($max - $min + 1)) : 0;

        socket(my $tcp, PF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
        setsockopt($tcp, SOL_SOCKET, SO_REUSEADDR, pack('i', 1));
        bind($tcp, pack_sockaddr_in($want, INADDR_LOOPBACK)) or next;
        my ($port) = unpack_sockaddr_in(getsockname($tcp));

        # a bind alone does not see listeners that set SO_REUSEADDR as well
        listen($tcp, 1) or next;

        socket(my $udp, PF_INET, SOCK_DGRAM, 0) or die "socket: $!\n";
        bind($udp, pack_sockaddr_in($port, INADDR_LOOPBACK)) or next;

        close $tcp;
        push @locks, $udp;
        return $port;
    }

    die "no free port found\n";
}

1;
