package Gate::FakeRedis;

# A server that gives the answers no real Redis gives.
#
#   my $f = $t->fake_redis;                      # alone, or
#   my $f = $t->fake_redis(upstream => $redis);  # the rest from a real one
#   $f->on('EVALSHA', "-READONLY You can't write ...\r\n");
#   $f->on('CLIENT TRACKING', "-ERR unknown ...\r\n");  # longest name wins
#   $f->next('GET', "\$2147483647\r\n");         # once
#   $f->on('*connect', "-ERR max number of clients reached\r\n", ['close']);
#   $f->on('*', ['hang']);                       # every command
#   $f->off('GET');
#
# An answer is a list of steps: bytes; [drip => bytes, ms] byte by byte;
# [endless => bytes] again and again; [wait => seconds]; ['hang'] nothing
# more on this connection; ['close']; ['reset']; ['real'] what would have been
# answered otherwise.  on() returns when it holds for all later commands.

use strict;
use warnings;

our @ISA = ('Gate::Child');

use Gate::Child;
use Gate::Loop;
use Gate::Port qw(free_port);

sub new {
    my ($class, %opt) = @_;

    my $port = $opt{port} || free_port();
    my $listen = Gate::Loop::listener($port);
    my $up = $opt{upstream};
    $up = $up->path if ref $up;
    my $name = "fake-$port";

    return $class->launch(name => $name, port => $port, keep => [$listen],
        run => sub {
            my ($ctl) = @_;
            Gate::FakeRedis::Server->new($name, $ctl, $listen, $up)->run;
        });
}

sub on {
    my ($self, $name, @steps) = @_;
    $self->call('on', $name, \@steps);
    return $self;
}

sub next {
    my ($self, $name, @steps) = @_;
    $self->call('next', $name, \@steps);
    return $self;
}

sub off { my ($self, @names) = @_; $self->call('off', @names); return $self }

# Bytes to every connection that subscribed to something; how many those are.

sub push { my ($self, @steps) = @_; return $self->call('push', \@steps) }

# The latest 5000 commands, lists of words.

sub seen { return @{ $_[0]->call('seen') } }

sub clear { my ($self) = @_; $self->call('clear'); return $self }

# connections so far, commands so far, open now.

sub stats { return $_[0]->call('stats') }

sub drop { return $_[0]->call('drop') }

package Gate::FakeRedis::Server;

use Digest::SHA qw(sha1_hex);
use Time::HiRes qw(time);

use Gate::Redis::Resp qw(is_error reply take);

sub new {
    my ($class, $name, $ctl, $listen, $upstream) = @_;

    my $self = bless { name => $name, upstream => $upstream, on => {},
        next => {}, conns => {}, id => 1, seen => [],
        stats => { connections => 0, commands => 0 } }, $class;
    $self->{loop} = Gate::Loop->new(name => $name, ctl => $ctl,
        target => $self);
    $self->{loop}->on_read($listen, sub {
        $self->_open($_) for Gate::Loop::accept_all($listen);
    });
    return $self;
}

sub run { $_[0]{loop}->run }

# A connection: jobs is the list of answers due, in order; each is a list of
# steps, or undef while the real server has not answered.

sub _open {
    my ($self, $fh) = @_;

    my $c = { id => $self->{id}++, fh => $fh, in => '', out => '', jobs => [],
        up_in => '' };
    $self->{conns}{ $c->{id} } = $c;
    $self->{stats}{connections}++;

    if (defined $self->{upstream}) {
        $c->{up} = Gate::Loop::connect_to($self->{upstream})
            or return $self->_close($c, 1);
        $self->{loop}->on_read($c->{up}, sub { $self->_from_server($c) });
    }

    $self->{loop}->on_read($fh, sub { $self->_from_client($c) });
    if (my $steps = $self->_scripted('*connect')) {
        push @{ $c->{jobs} }, [@$steps];
        $self->_advance($c);
    }
}

sub _close {
    my ($self, $c, $reset) = @_;
    return unless delete $self->{conns}{ $c->{id} };
    $self->{loop}->close($c->{fh}, $reset);
    $self->{loop}->close($c->{up}) if $c->{up};
}

sub _from_client {
    my ($self, $c) = @_;

    my $bytes = Gate::Loop::get($c->{fh});
    return $self->_close($c) unless defined $bytes;
    $c->{in} .= $bytes;

    while (1) {
        my $before = $c->{in};
        my ($ok, $cmd) = eval { take(\$c->{in}) };
        return $self->_close($c) if $@;
        last unless $ok;

        $self->{stats}{commands}++;
        push @{ $self->{seen} }, $cmd;
        shift @{ $self->{seen} } if @{ $self->{seen} } > 5000;

        my $sent = substr $before, 0, length($before) - length $c->{in};
        $self->_command($c, $cmd, $sent);
    }

    $self->_advance($c);
}

sub _command {
    my ($self, $c, $cmd, $bytes) = @_;

    my ($one, $two) = map { uc } @$cmd[0, 1 < @$cmd ? 1 : 0];
    $c->{subscribed} = 1 if $one eq 'SUBSCRIBE';
    my $steps = $self->_scripted("$one $two") || $self->_scripted($one)
        || $self->_scripted('*');

    my @steps = $steps ? @$steps : (['real']);
    for my $i (reverse 0 .. $#steps) {
        next unless ref $steps[$i] && $steps[$i][0] eq 'real';
        if ($c->{up}) {
            # its place is kept until the answer comes
            push @{ $c->{wait} }, $steps[$i] = ['await'];
            $self->_to_server($c, $bytes);
        } else {
            splice @steps, $i, 1, $self->_plausible($c, $one, $two, @$cmd);
        }
    }

    push @{ $c->{jobs} }, \@steps;
}

sub _scripted {
    my ($self, $name) = @_;
    my $once = $self->{next}{$name};
    return shift @$once if $once && @$once;
    return $self->{on}{$name};
}

# What a Redis without data would say.

sub _plausible {
    my ($self, $c, $one, $two, @cmd) = @_;

    my $time = time;
    my %answer = (
        'PING'       => $c->{subscribed} ? ['pong', ''] : \"+PONG\r\n",
        'CLIENT ID'  => $c->{id},
        'ROLE'       => ['master', 0, []],
        'INFO'       => "redis_version:7.0.15\r\nrole:master\r\n",
        'TIME'       => [int $time, int(($time - int $time) * 1e6)],
        'SCRIPT LOAD' => sha1_hex(defined $cmd[2] ? $cmd[2] : ''),
        'CONFIG GET' => [$cmd[2], $cmd[2] && $cmd[2] =~ /policy/
            ? 'noeviction' : ''],
        'GET'        => undef,
    );

    return map { reply(['subscribe', $cmd[$_], "$_"]) } 1 .. $#cmd
        if $one eq 'SUBSCRIBE';
    return reply($answer{"$one $two"}) if exists $answer{"$one $two"};
    return reply($answer{$one}) if exists $answer{$one};
    return "-ERR unknown command '$one'\r\n" if $one =~ /^EVAL|^HELLO/;
    return "+OK\r\n";
}

sub _to_server {
    my ($self, $c, $bytes) = @_;
    $c->{up_out} .= $bytes;
    $self->_flush_up($c);
}

sub _flush_up {
    my ($self, $c) = @_;
    Gate::Loop::put($c->{up}, \$c->{up_out}) or return $self->_close($c);
    $self->{loop}->on_write($c->{up}, $c->{up_out} eq '' ? undef
        : sub { $self->_flush_up($c) });
}

sub _from_server {
    my ($self, $c) = @_;

    my $bytes = Gate::Loop::get($c->{up});
    return $self->_close($c) unless defined $bytes;
    $c->{up_in} .= $bytes;

    while (1) {
        my $before = $c->{up_in};
        my ($ok, $value) = take(\$c->{up_in});
        last unless $ok;

        my $sent = substr $before, 0, length($before) - length $c->{up_in};
        my $pushed = $c->{subscribed} && ref $value eq 'ARRAY'
            && ($value->[0] || '') eq 'message';
        my $place = $pushed ? undef : shift @{ $c->{wait} };
        if ($place) { @$place = ('bytes', $sent) }
        else { push @{ $c->{jobs} }, [$sent] }
    }

    $self->_advance($c);
}

# Does steps until one has to wait.

sub _advance {
    my ($self, $c) = @_;

    while ($self->{conns}{ $c->{id} } && !$c->{busy}) {
        return unless $self->_flush($c);

        my $job = $c->{jobs}[0] or return;
        my $step = $job->[0];
        if (!defined $step) { shift @{ $c->{jobs} }; next }

        my ($what, @arg) = ref $step ? @$step : (bytes => $step);
        return if $what eq 'await';
        shift @$job unless $what eq 'endless' || $what eq 'hang';

        if ($what eq 'bytes') { $c->{out} .= $arg[0] }
        elsif ($what eq 'endless') {
            # a turn of the loop each, there are others
            $c->{out} .= $arg[0];
            $self->_flush($c);
            return $self->_pause($c, 0);
        }
        elsif ($what eq 'hang') { return }
        elsif ($what eq 'wait') { $self->_pause($c, $arg[0]) }
        elsif ($what eq 'drip') {
            $c->{out} .= substr $arg[0], 0, 1, '';
            unshift @$job, [drip => @arg] if $arg[0] ne '';
            $self->_pause($c, (defined $arg[1] ? $arg[1] : 1) / 1000);
        }
        elsif ($what eq 'close' || $what eq 'reset') {
            $self->_close($c, $what eq 'reset');
        }
        else { die "unknown step $what\n" }
    }
}

sub _pause {
    my ($self, $c, $seconds) = @_;

    $c->{busy} = 1;
    $self->_flush($c);
    $self->{loop}->after($seconds, sub {
        $c->{busy} = 0;
        $self->_advance($c);
    });
}

sub _flush {
    my ($self, $c) = @_;

    return 1 if $c->{out} eq '';
    if (!Gate::Loop::put($c->{fh}, \$c->{out})) {
        $self->_close($c);
        return 0;
    }

    my $more = $c->{out} ne '';
    $self->{loop}->on_write($c->{fh},
        $more ? sub { $self->_advance($c) } : undef);
    return !$more;
}

sub _cmd_on {
    my ($self, $name, $steps) = @_;
    $self->{on}{$name} = $steps;
    return 1;
}

sub _cmd_next {
    my ($self, $name, $steps) = @_;
    return push @{ $self->{next}{$name} }, $steps;
}

sub _cmd_off {
    my ($self, @names) = @_;
    @names = keys %{ { %{ $self->{on} }, %{ $self->{next} } } } unless @names;
    delete @{ $self->{$_} }{@names} for qw(on next);
    return 1;
}

sub _cmd_push {
    my ($self, $steps) = @_;

    my @conns = grep { $_->{subscribed} } values %{ $self->{conns} };
    for my $c (@conns) {
        push @{ $c->{jobs} }, [@$steps];
        $self->_advance($c);
    }

    return scalar @conns;
}

sub _cmd_seen { return $_[0]{seen} }

sub _cmd_clear { my ($self) = @_; $self->{seen} = []; return 1 }

sub _cmd_stats {
    my ($self) = @_;
    return { %{ $self->{stats} }, open => scalar keys %{ $self->{conns} } };
}

sub _cmd_drop {
    my ($self) = @_;
    my @conns = values %{ $self->{conns} };
    $self->_close($_, 1) for @conns;
    return scalar @conns;
}

1;
