package Gate::Proxy;

# A TCP proxy whose manners change while it runs.
#
#   my $p = $t->proxy($redis->addr);        # or the path of a unix socket
#   $p->delay(500);  $p->pass;  $p->cut(7);  $p->drop;  $p->refuse;
#
#   pass        as if it were not there
#   delay(ms)   both ways; delay(up => ms, down => ms)
#   cut(n, k)   passes n bytes of the next answer, then resets that
#               connection; k times (1), then passes
#   half        passes half of each answer's first piece, then nothing more
#   blackhole   swallows everything, both ways
#   refuse      no listener, all connections dropped; listen undoes it
#   drop        resets the connections there are
#   target(a)   new connections go there

use strict;
use warnings;

our @ISA = ('Gate::Child');

use Gate::Child;
use Gate::Loop;
use Gate::Port qw(free_port);

sub new {
    my ($class, $target, %opt) = @_;

    my $port = $opt{port} || free_port();
    my $listen = Gate::Loop::listener($port);
    my $name = "proxy-$port";

    return $class->launch(name => $name, port => $port, keep => [$listen],
        run => sub {
            my ($ctl) = @_;
            Gate::Proxy::Server->new($name, $ctl, $listen, $port, $target)
                ->run;
        });
}

sub pass { return $_[0]->_mode('pass') }

sub delay {
    my ($self, @ms) = @_;
    my %ms = @ms == 1 ? (up => $ms[0], down => $ms[0]) : @ms;
    return $self->_mode('pass', %ms);
}

sub cut {
    my ($self, $bytes, $times) = @_;
    return $self->_mode('cut', bytes => $bytes, times => $times || 1);
}

sub half { return $_[0]->_mode('half') }

sub blackhole { return $_[0]->_mode('blackhole') }

sub _mode { my ($self, @m) = @_; $self->call('mode', @m); return $self }

sub refuse { my ($self) = @_; $self->call('refuse'); return $self }

sub listen { my ($self) = @_; $self->call('listen'); return $self }

# Returns how many connections there were.

sub drop { return $_[0]->call('drop') }

sub target { my ($self, $to) = @_; $self->call('target', $to); return $self }

# connections and bytes (up, down) so far; open: connections now.

sub stats { return $_[0]->call('stats') }

package Gate::Proxy::Server;

use Time::HiRes qw(time);

sub new {
    my ($class, $name, $ctl, $listen, $port, $target) = @_;

    my $self = bless { name => $name, listen => $listen, port => $port,
        target => $target, mode => 'pass', pairs => {}, next => 1,
        stats => { connections => 0, up => 0, down => 0 } }, $class;
    $self->{loop} = Gate::Loop->new(name => $name, ctl => $ctl,
        target => $self);
    $self->_watch;
    return $self;
}

sub run { $_[0]{loop}->run }

sub _watch {
    my ($self) = @_;
    $self->{loop}->on_read($self->{listen}, sub {
        $self->_open($_) for Gate::Loop::accept_all($self->{listen});
    });
}

sub _open {
    my ($self, $client) = @_;

    my $loop = $self->{loop};
    $self->{stats}{connections}++;

    my $server = Gate::Loop::connect_to($self->{target});
    return $loop->close($client, 1) unless $server;

    my $pair = { id => $self->{next}++,
        up => { from => $client, to => $server, out => '', queue => 0 },
        down => { from => $server, to => $client, out => '', queue => 0 } };
    $self->{pairs}{ $pair->{id} } = $pair;

    for my $way (qw(up down)) {
        $loop->on_read($pair->{$way}{from}, sub {
            $self->_readable($pair, $way);
        });
    }
}

sub _close {
    my ($self, $pair, $reset) = @_;
    return unless delete $self->{pairs}{ $pair->{id} };
    $self->{loop}->close($_->{from}, $reset) for @$pair{qw(up down)};
}

sub _readable {
    my ($self, $pair, $way) = @_;

    my $w = $pair->{$way};
    my $bytes = Gate::Loop::get($w->{from});

    if (defined $bytes && $bytes ne '') {
        $self->{stats}{$way} += length $bytes;
        return if $self->{mode} eq 'blackhole' || $pair->{mute};
        if ($way eq 'down') {
            $bytes = $self->_maul($pair, $bytes);
            return if $bytes eq '';
        }
    }

    return if defined $bytes && $bytes eq '';
    $self->{loop}->on_read($w->{from}) unless defined $bytes;

    # what was delayed stays ahead of what is not
    my $due = time + ($self->{$way} || 0) / 1000;
    $due = $w->{due} if ($w->{due} || 0) > $due;
    $w->{due} = $due;
    return $self->_pass($pair, $w, $bytes)
        if $due <= time && !$w->{queue};

    $w->{queue}++;
    $self->{loop}->after($due - time, sub {
        $w->{queue}--;
        $self->_pass($pair, $w, $bytes);
    });
}

sub _maul {
    my ($self, $pair, $bytes) = @_;

    if ($self->{mode} eq 'cut') {
        my $out = substr $bytes, 0, $self->{bytes};
        Gate::Loop::put($pair->{up}{from}, \$out);
        $self->{mode} = 'pass' unless --$self->{times};

        # time for the peer to see these bytes before the end
        $pair->{mute} = 1;
        $self->{loop}->after(0.02, sub { $self->_close($pair, 1) });
        return '';
    }

    if ($self->{mode} eq 'half') {
        $pair->{mute} = 1;
        return substr $bytes, 0, (length($bytes) + 1) / 2;
    }

    return $bytes;
}

# undef: the end of that direction; both go with it.

sub _pass {
    my ($self, $pair, $w, $bytes) = @_;

    return unless $self->{pairs}{ $pair->{id} };
    if (defined $bytes) { $w->{out} .= $bytes } else { $w->{end} = 1 }
    $self->_flush($pair, $w);
}

sub _flush {
    my ($self, $pair, $w) = @_;

    return $self->_close($pair) unless Gate::Loop::put($w->{to}, \$w->{out});
    return $self->_close($pair) if $w->{end} && $w->{out} eq '';
    $self->{loop}->on_write($w->{to},
        $w->{out} eq '' ? undef : sub { $self->_flush($pair, $w) });
}

sub _cmd_mode {
    my ($self, $mode, %opt) = @_;
    @$self{qw(mode up down bytes times)} =
        ($mode, @opt{qw(up down bytes times)});
    return 1;
}

sub _cmd_target { my ($self, $to) = @_; $self->{target} = $to; return 1 }

sub _cmd_drop {
    my ($self) = @_;
    my @pairs = values %{ $self->{pairs} };
    $self->_close($_, 1) for @pairs;
    return scalar @pairs;
}

sub _cmd_refuse {
    my ($self) = @_;
    $self->{loop}->close(delete $self->{listen}) if $self->{listen};
    return $self->_cmd_drop;
}

sub _cmd_listen {
    my ($self) = @_;
    return 1 if $self->{listen};
    $self->{listen} = Gate::Loop::listener($self->{port});
    $self->_watch;
    return 1;
}

sub _cmd_stats {
    my ($self) = @_;
    return { %{ $self->{stats} }, open => scalar keys %{ $self->{pairs} } };
}

1;
