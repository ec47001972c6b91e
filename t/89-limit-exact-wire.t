#!/usr/bin/perl

# sync=exact: the connections of workers to Redis.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Scripts;
use Test::More;
use Time::HiRes qw(sleep time);

skip_unless_cmd('redis-server');
my $t = Gate->new;
my $secret = 'horse-battery-4711';
my $file = $t->write_file('password', "$secret\n");
chmod 0600, $file or die "chmod: $!\n";

my $slow = Gate::scale() > 1 ? 10 : 5;      # s: that nothing here takes
my $HOUR = 3600;
my $number = 0;

# A node of its own: address of Redis, options: sync, workers, redis (options
# of gate_redis), limits (0: none is used).

sub node {
    my ($address, %opt) = @_;
    return $t->fleet(1, workers => $opt{workers} || 1,
        sub { conf($address, %opt) });
}

sub conf {
    my ($address, %opt) = @_;
    my $redis = $opt{redis} || '';
    my $sync = $opt{sync} || "exact timeout=${slow}s";
    my $loss = $opt{loss} || 'share';
    return <<"EOF_CONF";
    gate_redis $address $redis;
    gate_limit_zone asked key=\$arg_key rate=1r/h burst=9 sync=$sync
        on_redis_loss=$loss;

    server {
        listen 127.0.0.1:%%PORT:http%%;
        add_header X-Pid \$pid always;
        location = /gate { gate_status; }
        location = /asked { gate_limit zone=asked; empty_gif; }
    }
EOF_CONF
}

sub key { return 'k' . ++$number }

sub left { return ($_[0]->header('ratelimit') || '') =~ /r=(\d+)/ ? $1 : -1 }

# All workers get their answers from that Redis: they know what only it knows.

sub exact {
    my ($fleet, $r, $name, $seconds) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $ok = eval { wait_for {
        my $uri = '/asked?key=' . key();
        my $names = sub { @{ $r->cmd('KEYS', 'gate#limit:asked:*') } };
        $r->cmd('DEL', $_) for $names->();
        $fleet->node(0)->get($uri);
        my @names = $names->();

        @names == 1 && do {
            $r->cmd('SET', $names[0], sprintf('%d000000.000 %016d',
                $r->cmd('TIME')->[0] + 5 * $HOUR, $HOUR * 1e9));
            my @left = sort map { left($_->[2]) } $fleet->ask($uri);
            "@left" eq join(' ', sort 5 - @left .. 4);
        };
    } timeout => $seconds || 20 };
    return ok($ok, $name || 'all workers ask Redis') || diag($@);
}

sub connections { return () = $_[0]->cmd('CLIENT', 'LIST') =~ /name=nginx-gate /g }

subtest 'how many there are' => sub {
    my $r = $t->redis;
    my $address = 'redis://' . $r->addr;
    my $f = node($address, workers => 3);
    $f->start;
    exact($f, $r);
    is(connections($r), 2 + 3, 'two of the agent, and one of each worker');

    my $node = $f->node(0);
    my $change = sub {
        $node->{block} = conf($address, @_);
        $node->http(workers => 3, $node->{block});
        $node->reload;
    };

    $change->(sync => '100ms');
    ok(eval { wait_for { connections($r) == 2 } timeout => 10 },
        'a zone that does not ask has none') || diag(connections($r));
    $change->();
    exact($f, $r, 'a reload opens them');

    my ($victim) = $node->workers;
    $node->kill_worker('KILL', pid => $victim);
    exact($f, $r, 'so does a new worker');
    ok(eval { wait_for { connections($r) == 5 } timeout => 10 },
        'as many as before') || diag(connections($r));
    $f->stop;
};

subtest 'a Redis that comes later' => sub {
    my $r = $t->redis(start => 0);
    my $f = node('redis://' . $r->addr, workers => 2);
    $f->start;
    my $t0 = time;
    my @answers = map { $f->node(0)->get('/asked?key=' . key()) } 1 .. 5;
    is(join(' ', map { $_->status } @answers), '200 200 200 200 200',
        'nobody is refused without it');
    cmp_ok(time - $t0, '<', $slow, 'or waits');
    $r->start;
    exact($f, $r, 'it is asked when it is there');

    my @lines = $f->node(0)->log_from(0) =~ /\[warn\].*gate: Redis/g;
    is(scalar @lines, 1, 'of all workers\' errors one was told');
    $f->stop;
};

subtest 'TLS, a password and no more rights than needed' => sub {
    my ($rights) = Gate::slurp(Gate::root() . '/docs/fleet.md')
        =~ /^user gate on >PASSWORD (.*)$/m;
    my $r = $t->redis(tls => 1, users => ["gate on >$secret $rights"]);
    my $f = node('rediss://gate@' . $r->addr_tls, workers => 2,
        redis => "password_file=$file ca_file=" . $r->tls('ca'));
    $f->start;
    exact($f, $r);

    # Redis forgets the script, not the caller
    $r->cmd('SCRIPT', 'FLUSH');
    exact($f, $r, 'a script that Redis forgot is sent again');

    $r->cmd('ACL', 'SETUSER', 'gate', '-evalsha', '-eval');
    $f->node(0)->kill_worker('KILL', pid => $_) for $f->node(0)->workers;
    ok(eval { wait_for {
        2 == (() = $f->node(0)->log_from(0) =~ /\[info\].*NOPERM/g);
    } }, 'new workers may not ask') || diag($@);
    my $t0 = time;
    my @answers = map { $f->node(0)->get('/asked?key=' . key()) } 1 .. 10;
    is(scalar(grep { $_->status == 200 } @answers), 10, 'without the right '
        . 'to ask nobody is refused');
    cmp_ok(time - $t0, '<', $slow, 'or waits');
    $r->cmd('ACL', 'SETUSER', 'gate', '+evalsha', '+eval');
    exact($f, $r, 'it is asked as soon as it may be');
    $f->node(0)->log_unlike(qr/\Q$secret\E/, 'nobody tells the password');
    $f->stop;
};

subtest 'a single process' => sub {
    my $r = $t->redis;
    my $one = Gate->new;
    $one->http(workers => 1, main => 'master_process off;',
        conf('redis://' . $r->addr));
    $one->start;

    ok(eval { wait_for {
        $one->get('/asked?key=' . key())->status == 200
            && @{ $r->cmd('KEYS', 'gate#limit:asked:*') };
    } }, 'asks') || diag($@);
    is($one->stop, 0, 'it stops');
    $one->done;
};

subtest 'sentinels' => sub {
    my $set = $t->sentinel(replicas => 1, sentinels => 1);
    my $f = node('redis+sentinel://' . $set->url, workers => 2);
    $f->start;
    exact($f, $set->master);
    my $new;

    # not before the sentinel has heard of the replica's progress
    wait_for { $new = eval { $set->failover } } timeout => 20;
    exact($f, $new, 'the new master is asked', 30);
    $f->stop;
};

subtest 'what Redis may answer' => sub {
    my $real = $t->redis;
    my $fake = $t->fake_redis(upstream => $real);
    my $f = node('redis://' . $fake->addr);
    $f->start;
    exact($f, $real);
    my $node = $f->node(0);

    for my $answer ("-LOADING Redis is loading the dataset in memory",
        "-BUSY Redis is busy running a script.",
        "-OOM command not allowed when used memory > 'maxmemory'.",
        "-MISCONF Redis is configured to save RDB snapshots",
        "-NOPERM this user has no permissions",
        "-READONLY You can't write against a read only replica.",
        "-ERR whatever", "+OK", ":1", "\$-1", "*0", "*1\r\n:1",
        "*4\r\n:1\r\n:0\r\n:5\r\n", "*4\r\n:1\r\n:0\r\n\$1\r\nx\r\n:1",
        "*4\r\n:7\r\n:9\r\n:-5\r\n:-1",
        "*4\r\n:1\r\n:0\r\n:9223372036854775807\r\n:9223372036854775807")
    {
        my ($pid) = $node->workers;
        exact($f, $real, 'Redis is asked') or last;
        $fake->on('EVALSHA', "$answer\r\n");
        my $t0 = time;
        my $got = $node->get('/asked?key=' . key());
        $fake->off;
        (my $name = $answer) =~ s/\r\n/ /g;
        like($got->status, qr/^(?:200|429)$/, "$name: it is decided");
        cmp_ok(time - $t0, '<', $slow, 'in time');
        is(($node->workers)[0], $pid, 'the worker lives');
    }

    $f->stop;
};

# The batches of the agent are refused, and questions are not answered.

subtest 'who is admitted without being counted' => sub {
    my $real = $t->redis;
    my $fake = $t->fake_redis(upstream => $real);
    my $sha1 = Gate::Scripts->new($real)->{sha1};
    my $f = node('redis://' . $fake->addr, loss => 'allow',
        sync => 'exact timeout=200ms');
    $f->start;
    exact($f, $real);

    my $node = $f->node(0);
    my $online = sub { $node->get('/gate')->json->{limits}{asked}{sync}
        {online} };

    for my $lost (0, 1) {
        my $uri = '/asked?key=' . key();
        exact($f, $real);
        $real->cmd('DEL', $_) for @{ $real->cmd('KEYS', 'gate#limit:*') };
        $node->get($uri);
        my ($name) = @{ $real->cmd('KEYS', 'gate#limit:*') };
        my $hours = sub {
            sprintf '%.0f', (substr($real->cmd('GET', $name), 0, 10)
                - $real->cmd('TIME')->[0]) / $HOUR;
        };

        # a batch, so that there is one to be refused
        $fake->on('EVALSHA ' . uc $sha1->{limit}, "-OOM no\r\n");
        $fake->on('EVALSHA ' . uc $sha1->{take}, [wait => 0.5], ['real']);
        $node->get('/asked?key=' . key());
        ok(eval { wait_for { !$online->() } }, 'batches are refused')
            || diag($@);

        $real->cmd('SET', $name, sprintf('%d000000.000 %016d',
            $real->cmd('TIME')->[0] + 5 * $HOUR, $HOUR * 1e9));
        $fake->on('EVALSHA ' . uc $sha1->{take}, $lost ? ['reset']
            : ([wait => 0.5], ['real']));
        is($node->get($uri)->status, 200, 'it is admitted');
        ok(eval { wait_for { $hours->() == 6 } }, 'Redis counts it, late')
            unless $lost;
        $fake->off;
        ok(eval { wait_for { $online->() } }, 'batches are taken again')
            || diag($@);
        my $want = $lost ? 5 : 6;
        ok(!eval { wait_for { $hours->() != $want } timeout => 1 },
            'and it stays like that') || diag($hours->());
    }

    $f->stop;
};

$t->done;
done_testing;
