#!/usr/bin/perl

# What the tests of the fleet rely on: a real Redis and its accidents, the
# proxy before it, the server that lies, several nginx nodes.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Proc qw(running);
use Gate::Redis;
use Gate::Redis::Client;
use Gate::Redis::Resp qw(command is_error reply take);
use Test::More;
use Time::HiRes qw(time);

skip_unless_cmd('redis-server');
my $t = Gate->new(module => 0);

sub client { return Gate::Redis::Client->new(@_) }

sub fails { my ($code) = @_; return eval { $code->(); 1 } ? 'no' : $@ }

subtest 'replies are taken apart byte by byte' => sub {
    my $wire = "+OK\r\n-ERR no\r\n:-7\r\n\$-1\r\n\$4\r\na\r\nb\r\n"
        . "*2\r\n*1\r\n:1\r\n*0\r\n";
    my ($in, @got) = '';
    for my $byte (split //, $wire) {
        $in .= $byte;
        my ($ok, $value) = take(\$in);
        push @got, $value if $ok;
    }

    ok(is_error($got[1]), 'an error is one');
    is("$got[1]", 'ERR no', 'and prints as its text');
    is_deeply([@got[0, 2 .. 5]], ['OK', -7, undef, "a\r\nb", [[1], []]],
        'all else as it was meant');
    is($in, '', 'nothing is left');

    $in = reply([1, 'x', undef, ['y'], \"+OK\r\n"]);
    is_deeply([take(\$in)], [1, [1, 'x', undef, ['y'], 'OK']], 'and back');
    $in = "%1\r\n";
    like(fails(sub { take(\$in) }), qr/not a reply/, 'nonsense');
};

my $r = $t->redis;

subtest 'a redis that is asked' => sub {
    is($r->cmd('SET', 'k', "a\0\r\n\xff"), 'OK', 'SET');
    is($r->cmd('GET', 'k'), "a\0\r\n\xff", 'any bytes');
    like(fails(sub { $r->cmd('LPUSH', 'k', 1) }), qr/^redis: LPUSH: WRONGTYPE/,
        'cmd dies at an error');
    like($r->try('LPUSH', 'k', 1), qr/^WRONGTYPE/, 'try returns it');
    is_deeply([map { "$_" } $r->pipeline(['INCR', 'n'], ['INCR', 'k'],
        ['INCR', 'n'])], [1, 'ERR value is not an integer or out of range', 2],
        'pipeline');
    $r->cmd('HSET', 'h', a => 1, b => 2);
    is_deeply($r->hash('h'), { a => 1, b => 2 }, 'hash');
    is($r->role, 'master', 'role');
    is($r->info('server')->{tcp_port}, $r->port, 'info');
    $r->cmd('XADD', 'gate#events', '1-1', event => 'on', node => 'n');
    is_deeply([$r->events], [{ id => '1-1', event => 'on', node => 'n' }],
        'events');

    my $sub = $r->subscribe('c');
    $r->cmd('PUBLISH', 'c', 'hello');
    is_deeply($sub->read, ['message', 'c', 'hello'], 'subscribe');
    is($sub->read(timeout => 0.05, or_undef => 1), undef, 'no more');

    my $clients = $r->clients;
    my $c = client(port => $r->port);
    $r->wait_clients($clients + 1);
    is($r->clients, $clients + 1, 'the test itself is not counted');
    $c->close;
};

subtest 'a redis that is killed, hung, forgetful' => sub {
    my $c = client(port => $r->port, timeout => 0.2);
    $r->freeze;
    like(fails(sub { $c->cmd('PING') }), qr/no read/, 'frozen: no answer');
    $r->thaw;
    is($r->cmd('PING'), 'PONG', 'thawed');

    $c = client(port => $r->port);
    my $pid = $r->pid;
    $r->kill;
    ok(!running($pid), 'killed');
    ok(!$c->is_open, 'connections are closed');
    like(fails(sub { client(port => $r->port) }), qr/refused/, 'refused');

    $r->start;
    is($r->cmd('DBSIZE'), 0, 'empty after that');
    $r->cmd('SET', 'k', 1);
    $r->snapshot->cmd('SET', 'k', 2);
    is($r->restart->cmd('GET', 'k'), 1, 'a stale snapshot');
    $r->cmd('SET', 'k', 3);
    is($r->restart(keep => 1)->cmd('GET', 'k'), 3, 'everything kept');
    is($r->restart(empty => 1)->cmd('GET', 'k'), undef, 'emptied');

    $pid = $r->freeze->pid;
    $r->stop;
    ok(!running($pid), 'a frozen one stops, too');
    $r->start;
};

subtest 'passwords, users, limits' => sub {
    my $p = $t->redis(requirepass => 'secret', maxmemory => '3mb',
        policy => 'noeviction', users => ['gate on >pw ~gate* +@all -client']);

    my $c = client(port => $p->port);
    like($c->try('GET', 'k'), qr/^NOAUTH/, 'NOAUTH');
    like($c->try('AUTH', 'wrong'), qr/^WRONGPASS/, 'WRONGPASS');
    is($c->cmd('AUTH', 'secret'), 'OK', 'AUTH');
    is($p->cmd('SET', 'k', 1), 'OK', 'the test is let in');

    $c = client(port => $p->port, user => 'gate', password => 'pw');
    is($c->cmd('SET', 'gate:x', 1), 'OK', 'a user');
    like($c->try('CLIENT', 'ID'), qr/^NOPERM/, 'with less rights');

    my $error = '';
    for (1 .. 100) {
        $error = $p->try('SET', "k$_", 'x' x 100_000);
        last if is_error($error);
    }
    like($error, qr/^OOM/, 'OOM');

    $p->config(requirepass => 'new');
    is($p->restart->cmd('PING'), 'PONG', 'a restart after CONFIG SET')
        || diag($p->log_text);
};

subtest 'TLS' => sub {
    plan(skip_all => 'no IO::Socket::SSL')
        unless eval { require IO::Socket::SSL; 1 };

    my $s = $t->redis(tls => { client => 1 });
    my %ssl = (SSL_ca_file => $s->tls('ca'), SSL_verify_mode => 1,
        SSL_verifycn_name => 'localhost', SSL_verifycn_scheme => 'http');
    my %cert = (SSL_cert_file => $s->tls('client_crt'),
        SSL_key_file => $s->tls('client_key'));

    is(client(port => $s->tls_port, tls => { %ssl, %cert })->cmd('PING'),
        'PONG', 'verified both ways');
    like(fails(sub { client(port => $s->tls_port, tls => \%ssl)
        ->cmd('PING') }), qr/redis: /, 'not without a certificate');

    my $other = $t->redis(tls => { names => 'DNS:other.test' });
    like(fails(sub { client(port => $other->tls_port,
        tls => \%ssl) }), qr/name|verif/, 'another name is refused');
};

subtest 'a clock that is an hour ahead' => sub {
    my $ahead = $t->redis(clock => 3600);
    my $off = $ahead->cmd('TIME')->[0] - time;
    cmp_ok(abs($off - 3600), '<', 60, 'TIME');
};

subtest 'a proxy with changing manners' => sub {
    my $p = $t->proxy($r->addr);
    my $c = client(port => $p->port);
    is($c->cmd('PING'), 'PONG', 'pass');
    is_deeply($p->stats, { connections => 1, open => 1,
        up => length command('PING'), down => 7 }, 'and count');

    $p->delay(150);
    my $start = time;
    is($c->cmd('PING'), 'PONG', 'delay');
    cmp_ok(time - $start, '>=', 0.29, 'both ways');
    $p->pass;
    $start = time;
    is($c->cmd('PING'), 'PONG', 'pass again');
    cmp_ok(time - $start, '<', 2, 'at once');

    $p->cut(3);
    $c->send('PING');
    like(fails(sub { $c->read }), qr/reset|closed/, 'cut: reset');
    is($c->{in}, '', 'the connection is gone');
    $c = client(port => $p->port);
    is($c->cmd('PING'), 'PONG', 'only once');

    $p->half;
    my $h = client(port => $p->port, timeout => 0.2);
    like(fails(sub { $h->cmd('PING') }), qr/no read/, 'half, then nothing');

    $p->blackhole;
    my $b = client(port => $p->port, timeout => 0.2);
    like(fails(sub { $b->cmd('PING') }), qr/no read/, 'blackhole');

    $p->pass;
    $c = client(port => $p->port);
    is($c->cmd('PING'), 'PONG', 'new connections pass');
    cmp_ok($p->drop, '>=', 1, 'drop');
    ok(!$c->is_open, 'is noticed');

    $c = client(port => $p->port);
    $p->refuse;
    ok(!$c->is_open, 'refuse drops');
    like(fails(sub { client(port => $p->port) }), qr/refused/, 'and refuses');
    $p->listen;
    is(client(port => $p->port)->cmd('PING'), 'PONG', 'listen');

    my $other = $t->redis;
    $other->cmd('SET', 'who', 'other');
    $p->target($other->path);
    is(client(port => $p->port)->cmd('GET', 'who'), 'other', 'target');

    $other->cmd('SET', 'big', 'x' x 5_000_000);
    is(length client(port => $p->port)->cmd('GET', 'big'), 5_000_000, 'a lot');
};

subtest 'a server that lies' => sub {
    my $f = $t->fake_redis;
    my $c = client(port => $f->port);
    is($c->cmd('PING'), 'PONG', 'plausible');
    is_deeply($c->cmd('ROLE'), ['master', 0, []], 'a master');

    $f->on('GET', "\$2147483647\r\nx");
    my $huge = client(port => $f->port, timeout => 0.2);
    like(fails(sub { $huge->cmd('GET', 'k') }), qr/no read/, 'never complete');
    $f->off('GET');
    $f->next('GET', "-READONLY no\r\n");
    like($c->try('GET', 'k'), qr/^READONLY/, 'once');
    is($c->cmd('GET', 'k'), undef, 'then as usual');

    $f->on('CLIENT TRACKING', "-ERR unknown\r\n");
    like($c->try('CLIENT', 'TRACKING', 'ON'), qr/unknown/, 'two words');
    is($c->cmd('CLIENT', 'SETNAME', 'x'), 'OK', 'not the others');

    $f->next('PING', [drip => "+SLOW\r\n", 10], [wait => 0.05]);
    my $start = time;
    is($c->cmd('PING'), 'SLOW', 'byte by byte');
    cmp_ok(time - $start, '>=', 0.05, 'with pauses');

    $f->next('PING', [endless => "+x\r\n" x 100]);
    is($c->cmd('PING'), 'x', 'endless');
    is($c->read, 'x', 'and so on') for 1 .. 3;
    $c->read for 1 .. 1000;
    $c->close;

    $c = client(port => $f->port);
    $f->next('PING', "+ONE\r\n+TWO\r\n");
    is($c->cmd('PING'), 'ONE', 'an answer');
    is($c->cmd('PING'), 'TWO', 'and one that nobody asked for');
    $f->next('PING', ['close']);
    like(fails(sub { $c->cmd('PING'); $c->cmd('PING') }), qr/closed|reset/,
        'close');

    $f->on('*connect', "-ERR max number of clients reached\r\n", ['close']);
    $c = client(port => $f->port);
    like($c->read, qr/max number/, 'at connect');
    ok(!$c->is_open || fails(sub { $c->read }), 'and closed');
    $f->off;

    $c = client(port => $f->port)->subscribe('c');
    is($f->push(">1\r\n+x\r\n"), 1, 'a push');
    like(fails(sub { $c->read }), qr/not a reply: >1/, 'of RESP3');
    is_deeply((grep { $_->[0] eq 'SUBSCRIBE' } $f->seen)[0],
        ['SUBSCRIBE', 'c'], 'commands are kept');
};

subtest 'a server that lies now and then' => sub {
    my $f = $t->fake_redis(upstream => $r);
    my $c = client(port => $f->port);
    $f->on('INCR', "-OOM no\r\n");
    is_deeply([map { "$_" } $c->pipeline(['SET', 'n', 5], ['INCR', 'n'],
        ['GET', 'n'], ['INCR', 'n'], ['PING'])],
        ['OK', 'OOM no', 5, 'OOM no', 'PONG'], 'in order');
    is($r->cmd('GET', 'n'), 5, 'by the real one');
    $f->next('DEL', ['real'], [drip => "+more\r\n"]);
    is($c->cmd('DEL', 'n'), 1, 'the real answer');
    is($c->read, 'more', 'and what follows it');

    my $sub = client(port => $f->port)->subscribe('c1', 'c2');
    $r->cmd('PUBLISH', 'c2', 'hello');
    is_deeply($sub->read, ['message', 'c2', 'hello'], 'messages pass');
};

subtest 'several nodes are asked, worker by worker' => sub {
    my $key = 'gate:maintenance';
    my $path = $r->path;
    my $redis;
    my $b = $t->backend(sub {
        $redis ||= Gate::Redis::Client->new(path => $path);
        return ('status', $redis->cmd('EXISTS', $key) ? 503 : 200);
    });

    my $f = $t->fleet(2, module => 0, workers => 2, sub {
        my ($node, $i) = @_;
        return <<"EOF_CONF";
    server {
        listen 127.0.0.1:%%PORT:http%%;
        location / { proxy_pass http://@{[ $b->addr ]}; }
        location /node { return 200 "%%NODE%% $i"; }
    }
EOF_CONF
    });
    $f->start;

    is_deeply([$f->each(sub { $_[0]->get('/node')->body })],
        ['0 0', '1 1'], 'a configuration for each');

    my @answers = $f->ask('/');
    is(@answers, 4, 'four workers');
    is_deeply([map { $_->[1] } @answers],
        [map { $_->workers } $f->nodes], 'each of them');
    is_deeply([map { $_->[2]->header('x-pid') } @answers],
        [map { $_->[1] } @answers], 'answers for itself');

    $r->cmd('SET', $key, 'on');
    my $took = $f->converge(503);
    cmp_ok($took, '<', 5, 'all say 503');
    is_deeply([$f->watch(503, 0.1)], [], 'and stay with it');
    $r->cmd('DEL', $key);
    $f->converge(sub { $_[0]->status == 200 });
    like(fails(sub { $f->converge(503, timeout => 0.05) }),
        qr/node 1 pid \d+: 200/, 'who did not is told');

    my $old = ($f->ask('/'))[0][1];
    $f->node(0)->reload;
    isnt(($f->ask('/'))[0][1], $old, 'workers that went are replaced');
    $f->reload;
    is($f->ask('/'), 4, 'also all at once');

    my $p = $f->probe(redis => $r, toggles => 20, pause => 5);
    is_deeply([@$p{qw(n workers timeouts flaps strange)}], [20, 4, 0, 0, 0],
        'toggles are measured');
    cmp_ok($p->{p50}, '>', 0, 'in us');
    cmp_ok($p->{p50}, '<=', $p->{max}, 'sorted');
    note "p50 $p->{p50} us, p99 $p->{p99} us, max $p->{max} us, "
        . "$p->{answers} answers";

    $p = $f->probe(redis => $r, toggles => 2, key => 'other', timeout => 100);
    is_deeply([@$p{qw(n timeouts)}], [2, 1], 'what does not come is told');
};

subtest 'sentinels' => sub {
    my $s = $t->sentinel(password => 'pw', sentinel_password => 'spw');
    is($s->servers, 3, 'three servers');
    my $one = $s->master;
    is($one->role, 'master', 'a master');
    is($one->info('replication')->{connected_slaves}, 2, 'two replicas');

    $one->cmd('SET', 'k', 1);
    my $two = $s->failover;
    isnt($two->port, $one->port, 'a planned failover');
    is($s->master->port, $two->port, 'all know');
    like($s->url, qr{^127.0.0.1:\d+,127.0.0.1:\d+,127.0.0.1:\d+/mymaster$},
        'url');

    $s->wait_agreed;
    my $start = time;
    my $three = $s->kill_master;
    note sprintf 'after a kill: %.1f s', time - $start;
    isnt($three->port, $two->port, 'one that is not');
    is($three->cmd('GET', 'k'), 1, 'with the data');
};

my @pids = map { $_->pid || () } $r,
    grep { $_->isa('Gate::Child') } @{ $t->{stops} };
$t->done;
is(scalar(grep { running($_) } @pids), 0, 'none of it stays behind');
done_testing;
