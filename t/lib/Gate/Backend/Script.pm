package Gate::Backend::Script;

# The behaviours of a backend, each turned into steps for the event loop:
#
#   [write => bytes]  [wait => seconds]  [hold]  [done]  [close]  [reset]
#   [tunnel]
#
# 'hold' waits until release() or until the peer gives up; 'done' ends an
# answer and keeps the connection; 'tunnel' echoes bytes from here on.

use strict;
use warnings;

use Digest::SHA ();
use Exporter 'import';
use JSON::PP ();

use Gate::Backend::Wire qw(head tail wrap);

our @EXPORT_OK = qw(behaviour steps);

# behaviour => [its code, name of the one positional argument]

my %BEHAVIOUR = (
    ok         => [\&_answer, 'body'],
    status     => [\&_answer, 'status'],
    slow       => [\&_slow, 'ms'],
    slow_body  => [\&_slow_body, 'ms'],
    hold       => [\&_hold, 'body'],
    echo       => [\&_echo],
    close      => [sub { [[ 'close' ]] }],
    reset      => [sub { [[ 'reset' ]] }],
    silent     => [sub { [[ 'hold' ], [ 'close' ]] }],
    half       => [\&_half, 'bytes'],
    close_body => [sub { _cut(@_, 'close') }, 'body'],
    reset_body => [sub { _cut(@_, 'reset') }, 'body'],
    stall_body => [sub { _cut(@_, 'hold', 'close') }, 'body'],
    bad_header => [\&_bad_header, 'line'],
    garbage    => [\&_garbage, 'bytes'],
    stale      => [\&_stale, 'body'],
    websocket  => [\&_websocket],
    refuse     => [sub { [[ 'reset' ]] }],
);

# Normalizes (name, [positional,] option => value ...) to [name, {options}].

sub behaviour {
    my ($name, @args) = @_;

    my $b = $BEHAVIOUR{$name} or die "unknown behaviour '$name'\n";

    if (@args % 2) {
        die "behaviour '$name' takes options only\n" unless $b->[1];
        unshift @args, $b->[1];
    }

    my %opt = @args;
    my $h = $opt{headers};

    $opt{headers} = [map { my $n = $_;
        map { [$n, $_] } ref $h->{$n} ? @{ $h->{$n} } : $h->{$n} }
        sort keys %$h] if ref $h eq 'HASH';

    return [$name, \%opt];
}

# The context holds proto and conn (id, served: requests answered before).

sub steps {
    my ($ctx, $req, $behaviour) = @_;

    my ($name, $opt) = @$behaviour;
    return $BEHAVIOUR{$name}[0]->($ctx, $req, $opt);
}

# Splits a normal answer into (head bytes, body bytes, keep the connection).

sub _parts {
    my ($ctx, $req, $opt) = @_;

    my $status = $opt->{status} || 200;
    my $body = defined $opt->{body} ? $opt->{body}
        : $status == 200 ? 'ok' : "status $status";
    $body = '' if $status =~ /^(?:1..|204|304)$/;

    my @h = @{ $opt->{headers} || [] };
    my %have = map { lc $_->[0] => 1 } @h;
    my $keep = $req->{keep} && !$opt->{close};
    my $http = $ctx->{proto} eq 'http';

    unless ($opt->{no_length} || $have{'content-length'}
        || $have{'transfer-encoding'} || $status =~ /^(?:1..|204|304)$/)
    {
        push @h, $opt->{chunked} && $http && $req->{version} eq '1.1'
            ? ['Transfer-Encoding', 'chunked']
            : ['Content-Length', $opt->{length} || length $body];
    }

    $keep = 0 if $opt->{no_length};
    push @h, ['Connection', $keep ? 'keep-alive' : 'close']
        if $http && !$have{connection} && (!$keep || $req->{version} eq '1.0');

    my $head = head($ctx->{proto}, $status, $opt->{reason}, \@h);
    $body = '' if $req->{method} eq 'HEAD';

    return ($head, $body, $keep);
}

sub _chunk {
    my ($bytes) = @_;
    return length $bytes ? sprintf("%x\r\n%s\r\n", length $bytes, $bytes) : '';
}

sub _finish { my ($keep) = @_; return $keep ? ['done'] : ['close'] }

sub _answer {
    my ($ctx, $req, $opt) = @_;

    my ($head, $body, $keep) = _parts($ctx, $req, $opt);
    my $proto = $ctx->{proto};

    $body = _chunk($body) . "0\r\n\r\n"
        if $head =~ /^Transfer-Encoding: chunked\r$/m
           && $req->{method} ne 'HEAD';

    return [
        $opt->{delay} ? [wait => $opt->{delay} / 1000] : (),
        [write => wrap($proto, $head . $body) . tail($proto)],
        _finish($keep),
    ];
}

sub _slow {
    my ($ctx, $req, $opt) = @_;
    return [[wait => ($opt->{ms} || 500) / 1000],
        @{ _answer($ctx, $req, $opt) }];
}

sub _hold {
    my ($ctx, $req, $opt) = @_;
    return [['hold'], @{ _answer($ctx, $req, $opt) }];
}

# The body in some pieces with a pause before each.

sub _slow_body {
    my ($ctx, $req, $opt) = @_;

    my $pieces = $opt->{pieces} || 5;
    my ($head, $body, $keep) =
        _parts($ctx, $req, { body => 'x' x (10 * $pieces), %$opt });
    my $proto = $ctx->{proto};
    my $chunked = $head =~ /^Transfer-Encoding: chunked\r$/m;
    my $size = int((length($body) + $pieces - 1) / $pieces) || 1;
    my @steps = ([write => wrap($proto, $head)]);

    while (length $body) {
        my $piece = substr $body, 0, $size, '';
        push @steps, [wait => ($opt->{ms} || 100) / 1000],
            [write => wrap($proto, $chunked ? _chunk($piece) : $piece)];
    }

    push @steps, [write => "0\r\n\r\n"] if $chunked;
    return [@steps, [write => tail($proto)], _finish($keep)];
}

sub _echo {
    my ($ctx, $req, $opt) = @_;

    my %seen = (%$req, conn => $ctx->{conn}{id}, backend => $ctx->{name});
    return _answer($ctx, $req, { %$opt,
        body    => JSON::PP->new->ascii->canonical->encode(\%seen),
        headers => [@{ $opt->{headers} || [] },
            ['Content-Type', 'application/json']] });
}

# A header that breaks off.

sub _half {
    my ($ctx, $req, $opt) = @_;

    my $bytes = defined $opt->{bytes} ? $opt->{bytes}
        : substr(head($ctx->{proto}, 200, undef,
            [['Content-Type', 'text/plain']]), 0, 24);

    return [[write => wrap($ctx->{proto}, $bytes)], ['close']];
}

# Promises twice the body, sends it once, then ends as told.

sub _cut {
    my ($ctx, $req, $opt, @end) = @_;

    my $body = defined $opt->{body} ? $opt->{body} : 'half of it';
    my ($head) = _parts($ctx, $req, { %$opt, body => $body x 2 });

    # the pause lets the peer see the first part before the end
    return [[write => wrap($ctx->{proto}, $head . $body)],
        [wait => ($opt->{ms} || 50) / 1000], map { [$_] } @end];
}

# The default line starts with a colon, an error for nginx in all versions.

sub _bad_header {
    my ($ctx, $req, $opt) = @_;

    my ($head, $body) = _parts($ctx, $req, $opt);
    my $line = defined $opt->{line} ? $opt->{line} : ': no name';
    $head =~ s/\r\n/\r\n$line\r\n/;

    return [[write => wrap($ctx->{proto}, $head . $body)
        . tail($ctx->{proto})], ['close']];
}

sub _garbage {
    my ($ctx, $req, $opt) = @_;

    my $bytes = defined $opt->{bytes} ? $opt->{bytes}
        : "\x00\xfe\xffnot what you expected\r\n\r\n";

    return [[write => $bytes], ['close']];
}

# Answers once, with keepalive, and closes at the next request.

sub _stale {
    my ($ctx, $req, $opt) = @_;
    return [[$opt->{reset} ? 'reset' : 'close']] if $ctx->{conn}{served};
    return _answer($ctx, $req, $opt);
}

sub _websocket {
    my ($ctx, $req, $opt) = @_;

    my $key = $req->{headers}{'sec-websocket-key'};
    return _answer($ctx, $req, { status => 400 })
        unless lc($req->{headers}{upgrade} || '') eq 'websocket';

    my @h = (['Upgrade', 'websocket'], ['Connection', 'upgrade'],
        @{ $opt->{headers} || [] });

    if (defined $key) {
        my $sum = Digest::SHA::sha1_base64(
            $key . '258EAFA5-E914-47DA-95CA-C5AB0DC85B11');
        push @h, ['Sec-WebSocket-Accept', "$sum="];
    }

    return [[write => head('http', 101, undef, \@h)], ['tunnel']];
}

1;
