package Gate::Fleet;

# Several nginx nodes with one configuration.
#
#   my $r = $t->redis;
#   my $f = $t->fleet(3, workers => 2, '... gate_redis redis://' . $r->addr
#       . '; server { listen 127.0.0.1:%%PORT:http%%; ... }');
#   $f->start;
#   $f->node(0)->get('/');                  # each node is a Gate
#   $f->converge(503);                      # all workers of all nodes
#   $t->done;                               # checks and stops the nodes, too
#
# The template is the contents of the http block, or code that gets the
# number of the node and returns them; %%NODE%% is that number.  Every answer
# carries X-Pid, the worker's; that is what the connections below go by.

use strict;
use warnings;

use File::Path ();
use Scalar::Util ();
use Time::HiRes qw(sleep time);

use Gate;
use Gate::Proc qw(kill_hard spawn wait_exit);
use Gate::Util qw(json scale slurp wait_for);

# Options as those of http(), module, and tool.

sub new {
    my ($class, $owner, $number, @args) = @_;

    my $template = pop @args;
    my %opt = (workers => 2, @args);
    my $self = bless { owner => $owner, nodes => [], pinned => {},
        workers => $opt{workers} }, $class;
    Scalar::Util::weaken($self->{owner});

    for my $i (0 .. $number - 1) {
        my $node = Gate::Fleet::Node->new($i,
            exists $opt{module} ? (module => $opt{module}) : ());
        push @{ $self->{nodes} }, $node;
        $node->configure(\%opt, $template);
    }

    return $self;
}

sub node { return $_[0]{nodes}[$_[1]] }

sub nodes { return @{ $_[0]{nodes} } }

sub each {
    my ($self, $code) = @_;
    return map { $code->($_, $_->number) } $self->nodes;
}

sub start { my ($self) = @_; $_->start for $self->nodes; return $self }

sub stop { my ($self) = @_; $_->stop for $self->nodes; return $self }

# All at once; then waits for each.

sub reload {
    my ($self) = @_;

    my @old = map { $_->workers(all => 1) } $self->nodes;
    $_->reload(wait => 0) for $self->nodes;
    wait_for {
        !(grep { Gate::Proc::running($_) } @old)
            && !grep { $_->workers < $self->{workers} } $self->nodes;
    } what => 'all nodes to reload';
    return $self;
}

# One kept connection to every worker of a node: [node, pid, connection] each.
# Which worker accepts is up to the kernel, so they are opened in bursts and
# only one for each is kept.

sub pinned {
    my ($self, @nodes) = @_;
    @nodes = $self->nodes unless @nodes;
    return map { $self->_pin($_) } @nodes;
}

sub _pin {
    my ($self, $node) = @_;

    my $have = $self->{pinned}{ $node->number } ||= {};
    my $end = time + 20 * scale();

    while (1) {
        my %want = map { $_ => 1 } $node->workers;
        for (keys %$have) {
            delete $have->{$_} if !$want{$_} || !$have->{$_}->is_open;
        }
        return map { [$node, $_, $have->{$_}] } sort keys %$have
            if keys %$have == keys %want;
        die 'no connection to every worker of node ' . $node->number . "\n"
            if time > $end;

        my @new = map { $node->conn } 1 .. 8;
        $_->send('GET', '/gate-fleet-pid') for @new;
        for my $c (@new) {
            my $pid = $c->recv->header('x-pid') || 0;
            $have->{$pid} = $c if $c->socket && $want{$pid} && !$have->{$pid};
        }
    }
}

# The answers of all workers to one request: [node, pid, response] each.

sub ask {
    my ($self, $uri, %opt) = @_;

    my @pins = $self->pinned(@{ $opt{nodes} || [] });
    $_->[2]->send('GET', $uri, headers => $opt{headers} || {}) for @pins;
    return map { [@$_[0, 1], $_->[2]->recv] } @pins;
}

# Waits until every worker answers so; returns the seconds it took.  want: a
# status, or code that gets the response.  Options: uri (/), nodes (a list),
# headers, timeout, what.

sub converge {
    my ($self, $want, %opt) = @_;

    my $uri = defined $opt{uri} ? $opt{uri} : '/';
    my $code = ref $want ? $want : sub { $_[0]->status == $want };
    my $start = time;
    my @wrong;

    my $ok = eval {
        wait_for {
            @wrong = grep { !$code->($_->[2]) } $self->ask($uri, %opt);
            !@wrong;
        } timeout => $opt{timeout};
    };
    return time - $start if $ok;

    die "$@not converged" . (defined $opt{what} ? " ($opt{what})" : '') . ': '
        . join('; ', map { 'node ' . $_->[0]->number . " pid $_->[1]: "
            . $_->[2]->as_text } @wrong) . "\n";
}

# Stays so for that long, in every worker: the answers that did not, as texts.

sub watch {
    my ($self, $want, $seconds, %opt) = @_;

    my $uri = defined $opt{uri} ? $opt{uri} : '/';
    my $code = ref $want ? $want : sub { $_[0]->status == $want };
    my ($end, @wrong) = (time + $seconds);

    while (time < $end && @wrong < 10) {
        push @wrong, map { 'node ' . $_->[0]->number . " pid $_->[1]: "
            . $_->[2]->as_text } grep { !$code->($_->[2]) }
            $self->ask($uri, %opt);
        sleep 0.02;
    }

    return @wrong;
}

# Toggles a key by plain SET and DEL and measures, from each reply of Redis,
# until the last worker of all nodes answers accordingly.  Options: redis,
# toggles (100), key, value, uri, on (503), off (200), interval (us between
# two questions to a worker, 500), pause (ms between toggles, 20), timeout
# (ms, 5000).  Returns { n, p50, p99, max (us), slow, flaps, timeouts,
# answers, errors }; slow: of more than 100 ms.

sub probe {
    my ($self, %opt) = @_;

    my $redis = $opt{redis} or die "probe: which redis?\n";
    my @cmd = (Gate::Load::build('fleet-probe'), '-s', $redis->path);
    push @cmd, '-a', $redis->{requirepass} if defined $redis->{requirepass};

    my %flag = (toggles => 'n', key => 'k', value => 'v', uri => 'u',
        on => 'o', off => 'f', interval => 'i', pause => 'p');
    for (sort keys %flag) {
        push @cmd, "-$flag{$_}", $opt{$_} if defined $opt{$_};
    }
    push @cmd, '-t', ($opt{timeout} || 5000) * scale();
    push @cmd, map { $_->port . ":$self->{workers}" } $self->nodes;

    my $base = $self->{owner}->dir . '/probe-' . ++$self->{probes};
    my $pid = spawn('fleet-probe', \@cmd, out => "$base.json",
        err => "$base.err");
    my $status = wait_exit($pid, $opt{limit} || 120);
    kill_hard($pid) unless defined $status;
    die 'fleet-probe: ' . (defined $status ? "status $status: " : 'hangs: ')
        . slurp("$base.err") . "\n" if !defined $status || $status;
    return json(slurp("$base.json"));
}

# What is left to check at the end, each [name, problem lines].

sub verdict {
    my ($self) = @_;

    my (@names, %problems);
    for my $node ($self->nodes) {
        for ($node->finish) {
            my ($name, @lines) = @$_;
            push @names, $name unless $problems{$name};
            push @{ $problems{$name} },
                map { 'node ' . $node->number . ": $_" } @lines;
        }
    }

    return map { [$_, @{ $problems{$_} || [] }] } @names;
}

# Keeps the nodes' directories, to look at, or not.

sub clean {
    my ($self, $keep) = @_;
    $_->clean($keep) for $self->nodes;
}

package Gate::Fleet::Node;

our @ISA = ('Gate');

sub new {
    my ($class, $number, %opt) = @_;
    my $self = $class->SUPER::new(%opt);
    $self->{number} = $number;
    return $self;
}

sub number { return $_[0]{number} }

sub expand {
    my ($self, $text) = @_;
    $text =~ s/%%NODE%%/$self->{number}/g;
    return $self->SUPER::expand($text);
}

# Writes nginx.conf from a template of the fleet, or another one later.

sub configure {
    my ($self, $opt, $template) = @_;

    my $block = ref $template ? $template->($self, $self->{number})
                              : $template;
    return $self->http(%$opt, <<"EOF_CONF");
    add_header X-Pid \$pid always;
    keepalive_requests 100000000;
    keepalive_timeout 3600s;

$block
EOF_CONF
}

sub finish {
    my ($self) = @_;

    return () if $self->{done}++ || !$self->{started};
    my @checks = $self->_verdict;
    for my $child (@{ $self->{stops} }) { eval { $child->stop } }
    return @checks;
}

# The fleet reports for its nodes; a test that died reports nothing.

sub done {
    my ($self) = @_;
    $self->finish if $self->{owner} == $$;
}

sub clean {
    my ($self, $keep) = @_;
    return Test::More::diag("see $self->{dir}") if $keep;
    File::Path::remove_tree($self->{dir});
}

1;
