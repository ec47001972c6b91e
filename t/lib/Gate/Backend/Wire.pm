package Gate::Backend::Wire;

# The three wire formats of the backends: parse a request, format an answer.
#
# parse($proto, \$buf) takes one complete request out of the buffer and
# returns it as a hash (method, uri, version, headers, body, keep); undef
# means that more bytes are needed, an empty hash that they are nonsense.

use strict;
use warnings;

use Exporter 'import';

our @EXPORT_OK = qw(head parse tail wrap);

my %REASON = (
    101 => 'Switching Protocols', 200 => 'OK', 201 => 'Created',
    204 => 'No Content', 301 => 'Moved Permanently', 302 => 'Found',
    304 => 'Not Modified', 400 => 'Bad Request', 403 => 'Forbidden',
    404 => 'Not Found', 429 => 'Too Many Requests',
    500 => 'Internal Server Error', 502 => 'Bad Gateway',
    503 => 'Service Unavailable', 504 => 'Gateway Timeout',
);

use constant { FCGI_BEGIN => 1, FCGI_END => 3, FCGI_PARAMS => 4,
    FCGI_STDIN => 5, FCGI_STDOUT => 6 };

my %PARSER = (
    http => \&_parse_http, fastcgi => \&_parse_fastcgi, uwsgi => \&_parse_uwsgi
);

sub parse {
    my ($proto, $buf) = @_;
    return $PARSER{$proto}->($buf);
}

sub _parse_http {
    my ($buf) = @_;

    my $end = index $$buf, "\r\n\r\n";
    return undef if $end < 0;

    my ($line, @lines) = split /\r\n/, substr($$buf, 0, $end);
    my ($method, $uri, $version) =
        ($line || '') =~ m{^(\S+) (\S+) HTTP/(1\.[01])$} or return {};

    my %h;
    for (@lines) {
        my ($name, $value) = /^([^:]+):[ \t]*(.*?)[ \t]*$/s or return {};
        $name = lc $name;
        $h{$name} = exists $h{$name} ? "$h{$name}, $value" : $value;
    }

    my $body = '';
    my $off = $end + 4;

    if (($h{'transfer-encoding'} || '') =~ /chunked/i) {
        ($body, $off) = _dechunk($buf, $off);
        return undef unless defined $off;

    } elsif (my $len = $h{'content-length'}) {
        return undef if length($$buf) < $off + $len;
        $body = substr $$buf, $off, $len;
        $off += $len;
    }

    substr $$buf, 0, $off, '';

    my $conn = lc($h{connection} || '');
    my $keep = $version eq '1.1' ? $conn !~ /close/ : $conn =~ /keep-alive/;

    return { method => $method, uri => $uri, version => $version,
        headers => \%h, body => $body, keep => $keep ? 1 : 0 };
}

sub _dechunk {
    my ($buf, $off) = @_;

    my $body = '';

    while (1) {
        my $eol = index $$buf, "\r\n", $off;
        return () if $eol < 0;

        my $size = hex((substr($$buf, $off, $eol - $off) =~ /^([0-9a-f]+)/i)
            ? $1 : 0);
        $off = $eol + 2;

        return () if length($$buf) < $off + $size + 2;
        $body .= substr $$buf, $off, $size;
        $off += $size + 2;
        return ($body, $off) if $size == 0;
    }
}

# CGI variables as an HTTP request.

sub _from_vars {
    my ($vars, $body, $keep) = @_;

    my %h;
    for (keys %$vars) {
        next unless /^HTTP_(.+)/;
        (my $name = lc $1) =~ tr/_/-/;
        $h{$name} = $vars->{$_};
    }

    return {
        method  => $vars->{REQUEST_METHOD} || 'GET',
        uri     => $vars->{REQUEST_URI} || '/',
        version => '1.1', headers => \%h, vars => $vars, body => $body,
        keep    => $keep,
    };
}

sub _parse_fastcgi {
    my ($buf) = @_;

    my ($off, $params, $body, $keep) = (0, '', '', 0);

    while (length $$buf >= $off + 8) {
        my ($version, $type, undef, $len, $pad) =
            unpack 'CCnnC', substr($$buf, $off, 8);
        return {} if $version != 1;
        return undef if length $$buf < $off + 8 + $len + $pad;

        my $data = substr $$buf, $off + 8, $len;
        $off += 8 + $len + $pad;

        if ($type == FCGI_BEGIN) {
            $keep = unpack('nC', $data) && (unpack 'nC', $data)[1] & 1;
        } elsif ($type == FCGI_PARAMS) {
            $params .= $data;
        } elsif ($type == FCGI_STDIN && $len) {
            $body .= $data;
        } elsif ($type == FCGI_STDIN) {
            substr $$buf, 0, $off, '';
            return _from_vars(_fastcgi_vars($params), $body, $keep);
        }
    }

    return undef;
}

sub _fastcgi_vars {
    my ($data) = @_;

    my %vars;

    while (length $data) {
        my @len;
        for (0, 1) {
            my $byte = ord $data;
            push @len, $byte < 128
                ? unpack('C', substr $data, 0, 1, '')
                : unpack('N', substr $data, 0, 4, '') & 0x7fffffff;
        }
        my $name = substr $data, 0, $len[0], '';
        $vars{$name} = substr $data, 0, $len[1], '';
    }

    return \%vars;
}

sub _parse_uwsgi {
    my ($buf) = @_;

    return undef if length $$buf < 4;
    my (undef, $size) = unpack 'CvC', $$buf;
    return undef if length $$buf < 4 + $size;

    my %vars = unpack '(v/a)*', substr($$buf, 4, $size);
    my $len = $vars{CONTENT_LENGTH} || 0;
    return undef if length $$buf < 4 + $size + $len;

    my $body = substr $$buf, 4 + $size, $len;
    substr $$buf, 0, 4 + $size + $len, '';

    return _from_vars(\%vars, $body, 0);
}

# The head of an answer; headers are [name, value] pairs.

sub head {
    my ($proto, $status, $reason, $headers) = @_;

    $reason = $REASON{$status} || 'Unknown' unless defined $reason;

    my $head = $proto eq 'fastcgi' ? "Status: $status $reason\r\n"
                                   : "HTTP/1.1 $status $reason\r\n";

    return $head . join('', map { "$_->[0]: $_->[1]\r\n" } @$headers) . "\r\n";
}

# Bytes of an answer as they go on the wire.

sub wrap {
    my ($proto, $bytes) = @_;

    return $bytes if $proto ne 'fastcgi';

    my $out = '';
    while (length $bytes) {
        my $part = substr $bytes, 0, 65535, '';
        $out .= pack('CCnnCx', 1, FCGI_STDOUT, 1, length $part, 0) . $part;
    }

    return $out;
}

# What ends a complete answer.

sub tail {
    my ($proto) = @_;

    return '' if $proto ne 'fastcgi';
    return pack('CCnnCx', 1, FCGI_STDOUT, 1, 0, 0)
        . pack('CCnnCxNCx3', 1, FCGI_END, 1, 8, 0, 0, 0);
}

1;
