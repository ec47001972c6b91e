#!/usr/bin/perl

# What docs/fleet.md tells people to type does what it says, with no more
# rights than it tells them to give.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Rollout;
use Test::More;

skip_unless_cmd('redis-server');
skip_unless_cmd('redis-cli');

my $doc = Gate::slurp(Gate::root() . '/docs/fleet.md');
my ($acl) = $doc =~ /^user (gate on >PASSWORD .*)$/m or die "no ACL\n";
$acl =~ s/>PASSWORD/>correct-horse/;

my $t = Gate->new;
my $r = $t->redis(users => [$acl]);
my $stable = $t->backend('ok', body => 'stable');
my $canary = $t->backend('ok', body => 'canary');
my $broken = $t->backend('status', 500);

my $password = $t->write_file('redis.password', "correct-horse\n");
chmod 0600, $password or die "chmod: $!\n";

my @api;
my $f = $t->fleet(2, workers => 2, sub {
    my ($node, $i) = @_;
    $api[$i] = Gate::Rollout->new($node);
    return <<"EOF_CONF";
    gate_redis redis://gate\@@{[ $r->addr ]} password_file=$password;
    gate_limit_zone per_key key=\$arg_k rate=100r/h;
    gate_limit_zone exact key=\$arg_k rate=100r/h sync=exact;

    upstream v1 { server @{[ $stable->addr ]}; }
    upstream v2 { server @{[ $canary->addr ]}; }
    upstream v3 { server @{[ $broken->addr ]}; }
    upstream shop { gate_canary v1 v2 weight=100% id=1; }
    upstream bad {
        gate_canary v1 v3 weight=100% id=1;
        gate_breach error_rate=50% window=1m min=3 exact;
    }

    server {
        listen 127.0.0.1:%%PORT:http%%;
        add_header X-Pid \$pid always;
        gate_maintenance on;
        location / { proxy_pass http://shop; }
        location /shop { gate_maintenance shop; proxy_pass http://shop; }
        location /bad {
            proxy_pass http://bad;
            proxy_next_upstream error http_500;
        }
        location /limit { gate_limit zone=per_key; empty_gif; }
        location /exact { gate_limit zone=exact; empty_gif; }
        location /gate-fleet-pid { gate_maintenance off; return 204; }
@{[ $api[$i]->endpoints ]}
    }
EOF_CONF
});

$f->start;
wait_for { !grep { !$_->status->{redis}{joined}
    || $_->status->{fleet}{alive} < 2 } @api } timeout => 20,
    what => 'all nodes to join';

# Types a command of the document, as it stands there.

sub type {
    my ($line) = @_;
    die "not in docs/fleet.md: $line\n" if index($doc, $line) < 0;
    $line =~ s/^redis-cli/redis-cli -s @{[ $r->path ]}/;
    my $out = `$line 2>&1`;
    die "$line: $out\n" if $?;
    return $out;
}

sub body { my ($want) = @_; return sub { $_[0]->body eq $want } }


subtest 'closed and open' => sub {
    type('redis-cli SET gate:maintenance on ');
    ok($f->converge(503), 'every worker answers 503');
    ok($f->converge(503, uri => '/shop'), 'under each switch');
    type('redis-cli DEL gate:maintenance ');
    ok($f->converge(200), 'open again');

    type('redis-cli SET gate:maintenance on EX 600');
    ok($f->converge(503), 'closed for a time');
    my $until = $api[0]->status->{maintenance}{global}{until};
    like($until, qr/^\d{4}-/, 'the end is known');
    type('redis-cli DEL gate:maintenance ');

    type(q(redis-cli SET gate:maintenance '{"on":true,"message":"Back at )
        . q(six","retry_after":600,"read_only":true}'));
    wait_for { $f->node(1)->post('/', body => 'x')->status == 503 }
        what => 'writes to be refused';
    my $answer = $f->node(1)->post('/', body => 'x');
    is($answer->header('retry-after'), 600, 'Retry-After');
    like($answer->body, qr/Back at six/, 'the message');
    is($f->node(1)->get('/')->status, 200, 'reading goes on');
    type('redis-cli DEL gate:maintenance ');
    ok($f->converge(200), 'open again');

    type('redis-cli SET gate:maintenance:shop on');
    ok($f->converge(503, uri => '/shop'), 'one switch alone');
    is($f->node(0)->get('/')->status, 200, 'the rest is open');
    $r->cmd('DEL', 'gate:maintenance:shop');
    ok($f->converge(200, uri => '/shop'), 'open again');
};

subtest 'modes' => sub {
    type('redis-cli SET gate:mode:canary off');
    ok($f->converge(body('stable')), 'everybody to stable');
    type('redis-cli DEL gate:mode:canary');
    ok($f->converge(body('canary')), 'back to enforce');

    type('redis-cli SET gate:mode:maintenance observe');
    $r->cmd('SET', 'gate:maintenance', 'on');
    wait_for { $f->node(0)->get('/');
        $api[0]->status->{maintenance}{global}{observed_total} }
        what => 'somebody to be counted';
    is($f->node(0)->get('/')->status, 200, 'nobody is refused');
    $r->cmd('DEL', 'gate:maintenance', 'gate:mode:maintenance');
    ok($f->converge(200), 'as before');
};

subtest 'the rate of one caller' => sub {
    my $policy = sub {
        my ($want) = @_;
        return $f->converge(sub {
            ($_[0]->header('ratelimit-policy') || '') =~ /;q=$want;/
        }, uri => '/limit?k=53cr37');
    };

    ok($policy->(100), 'is configured');
    type('redis-cli HSET gate:limit:per_key 53cr37 "rate=1r/m burst=0"');
    ok($policy->(1), 'and another one');
    type('redis-cli HDEL gate:limit:per_key 53cr37');
    ok($policy->(100), 'until it is taken away');

    wait_for { @{ $r->cmd('KEYS', 'gate#limit:per_key:*') } }
        what => 'what he owes in Redis';
    is($f->node(0)->get('/exact?k=x')->status, 200, 'Redis is asked');
    is(scalar @{ $r->cmd('KEYS', 'gate#limit:exact:*') }, 1, 'and knows it');
};

subtest 'weights and the end of a rollout' => sub {
    type('redis-cli HSET gate:canary:shop weight 0');
    ok($f->converge(body('stable')), 'everybody to the stable version');
    type('redis-cli HSET gate:canary:shop weight 2.5');
    wait_for { !grep { $_->rollout('shop')->{weight} != 2.5 } @api }
        what => '2.5 %';
    is($api[0]->rollout('shop')->{step}, 3, 'as a new step');
    type('redis-cli HSET gate:canary:shop state rolled_back');
    wait_for { !grep { $_->rollout('shop')->{state} ne 'rolled_back' } @api }
        what => 'all to roll back';
    $r->cmd('HSET', 'gate:canary:shop', 'weight', 50);
    wait_for { $r->cmd('HGET', 'gate:canary:shop', 'weight') eq '0' }
        what => 'it to be refused';
    is($api[1]->rollout('shop')->{weight}, 0, 'for good');
    $api[1]->api('canary/shop/retry');
    ok($f->converge(body('canary')), 'until retry');
};

subtest 'events are there to be read' => sub {
    $f->node(0)->get('/bad') for 1 .. 5;
    wait_for { !grep { $_->rollout('bad')->{state} ne 'rolled_back' } @api }
        what => 'a rollback everywhere';
    my ($line) = $doc =~ /`(XREVRANGE [^`]+)`/;
    my $out = type("redis-cli SET gate:maintenance on ") && `redis-cli -s @{[
        $r->path ]} $line`;
    like($out, qr/rolled_back/, 'the rollback');
    $r->cmd('DEL', 'gate:maintenance');
};

subtest 'the rights suffice' => sub {
    my @status = map { $_->status->{redis} } @api;
    is($_->{tracking}, 'push', 'pushed') for @status;
    is($_->{role}, 'master', 'the role is known') for @status;
    is_deeply($_->{errors} || {}, {}, 'no error') for @status;
    is_deeply([ map { $_->{username} eq 'gate' ? $_->{object} : () }
        map { my %h = @$_; \%h } @{ $r->cmd('ACL', 'LOG') } ], [],
        'Redis refused nothing');
};

$t->done;
done_testing;
