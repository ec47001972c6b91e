#!/usr/bin/perl

# sync=exact when Redis is late, gone or refuses: no request fails or waits
# for longer than it may, and nothing is counted twice.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Test::More;
use Time::HiRes qw(sleep time);

skip_unless_cmd('redis-server');
my $t = Gate->new;
my $r = $t->redis;
my $p = $t->proxy($r->addr);

my $HOUR = 3600;
my $slower = Gate::scale() > 1 ? 3 : 1;
my $timeout = 150 * $slower;    # ms
my $late = 250 * $slower;       # ms, each way
my $slow = Gate::scale() > 1 ? 10 : 5;      # s: that nothing here takes

my $zones = join "\n    ", map {
    "gate_limit_zone $_->[0] key=\$arg_key rate=1r/h burst=9 sync=exact "
    . "timeout=$_->[1];"
} ['hasty', "${timeout}ms"], ['patient', "${slow}s"];

$zones .= "\n    gate_limit_zone one key=\$arg_key rate=1r/h burst=0 sync=100ms;";

my $fleet = $t->fleet(1, workers => 1, <<"EOF_CONF");
    gate_redis redis://@{[ $p->addr ]} timeout=@{[ 2 * $slow ]}s;
    $zones

    server {
        listen 127.0.0.1:%%PORT:http%%;
        add_header X-Limit \$gate_limit_status always;
        location = /gate { gate_status; }
        location = /hasty { gate_limit zone=hasty; empty_gif; }
        location = /mixed {
            gate_limit zone=patient;
            gate_limit zone=one;
            empty_gif;
        }
        location = /patient { gate_limit zone=patient; empty_gif; }
    }
EOF_CONF

my $node = $fleet->node(0);
my $number = 0;

sub key { return 'k' . ++$number }

sub hasty { return $node->get("/hasty?key=$_[0]") }

sub patient { return $node->get("/patient?key=$_[0]") }

sub statuses { return join ' ', map { $_->status } @_ }

sub timeouts { return exact_count('timeouts') }

sub exact_count {
    my $all = $node->get('/gate')->json->{limits};
    my $sum = 0;
    $sum += $all->{$_}{exact}{ $_[0] } for keys %$all;
    return $sum;
}

sub left { return ($_[0]->header('ratelimit') || '') =~ /r=(\d+)/ ? $1 : -1 }

# The one budget of a zone that Redis has: its name, hours of debt.

sub name {
    my ($zone) = @_;
    my @names = @{ $r->cmd('KEYS', "gate#limit:$zone:*") };
    return @names == 1 ? $names[0] : '';
}

sub hours {
    my ($name) = @_;
    my ($us) = ($r->cmd('GET', $name) || '0') =~ /^(\d+)/;
    my $debt = $us / 1e6 - $r->cmd('TIME')->[0];
    return $debt > 0 ? sprintf '%.0f', $debt / $HOUR : 0;
}

sub owes {
    my ($name, $hours) = @_;
    $r->cmd('SET', $name, sprintf('%d000000.000 %016d',
        $r->cmd('TIME')->[0] + $hours * $HOUR, $HOUR * 1e9));
}

sub forget {
    my ($zone) = @_;
    $r->cmd('DEL', $_) for @{ $r->cmd('KEYS', "gate#limit:$zone:*") };
}

# A key that Redis knows of, and nothing else.

sub fresh {
    forget('hasty');
    my $key = key();
    hasty($key);
    my $name = name('hasty') || die "no key\n";
    owes($name, 0);
    return ($key, $name);
}

# Redis has so many hours, and nothing comes after it.

sub settles {
    my ($redis, $want, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($since, $got) = (0, '');
    my $ok = eval { wait_for {
        my $last = $got;
        $since = time if ($got = hours($redis)) ne $last;
        $got == $want && time - $since > 0.6;
    } timeout => 8 };
    ok($ok, $name) || diag("$got hours, not $want");
}

# Redis is asked: what comes back is what only Redis knows.

sub exact {
    my ($timeout, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $ok = eval { wait_for {
        my $key = key();
        forget('patient');
        patient($key);
        my $name = name('patient');
        $name && do { owes($name, 7); left(patient($key)) == 2 };
    } timeout => $timeout || 20 };
    ok($ok, $name || 'Redis is asked again') || diag($@);
}

# How many of n requests asked Redis, which all are to be admitted.

sub waits {
    my ($n) = @_;
    my $was = exact_count('asked');
    my %status = map { $_ => 1 } map { hasty(key())->status } 1 .. $n;
    return join ' ', exact_count('asked') - $was, keys %status;
}

$fleet->start;
exact(20, 'Redis is asked');

subtest 'a late answer, admitted by both' => sub {
    my ($key, $name) = fresh();

    my $was = timeouts();
    $p->delay($late);
    my $t0 = time;
    my $answer = hasty($key);
    is($answer->status, 200, 'is decided without it');
    cmp_ok(time - $t0, '>', 0.9 * $timeout / 1000, 'after the timeout');
    is(timeouts() - $was, 1, 'which is counted');

    settles($name, 1, 'Redis counts it once');
    $p->pass;
    exact();
    is(left(hasty($key)), 8, 'and so does the node');
};

subtest 'a late answer, admitted by Redis alone' => sub {
    my ($key, $name) = fresh();
    owes($name, 10);
    is(hasty($key)->status, 429, 'the node knows of a debt');
    owes($name, 2);

    $p->delay($late);
    is(hasty($key)->status, 429, 'which Redis has forgiven');
    settles($name, 2, 'Redis gets it back');
    $p->pass;
    exact();
    is(left(hasty($key)), 7, 'the node has it from Redis');
};

subtest 'a late answer, admitted here alone' => sub {
    my ($key, $name) = fresh();
    is(left(hasty($key)), 9, 'the node knows of none');
    owes($name, 10);

    $p->delay($late);
    is(hasty($key)->status, 200, 'of a debt that Redis knows of');
    settles($name, 11, 'Redis counts what was admitted');
    $p->pass;
    exact();
    is(hasty($key)->status, 429, 'the node too');
};

subtest 'a late answer, refused by both' => sub {
    my ($key, $name) = fresh();
    owes($name, 10);
    is(hasty($key)->status, 429, 'the node knows of a debt');

    $p->delay($late);
    is(hasty($key)->status, 429, 'it still is there');
    settles($name, 10, 'nothing is counted');
    $p->pass;
    exact();
};

subtest 'an answer that never comes' => sub {
    my ($key, $name) = fresh();

    # Redis carries it out, and the line is cut within the answer
    my $was = timeouts();
    $p->cut(3, 2);
    is(hasty($key)->status, 200, 'is decided without it');
    is(timeouts() - $was, 1, 'which is counted');
    $p->pass;
    settles($name, 1, 'Redis counts it once');
    exact();
    is(left(hasty($key)), 8, 'the node as well');
};

subtest 'clients that leave' => sub {
    forget('patient');
    my @keys = map { key() } 1 .. 8;
    my %name;

    for my $key (@keys) {
        my %before = map { $_ => 1 } @{ $r->cmd('KEYS', '*:patient:*') };
        patient($key);
        ($name{$key}) = grep { !$before{$_} }
            @{ $r->cmd('KEYS', '*:patient:*') };
    }

    owes($name{$keys[$_]}, $_) for 0 .. 7;
    $p->delay($late);
    my @conns = map { my $c = $node->conn;
        $c->send('GET', "/patient?key=$_"); $c } @keys;
    $conns[$_]->reset for 0, 2, 5;
    is(join(' ', map { left($conns[$_]->recv) } 1, 3, 4, 6, 7), '8 6 5 3 2',
        'do not change whose answer is whose');
    $p->pass;
    is(join(' ', map { hours($name{$_}) } @keys), '1 2 3 4 5 6 7 8',
        'they were admitted');
    is(left(patient($keys[2])), 6, 'and the next answers fit as well');
};

subtest 'a limit that is spent while requests wait' => sub {
    forget('patient');
    my $key = key();
    $p->delay($late);
    my @conns = map { my $c = $node->conn;
        $c->send('GET', "/mixed?key=$key"); $c } 1 .. 4;
    is(join(' ', sort map { $_->recv->status } @conns), '200 429 429 429',
        'one of four gets the last of it');
    $p->pass;
    settles(name('patient'), 1, 'what Redis gave the others it gets back');
    is(left(patient($key)), 8, 'which the node knows');
};

subtest 'reload while requests wait' => sub {
    my @keys = map { key() } 1 .. 4;
    $p->delay($late);
    my ($old) = $node->workers;
    my @conns = map { my $c = $node->conn;
        $c->send('GET', "/patient?key=$_"); $c } @keys;
    $node->reload(wait => 0);
    my @answers = map { $_->recv } @conns;
    is(statuses(@answers), '200 200 200 200', 'they are answered');
    is(join(' ', map { left($_) } @answers), '9 9 9 9', 'by Redis');
    $p->pass;
    ok(eval { wait_for { !grep { $_ == $old } $node->workers(all => 1) }
        timeout => 10 }, 'nothing keeps the old worker') || diag($@);
    exact();
};

subtest 'a Redis that is too slow' => sub {
    $p->delay($late);
    like(waits(12), qr/^[34] 200$/, 'three requests wait, and then none '
        . 'for a second');
    $node->log_like(qr/limits are decided without Redis.*in time/,
        'which is said');
    $p->pass;
    my $t0 = time;
    exact(20, 'Redis is asked again when it is faster');
    cmp_ok(time - $t0, '<', 3 * Gate::scale(), 'soon');
};

subtest 'a Redis that hangs' => sub {
    my @workers = $node->workers;
    my $load = $node->load(port => $node->port, uri => '/hasty?key=h%d',
        rate => 200, duration => 3, conns => 20, timeout => 1000 * $slow,
        log => 1);
    sleep 0.5;
    $r->freeze;
    my $result = $load->result;
    my @log = $load->log;
    $r->thaw;
    is_deeply([keys %{ $result->{status} }], [200], 'no request fails')
        || diag(explain($result));
    my $waited = grep { $_->{end} - $_->{start} > 900 * $timeout } @log;
    cmp_ok($waited, '<', 0.35 * @log, 'few of them wait');
    note("$waited of " . @log . ' waited');
    is_deeply([$node->workers], \@workers, 'the worker is alive');
    exact(30);
};

subtest 'more questions than Redis can be asked' => sub {
    my $was = exact_count('asked');
    $r->freeze;
    my $load = $node->load(port => $node->port, uri => '/patient?key=m%d',
        rate => 5000, duration => 0.26, conns => 1300,
        timeout => 1000 * $slow, log => 1);
    my $ok = eval { wait_for { exact_count('asked') - $was > 1000 } };
    sleep 0.2;
    $r->thaw;
    my $result = $load->result;
    is_deeply([keys %{ $result->{status} }], [200], 'no request fails')
        || diag(explain($result));
    my $asked = exact_count('asked') - $was;
    ok($asked > 1000 && $asked <= 1024, 'about a thousand wait')
        || diag("$asked of $result->{sent}");
    cmp_ok($result->{sent}, '>', 1200, 'all others do not');
    exact();
};

subtest 'a Redis that is killed' => sub {
    my $load = $node->load(port => $node->port, uri => '/hasty?key=g%d',
        rate => 200, duration => 2, conns => 20, timeout => 1000 * $slow);
    sleep 0.3;
    $r->kill;
    my $result = $load->result;
    is_deeply([keys %{ $result->{status} }], [200], 'no request fails')
        || diag(explain($result));
    is(waits(10), '0 200', 'nobody waits for it');
    $r->start;
    exact(30);
};

subtest 'the end while requests wait' => sub {
    my $was = exact_count('asked');
    $r->freeze;
    my @conns = map { my $c = $node->conn;
        $c->send('GET', '/patient?key=' . key()); $c } 1 .. 5;
    wait_for { exact_count('asked') - $was >= 5 };
    my $t0 = time;
    is($node->stop('TERM'), 0, 'nginx stops');
    cmp_ok(time - $t0, '<', $slow, 'at once');
    $r->thaw;
};

$fleet->stop;
$t->done;
done_testing;
