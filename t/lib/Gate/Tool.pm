package Gate::Tool;

# What the harness can do, for programs that are no tests: nothing of it is
# printed as TAP, and done() returns what went wrong as a list of lines.

use strict;
use warnings;

use File::Path ();
use IO::Handle;
use Test::More ();

use Gate;

our @ISA = ('Gate');

STDOUT->autoflush(1);
Test::More->builder->no_ending(1);

sub _command {
    my ($self, @args) = @_;

    my $cmd = $self->SUPER::_command(@args);
    unshift @$cmd, @{ $self->{prefix} || [] };
    return $cmd;
}

# Start it under another command, such as valgrind.

sub prefix { my ($self, @cmd) = @_; $self->{prefix} = [@cmd]; return $self }

sub done {
    my ($self) = @_;

    return if $self->{done}++ || $self->{owner} != $$;

    my @problems;

    for ($self->_checks) {
        my ($name, @lines) = @$_;
        push @problems, map { "$name: $_" } @lines;
    }

    for my $child (@{ $self->{stops} }) { eval { $child->stop } }

    chomp @problems;
    $_->clean($ENV{TEST_LEAVE}) for @{ $self->{fleets} || [] };
    File::Path::remove_tree($self->{dir}) unless $ENV{TEST_LEAVE};
    return @problems;
}

1;
