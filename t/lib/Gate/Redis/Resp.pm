package Gate::Redis::Resp;

# Redis's protocol, version 2: a command as bytes, bytes as a reply.
#
# Replies: a string, a number, undef (nil), a reference to a list, or, for an
# error, a Gate::Redis::Error, which is true and prints as its text.

use strict;
use warnings;

use Exporter 'import';

our @EXPORT_OK = qw(command is_error reply take);

sub command {
    my (@args) = @_;

    utf8::encode($_) for grep { utf8::is_utf8($_) } @args;
    return '*' . @args . "\r\n"
        . join '', map { '$' . length($_) . "\r\n$_\r\n" } @args;
}

# A structure as the bytes of a reply: lists become arrays, references to a
# scalar stand for themselves, integers and texts for what they look like.

sub reply {
    my ($value) = @_;

    return "\$-1\r\n" if !defined $value;
    return '*' . @$value . "\r\n" . join '', map { reply($_) } @$value
        if ref $value eq 'ARRAY';
    return $$value if ref $value;
    return ":$value\r\n" if $value =~ /^-?\d{1,18}$/;
    return '$' . length($value) . "\r\n$value\r\n";
}

sub is_error { return ref $_[0] && ref $_[0] eq 'Gate::Redis::Error' }

# Takes one complete reply (or, as it is written alike, one command) from the
# front of the buffer: (1, value), or the empty list when bytes are missing.
# Dies at nonsense.

sub take {
    my ($buf) = @_;

    my ($end, $value) = _parse($buf, 0) or return ();
    substr $$buf, 0, $end, '';
    return (1, $value);
}

sub _parse {
    my ($buf, $at) = @_;

    my $eol = index $$buf, "\r\n", $at;
    return () if $eol < 0;

    my $type = substr $$buf, $at, 1;
    my $line = substr $$buf, $at + 1, $eol - $at - 1;
    my $next = $eol + 2;

    return ($next, $line) if $type eq '+';
    return ($next, Gate::Redis::Error->new($line)) if $type eq '-';
    die "not a reply: $type$line\n"
        if $type !~ /^[:\$*]$/ || $line !~ /^-?\d+$/;
    return ($next, $line + 0) if $type eq ':';
    return ($next, undef) if $line < 0;

    if ($type eq '$') {
        return () if length($$buf) < $next + $line + 2;
        return ($next + $line + 2, substr $$buf, $next, $line);
    }

    my @list;
    for (1 .. $line) {
        ($next, my $value) = _parse($buf, $next) or return ();
        push @list, $value;
    }

    return ($next, \@list);
}

package Gate::Redis::Error;

use overload '""' => sub { $_[0]{text} }, 'bool' => sub { 1 },
    fallback => 1;

sub new { my ($class, $text) = @_; return bless { text => $text }, $class }

1;
