#!/usr/bin/perl

# The way to Redis: sockets, TLS, users and passwords, and a Redis that is
# away, hung, full or cut off when it is needed.  nginx serves all the while.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Cert;
use IO::Socket::INET;
use Socket qw(inet_aton);
use Test::More;
use Time::HiRes qw(time);

skip_unless_cmd('redis-server');

my $secret = 'hunter2-sesame';

# A node with that gate_redis, started.

sub node {
    my ($dir, $args, %opt) = @_;

    my $n = Gate->new(%opt);
    $args =~ s/%%HOME%%/$n->dir/ge;
    $opt{prepare}->($n) if $opt{prepare};
    $n->http(log => 'notice', <<"EOF_CONF");
    gate_redis $args;
    server {
        listen 127.0.0.1:%%PORT:http%%;
        location = /gate { gate_status; }
        location / { return 204; }
    }
EOF_CONF
    return $n->start;
}

sub redis { return $_[0]->get('/gate')->json->{redis} }

sub ready {
    my ($n, $what) = @_;
    my $s;
    wait_for { $s = redis($n); $s->{state} eq 'ready' }
        what => 'Redis to be ready';
    return $s;
}

sub away {
    my ($n, $kind) = @_;
    my $s;
    wait_for { $s = redis($n); $s->{state} ne 'ready'
        && (!$kind || $s->{errors}{$kind}) }
        what => 'Redis to be away' . ($kind ? " ($kind)" : '');
    return $s;
}

sub serves {
    my ($n, $what) = @_;
    is($n->get('/')->status, 204, $what || 'requests are served');
}

# the node's own connections: id to its line, as a hash

sub connections {
    my ($r) = @_;
    my %found;
    for (split /\n/, $r->cmd('CLIENT', 'LIST')) {
        my %c = map { split /=/, $_, 2 } split / /;
        $found{ $c{id} } = \%c if $c{name} eq 'nginx-gate';
    }
    return \%found;
}

sub finish {
    my ($n) = @_;
    $n->log_unlike(qr/\Q$secret\E/, 'the error log knows no password');
    $n->done;
}

my $t = Gate->new(module => 0);
my $plain = $t->redis;

subtest 'two connections, one tracked for the other' => sub {
    my $n = node($t->dir, 'redis://' . $plain->addr . '/3');
    my $s = ready($n);

    is($s->{address}, $plain->addr, 'the address in use');
    is($s->{role}, 'master', 'its role');
    is($s->{version}, $plain->info('server')->{redis_version}, 'its version');
    is($s->{tracking}, 'push', 'changes are pushed');
    cmp_ok($s->{rtt_ms}{count}, '>', 0, 'round trips are counted');

    my @c = sort { $a->{flags} cmp $b->{flags} } values %{ connections($plain) };
    is(scalar @c, 2, 'it has two connections');
    is($c[0]{flags}, 'P', 'one that listens');
    like($c[1]{flags}, qr/^tB?$/, 'one whose keys are tracked');

    if ($plain->version >= 6.2) {
        is($c[1]{flags}, 'tB', 'by prefix');
        is($c[1]{redir}, $c[0]{id}, 'for the first');
    }

    is($c[1]{db}, 3, 'in the database of the address');

    my $pushes = $s->{pushes};
    $plain->cmd('SET', 'gate:mode:limit', 'observe');
    wait_for { redis($n)->{pushes} > $pushes } what => 'a push';
    pass('a write to a control key is pushed');

    serves($n);
    $n->log_like(qr/gate: connected to Redis \S+ \(master [\d.]+\)/,
        'said once');

    # one without the other is worth nothing

    for my $victim ($c[0], $c[1]) {
        my $before = redis($n)->{reconnects};
        my ($id) = grep { connections($plain)->{$_}{flags} eq $victim->{flags} }
            keys %{ connections($plain) };
        my $other = connections($plain);
        $plain->cmd('CLIENT', 'KILL', 'ID', $id);
        wait_for { redis($n)->{reconnects} > $before
            && redis($n)->{state} eq 'ready' } what => 'a new session';
        my $now = connections($plain);
        is(scalar(grep { $now->{$_} } keys %$other), 0,
            "both are made anew when the one with flags $victim->{flags} dies");
    }

    $plain->cmd('DEL', 'gate:mode:limit');
    finish($n);
    is(scalar keys %{ connections($plain) }, 0, 'and both are closed');
};

subtest 'a unix socket' => sub {
    my $n = node($t->dir, 'unix:' . $plain->path . '?db=2');
    my $s = ready($n);
    is($s->{address}, 'unix:' . $plain->path, 'the address');
    is((grep { $_->{db} == 2 } values %{ connections($plain) }), 1, 'the database');
    finish($n);

    $n = node($t->dir, 'unix:' . $t->dir . '/none.sock');
    $s = away($n, 'connect');
    like($s->{last_error}{text}, qr/No such file/, 'no socket: why');
    serves($n);
    finish($n);
};

subtest 'a Redis that is away at first' => sub {
    my $late = $t->redis(start => 0);
    my $n = node($t->dir, 'redis://' . $late->addr);
    away($n, 'connect');
    serves($n);
    $late->start;
    ready($n);
    $n->log_like(qr/\[warn\].*gate: Redis \S+: connection: connect\(\) .*Connection refused/, 'said at warn');
    $n->log_like(qr/\[notice\].*gate: connected to Redis \S+ again/, 'and when it is there');
    my @lines = $n->log_from(0) =~ /(Connection refused)/g;
    is(scalar @lines, 1, 'one line for all attempts');

    $late->kill;
    away($n);
    serves($n);
    $late->start;
    ready($n);

    # a retired worker does not wait for a Redis that hangs

    $late->freeze;
    away($n, 'timeout');
    serves($n, 'requests are served while Redis hangs');
    cmp_ok($n->reload, '<', 3 * Gate::scale(), 'a reload while it hangs');
    serves($n);
    $late->thaw;
    ready($n);
    finish($n);
    $late->stop;
};

subtest 'the first of several hosts that is a master' => sub {
    my $master = $t->redis;
    my $replica = $t->redis(replicaof => $master);
    my $none = $t->redis(start => 0);
    wait_for { $replica->role eq 'slave' } what => 'a replica';

    my $n = node($t->dir, 'redis://' . join ',', map { $_->addr }
        $none, $replica, $master);
    my $s = ready($n);
    is($s->{address}, $master->addr, 'is used');
    ok($s->{errors}{role}, 'a replica was not believed');

    # a planned failover by hand: the old master says READONLY, or drops us

    $replica->cmd('REPLICAOF', 'NO', 'ONE');
    $master->cmd('REPLICAOF', '127.0.0.1', $replica->port);
    wait_for { my $s = redis($n); $s->{state} eq 'ready'
        && $s->{address} eq $replica->addr } timeout => 20,
        what => 'the new master';
    pass('and the next one, when it becomes a replica');
    serves($n);
    finish($n);
    $_->stop for $replica, $master;
};

# Answers questions for an A record, or not.

sub dns {
    my ($sock, @addr) = @_;

    my $pid = fork;
    die "fork: $!\n" unless defined $pid;
    return sub { kill 'KILL', $pid; waitpid $pid, 0 } if $pid;

    while (1) {
        my $from = $sock->recv(my $query, 512);
        next unless defined $from && length $query > 12;
        my ($id, $question) = (substr($query, 0, 2), substr $query, 12);
        my $a = $question =~ /\x00\x00\x01\x00\x01\z/;
        my @answers = $a ? @addr : ();
        $sock->send($id . pack('n5', @addr ? 0x8180 : 0x8183, 1,
            scalar @answers, 0, 0) . $question . join '',
            map { pack 'nnnNn a4', 0xc00c, 1, 1, 1, 4, inet_aton($_) } @answers);
    }
}

subtest 'a name' => sub {
    my $sock = IO::Socket::INET->new(Proto => 'udp', LocalPort => 0,
        LocalAddr => '127.0.0.1') or die "dns: $!\n";
    my $port = $sock->sockport;
    my $n = node($t->dir, 'redis://redis.test:' . $plain->port
        . "; resolver 127.0.0.1:$port ipv6=off valid=1s; resolver_timeout 500ms");

    my $s = away($n, 'resolve');
    like($s->{last_error}{text}, qr/redis\.test/, 'nobody answers: why');
    serves($n, 'and no request waits for that');

    my $stop = dns($sock);
    wait_for { redis($n)->{last_error}{text} =~ /Host not found/ }
        what => 'no such name';
    pass('there is no such name');
    $stop->();

    # the first of its addresses has no Redis

    $stop = dns($sock, '127.0.0.2', '127.0.0.1');
    $s = ready($n);
    is($s->{address}, $plain->addr, 'there is one, with two addresses');
    $stop->();
    finish($n);
};

subtest 'TLS' => sub {
    plan skip_all => 'nginx was built without'
        if `$t->{nginx} -V 2>&1` !~ /http_ssl_module/;

    my $r = $t->redis(tls => { client => 1 });
    my $client = 'cert=' . $r->tls('client_crt') . ' key=' . $r->tls('client_key');
    my $ca = 'ca_file=' . $r->tls('ca');
    my $addr = 'rediss://localhost:' . $r->tls_port;
    my $ip = 'rediss://127.0.0.1:' . $r->tls_port;

    for my $case ([$addr, 'by name'], [$ip, 'by address'],
        ["$ip server_name=localhost", 'by another name'])
    {
        my $n = node($t->dir, "$case->[0] $ca $client");
        is(ready($n)->{tracking}, 'push', "verified $case->[1]");
        finish($n);
    }

    my $other = Gate::Cert->new($t->dir . '/other-ca');

    for my $case (
        ["$addr $client", 'signed by nobody we trust', qr/certificate of the server is not trusted|certificate verify failed/],
        ["$addr $client ca_file=" . $other->ca, 'signed by somebody else', qr/certificate of the server is not trusted|certificate verify failed/],
        ["$addr $ca $client server_name=redis.test", 'of another name', qr/not for redis\.test/],
        ["rediss://127.0.0.2:" . $r->tls_port . " $ca $client", 'of another address', undef],
        ["$addr $ca", 'that wants one of ours, too', undef],
        ['rediss://' . $plain->addr . " $ca", 'of a server without TLS', qr/TLS handshake/],
    ) {
        my ($args, $what, $why) = @$case;
        my $n = node($t->dir, $args);
        my $s;
        wait_for { $s = redis($n); my $errors = 0;
            $errors += $_ for values %{ $s->{errors} };
            $errors > 0 } what => "an attempt with a certificate $what";
        isnt($s->{state}, 'ready', "a certificate $what is refused");
        is($s->{connects}, 0, "$what: no session");
        if ($why) {

            # "localhost" may have another address, which is refused after it
            $n->wait_log($why);
            pass("$what: why");
        }
        serves($n);
        finish($n);
    }

    $r->stop;
};

subtest 'a user and a password, corrected in its file' => sub {
    my $r = $t->redis(users => ["gate on >$secret resetkeys ~gate:* ~gate#*"
        . ' resetchannels &__redis__:invalidate +@all']);

    my $file;
    my $n = node($t->dir, 'redis://gate@' . $r->addr
        . ' password_file=%%HOME%%/password', prepare => sub {
            $file = $_[0]->write_file('password', "wrong\n");
            chmod 0600, $file;
        });
    my $s = away($n, 'auth');
    like($s->{last_error}{text}, qr/WRONGPASS/, 'a wrong password');
    serves($n);

    Gate::spew($file, "$secret\n");
    $s = ready($n);
    is($s->{tracking}, 'push', 'works as soon as it is corrected');
    ok($s->{password_live}, 'without a reload');
    like($r->cmd('CLIENT', 'LIST'), qr/name=nginx-gate .*user=gate/, 'as that user');

    # a password that changes while we are connected

    $r->cmd('ACL', 'SETUSER', 'gate', 'resetpass', '>other-' . $secret);
    $r->cmd('CLIENT', 'KILL', 'USER', 'gate');
    away($n, 'auth');
    Gate::spew($file, "other-$secret");
    ready($n);
    pass('nor does a new one need any');

    finish($n);
    $r->stop;
};

subtest 'an old password alone' => sub {
    my $r = $t->redis(requirepass => $secret);
    my $n = node($t->dir, 'redis://' . $r->addr);
    my $s = away($n, 'auth');
    like($s->{last_error}{text}, qr/NOAUTH/, 'none of ours');
    finish($n);

    $n = node($t->dir, 'redis://' . $r->addr
        . ' password_file=%%HOME%%/password', prepare => sub {
            chmod 0600, $_[0]->write_file('password', "$secret\r\n");
        });
    ready($n);
    pass('the right one');
    finish($n);
    $r->stop;
};

subtest 'an ACL that does not permit everything' => sub {
    my $base = 'gate on >p ~* ' . ($plain->version < 6.2 ? '' : '&* ')
        . '+@all';

    for my $case (
        ['-client', 'poll', 'no CLIENT'],
        ['-subscribe', 'poll', 'no SUBSCRIBE'],
        ['-client|tracking', 'poll', 'no CLIENT TRACKING'],
        ['-client|trackinginfo -client|getredir -client|setname', 'push', 'no CLIENT SETNAME'],
        ['-role', 'push', 'no ROLE'],
        ['-info', 'push', 'no INFO'],
        ['-role -info', 'push', 'neither ROLE nor INFO'],
    ) {
        my ($acl, $tracking, $what) = @$case;
        next if $acl =~ /\|/ && $plain->version < 7;
        $plain->cmd('ACL', 'SETUSER', 'gate', 'reset', split / /, "$base $acl" =~ s/^gate //r);
        my $n = node($t->dir, 'redis://gate@' . $plain->addr
            . ' password_file=%%HOME%%/password', prepare => sub {
                chmod 0600, $_[0]->write_file('password', 'p');
            });
        my $s = ready($n);
        is($s->{tracking}, $tracking, "$what: $tracking");
        is($s->{role}, $what =~ /neither/ ? 'unknown' : 'master', "$what: its role");
        is($s->{connects}, 1, "$what: the first attempt");
        $n->log_like(qr/\[notice\].*pushes no changes/, "$what: said")
            if $tracking eq 'poll';
        $n->done;
    }

    $plain->cmd('ACL', 'DELUSER', 'gate');
};

subtest 'a server that is full' => sub {
    my $r = $t->redis;
    $r->cmd('PING');
    $r->config(maxclients => 2);
    my $n = node($t->dir, 'redis://' . $r->addr);
    my $s = away($n, 'limit');
    like($s->{last_error}{text}, qr/max number of clients/, 'why');
    serves($n);
    my $at = $s->{errors}{limit};
    my $start = time;
    wait_for { redis($n)->{errors}{limit} > $at + 1 } what => 'more attempts';
    cmp_ok(time - $start, '>', 0.1, 'no storm of attempts');
    $r->config(maxclients => 100);
    ready($n);
    finish($n);
    $r->stop;
};

subtest 'answers cut in half' => sub {
    my $p = $t->proxy($plain->addr);
    my $n = node($t->dir, 'redis://' . $p->addr . ' timeout=300ms');
    ready($n);

    for my $bytes (0, 1, 3, 7, 40) {
        my $was = redis($n)->{reconnects};
        $p->cut($bytes);
        wait_for { redis($n)->{reconnects} > $was
            && redis($n)->{state} eq 'ready' } what => 'a new session';
    }

    pass('a new session each time');

    my $was = redis($n)->{reconnects};
    $p->half;
    away($n, 'timeout');
    serves($n);
    $p->pass;
    wait_for { redis($n)->{reconnects} > $was
        && redis($n)->{state} eq 'ready' } what => 'a new session';
    pass('and after half an answer and nothing more');

    $p->delay(up => 20, down => 20);
    $p->drop;
    ready($n);
    serves($n, 'over a slow line');
    finish($n);
};

$t->done;
done_testing;
