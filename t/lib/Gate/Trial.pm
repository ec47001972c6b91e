package Gate::Trial;

# A small fleet under load whose Redis gets into trouble.
#
#   my $x = Gate::Trial->new($t, redis => $r);
#   $x->start;                                  # joined, state is set
#   $x->trial('Redis is killed', break => sub { $r->kill },
#       heal => sub { $r->start }, forgot => 1);
#
# A trial breaks something, looks for a while, reloads one node and kills the
# agent of the other, looks again, heals, and waits until the fleet obeys
# Redis anew.  Meanwhile every node is under load, no request may fail, and
# the state must stay what it was: switch "a" open, "b" closed, the rollout
# "shop" at 40 % with the same callers on the same arms, "old" rolled back.

use strict;
use warnings;

use Gate::Rollout;
use Gate::Util qw(json scale wait_for);
use JSON::PP ();
use Test::More ();
use Time::HiRes qw(sleep time);

use constant { CALLERS => 24, RECOVERY => 2 };

# The same tests run against Redis over TLS, logged in as a user with no more
# rights than the documentation asks for (TEST_REDIS=tls), and against one
# that does not push (TEST_REDIS=poll).

my $RIGHTS = '~gate:* ~gate#* &__redis__:invalidate +@all';

sub variant { return $ENV{TEST_REDIS} || '' }

# Options: redis (of the server), proxy (1: one stands before it).  Returns
# what new() wants: redis, address, options; also proxy; and another(): one
# more server of that kind; wire(server): where a proxy finds it.

sub site {
    my ($class, $t, %opt) = @_;

    my (%redis, $options);
    my $tls = variant() eq 'tls';
    my ($user, $name) = ('', '127.0.0.1');
    if (variant() ne '') {
        my $file = $t->write_file('redis.password', "horse-battery\n");
        chmod 0600, $file or die "chmod: $!\n";
        %redis = (users => ["gate on >horse-battery $RIGHTS"
            . (variant() eq 'poll' ? ' -client' : '')]);
        $options = "password_file=$file";
        $user = 'gate@';
        ($redis{tls}, $name) = (1, 'localhost') if $tls;
    }

    my $another = sub { $t->redis(%redis, @_) };
    my $wire = sub {
        my ($r) = @_;
        return '127.0.0.1:' . ($tls ? $r->tls_port : $r->port);
    };

    my $r = $another->(%{ $opt{redis} || {} });
    $options .= ' ca_file=' . $r->tls('ca') if $tls;
    my $p = $opt{proxy} ? $t->proxy($wire->($r)) : undef;
    my ($port) = ($p ? $p->addr : $wire->($r)) =~ /(\d+)$/;

    return (redis => $r, proxy => $p, another => $another, wire => $wire,
        address => ($tls ? 'rediss' : 'redis') . "://$user$name:$port",
        options => defined $options ? $options : '');
}

# Options: nodes (2), redis, address (redis://ADDR, or a list, for each node
# its own), options (of gate_redis),
# conf (more of the http block), rate (of each load, 80).

sub new {
    my ($class, $t, %opt) = @_;

    my $self = bless { t => $t, rate => 80, %opt }, $class;
    my %b = map { $_ => $t->backend('ok', body => $_, name => $_) }
        qw(stable canary);
    my $address = $opt{address} || 'redis://' . $opt{redis}->addr;
    $address = [($address) x ($opt{nodes} || 2)] unless ref $address;

    $self->{fleet} = $t->fleet($opt{nodes} || 2, %{ $opt{http} || {} }, sub {
        my ($node, $i) = @_;
        my $g = $self->{rollout}[$i] = Gate::Rollout->new($node);
        my $options = ref $opt{options} ? $opt{options}->($node, $i)
            : defined $opt{options} ? $opt{options} : '';
        my $conf = ref $opt{conf} ? $opt{conf}->($node, $i)
            : defined $opt{conf} ? $opt{conf} : '';
        return <<"EOF_CONF";
    gate_redis $address->[$i] $options;
    proxy_http_version 1.1;
    proxy_set_header Connection '';
    $conf

    upstream stable { server @{[ $b{stable}->addr ]}; keepalive 16; }
    upstream canary { server @{[ $b{canary}->addr ]}; keepalive 16; }
    upstream shop {
        gate_canary stable canary weight=10% id=1;
        gate_key \$arg_key;
    }
    upstream old {
        gate_canary stable canary weight=50% id=1;
        gate_key \$arg_key;
    }

    server {
        listen 127.0.0.1:%%PORT:http%%;
        add_header X-Pid \$pid always;
        add_header X-Arms "\$gate_arm_shop \$gate_arm_old" always;
@{[ $g->endpoints ]}
        location = /open   { gate_maintenance a; return 200 "open"; }
        location = /closed { gate_maintenance b; return 200 "open"; }
        location = /probe  { gate_maintenance probe; return 200 "open"; }
        location = /ttl    { gate_maintenance ttl; return 200 "open"; }
        location = /arms   { return 200 "arms"; }
        location = /shop   { proxy_pass http://shop; }
        location = /old    { proxy_pass http://old; }
    }
EOF_CONF
    });

    return $self;
}

sub fleet { return $_[0]{fleet} }

sub redis { return $_[0]{redis} }

# The endpoints of node i: a Gate::Rollout.

sub rollout { return $_[0]{rollout}[$_[1]] }

# Starts the nodes and sets the state; waits until all of them show it.

sub start {
    my ($self) = @_;
    $self->{fleet}->start;
    return $self->prepare;
}

sub prepare {
    my ($self) = @_;

    $self->obeys;
    my $r = $self->{redis};
    $r->cmd('SET', 'gate:maintenance:b', 'on');
    $r->cmd('SET', 'gate:maintenance:ttl', 'on', 'EX', 3600);
    wait_for { $r->cmd('HGET', "gate:canary:$_", 'epoch') }
        what => "the hash of $_" for qw(shop old);
    $r->cmd('HSET', 'gate:canary:shop', weight => 40);
    $r->cmd('HSET', 'gate:canary:old', state => 'rolled_back');
    $self->{fleet}->converge(503, uri => $_) for qw(/closed /ttl);

    wait_for {
        my @a = $self->arms;
        my $n = () = $a[0] =~ /canary stable/g;
        $n > 0 && !grep { $_ ne $a[0] || /canary canary|stable canary/ } @a;
    } what => 'one distribution of the callers';
    $self->{want} = ($self->arms)[0];
    return $self;
}

# Which arms each caller gets, a text for each worker.

sub arms {
    my ($self) = @_;

    my %seen;
    for my $key (1 .. CALLERS) {
        for ($self->{fleet}->ask("/arms?key=caller$key")) {
            my ($node, $pid, $r) = @$_;
            push @{ $seen{ $node->number . ".$pid" } },
                $r->header('x-arms') || $r->as_text;
        }
    }

    return map { join ',', @{ $seen{$_} } } sort keys %seen;
}

# What is not as it should be, in any worker, as texts.

sub wrong {
    my ($self) = @_;

    my @wrong;
    my %want = ('/open' => 200, '/closed' => 503, '/ttl' => 503);
    for my $uri (sort keys %want) {
        push @wrong, map { "$uri of node " . $_->[0]->number . ' is '
            . $_->[2]->as_text } grep { $_->[2]->status != $want{$uri} }
            $self->{fleet}->ask($uri);
    }

    push @wrong, map { "callers: $_, not $self->{want}" }
        grep { $_ ne $self->{want} } $self->arms;
    return @wrong;
}

# A key that was not used before reaches every worker and goes again; returns
# the seconds until it was there.

sub obeys {
    my ($self, %opt) = @_;

    my ($f, $r) = @$self{qw(fleet redis)};
    my $start = time;
    $r->cmd('SET', 'gate:maintenance:probe', 'on');
    $f->converge(503, uri => '/probe', what => 'SET is obeyed', %opt);
    my $took = time - $start;
    $r->cmd('DEL', 'gate:maintenance:probe');
    $f->converge(200, uri => '/probe', what => 'DEL is obeyed', %opt);
    return $took;
}

sub agent {
    my ($self, $i) = @_;
    my $agent = $self->{rollout}[$i]->status->{agent};
    return $agent->{alive} ? $agent->{pid} : 0;
}

# Options: break, heal (code), look (seconds to look for, 0.5), reload and
# kill (0: not), recovery (seconds; 2), forgot (1: Redis holds it all again
# afterwards), broken (code to run while it is), after (code), load (0: none).

sub trial {
    my ($self, $name, %opt) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;

    Test::More::subtest($name => sub {
        my @load = exists $opt{load} && !$opt{load} ? () : $self->load;
        my $ok = eval { $self->_trial(%opt); 1 };
        Test::More::fail('the trial: ' . ($@ =~ s/\s+\z//r)) unless $ok;
        $self->check_load(@load);
    });
}

sub _trial {
    my ($self, %opt) = @_;

    $opt{break}->() if $opt{break};
    $self->look('while it lasts', defined $opt{look} ? $opt{look} : 0.5);
    $opt{broken}->() if $opt{broken};

    $self->disturb(%opt);
    $self->look('after that', 0.2);

    $opt{heal}->() if $opt{heal};
    my $limit = $opt{recovery} || RECOVERY;
    my $took = eval { $self->obeys(timeout => $limit) };
    Test::More::ok(defined $took, "obeys Redis again within $limit s")
        || Test::More::diag($@);
    Test::More::note(sprintf 'after %.3f s', $took) if defined $took;
    $self->obeys unless defined $took;

    $self->look('at the end', 0.2);
    $self->holds if $opt{forgot};
    $opt{after}->() if $opt{after};
}

# Reloads the first node and kills the agent of the last.

sub disturb {
    my ($self, %opt) = @_;

    my @nodes = $self->{fleet}->nodes;
    if (!exists $opt{reload} || $opt{reload}) {
        my $took = $nodes[0]->reload(timeout => 20);
        Test::More::cmp_ok($took, '<', 2 * scale(), 'a reload does not wait');
        Test::More::note(sprintf 'reload: %.3f s', $took);
    }

    return if exists $opt{kill} && !$opt{kill};
    my $last = $nodes[-1];
    my $pid = wait_for { $self->agent($last->number) } what => 'an agent';
    $last->kill_worker('KILL', pid => $pid);
    my $new = eval { wait_for {
        my $now = $self->agent($last->number);
        $now && $now != $pid;
    } timeout => 5, what => 'another agent' };
    Test::More::ok($new, 'the killed agent is replaced');
}

sub look {
    my ($self, $when, $seconds) = @_;

    my $end = time + $seconds;
    my (@wrong, $n);
    do {
        @wrong = $self->wrong;
        $n++;
    } while (!@wrong && time < $end && sleep 0.05);

    splice @wrong, 8;
    Test::More::is_deeply(\@wrong, [], "the state stays, $when");
}

# Redis holds what the nodes hold.  A node writes a switch as JSON, with the
# end of a TTL in it.

sub holds {
    my ($self) = @_;

    my $r = $self->{redis};
    my ($got, %want) = {};
    %want = (b => 'on', ttl => 'on for an hour', shop => '40 progressing',
        old => '0 rolled_back');

    eval {
        wait_for {
            $got = {
                (map { $_ => _switch($r, "gate:maintenance:$_") } qw(b ttl)),
                map { my $h = $r->hash("gate:canary:$_");
                    $_ => join ' ', map { defined $_ ? $_ : 'none' }
                        @$h{qw(weight state)} } qw(shop old)
            };
            !grep { $got->{$_} ne $want{$_} } keys %want;
        } timeout => 3;
    };

    Test::More::is_deeply($got, \%want, 'Redis holds all of it');
}

sub _switch {
    my ($r, $key) = @_;

    my $text = $r->cmd('GET', $key);
    return 'none' unless defined $text;
    my $value = $text =~ /^\{/ ? json($text) : { on => $text eq 'on' };
    my $left = $value->{until} ? $value->{until} - time : $r->cmd('TTL', $key);
    return ($value->{on} ? 'on' : 'off')
        . ($left > 3000 && $left <= 3600 ? ' for an hour' : '');
}

# The part of the status of node i that is about Redis.

sub link {
    my ($self, $i) = @_;
    return $self->{rollout}[$i]->status->{redis};
}

# Every node says that of its link, sooner or later; code gets it.

sub links {
    my ($self, $what, $code, %opt) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my @links;
    my $ok = eval { wait_for {
        @links = map { $self->link($_->number) } $self->{fleet}->nodes;
        @links == grep { $code->($_) } @links;
    } timeout => 5, %opt };
    Test::More::ok($ok, "$what, all nodes say")
        || Test::More::diag(map { JSON::PP->new->canonical->encode($_) . "\n" }
            @links);
}

sub away {
    my ($self) = @_;
    $self->links('Redis is away', sub { $_[0]{state} ne 'ready' });
}

# An error of that kind was counted.

sub error {
    my ($self, $kind) = @_;
    $self->links("$kind error", sub { $_[0]{errors}{$kind} });
}

# Load on every node, in three kinds.

sub load {
    my ($self) = @_;

    my %uri = ('/open' => 200, '/closed' => 503, '/shop?key=%d' => 200);
    return map {
        my $node = $_;
        map { { what => "$_ of node " . $node->number, want => $uri{$_},
            load => $self->{t}->load(port => $node->port, uri => $_,
                rate => $self->{rate}, conns => 4) } } sort keys %uri;
    } $self->{fleet}->nodes;
}

sub check_load {
    my ($self, @load) = @_;

    my ($n, @bad) = (0);
    for (@load) {
        my $result = $_->{load}->stop;
        my %errors = %{ $result->{errors} };
        my $what = $_->{what};
        push @bad, map { "$errors{$_} $_ at $what" }
            grep { $errors{$_} } sort keys %errors;
        my %status = %{ $result->{status} };
        $n += $status{ $_->{want} } || 0;
        delete $status{ $_->{want} };
        for my $s (sort keys %status) {
            push @bad, "$status{$s} times $s at $_->{what}";
        }
    }

    Test::More::is_deeply(\@bad, [], "no request failed, of $n") if @load;
    Test::More::cmp_ok($n, '>', 0, 'and there were some') if @load;
}

# Whether these nodes show that of the rollout, sooner or later.

sub shows {
    my ($self, $field, $want, @numbers) = @_;

    my %now;
    my $ok = eval { wait_for {
        %now = map { $_ => $self->rollout($_)->rollout('shop')->{$field} }
            @numbers;
        !grep { $now{$_} ne $want } @numbers;
    } timeout => 5 };
    Test::More::diag("node $_: $now{$_}") for $ok ? () : sort keys %now;
    return $ok;
}

# Nodes behind a proxy each come back in that order, the next one when the
# one before has settled.

sub back {
    my ($self, $proxies, @order) = @_;

    for my $i (@order) {
        $proxies->[$i]->listen;
        wait_for { $self->link($i)->{joined}
            && $self->link($i)->{state} eq 'ready' }
            what => "node $i to be back";
    }
}

1;
