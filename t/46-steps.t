#!/usr/bin/perl

# gate_steps: a rollout goes up by itself, as long as there is proof that it
# may.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Test::More;

sub conf {
    my (%opt) = @_;

    my $up = join '', map { my $n = $_; <<"CONF" } qw(up hold hand last broken);
        upstream $n {
            gate_canary v1 v2 id=1 $opt{$n}[0];
            gate_breach error_rate=20% window=10s min=$opt{min};
            gate_steps  $opt{$n}[1];
        }
CONF

    return <<"CONF";
        upstream v1 { server 127.0.0.1:%%PORT:v1%%; }
        upstream v2 { server 127.0.0.1:%%PORT:v2%%; }
        $up

        server {
            listen 127.0.0.1:%%PORT:http%%;

            location ~ ^/(\\w+)/ {
                proxy_pass http://\$1;
                add_header X-Arm \$gate_arm always;
                proxy_next_upstream error timeout http_500;
            }

            location = /status { gate_status; }
            location ^~ /api/ { gate_api token_file=%%DIR%%/token; }
        }
CONF
}

my $t = Gate->new;

my $v1 = $t->backend('ok', name => 'v1', port => $t->port('v1'));
my $v2 = $t->backend('ok', name => 'v2', port => $t->port('v2'));

chmod 0600, $t->write_file('token', "0123456789abcdef0123\n");

my %conf = (
    min => 10,
    up => [ '', '40%:300ms 80%:300ms 100%' ],
    hold => [ '', '50%:100ms 100%' ],
    hand => [ 'weight=10%', '10%:200ms 100%:200ms' ],
    last => [ 'weight=0%', '10%:1s 60%:100ms' ],
    broken => [ '', '50%:400ms 100%' ],
);

$t->http(conf(%conf));
$t->start;

sub rollout { $t->get('/status')->json->{rollouts}{ $_[0] } }

sub post {
    my ($uri, $body) = @_;

    my $r = $t->post("/api/canary/$uri", body => $body // '{}', headers => {
        'Authorization' => 'Bearer 0123456789abcdef0123',
        'Content-Type' => 'application/json',
    });

    is($r->status, 200, "$uri is accepted") or diag($r->body);
}

sub ask { $t->get("/$_[0]/") for 1 .. ($_[1] // 4) }


is(rollout('up')->{weight}, 40, 'a rollout begins with its first step');
is(rollout('last')->{state}, 'idle', 'or waits where weight=0% says so');

my @seen;

wait_for {
    ask('up');
    my $r = rollout('up');
    push @seen, $r->{weight} if !@seen || $seen[-1] != $r->{weight};
    $r->{state} eq 'promoted';
} timeout => 20, what => 'the rollout to be promoted';

is_deeply(\@seen, [ 40, 80, 100 ], 'it goes through its steps, in order');

my @events = grep { ($_->{object} // '') eq 'up' }
    @{ $t->get('/status')->json->{events} };

is_deeply([ map { $_->{event} } reverse @events ], [ 'step', 'promoted' ],
    'each step leaves an event');

is(rollout('hold')->{weight}, 50, 'without evidence nothing moves');

post('hand/pause');
wait_for { ask('hand', 20); rollout('hand')->{arms}{canary}{attempts} >= 10 }
    timeout => 20, what => 'ten attempts on the paused canary';

is(rollout('hand')->{weight}, 10, 'a paused rollout stays where it is');

post('hand/resume');
wait_for { ask('hand'); rollout('hand')->{weight} == 100 }
    timeout => 20, what => 'the resumed rollout to go on';
pass('a resumed one goes on');

wait_for { ask('hand'); rollout('hand')->{state} eq 'promoted' }
    timeout => 20, what => 'the timed 100 % to pass';
pass('a last step with a time is promoted when that has passed');

post('hold/weight', '{"weight": "33%"}');
wait_for { ask('hold'); rollout('hold')->{arms}{canary}{attempts} > 20 }
    timeout => 20, what => 'evidence at the weight set by hand';
is(rollout('hold')->{weight}, 33, 'a weight that is no step stays');

post('last/weight', '{"weight": "60%"}');
wait_for { ask('last'); rollout('last')->{arms}{canary}{attempts} > 20 }
    timeout => 20, what => 'evidence on the last step';
is_deeply([ @{ rollout('last') }{qw(state weight)} ], [ 'progressing', 60 ],
    'the last step below 100 % is for an operator to leave');

$v2->set('status', 500);
wait_for { ask('broken', 10); rollout('broken')->{state} eq 'rolled_back' }
    timeout => 20, what => 'the failing canary to be rolled back';
is(rollout('broken')->{weight}, 0, 'a canary that fails goes down, not up');


# what nginx -t says

for my $case (
    [ up => '5% 100%', qr/step "5%" needs a time/ ],
    [ up => '50%:1m 20%:1m 100%', qr/must be higher than the one before/ ],
    [ up => '5%:nonsense 100%', qr/invalid step "5%:nonsense"/ ],
    [ up => '101%', qr/invalid step "101%"/ ],
    [ hand => '20%:1m 100%', qr/must have the "weight=" .* among its steps/ ],
) {
    my ($name, $steps, $says) = @$case;
    my ($code, $out) = $t->test_http(
        conf(%conf, $name => [ $conf{$name}[0], $steps ]));

    isnt($code, 0, "gate_steps $steps is refused");
    like($out, qr/$says.* in .*\.conf:\d+/, '... and it is said why');
}

$t->done;
done_testing;
