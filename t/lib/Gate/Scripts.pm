package Gate::Scripts;

# The scripts that run in Redis, called as a node calls them, without nginx.
#
#   my $s = Gate::Scripts->new($redis);
#   my $a = $s->node('a');
#   $a->sync;                        # looks, and restores what is forgotten
#   is($a->value('gate:maintenance'), 'on');
#   my $r = $a->rollout('pause', epoch => 7);     # result why rev fields
#
# A node is no more than the memory that the real one has: what it knows, of
# which revision, under which incarnation.

use strict;
use warnings;

use Gate::Redis::Resp qw(is_error);
use Gate::Util qw(root);

my @names = qw(observe restore put rollout evidence beat limit
    override take);

sub new {
    my ($class, $redis, %opt) = @_;

    my $self = bless { redis => $redis, data => 'gate#',
        strings => [qw(gate:maintenance gate:maintenance:shop
            gate:mode:canary)], rollouts => ['shop'], %opt }, $class;

    for my $name (@names) {
        $self->{text}{$name} = text($name);
        $self->{sha1}{$name} = $redis->cmd('SCRIPT', 'LOAD',
            $self->{text}{$name});
    }

    return $self;
}

# As it is embedded.

sub text {
    my ($name) = @_;

    my $dir = root() . '/src/fleet';
    my $text = `sh $dir/scripts.sh $dir $name`;
    die "scripts.sh failed for $name\n" if $? || $text eq '';
    return $text;
}

# Dies at an error; try returns it.

sub call {
    my ($self, $name, @args) = @_;
    my $reply = $self->try($name, @args);
    die "$name: $reply\n" if is_error($reply);
    return $reply;
}

sub try {
    my ($self, $name, $keys, @args) = @_;

    my @rest = (scalar @$keys, @$keys, @args);
    my $reply = $self->{redis}->try('EVALSHA', $self->{sha1}{$name}, @rest);
    return $reply unless is_error($reply) && $reply =~ /NOSCRIPT/;
    return $self->{redis}->try('EVAL', $self->{text}{$name}, @rest);
}

sub node {
    my ($self, $name, %opt) = @_;
    return Gate::Scripts::Node->new($self, $name, %opt);
}

package Gate::Scripts::Node;

use strict;
use warnings;

# Options: release, version, digest, weight (basis points) of its
# configuration.

sub new {
    my ($class, $scripts, $name, %opt) = @_;

    return bless { scripts => $scripts, name => $name, inc => '',
        known => {}, release => '1' x 32, version => 'v1', digest => 'd' x 16,
        weight => 500, %opt }, $class;
}

sub _data { return map { "$_[0]{scripts}{data}$_" } @_[1 .. $#_] }

sub _rev { return ($_[0]{known}{$_[1]} || {})->{rev} || 0 }

# What it believes.

sub value { return ($_[0]{known}{$_[1]} || {})->{value} }

sub fields { return ($_[0]{known}{"gate:canary:$_[1]"} || {})->{fields} }

sub rev { my ($self, $key) = @_; return $self->_rev($key) }

# One look; strings and rollouts by key.

sub observe {
    my ($self, %opt) = @_;

    my $s = $self->{scripts};
    my @strings = @{ $s->{strings} };
    my @hashes = map { "gate:canary:$_" } @{ $s->{rollouts} };
    my $reply = $s->try('observe',
        [$self->_data(qw(epoch events)), @strings, @hashes],
        $self->{name}, $self->{inc}, scalar @strings, scalar @hashes,
        $opt{max} || 4096, map { $self->_rev($_) } @strings, @hashes);
    return $reply unless ref $reply eq 'ARRAY';

    my %seen;
    @seen{qw(now inc rev evicted)} = @$reply[0 .. 3];

    for my $i (0 .. $#strings) {
        @{ $seen{$strings[$i]} }{qw(status rev value pttl)} =
            @{ $reply->[4][$i] };
    }

    for my $i (0 .. $#hashes) {
        my ($status, $rev, $fields, $text) = @{ $reply->[5][$i] };
        $seen{$hashes[$i]} = { status => $status, rev => $rev,
            fields => { @$fields }, text => $text };
    }

    return \%seen;
}

sub status {
    my ($self, $key) = @_;
    return $self->observe->{$key}{status};
}

# Takes over what a look has shown; what Redis forgot is left as it is.

sub take {
    my ($self, $seen) = @_;

    for my $key (grep { ref $seen->{$_} } keys %$seen) {
        my ($status, $rev) = @{ $seen->{$key} }{qw(status rev)};

        # another release is the fleet's, not what this node holds

        my $release = ($seen->{$key}{fields} || {})->{release};
        next if defined $release && $release ne $self->{release};

        if ($status eq 'none') {
            $self->{known}{$key} = { rev => $rev };
        } elsif ($status eq 'ok') {
            $self->{known}{$key} = { rev => $rev,
                value => $seen->{$key}{value}, pttl => $seen->{$key}{pttl},
                fields => $seen->{$key}{fields} };
        }
    }

    return $self;
}

# Keys that Redis wants back.

sub wanted {
    my ($self, $seen) = @_;
    return sort grep { ref $seen->{$_}
        && $seen->{$_}{status} =~ /^(?:want|evicted)$/ } keys %$seen;
}

sub restore_strings {
    my ($self, @keys) = @_;

    my $known = $self->{known};
    my $reply = $self->{scripts}->call('restore',
        [$self->_data(qw(epoch events)), @keys], $self->{name}, $self->{inc},
        scalar @keys, map { my $k = $known->{$_};
            ($k->{rev}, defined $k->{value} ? 1 : 0,
            defined $k->{value} ? $k->{value} : '',
            defined $k->{pttl} ? $k->{pttl} : -1) } @keys);
    return @{ $reply->[1] };
}

sub restore_rollout {
    my ($self, $key, %opt) = @_;

    my $k = $self->{known}{$key};
    my $f = $k->{fields};
    my ($name) = $key =~ /canary:(.*)/;

    return $self->rollout('restore', name => $name, state => '-', %opt)
        unless $f;
    return $self->rollout('restore', name => $name, (map { $_ => $f->{$_} }
        qw(source actor reason release version stable canary digest epoch
        step seed state since)), weight => $f->{weight} * 100,
        record => defined $f->{record} ? $f->{record} : '', %opt);
}

# A look, what it asks for, and another look.

sub sync {
    my ($self) = @_;

    for my $round (1 .. 3) {
        my $seen = $self->observe;
        die "observe: $seen\n" unless ref $seen;

        my @wanted = $self->wanted($seen);
        $self->take($seen);

        if (!@wanted) {
            $self->{inc} = $seen->{inc};
            return $seen;
        }

        my @strings = grep { !/canary:/ } @wanted;
        $self->restore_strings(@strings) if @strings;
        $self->restore_rollout($_) for grep { /canary:/ } @wanted;

        # what was known under the old incarnation has been offered

        $self->{inc} = $seen->{inc};
    }

    return $self->observe;
}

# Options: actor, reason, object, kind, ttl, rev, force.  ok|changed|type, rev

sub put {
    my ($self, $key, $value, %opt) = @_;

    my $reply = $self->{scripts}->call('put',
        [$key, $self->_data(qw(epoch events))], $self->{name},
        $opt{actor} || 'joe', $opt{reason} || '', $opt{object} || 'global',
        $opt{kind} || 'maintenance', defined $value ? ('set', $value)
        : ('del', ''), $opt{ttl} || -1,
        defined $opt{rev} ? $opt{rev} : $self->_rev($key),
        defined $opt{force} ? $opt{force} : 1);
    return @$reply[0, 2];
}

# Options by the names of the arguments; the configuration is the default.

sub rollout {
    my ($self, $op, %opt) = @_;

    my $name = $opt{name} || 'shop';
    my $key = "gate:canary:$name";
    my %arg = (source => 'api', actor => 'joe', reason => 'why',
        stable => 'v1', canary => 'v2', seed => 'a' x 32,
        (map { $_ => $self->{$_} } qw(release version digest weight inc)),
        rev => $self->_rev($key), %opt, op => $op, node => $self->{name},
        name => $name);

    my $reply = $self->{scripts}->call('rollout',
        [$key, $self->_data('epoch', 'events', "past:$name")],
        map { defined $arg{$_} ? $arg{$_} : '' }
        qw(op node source actor reason name release version stable canary
        digest epoch step weight seed least record inc rev state since));
    my %r;
    @r{qw(result why now rev)} = @$reply;
    $r{fields} = { @{ $reply->[4] } };
    return \%r;
}

# vector and lifetime vector: hashes; returns the sums, the number of fields

sub evidence {
    my ($self, $step, $vector, $lifetime, %opt) = @_;

    my $text = sub { my $v = shift;
        join ' ', map { "$_:$v->{$_}" } grep { $v->{$_} } sort keys %$v };
    my $reply = $self->{scripts}->call('evidence',
        [$self->_data("evidence:shop:1:$step:d", 'totals:shop')],
        $opt{field} || "$self->{name}:1", $text->($vector),
        $text->($lifetime), 604800);
    return ({ $reply->[1] =~ /(\d+):(\d+)/g },
        { $reply->[2] =~ /(\d+):(\d+)/g }, $reply->[3]);
}

sub beat {
    my ($self, %opt) = @_;

    my $reply = $self->{scripts}->call('beat',
        [$self->_data(qw(nodes seed))], $opt{field} || "$self->{name}:1",
        $opt{info} || '{}', $opt{seed} || 'b' x 32, $opt{max} || 64);
    my ($now, $seed, $total, $list) = @$reply;
    my %nodes;

    while (my ($name, $age, $info) = splice @$list, 0, 3) {
        $nodes{$name} = { age => $age, info => $info };
    }

    return { now => $now, seed => $seed, total => $total, nodes => \%nodes };
}

1;
