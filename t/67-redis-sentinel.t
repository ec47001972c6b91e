#!/usr/bin/perl

# Sentinels: they are asked for the master, heard when it changes, and not
# believed when the server itself says otherwise.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Test::More;
use Time::HiRes qw(time);

skip_unless_cmd('redis-server');

my $t = Gate->new;
my $secret = 'hunter2-sesame';
my $set = $t->sentinel(password => $secret, sentinel_password => "of-$secret");

sub redis { return $t->get('/gate')->json->{redis} }

sub text { return $_[0]{last_error}{text} }

sub serves { is($t->get('/')->status, 204, 'requests are served') }

sub at {
    my ($server, $what) = @_;
    my $s;
    wait_for {
        $s = redis();
        $s->{state} eq 'ready' && $s->{address} eq $server->addr;
    } timeout => 20, what => $what;
    return $s;
}

sub start {
    my ($url) = @_;
    $t->http(log => 'notice', <<"EOF_CONF");
    gate_redis redis+sentinel://$url
               password_file=password sentinel_password_file=sentinel.password;
    server {
        listen 127.0.0.1:%%PORT:http%%;
        location = /gate { gate_status; }
        location / { return 204; }
    }
EOF_CONF
    return $t->start;
}

chmod 0600, $t->write_file('password', "$secret\n"),
    $t->write_file('sentinel.password', "of-$secret\n");

# one that is not there, one that does not know the master, then the real ones

my $none = $t->redis(start => 0);
my $lost = $t->fake_redis;
$lost->on('SENTINEL', "*-1\r\n");

start(join ',', $none->addr, $lost->addr, $set->url);

my $s = at($set->master, 'the master');
is($s->{role}, 'master', 'it is one');
is($s->{tracking}, 'push', 'and pushes');
ok($s->{errors}{connect}, 'a sentinel that is away is passed over');
ok($s->{errors}{role}, 'so is one that does not know the master');
like($t->log_from(0), qr/sentinel \S+: it knows no master of that name/, 'which is said');

my $subscribed = sub {
    return grep { $_->cmd('CLIENT', 'LIST') =~ /\bsub=1\b/ }
        grep { $_->pid } $set->sentinels;
};

wait_for { $subscribed->() } what => 'a subscription';
is(scalar(my @now = $subscribed->()), 1, 'one sentinel is listened to');

subtest 'a sentinel that dies beside a session' => sub {
    my $was = redis()->{connects};
    my ($victim) = $subscribed->();
    $victim->kill;
    wait_for { $subscribed->() } what => 'another sentinel';
    is(redis()->{connects}, $was, 'another one takes its place, the session stays');
    $victim->start;
    $set->wait_agreed;
};

subtest 'a planned failover' => sub {
    my $old = $set->master;
    my $was = redis()->{connects};
    my $new = $set->failover;
    isnt($new->port, $old->port, 'there is another master');
    my $start = time;
    at($new, 'the new master');
    my $took = time - $start;
    cmp_ok($took, '<', 3 * Gate::scale(), 'it is found at once');
    note sprintf 'after %.3f s', $took;
    serves();
};

subtest 'a master that is killed' => sub {
    wait_for { $set->wait_agreed } what => 'agreement';
    my $new = $set->kill_master;
    at($new, 'the new master');
    pass('the next one is found');
    serves();
};

$t->log_unlike(qr/\Q$secret\E/, 'the error log knows no password');
is($t->stop, 0, 'nginx stops');

# a sentinel that names a replica: the replica's word counts

my $master = $set->master;
my ($replica) = grep { $_->pid && $_->port != $master->port } $set->servers;
wait_for { $replica->role eq 'slave' } what => 'a replica';

my $liar = $t->fake_redis;
my $name = sub {
    my ($port) = @_;
    return "*2\r\n\$9\r\n127.0.0.1\r\n\$" . length($port) . "\r\n$port\r\n";
};
$liar->on('SENTINEL', $name->($replica->port));
start($liar->addr . '/mymaster');

wait_for { redis()->{errors}{role} } what => 'a refusal';
isnt(redis()->{state}, 'ready', 'a replica is not believed to be the master');
like(text(redis()), qr/this is no master, but a: slave/, 'which is said');

my ($auth) = grep { uc $_->[0] eq 'AUTH' } $liar->seen;
is($auth->[1], "of-$secret", 'a sentinel gets its own password');
is(scalar(grep { grep { $_ eq $secret } @$_ } $liar->seen), 0, 'and no other');

$liar->on('SENTINEL', $name->($master->port));
at($master, 'the master');

# the announcement alone is reason enough

my $was = redis()->{connects};
$liar->push(map { "*3\r\n\$7\r\nmessage\r\n\$14\r\n+switch-master\r\n\$" . length($_)
    . "\r\n$_\r\n" } "other 127.0.0.1 1 127.0.0.1 2");
$liar->push(map { "*3\r\n\$7\r\nmessage\r\n\$14\r\n+switch-master\r\n\$" . length($_)
    . "\r\n$_\r\n" } "mymaster 127.0.0.1 1 127.0.0.1 2");
wait_for { redis()->{connects} > $was } what => 'a new session';
like(text(redis()), qr/switched to another master: 127\.0\.0\.1 2/, 'an announcement is acted on');
at($master, 'the master again');

# answers that make no sense

for my $bad ("*2\r\n\$1\r\nh\r\n\$1\r\nx\r\n", "*1\r\n\$1\r\nh\r\n", ":1\r\n",
    "*2\r\n:1\r\n:2\r\n", "*2\r\n\$1\r\nh\r\n\$5\r\n65536\r\n")
{
    my $was = redis()->{errors}{protocol} || 0;
    $liar->on('SENTINEL', $bad);
    $liar->drop if redis()->{state} eq 'ready';
    $master->cmd('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes') if redis()->{state} eq 'ready';
    wait_for { (redis()->{errors}{protocol} || 0) > $was } what => 'a protocol error';
}

pass('what makes no sense is refused');

# names without a resolver

$liar->on('SENTINEL', "*2\r\n\$9\r\nlocalhost\r\n\$4\r\n6379\r\n");
wait_for { redis()->{errors}{resolve} } what => 'a resolve error';
like(text(redis()), qr/localhost cannot be looked up, it takes \S*resolver/, 'a name takes a resolver');

$t->log_unlike(qr/\Q$secret\E/, 'the error log knows no password');
$t->done;
done_testing;
