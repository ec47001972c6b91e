#!/usr/bin/perl

# gate_redis: every mistake is found by nginx -t, which says what is wrong and
# what would be right, and never shows a password.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Cert;
use Test::More;

my $t = Gate->new;
my $secret = 'hunter2-' . 'x' x 16;

sub secret {
    my ($name, $text, $mode) = @_;
    my $file = $t->write_file($name, $text);
    chmod $mode || 0600, $file;
    return $file;
}

secret('redis.password', "$secret\n");
secret('open.password', "$secret\n", 0644);
secret('empty.password', '');
secret('blank.password', "\n");
secret('two.password', "$secret\nother\n");
secret('control.password', "a\tb\n");

my ($crt, $key) = $t->cert;

sub conf {
    my ($args, $more) = @_;
    return ($more || '') . "\ngate_redis $args;\n"
        . "server { listen 127.0.0.1:%%PORT:http%%; }\n";
}

my @bad = (

    # addresses

    ['localhost:6379', qr/invalid address "localhost:6379": it must begin with "redis:\/\/"/],
    ['http://localhost', qr/must begin with/],
    ['redis://', qr/host must not be empty/],
    ['redis://127.0.0.1:0', qr/port must be a number from 1 to 65535/],
    ['redis://127.0.0.1/x', qr/database must be a number from 0 to 65535/],
    ['redis://::1', qr/IPv6 address must stand in brackets/],
    ['redis+sentinel://127.0.0.1', qr/name of the master is missing/],
    ['unix:redis.sock', qr/path of a socket must begin with/],
    ['unix:/redis.sock?x=1', qr/only "\?db=N" is allowed/],

    # passwords where none belongs

    ["redis://:$secret\@127.0.0.1", qr/a password does not belong into the configuration, use password_file=/],
    ["redis://gate:$secret\@127.0.0.1", qr/use password_file=/],
    ["redis://gate:$secret/x\@127.0.0.1", qr/use password_file=/],
    ["redis://127.0.0.1 password=$secret", qr/does not belong into the configuration/],
    ["redis://127.0.0.1 $secret", qr/invalid parameter, number 2; after the address/],

    # parameters

    ['redis://127.0.0.1 timout=1s', qr/invalid parameter, number 2; .*"timeout="/],
    ['redis://127.0.0.1 timeout=', qr/invalid parameter, number 2/],
    ['redis://127.0.0.1 poll=1s poll=2s', qr/parameter "poll=" is duplicate/],
    ['redis://127.0.0.1 timeout=x', qr/invalid timeout "x", it must be a time from 50ms to 60s/],
    ['redis://127.0.0.1 timeout=49ms', qr/invalid timeout/],
    ['redis://127.0.0.1 poll=61s', qr/invalid poll "61s"/],
    ['redis://127.0.0.1 prefix=gate', qr/invalid prefix "gate", .* ends with ":"/],
    ['redis://127.0.0.1 prefix=:', qr/invalid prefix/],
    ['redis://127.0.0.1 "prefix=ga te:"', qr/invalid prefix/],
    ['redis://127.0.0.1 prefix=g*:', qr/invalid prefix/],
    ['redis://127.0.0.1 "prefix={}:"', qr/invalid prefix/],
    ['redis://127.0.0.1 "prefix={a:"', qr/invalid prefix/],
    ['redis://127.0.0.1 "prefix=a}:"', qr/invalid prefix/],
    ['redis://127.0.0.1 "prefix={a}{b}:"', qr/invalid prefix/],

    # who we are

    ['redis://gate@127.0.0.1', qr/user "gate" needs "password_file="/],
    ['redis://127.0.0.1 password_file=%%DIR%%/none', qr/secret file ".*none" cannot be opened .*No such file/],
    ['redis://127.0.0.1 password_file=%%DIR%%/open.password', qr/can be read or written by everybody, use "chmod 600"/],
    ['redis://127.0.0.1 password_file=%%DIR%%/empty.password', qr/is empty/],
    ['redis://127.0.0.1 password_file=%%DIR%%/blank.password', qr/must have one line, the password/],
    ['redis://127.0.0.1 password_file=%%DIR%%/two.password', qr/must have one line/],
    ['redis://127.0.0.1 password_file=%%DIR%%/control.password', qr/must have one line/],
    ['redis://127.0.0.1 sentinel_user=x', qr/need an address that begins with "redis\+sentinel:/],
    ['redis://127.0.0.1 sentinel_password_file=x', qr/need an address that begins with/],
    ['redis+sentinel://127.0.0.1/m sentinel_user=x', qr/"sentinel_user=" needs "sentinel_password_file="/],
    ['redis+sentinel://127.0.0.1/m sentinel_password_file=%%DIR%%/open.password', qr/everybody/],

    # TLS

    ['redis://127.0.0.1 ca_file=%%DIR%%/localhost.crt', qr/need an address that begins with "rediss:/],
    ['unix:/redis.sock server_name=x', qr/need an address that begins with "rediss:/],
    ['rediss://127.0.0.1 cert=%%DIR%%/localhost.crt', qr/"cert=" and "key=" need each other/],
    ['rediss://127.0.0.1 key=%%DIR%%/localhost.key', qr/"cert=" and "key=" need each other/],
    ['rediss://127.0.0.1 ca_file=%%DIR%%/none.crt', qr/none\.crt.*No such file/],
    ['rediss://127.0.0.1 ca_file=%%DIR%%/localhost.key', qr/localhost\.key/],
    ['rediss://127.0.0.1 cert=%%DIR%%/none.crt key=%%DIR%%/localhost.key', qr/none\.crt/],

    # names

    ['redis://no-such-host.invalid', qr/host not found in address "no-such-host\.invalid:6379" of "gate_redis"; with "resolver" in the http block names are looked up while nginx runs in .*test\.conf:\d+/],
    ['redis://[::zz]', qr/in brackets there must be an IPv6 address/],
    ['redis://[1:2:3]', qr/invalid .* in address "\[1:2:3\]:6379" of "gate_redis"/],
);

my $tls = `$t->{nginx} -V 2>&1` =~ /http_ssl_module/;
my $no_tls = qr/"rediss" needs an nginx that was built with TLS/;

for my $case (@bad) {
    my ($args, $like) = @$case;
    $like = qr{$like|$no_tls} if !$tls && $args =~ /^rediss:/;
    my ($code, $out) = $t->test_http(conf($args));

    (my $name = $args) =~ s/\Q$secret\E/SECRET/g;
    isnt($code, 0, "$name is refused");
    like($out, $like, "$name: why");
    like($out, qr/\[emerg\].* in \S+test\.conf:\d+/, "$name: where");
    unlike($out, qr/\Q$secret\E|hunter2/, "$name: the secret is not shown");
}

my ($code, $out) = $t->test_http(conf('redis://127.0.0.1', 'gate_redis redis://127.0.0.1;'));
isnt($code, 0, 'a second gate_redis is refused');
like($out, qr/"gate_redis" directive is duplicate/, 'as a duplicate');

($code, $out) = $t->test_http('server { listen 127.0.0.1:%%PORT:http%%; gate_redis redis://127.0.0.1; }');
like($out, qr/"gate_redis" directive is not allowed here/, 'it belongs into http{}');

for my $args (
    'redis://127.0.0.1',
    'redis://localhost:6379/3 timeout=50ms poll=60s',
    'redis://gate@[::1]:7000,127.0.0.1/0 password_file=redis.password',
    'redis://127.0.0.1 "prefix={gate}:"',
    'redis://127.0.0.1 prefix=a:b:c-1.x:',
    'redis+sentinel://127.0.0.1,127.0.0.1:7001/mymaster/2 sentinel_password_file=redis.password',
    'unix:/run/redis.sock?db=2',
    'rediss://127.0.0.1',
    'rediss://127.0.0.1 ca_file=localhost.crt cert=localhost.crt key=localhost.key server_name=localhost',
) {
    my ($code, $out) = $t->test_http(conf($args));

    if (!$tls && $args =~ /^rediss:/) {
        like($out, $no_tls, "$args: why not");
        next;
    }

    is($code, 0, "$args is accepted") or diag($out);
}

($code, $out) = $t->test_http(conf('redis://no-such-host.invalid',
    'resolver 127.0.0.1:%%PORT:dns%%;'));
is($code, 0, 'with a resolver a name is left to it') or diag($out);

($code, $out) = $t->test_http(conf('redis://no-such-host.invalid')
    . 'resolver 127.0.0.1:%%PORT:dns%%;');
is($code, 0, 'wherever in http{} the resolver stands') or diag($out);

# nginx runs without its Redis, and what it shows has no secret in it

$t->http(conf('redis://gate@127.0.0.1:%%PORT:none%% password_file=redis.password')
    . 'server { listen 127.0.0.1:%%PORT:status%%;
                location = /gate { gate_status; } }');
$t->start;

my $from = wait_for {
    my $s = $t->get('/gate', port => 'status')->json;
    $s->{redis}{errors}{connect} ? $s : 0;
} what => 'an attempt';

isnt($from->{redis}{state}, 'ready', 'Redis is away');
like($from->{redis}{last_error}{text},
    qr/connect\(\) .*failed .*Connection refused/,
    'the status says why');
is($from->{redis}{password_live}, JSON::PP::true(),
    'and that the workers read the password file');

is($t->get('/')->status, 404, 'requests are served');

my $shown = `$t->{nginx} -T -p $t->{dir}/ -c nginx.conf -e test.log 2>&1`;

like($shown, qr/gate_redis/, 'nginx -T shows the configuration');
unlike($shown, qr/\Q$secret\E/, 'but no password');
unlike($t->get('/gate', port => 'status')->body, qr/\Q$secret\E/,
    'nor does the status');
$t->log_unlike(qr/\Q$secret\E/, 'nor the error log');

$t->done;
done_testing;
