#!/usr/bin/perl

# A server that gives the answers no good Redis gives: nginx-gate bounds what
# it reads, follows nobody to an address that is not configured, and shows no
# password.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::One;
use Test::More;
use Time::HiRes qw(time);

skip_unless_cmd('redis-server');

my $secret = 'hunter2-sesame';

my $t = Gate->new;
my $real = $t->redis;
my $other = $t->redis;
my $fake = $t->fake_redis(upstream => $real);
Gate::One->watch($t, $fake);

chmod 0600, $t->write_file('password', "$secret\n");

$t->http(conf('redis://' . $fake->addr));
$t->start;
ready();

subtest 'answers that are no RESP, or too much of it' => sub {
    for my $case (
        ['*', ["\$2147483647\r\n", [endless => 'x' x 65536]], 'protocol', 'a string of 2 GB that comes'],
        ['*', ["*1\r\n" x 100000], 'protocol', '100,000 arrays in each other'],
        ['*', [":99999999999999999999\r\n"], 'protocol', 'a number out of range'],
        ['*', ["HTTP/1.1 400 Bad Request\r\n\r\n"], 'protocol', 'HTTP'],
        ['*', ["%1\r\n+a\r\n+b\r\n"], 'protocol', 'a map of RESP3'],
        ['*', ["+OK\r\n+OK\r\n"], 'protocol', 'two answers for one'],
        ['*', [[endless => "+OK\n" x 16384]], 'protocol', 'a line that never ends'],
        ['*', [['hang']], 'timeout', 'no answer'],
        ['*', [['reset']], 'connect', 'a reset'],
        ['*connect', [[endless => "+OK\r\n"]], 'protocol', 'answers before questions'],
        ['ROLE', [":1\r\n"], 'protocol', 'a role that is a number'],
        ['CLIENT ID', ["+OK\r\n"], 'protocol', 'an id that is no number'],
    ) {
        my ($name, $steps, $kind, $what) = @$case;
        isnt(fails($kind, $name, @$steps)->{state}, 'ready', "$what: $kind");
    }

    # byte by byte is slow, but right

    $fake->off;
    $fake->on('ROLE', [drip => "*3\r\n\$6\r\nmaster\r\n:0\r\n*0\r\n", 2]);
    is(ready()->{role}, 'master', 'an answer byte by byte');
    $fake->off;
    serves();
};

subtest 'nobody leads us astray' => sub {
    my $was = $other->info('stats')->{total_connections_received};
    my $before = redis()->{errors}{cluster} || 0;
    $fake->next('EVALSHA', '-MOVED 1 ' . $other->addr . "\r\n");
    wait_for { (redis()->{errors}{cluster} || 0) > $before } what => 'MOVED';
    ready();
    is($other->info('stats')->{total_connections_received}, $was,
        'MOVED to a host that is not configured is not followed');

    my $line = "ERR evil\x1b[31m \"quoted\" \xff " . 'x' x 3000;
    $fake->next('EVALSHA', "-$line\r\n");
    wait_for { text(redis()) =~ /evil/ } what => 'that error';
    my $text = text(redis());
    like($text, qr/evil\\x1B\[31m \\x22quoted\\x22 \\xFF/, 'what Redis says is escaped');
    cmp_ok(length $text, '<', 300, 'and cut');
};

$t->log_unlike(qr/\e|\xff/, 'no control character in the error log');

is($t->stop, 0, 'nginx stops');

subtest 'hosts that are configured are followed' => sub {
    $t->http(conf('redis://' . $fake->addr . ',' . $other->addr));
    $t->start;
    ready();
    $fake->next('EVALSHA', '-MOVED 1 ' . $other->addr . "\r\n");
    wait_for { my $s = redis(); $s->{state} eq 'ready' && $s->{address} eq $other->addr }
        what => 'the other host';
    pass('MOVED to one of them is followed');
    is($t->stop, 0, 'nginx stops');
};

subtest 'a password that the server repeats' => sub {
    $t->http(conf('redis://gate@' . $fake->addr . ' password_file=password'));
    $fake->on('AUTH', "-ERR unknown command `AUTH`, with args beginning with: `gate`, `$secret`, \r\n");
    $t->start;
    my $s;
    wait_for { $s = redis(); $s->{errors}{auth} } what => 'a refusal';
    unlike($t->get('/gate')->body, qr/\Q$secret\E/, 'is not in the status');
    $t->log_unlike(qr/\Q$secret\E/, 'nor in the error log');
    $t->log_like(qr/AUTH: the server does not know this command/, 'which says what is wrong');

    # slowly: somebody has to do something about it

    my $was = redis()->{errors}{auth};
    my $start = time;
    wait_for { redis()->{errors}{auth} >= $was + 2 } what => 'two attempts';
    cmp_ok(time - $start, '>', 0.7, 'attempts are slow');

    $fake->on('AUTH', "+OK\r\n");
    ready();
    my ($auth) = grep { uc $_->[0] eq 'AUTH' } $fake->seen;
    is_deeply([@$auth[1, 2]], ['gate', $secret], 'the user and the password were sent');
};

$t->done;
done_testing;
