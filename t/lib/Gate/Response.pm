package Gate::Response;

# What came back for one request.
#
# A transport error, also one in the middle of the body, gives status 0 and
# a text in error(); the status line that did arrive is in head_status().

use strict;
use warnings;

use JSON::PP ();

sub new {
    my ($class, %self) = @_;
    $self{headers} ||= [];
    $self{body} = '' unless defined $self{body};
    return bless \%self, $class;
}

sub status { return $_[0]{error} ? 0 : $_[0]{status} || 0 }

sub head_status { return $_[0]{status} || 0 }

sub reason { return $_[0]{reason} }

sub error { return $_[0]{error} }

sub body { return $_[0]{body} }

sub time { return $_[0]{time} }

# A reference to a list of [name, value], in the order of arrival.

sub headers { return $_[0]{headers} }

# The first value or undef, never an empty list: safe among arguments.

sub header {
    my ($self, $name) = @_;
    my ($first) = $self->header_all($name);
    return $first;
}

sub header_all {
    my ($self, $name) = @_;
    return map { $_->[1] } grep { lc $_->[0] eq lc $name }
        @{ $self->{headers} };
}

# The decoded body; undef when it is not JSON.

sub json {
    my ($self) = @_;
    return scalar eval { JSON::PP->new->utf8->decode($self->{body}) };
}

# One line for diagnostics.

sub as_text {
    my ($self) = @_;
    return sprintf '%s%s, %d bytes', $self->head_status,
        $self->{error} ? " ($self->{error})" : '', length $self->{body};
}

1;
