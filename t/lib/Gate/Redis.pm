package Gate::Redis;

# A redis-server of one's own.
#
#   my $r = $t->redis;                    # started
#   $r->cmd('SET', 'gate:maintenance', 'on');
#   $r->freeze; ... $r->thaw; $r->kill; $r->start; $r->restart(empty => 1);
#
# It keeps nothing unless told to (snapshot).  The test itself talks to it
# through a unix socket, so that neither TLS nor a proxy is in its way.

use strict;
use warnings;

use Gate::Cert;
use Gate::Load;
use Gate::Port qw(free_port);
use Gate::Proc qw(alive kill_hard spawn wait_exit);
use Gate::Redis::Client;
use Gate::Util qw(slurp spew wait_for which);

# Options: dir (that of the test), port, tls (1, or a hash: client => 1 asks
# for a certificate, names => subjectAltName of the server), users (a list of
# ACL lines, "gate on >secret ~* +@all"), requirepass, maxmemory, policy,
# replicaof (another Gate::Redis), masterauth, clock (seconds that its own is
# ahead), conf (more lines), sentinel (1).

sub new {
    my ($class, %opt) = @_;

    my $self = bless { %opt, port => $opt{port} || free_port(), runs => 0 },
        $class;

    $self->{binary} = which('redis-server') || die "no redis-server\n";
    $self->{name} = ($opt{sentinel} ? 'sentinel' : 'redis') . "-$self->{port}";
    $self->{home} = "$opt{dir}/$self->{name}";
    mkdir $self->{home}, 0755 or die "$self->{home}: $!\n";
    chmod 0755, $self->{home};

    if (my $tls = $opt{tls}) {
        $tls = {} unless ref $tls;
        my $ca = Gate::Cert->new("$opt{dir}/ca");
        my ($crt, $key) = $ca->issue($tls->{names} ? $self->{name} : 'server',
            names => $tls->{names});
        my ($ccrt, $ckey) = $ca->issue('client');
        $self->{tls} = { %$tls, port => free_port(), ca => $ca->ca,
            crt => $crt, key => $key, client_crt => $ccrt,
            client_key => $ckey };
    }

    spew("$self->{home}/redis.conf", $self->_conf);
    return $self;
}

sub _conf {
    my ($self) = @_;

    my @conf = ("port $self->{port}", 'bind 127.0.0.1', 'daemonize no',
        "dir $self->{home}", "logfile $self->{home}/redis.log",
        'protected-mode no');

    if (!$self->{sentinel}) {
        push @conf, "unixsocket $self->{home}/redis.sock",
            'unixsocketperm 777', 'save ""', 'appendonly no', 'databases 16',
            'repl-diskless-sync yes', 'repl-diskless-sync-delay 0',
            'hz 100';

        # what Redis 6 does not know, and does anyway
        push @conf, 'shutdown-timeout 0', 'enable-debug-command yes'
            if $self->version >= 7;
    }

    if (my $tls = $self->{tls}) {
        push @conf, "tls-port $tls->{port}", "tls-ca-cert-file $tls->{ca}",
            "tls-cert-file $tls->{crt}", "tls-key-file $tls->{key}",
            'tls-auth-clients ' . ($tls->{client} ? 'yes' : 'no');
    }

    # channels have rights since 6.2
    for my $user (@{ $self->{users} || [] }) {
        my @rules = split ' ', $user;
        @rules = grep { !/^(?:&|(?:reset|all)channels$)/ } @rules
            if $self->version < 6.2;
        push @conf, "user @rules";
    }

    push @conf, map { "$_ $self->{$_}" } grep { defined $self->{$_} }
        qw(masterauth maxmemory requirepass);
    push @conf, "maxmemory-policy $self->{policy}" if $self->{policy};
    push @conf, 'replicaof 127.0.0.1 ' . $self->{replicaof}->port
        if $self->{replicaof};
    push @conf, $self->{conf} if defined $self->{conf};

    return join "\n", @conf, '';
}

sub start {
    my ($self) = @_;

    die "$self->{name} runs already\n" if $self->{pid} && alive($self->{pid});

    my %env;
    %env = (LD_PRELOAD => Gate::Load::build('clock.so'),
        CLOCK_SHIFT => $self->{clock}) if $self->{clock};

    unlink "$self->{home}/redis.sock";
    my $err = "$self->{home}/stderr";
    $self->{pid} = spawn($self->{name}, [$self->{binary},
        "$self->{home}/redis.conf", $self->{sentinel} ? '--sentinel' : ()],
        dir => $self->{home}, out => '/dev/null', err => $err, env => \%env);

    my $ok = eval {
        wait_for {
            die "it exited\n" unless alive($self->{pid});
            (eval { $self->cmd('PING') } || '') eq 'PONG';
        } timeout => 20, what => "$self->{name} to start";
    };
    return $self if $ok;

    my $why = $@;
    kill_hard($self->{pid});
    die "$self->{name}: $why" . slurp($err)
        . (eval { slurp("$self->{home}/redis.log") } || '');
}

# Without the last number; valkey counts on from Redis 7.2.

my %version;

sub version {
    my ($self) = @_;
    return $version{ $self->{binary} } ||= do {
        my $text = `$self->{binary} --version`;
        $text =~ /\bv=(\d+\.\d+)/ ? $1 : die "no version in '$text'\n";
    };
}

sub port { return $_[0]{port} }

sub pid { return $_[0]{pid} }

sub addr { return "127.0.0.1:$_[0]{port}" }

sub tls_port { return $_[0]{tls}{port} }

sub addr_tls { return "localhost:$_[0]{tls}{port}" }

# Paths by name: ca, crt, key, client_crt, client_key.

sub tls { my ($self, $what) = @_; return $self->{tls}{$what} }

sub path { return "$_[0]{home}/redis.sock" }

sub home { return $_[0]{home} }

sub log_text { return slurp("$_[0]{home}/redis.log") }

# Connections.  client: a new one, over TCP; cmd and its like: that of the
# test, which is made anew when the server was.

sub client {
    my ($self, %opt) = @_;
    return Gate::Redis::Client->new(port => $self->{port}, %opt);
}

sub _own {
    my ($self) = @_;

    my $c = $self->{client};
    return $c if $c && $c->is_open;

    my %opt = $self->{sentinel} ? (port => $self->{port})
                                : (path => $self->path);
    $opt{password} = $self->{requirepass} if defined $self->{requirepass};
    return $self->{client} = Gate::Redis::Client->new(%opt);
}

sub cmd { my $self = shift; return $self->_own->cmd(@_) }

sub try { my $self = shift; return $self->_own->try(@_) }

sub pipeline { my $self = shift; return $self->_own->pipeline(@_) }

# A connection that listens; call read() on it.

sub subscribe {
    my ($self, @channels) = @_;
    return $self->client(path => $self->path,
        password => $self->{requirepass})->subscribe(@channels);
}

# A list reply as a hash.

sub hash {
    my ($self, @cmd) = @_;
    return { @{ $self->cmd(@cmd > 1 ? @cmd : ('HGETALL', @cmd)) } };
}

sub info {
    my ($self, @section) = @_;
    return { $self->cmd('INFO', @section) =~ /^(\w+):(.*?)\r?$/mg };
}

sub role { return $_[0]->cmd('ROLE')->[0] }

# CONFIG SET.  A password set so outlasts a restart, and the test uses it.

sub config {
    my ($self, %set) = @_;

    for my $name (sort keys %set) {
        $self->cmd('CONFIG', 'SET', $name, $set{$name});
        next if $name ne 'requirepass';
        $self->{requirepass} = $set{$name} eq '' ? undef : $set{$name};
        spew("$self->{home}/redis.conf", $self->_conf);
    }

    return $self;
}

# The stream of events, oldest first: { id => ..., event => ..., ... } each.

sub events {
    my ($self, $key) = @_;

    my $list = $self->cmd('XRANGE', defined $key ? $key : 'gate#events',
        '-', '+');
    return map { { id => $_->[0], @{ $_->[1] } } } @$list;
}

# Processes.

sub stop { my ($self) = @_; return $self->_end('TERM') }

sub kill { my ($self) = @_; return $self->_end('KILL') }

sub _end {
    my ($self, $signal) = @_;

    my $pid = delete $self->{pid} or return $self;
    $self->{client}->close if $self->{client};

    if (alive($pid)) {
        CORE::kill $signal, $pid;
        CORE::kill 'CONT', $pid;
        kill_hard($pid) unless defined wait_exit($pid, 5);
    }

    return $self;
}

# Hung: connections are accepted by the kernel, nothing is answered.

sub freeze {
    my ($self) = @_;

    my $pid = $self->{pid};
    CORE::kill 'STOP', $pid or die "cannot stop $self->{name}: $!\n";
    wait_for { slurp("/proc/$pid/stat") =~ /^\d+ \(.*\) T/s }
        what => "$self->{name} to be stopped";
    return $self;
}

sub thaw {
    my ($self) = @_;
    CORE::kill 'CONT', $self->{pid} or die "cannot go on: $!\n";
    return $self;
}

# What the next start begins with: the data of now, or nothing.

sub snapshot { my ($self) = @_; $self->cmd('SAVE'); return $self }

sub forget {
    my ($self) = @_;
    unlink "$self->{home}/dump.rdb";
    return $self;
}

# Killed and started again, with the last snapshot, if there is one; options:
# empty (1: without), keep (1: one of now), signal.

sub restart {
    my ($self, %opt) = @_;

    $self->snapshot if $opt{keep};
    $self->_end($opt{signal} || 'KILL');
    $self->forget if $opt{empty};
    return $self->start;
}

# Waits until that many connections (of others than the test) are there.

sub wait_clients {
    my ($self, $n, %opt) = @_;
    return wait_for { $self->clients >= $n }
        what => "$n clients of $self->{name}", %opt;
}

sub clients {
    my ($self) = @_;
    return scalar grep { !/\bflags=\w*U/ } grep { /\bflags=/ && !/flags=[MS]/ }
        split /\n/, $self->cmd('CLIENT', 'LIST');
}

1;
