#!/usr/bin/perl

# Requests in flight: who counts as being in, and that "nobody" is the truth.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Test::More;
use Time::HiRes qw(time);

my $t = Gate->new;
my $token = 'in-flight-test-token';
chmod 0600, $t->write_file('token', $token);

my $hold = $t->backend('hold', body => 'held');
my $ws = $t->backend('websocket');
my $ok = $t->backend('ok', patient => 1);
my $bad = $t->backend('reset');

my $shop = 'gate_maintenance shop;';
my $block = <<"EOF";
    map \$http_x_operator \$operator { default 0; yes 1; }

    server {
        listen 127.0.0.1:%%PORT:http%%;
        gate_maintenance on;
        gate_maintenance_bypass \$operator;
        proxy_http_version 1.1;

        location /hold/ { proxy_pass http://@{[ $hold->addr ]}; }
        location /shop/ { SHOP proxy_pass http://@{[ $hold->addr ]}; }
        location /legal/ { gate_maintenance off;
            proxy_pass http://@{[ $hold->addr ]}; }
        location /bad/ { proxy_pass http://@{[ $bad->addr ]}; }
        location /ok/ { proxy_pass http://@{[ $ok->addr ]}; }
        location /ws/ {
            proxy_pass http://@{[ $ws->addr ]};
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection upgrade;
        }
        location /gate { gate_status; }
        location /gate/api/ { gate_api token_file=%%DIR%%/token; }
    }
EOF

(my $with = $block) =~ s/SHOP/$shop/;
(my $without = $block) =~ s/SHOP//;

$t->http(workers => 2, $with);
$t->start;

my %auth = (Authorization => "Bearer $token");

sub set {
    my ($word, $switch) = @_;
    my $r = $t->post('/gate/api/maintenance' . ($switch ? "/$switch" : ''),
        headers => { %auth, 'Content-Type' => 'application/json' },
        body => qq{"$word"});
    die $r->as_text unless $r->status == 200;
}

sub drain {
    my ($args, $switch) = @_;
    my $c = $t->conn(timeout => 30);
    my $path = $switch ? "maintenance/$switch/drain" : 'drain';

    # pipelined: once the first one is answered, the second one is under way

    $c->write(join '', map { "GET $_ HTTP/1.1\r\nHost: x\r\n"
        . "Authorization: $auth{Authorization}\r\n\r\n" }
        '/gate/api/maintenance/global', "/gate/api/$path?$args");
    $c->recv;
    return $c;
}

sub gate { return $t->get('/gate')->json }

# admitted, bypassed, upgraded

sub in_flight {
    my ($switch) = @_;
    return join ' ', @{ gate()->{maintenance}{$switch || 'global'}{in_flight} }
        {qw(admitted bypassed upgraded)};
}

sub counts {
    my ($expect, $name, $switch) = @_;
    my $got;
    eval { wait_for { ($got = in_flight($switch)) eq $expect } timeout => 5 };
    return is($got, $expect, $name);
}

my $held = 0;

sub enter {
    my ($uri, %opt) = @_;
    my $c = $t->conn(timeout => 30);
    $c->send(GET => $uri, %opt);
    $held++;
    wait_for { $hold->stats->{held} == $held } what => 'the backend to have it';
    return $c;
}

sub leave {
    $hold->release;
    $held = 0;
    return map { $_->recv->status } @_;
}

# Returns when the new workers are there alone, but for what is left to do.

sub reload {
    my %old = map { $_ => 1 } $t->workers;
    $t->reload(wait => 0);
    wait_for {
        my @now = $t->workers;
        @now == 2 && !grep { $old{$_} } @now;
    } what => 'the new workers';
}

subtest 'a request is in until it is answered' => sub {
    counts('0 0 0', 'nobody');
    my @c = map { enter('/hold/') } 1 .. 3;
    counts('3 0 0', 'three');
    is_deeply([ leave(@c) ], [200, 200, 200], 'they are answered');
    counts('0 0 0', 'nobody');
};

subtest 'one admitted before the switch closed goes on' => sub {
    my $c = enter('/hold/');
    set('on');
    is($t->get('/hold/')->status, 503, 'the next one is refused');
    counts('1 0 0', 'the first is still in');
    is_deeply([ leave($c) ], [200], 'and is answered');
    counts('0 0 0', 'nobody');
    set('off');
};

subtest 'bypassed and upgraded ones are counted apart' => sub {
    set('on');
    my $c = enter('/hold/', headers => { 'X-Operator' => 'yes' });
    counts('0 1 0', 'bypassed');
    leave($c);
    counts('0 0 0', 'gone');
    set('off');

    my $w = $t->conn;
    is($w->request(GET => '/ws/', headers => { Upgrade => 'websocket',
        Connection => 'upgrade' })->status, 101, 'WebSocket');
    counts('0 0 1', 'upgraded');

    my $r = drain('timeout=5s')->recv;
    is($r->status, 200, 'it does not hold up the drain');
    is($r->json->{upgraded}, 1, 'which tells of it');
    $w->close;
    counts('0 0 0', 'gone');
};

subtest 'exempt ones are not counted' => sub {
    my $c = enter('/legal/');
    is(in_flight(), '0 0 0', 'not here');
    is(in_flight('shop'), '0 0 0', 'nor there');
    leave($c);
};

subtest 'each switch has its own count' => sub {
    my @c = map { enter($_) } qw(/hold/ /shop/ /shop/);
    counts('1 0 0', 'global');
    counts('2 0 0', 'shop', 'shop');

    my $sum = 0;
    $sum += $_->{in_flight} for @{ gate()->{workers} };
    is($sum, 3, 'the workers have the sum');

    leave(@c);
    counts('0 0 0', 'nobody', 'shop');
};

subtest 'who leaves early, or is failed by the backend, is out' => sub {
    my $c = enter('/hold/');
    counts('1 0 0', 'in');
    $c->close;
    counts('0 0 0', 'the client hung up');
    leave();

    $c = enter('/hold/');
    $c->reset;
    counts('0 0 0', 'the client reset');
    leave();

    is($t->get('/bad/')->status, 502, 'the backend fails');
    counts('0 0 0', 'out');
};

subtest 'drain answers when the last one leaves' => sub {
    my @c = map { enter($_) } qw(/hold/ /shop/);
    set('on');

    my $d = drain('timeout=20s');
    my $n = drain('timeout=20s', 'shop');
    wait_for { in_flight('shop') eq '1 0 0' };
    is_deeply([ map { $_->is_open } $d, $n ], [1, 1], 'it waits');

    $c[1]->close;
    my $r = $n->recv;
    is($r->status, 200, 'of a switch: the last one of it');
    is($r->json->{drained}, JSON::PP::true(), 'drained');
    is($r->json->{on}, JSON::PP::true(), 'closed');

    $held = 1;
    wait_for { in_flight('shop') eq '0 0 0' };
    ok($d->is_open, 'of the node: not yet');
    is_deeply([ leave($c[0]) ], [200], 'the last one is answered');

    my $start = time;
    $r = $d->recv;
    is($r->status, 200, 'answered');
    is_deeply([ @{ $r->json }{qw(drained in_flight)} ],
        [JSON::PP::true(), 0], 'nobody is in');
    cmp_ok(time - $start, '<', 3 * Gate::scale(), 'at once');
    set('off');
};

subtest 'drain gives up when the time is up' => sub {
    my $c = enter('/hold/');
    set('on');
    my $start = time;
    my $r = drain('timeout=300ms')->recv;
    my $took = time - $start;

    is($r->status, 503, 'status');
    is($r->header('retry-after'), 1, 'Retry-After');
    is_deeply([ @{ $r->json }{qw(drained in_flight)} ],
        [JSON::PP::false(), 1], 'one is in');
    cmp_ok($took, '>=', 0.28, 'not before');
    cmp_ok($r->json->{waited_ms}, '>=', 300, 'it says how long it was');
    leave($c);
    counts('0 0 0', 'nobody');
    set('off');
};

subtest 'drain while nobody is in answers at once' => sub {
    my $r = drain('timeout=20s')->recv;
    is($r->status, 200, 'open: 200');
    is($r->json->{on}, JSON::PP::false(), 'which is but a moment');
    cmp_ok($r->json->{waited_ms}, '<', 2000 * Gate::scale(), 'at once');
    is($t->request(HEAD => '/gate/api/drain', headers => \%auth)->status, 200,
        'HEAD');
};

subtest 'a client that hangs up ends its drain' => sub {
    my $c = enter('/hold/');
    set('on');
    my $from = $t->log_size;
    $_->close for map { drain('timeout=600s') } 1 .. 3;
    my $d = drain('timeout=20s');
    $t->wait_log(qr/prematurely closed.*\/drain/, from => $from);
    leave($c);
    is($d->recv->status, 200, 'others go on');
    set('off');
};

subtest 'a reload forgets nobody' => sub {
    my @c = map { enter($_) } qw(/hold/ /shop/);
    my $d = drain('timeout=20s');

    reload();
    cmp_ok(scalar $t->workers(all => 1), '>', 2, 'old workers are busy');
    is(in_flight(), '1 0 0', 'global');
    is(in_flight('shop'), '1 0 0', 'shop');

    my $r = $d->recv;
    is($r->status, 503, 'a drain of a worker that goes is answered');
    is($r->json->{in_flight}, 2, 'with the truth');

    # the switch is not configured any more, but somebody is in under it

    $t->http(workers => 2, $without);
    reload();
    $c[0]->close;
    counts('0 0 0', 'the first one left');

    $d = drain('timeout=200ms');
    is($d->recv->json->{in_flight}, 1, 'the node still waits for the other');
    leave();
    is($c[1]->recv->status, 200, 'which is answered');
    is(drain('timeout=20s')->recv->status, 200, 'and then nobody is in');

    $t->http(workers => 2, $with);
    $t->reload;
};

subtest 'what a worker was busy with dies with it' => sub {
    my (@c, %in);

    # some in each of the workers
    for (1 .. 100) {
        push @c, enter('/hold/');
        %in = map { $_->{pid} => $_->{in_flight} } @{ gate()->{workers} };
        last if 2 == grep { $_ } values %in;
    }

    plan skip_all => 'one worker gets all connections'
        if 2 != grep { $_ } values %in;

    my ($victim, $other) = sort { $in{$b} <=> $in{$a} } keys %in;
    counts(@c . ' 0 0', 'all are in');
    $t->kill_worker('KILL', pid => $victim);
    counts("$in{$other} 0 0", 'those of the other worker are');

    my %now = map { $_->{pid} => $_->{in_flight} } @{ gate()->{workers} };
    is(delete $now{$other}, $in{$other}, 'who has them still');
    is_deeply([ values %now ], [0], 'a new one begins with none');

    leave();
    my %status;
    $status{ $_->recv->status }++ for @c;
    is($status{200}, $in{$other}, 'their clients are answered');
    counts('0 0 0', 'nobody');
};

subtest '"nobody is in" never lies' => sub {
    my $l = $t->load(uri => '/ok/%d', rate => 1000, duration => 60,
        conns => 20);
    wait_for { $ok->requests > 50 } what => 'the load';

    my ($late, $early, $rounds, $least) = (0, 0, 0, 1e9);

    for (1 .. 12) {
        set('on');
        my $r = drain('timeout=20s')->recv;
        $early++ if $r->status != 200;
        my $before = $ok->requests;
        my $refused = gate()->{maintenance}{global}{refused_total};

        # many are refused, and none reaches the backend
        wait_for { gate()->{maintenance}{global}{refused_total}
            > $refused + 50 } what => 'refusals';
        $late += $ok->requests - $before;

        set('off');
        wait_for { $ok->requests > $before + 20 } what => 'being open';
        $rounds++;
    }

    my $result = $l->stop;
    is($rounds, 12, 'rounds');
    is($early, 0, 'each drain ends well');
    is($late, 0, 'no request reached the backend after it');
    is_deeply([ sort keys %{ $result->{status} } ], [200, 503],
        'clients saw nothing but 200 and 503');
    counts('0 0 0', 'nobody is left behind');
    note("$result->{answered} requests");
};

subtest 'nginx quits while somebody waits for a drain' => sub {
    my $c = enter('/hold/');
    set('on');
    my $d = drain('timeout=60s');
    kill 'QUIT', $t->pid;
    my $r = $d->recv;
    is($r->status, 503, 'it is answered');
    is($r->json->{in_flight}, 1, 'with the truth');
    is_deeply([ leave($c) ], [200], 'and so is who was in');
    is($t->stop, 0, 'nginx exits');
};

$t->done;
done_testing;
