#!/usr/bin/perl

# Modes: a gate that only observes, or stands aside, without a reload.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Rollout;
use JSON::PP ();
use Test::More;

my $t = Gate->new;
my $g = Gate::Rollout->new($t);

my $stable = $t->backend('ok', body => 'stable', name => 'stable');
my $canary = $t->backend('ok', body => 'canary', name => 'canary');

my $state = $t->dir . '/state';
my $file = $t->dir . '/closed';

$t->http(workers => 2, <<"EOF_CONF");
    gate_state $state;
    gate_maintenance_file $file switch=file;

    upstream v1 { server @{[ $stable->addr ]}; }
    upstream v2 { server @{[ $canary->addr ]}; }
    upstream shop {
        gate_canary v1 v2 weight=100% id=1;
        gate_force \$arg_arm;
    }

    server {
        listen 127.0.0.1:%%PORT:http%%;
        gate_maintenance on;
@{[ $g->endpoints ]}
        location = /health { gate_health; }
        location = /ready { gate_health ready; }
        location / {
            gate_maintenance_bypass \$http_x_bypass;
            set \$early \$gate_arm_shop;
            proxy_pass http://shop;
            add_header X-Worker \$pid always;
        }
        location /other/ { gate_maintenance other; return 200 open; }
        location /file/ {
            gate_maintenance file;
            return 200 open;
        }
    }
EOF_CONF

my ($true, $false) = (JSON::PP::true, JSON::PP::false);

my ($token) = Gate::slurp($t->dir . '/gate.token') =~ /(\S+)/;
my %auth = (Authorization => "Bearer $token");

sub look { return $t->get("/gate/api/$_[0]", headers => \%auth)->json }
sub mode { return $g->api("modes/$_[0]", { mode => $_[1] }) }
sub close_it { return $g->api('maintenance' . ($_[1] // ''), $_[0]) }
sub switch { return $g->status->{maintenance}{ $_[0] // 'global' } }

sub would {
    my ($log) = @_;
    my @lines = $t->log_from($log) =~ /would refuse/g;
    return scalar @lines;
}

# until every worker has answered often enough

sub everywhere {
    my ($want, $name, @opt) = @_;
    my %seen;

    for (1 .. 60) {
        my $r = $t->get('/', @opt);
        $seen{ $r->status . ' ' . ($r->status == 200 ? $r->body : '') }++;
    }

    is_deeply([ keys %seen ], [$want], $name);
}

$t->start;

subtest 'all gates enforce until somebody says otherwise' => sub {
    my $modes = $g->status->{modes};

    is_deeply([ sort keys %$modes ], [qw(canary cursor limit maintenance)],
        'the gates');
    is($modes->{$_}{mode}, 'enforce', $_) for sort keys %$modes;
    is($modes->{canary}{since}, undef, 'nobody set it');
    is_deeply(look('modes'), $modes, 'the API says the same');
};

subtest 'what a mode may be' => sub {
    my %json = ('Content-Type' => 'application/json', %auth);
    my $try = sub {
        my ($path, $body) = @_;
        return $t->post("/gate/api/$path", headers => \%json, body => $body);
    };

    for my $body ('{}', '"Off"', '"on"', 'true', '1', 'null', '["off"]',
        '{"mode":1}', '{"mode":"off","x":1}', '{"mod":"off"}', '', '""')
    {
        my $r = $try->('modes/canary', $body);
        is($r->status, 400, "refused: $body");
        like($r->json->{detail}, qr/"observe"/, 'and what it may be');
    }

    my $r = $try->('modes/mail', '"off"');
    is($r->status, 404, 'no such gate');
    is_deeply($r->json->{gates}, [qw(maintenance canary limit cursor)],
        'the gates that there are');
    is($try->('modes', '"off"')->status, 405, 'all at once');
    is($try->('modes/canary/off', '"off"')->status, 404, 'too deep');
    is($t->get('/gate/api/modes')->status, 401, 'without a token');

    is($try->('modes/limit', '"observe"')->json->{mode}, 'observe', 'a word');
    $r = $t->request(DELETE => '/gate/api/modes/limit', headers => \%json);
    is($r->json->{mode}, 'enforce', 'DELETE is "enforce"');
    is($g->status->{modes}{canary}{mode}, 'enforce', 'nothing was changed');
};

subtest 'a change leaves an event' => sub {
    $g->api('modes/cursor', { mode => 'off', reason => 'noise',
        actor => 'alice' });
    my $e = $g->status->{events}[0];

    is_deeply([ @$e{qw(event object source before after reason)} ],
        [qw(mode cursor api enforce off noise)], 'what it was');
    like($e->{by}, qr/\(alice\)$/, 'who did it');
    mode(cursor => 'enforce');
};

subtest 'maintenance that is observed refuses nobody, and counts' => sub {
    mode(maintenance => 'observe');
    my $log = $t->log_size;
    close_it({ on => $true, message => 'closed' });

    everywhere('200 canary', 'everybody gets in');

    my $s = switch();
    is($s->{on}, $false, 'it is not on');
    is($s->{observed}, $true, 'but observed');
    is($s->{control}{on}, $true, 'the value is kept');
    is($s->{observed_total}, 60, 'each was counted');
    is($s->{refused_total}, 0, 'none as refused');
    is(would($log), 1, 'one was logged');

    $t->get('/', headers => { 'X-Bypass' => 1 });
    is(switch()->{observed_total}, 60, 'nobody who may bypass it');

    is($t->get('/ready')->status, 200, 'it is ready');
    is($t->get('/health')->json->{maintenance}, $false, 'and healthy');
    is(look('drain?timeout=1s')->{on}, $false,
        'a drain says that it is open');

    close_it({ on => $true, message => 'still closed' });
    $t->get('/');
    is(would($log), 1, 'nothing new to say');
    close_it({ on => $false });
    $t->get('/');
    is(switch()->{observed_total}, 61, 'what is open is not counted');
    is(switch()->{observed}, $false, 'and not observed');
    close_it({ on => $true });
    $t->get('/');
    is(would($log), 2, 'the next turn of the switch is said');
};

subtest 'back to enforce: closed at once, for all' => sub {
    mode(maintenance => 'enforce');
    everywhere('503 ', 'nobody gets in');
    is(switch()->{observed}, $false, 'not observed');
    is($t->get('/ready')->status, 503, 'not ready');
};

subtest 'off: open, and nothing is counted' => sub {
    my $before = switch()->{observed_total};
    mode(maintenance => 'off');
    everywhere('200 canary', 'everybody gets in');
    my $s = switch();
    is($s->{observed_total}, $before, 'not counted');
    is($s->{on}, $false, 'not on');
    is($s->{control}{on}, $true, 'the value is kept');
    mode(maintenance => 'enforce');
    is($t->get('/')->status, 503, 'and counts again');
    close_it({ on => $false });
};

subtest 'read_only: only writes would be refused' => sub {
    mode(maintenance => 'observe');
    close_it({ on => $true, read_only => $true }, '/other');
    my $count = sub {
        my $before = switch('other')->{observed_total};
        $t->request($_[0] => '/other/');
        return switch('other')->{observed_total} - $before;
    };
    is($count->('GET'), 0, 'GET');
    is($count->('POST'), 1, 'POST');
    is(switch('other')->{read_only}, $true, 'the status says so');
    close_it({ on => $false }, '/other');
};

subtest 'a switch that a file closes is observed too' => sub {
    Gate::spew($file, 'on');
    wait_for { switch('file')->{observed} } what => 'the file';
    is($t->get('/file/')->status, 200, 'open');
    is(switch('file')->{observed_total}, 1, 'counted');
    mode(maintenance => 'enforce');
    is($t->get('/file/')->status, 503, 'closed');
    mode(maintenance => 'off');
    is($t->get('/file/')->status, 200, 'off opens it');
    unlink $file;
    wait_for { !switch('file')->{file} } what => 'the file is gone';
    mode(maintenance => 'enforce');
};

subtest 'canary off: everybody to stable, whatever he is' => sub {
    everywhere('200 canary', 'before, all to the canary');
    mode(canary => 'off');
    everywhere('200 stable', 'now to stable');
    is($t->get('/?arm=always')->body, 'stable', 'forced ones too');
    $g->api('canary/shop/promote', {});
    everywhere('200 stable', 'promoted ones too');
    is($g->rollout('shop')->{state}, 'promoted', 'the state is kept');
    mode(canary => 'enforce');
    everywhere('200 canary', 'and back');
    is($t->get('/?arm=never')->body, 'stable', 'forced again');
};

subtest 'a canary that is off while a request is on its way' => sub {
    my $c = $t->conn;

    # chosen for a variable, before the body is here

    $c->write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab");
    wait_for { switch()->{in_flight}{admitted} > 0 } what => 'it is in';
    mode(canary => 'off');
    $c->write('cd');
    is($c->recv->body, 'stable', 'goes to stable');
    $c->close;
    mode(canary => 'enforce');
};

subtest 'metrics' => sub {
    mode(canary => 'off');
    my $text = $t->get('/gate-metrics')->body;
    is($text =~ /^nginx_gate_mode\{gate="canary",mode="$_"\} (\d)$/m && $1,
        $_ eq 'off' ? 1 : 0, "canary $_") for qw(enforce observe off);
    my @all = $text =~ /^nginx_gate_mode\{.*\} 1$/mg;
    is(scalar @all, 4, 'one mode a gate');
    my ($n) = $text =~ /observed_total\{switch="global"\} (\d+)$/m;
    is($n, switch()->{observed_total}, 'observed requests');
};

subtest 'modes are kept over a reload and a restart' => sub {
    mode(maintenance => 'observe');
    my $modes = $g->status->{modes};
    $t->reload;
    is_deeply($g->status->{modes}, $modes, 'a reload');

    $t->stop;
    my $kept = Gate::json(Gate::slurp("$state/state.json"));
    is_deeply([ map { "$_->{gate} $_->{mode}" } @{ $kept->{modes} } ],
        [ 'maintenance observe', 'canary off' ], 'in the file');
    $t->start;

    my $now = $g->status->{modes};
    is_deeply({ map { $_ => $now->{$_}{mode} } keys %$now },
        { map { $_ => $modes->{$_}{mode} } keys %$modes }, 'a restart');
    is($now->{canary}{source}, 'api', 'with who set it');
    everywhere('200 stable', 'and they count');

    mode(maintenance => 'enforce');
    mode(canary => 'enforce');
    $t->stop;
    unlike(Gate::slurp("$state/state.json"), qr/modes/,
        'no modes, nothing of them in the file');

    # a version to come may have other gates and modes

    $kept->{modes} = [
        { %{ $kept->{modes}[1] }, gate => 'crystal_ball' },
        { %{ $kept->{modes}[1] }, gate => 'limit', mode => 'dream' },
        $kept->{modes}[1],
    ];
    Gate::spew("$state/state.json", JSON::PP::encode_json($kept));
    $t->start;
    $now = $g->status->{modes};
    is_deeply([ map { $now->{$_}{mode} } qw(canary limit) ],
        [qw(off enforce)], 'what is unknown is left alone');
};

$t->done;
done_testing;
